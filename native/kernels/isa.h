/* isa.h - the kernels of one instruction set. */
#ifndef MK_ISA_H
#define MK_ISA_H
#include "attention.h"
#include "stages.h"
#include "strips.h"

typedef struct {
    const char *name;
    const mki_strip_ops *strips;
    const mki_attention_ops *attention;
    const mki_stage_ops *stages;
} mki_isa;

/* Of the folder of this CPU, best first, and whether this very one has what number i needs. */
extern const mki_isa mki_cpu_isas[];
extern const int mki_n_cpu_isas;
bool mki_cpu_has(int i);

/* What this process uses. */
const mki_isa *mki_isa_current(void);
#endif
