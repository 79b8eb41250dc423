/* isa.c - which kernels this process runs, by what CPUID and the kernel offer. */
#include "isa.h"

#include <cpuid.h>
#include <stdatomic.h>
#include <string.h>

/* Best first; the last one runs anywhere. */
static const mki_isa isas[] = {
    { "avx512-vnni", &mki_strips_avx512, &mki_attention_ops_avx512, &mki_stage_ops_avx512 },
    { "avx2-vnni", &mki_strips_avx2_vnni, &mki_attention_ops_avx2, &mki_stage_ops_avx2 },
    { "avx2", &mki_strips_avx2, &mki_attention_ops_avx2, &mki_stage_ops_avx2 },
    { "scalar", &mki_strips_scalar, &mki_attention_ops_scalar, &mki_stage_ops_scalar },
};
enum { AVX512_VNNI, AVX2_VNNI, AVX2, SCALAR, N_ISAS };

static _Atomic(const mki_isa *) current; /* NULL until first use */

/* __builtin_cpu_supports asks the kernel's part too (XGETBV), which it must have said for AVX2 and so for this. */
static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

static bool has(int i)
{
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    switch (i) {
    case AVX512_VNNI:
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    case AVX2_VNNI: return avx2 && has_avx_vnni();
    case AVX2: return avx2;
    }
    return true;
}

int mk_isa_choose(const char *name)
{
    for (int i = 0; i < N_ISAS; i++)
        if ((!name || strcmp(name, isas[i].name) == 0) && has(i)) {
            atomic_store(&current, &isas[i]);
            return MK_OK;
        }
    return MK_ERR_ARGUMENT;
}

const mki_isa *mki_isa_current(void)
{
    if (!atomic_load(&current))
        mk_isa_choose(NULL);
    return atomic_load(&current);
}

const char *mk_isa_name(void) { return mki_isa_current()->name; }
