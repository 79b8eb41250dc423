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

/* The instruction sets of this CPU's folder, best first; and whether this very CPU supports number i. */
extern const mki_isa mki_cpu_isas[];
extern const int mki_n_cpu_isas;
bool mki_cpu_has(int i);

/* The kernels that this process uses. */
const mki_isa *mki_isa_current(void);
#endif
