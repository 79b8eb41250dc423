/* strips_avx2_vnni.c - strips times vectors, with AVX2 and the dot products of bytes that AVX-VNNI adds to it. */
#include <immintrin.h>

#define DOT_BYTES _mm256_dpbusd_avx_epi32
#include "lanes_avx2.h"
#include "strips_kernels.h"

const mki_strip_ops mki_strips_avx2_vnni = STRIP_OPS;
