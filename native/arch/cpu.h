/* cpu.h - what of the processor a load may have chosen its code and layouts by. */
#ifndef MHI_CPU_H
#define MHI_CPU_H
#include <stdint.h>

enum { MHI_CPU_TEXT_BYTES = 1024 };

/* Names of the features that this CPU has and the kernel enables, with a space between; NUL-terminated. Returns how
 * many bytes saving the enabled state takes, which sizes signal frames and lazy binding's save area; 0: no XSAVE. */
uint32_t mhi_cpu_features(char text[MHI_CPU_TEXT_BYTES]);
/* The first word of `had` that is not a word of `has`, with its length; NULL if there is none. */
const char *mhi_cpu_missing(const char *had, const char *has, int *length);

#endif
