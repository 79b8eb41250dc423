/* relax.h - what a thread does while it looks again and again whether another has written. */
#ifndef MK_RELAX_H
#define MK_RELAX_H
#include <immintrin.h>

static inline void mki_relax(void) { _mm_pause(); }

#endif
