/* test_kernels.h - what the kernel tests share: seeded floats, buffers with NaN around them, exact comparison. */
#ifndef TEST_KERNELS_H
#define TEST_KERNELS_H
#include "harness.h"
#include "llama_kernels.h"

#include <math.h>

enum { GUARD = 16 }; /* floats of NaN on either side: as far as one wide vector can stray */

/* n floats between two guards, all NaN, in a block of exactly that size; give it to guarded_free with the same n. */
static inline float *guarded_new(int64_t n)
{
    float *block = malloc((size_t)(n + 2 * GUARD) * sizeof *block);
    CHECK(block);
    for (int64_t i = 0; i < n + 2 * GUARD; i++)
        block[i] = NAN;
    return block + GUARD;
}

static inline void guarded_free(float *at, int64_t n)
{
    for (int i = 1; i <= GUARD; i++)
        CHECK(isnan(at[-i]) && isnan(at[n + i - 1]));
    free(at - GUARD);
}

static inline bool same_bits(const float *a, const float *b, int64_t n)
{
    return memcmp(a, b, (size_t)n * sizeof *a) == 0;
}

/* Uniform in [-1, 1). */
static inline float random_float(uint64_t *state)
{
    return (float)((double)(harness_random(state) >> 11) * 0x1p-52 - 1);
}

static inline void random_floats(uint64_t *state, float *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        out[i] = random_float(state);
}

/* Meson's "skipped": without AVX2 there are no two kernels to compare. */
static inline void need_avx2(void)
{
    if (mk_isa_choose("avx2") == MK_OK)
        return;
    fprintf(stderr, "this CPU has no AVX2\n");
    exit(77);
}
#endif
