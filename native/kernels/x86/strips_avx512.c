/* strips_avx512.c - strips times vectors, with AVX-512 and its dot products of bytes (VNNI). */
#include "lanes_avx512.h"
#include "strips_kernels.h"

const mki_strip_ops mki_strips_avx512 = STRIP_OPS;
