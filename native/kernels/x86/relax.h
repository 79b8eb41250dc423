/* relax.h - the pause of a thread that spins on a word. */
#ifndef MK_RELAX_H
#define MK_RELAX_H
#include <immintrin.h>

static inline void mki_relax(void) { _mm_pause(); }

#endif
