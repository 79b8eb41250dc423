/* strips_avx2.c - strips times vectors, with AVX2, FMA and F16C. */
#include "lanes_avx2.h"
#include "strips_kernels.h"

const mki_strip_ops mki_strips_avx2 = STRIP_OPS;
