/* strips_scalar.c - strips times vectors, in plain C. */
#include "lanes_scalar.h"
#include "strips_kernels.h"

const mki_strip_ops mki_strips_scalar = STRIP_OPS;
