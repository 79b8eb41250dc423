/* isa.c - which kernels this process runs. */
#include "isa.h"

#include <stdatomic.h>
#include <string.h>

/* Runs anywhere. */
static const mki_isa portable = { "portable", &mki_strips_scalar, &mki_attention_ops_portable,
                                  &mki_stage_ops_portable };

static _Atomic(const mki_isa *) current; /* NULL until first use */

int mk_isa_choose(const char *name)
{
    for (int i = 0; i <= mki_n_cpu_isas; i++) {
        const mki_isa *isa = i < mki_n_cpu_isas ? &mki_cpu_isas[i] : &portable;
        if ((!name || strcmp(name, isa->name) == 0) && (isa == &portable || mki_cpu_has(i))) {
            atomic_store(&current, isa);
            return MK_OK;
        }
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
