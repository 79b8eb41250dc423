/* isa.c - which kernels this process runs, by what CPUID and the kernel offer. */
#include "llama_kernels.h"
#include "ops.h"

#include <stdatomic.h>
#include <string.h>

static _Atomic(const mki_ops *) current; /* NULL until first use */

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

int mk_isa_choose(const char *name)
{
    if (name && strcmp(name, mki_ops_scalar.name) == 0)
        atomic_store(&current, &mki_ops_scalar);
    else if ((!name || strcmp(name, mki_ops_avx2.name) == 0) && has_avx2())
        atomic_store(&current, &mki_ops_avx2);
    else if (!name)
        atomic_store(&current, &mki_ops_scalar);
    else
        return MK_ERR_ARGUMENT;
    return MK_OK;
}

const mki_ops *mki_ops_current(void)
{
    if (!atomic_load(&current))
        mk_isa_choose(NULL);
    return atomic_load(&current);
}

const char *mk_isa_name(void) { return mki_ops_current()->name; }
