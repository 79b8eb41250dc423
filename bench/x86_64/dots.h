/* dots.h - the int8 dot products of this CPU, for ../ceilings.c: dots_choose(), and what it returns.
 *
 * A port is a folder beside this one, by the name that `uname -m` has for the machine.
 */
#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

enum {
    /* that depend on nothing: more than latency (5 cycles) times throughput (2), fewer than registers */
    SUMS = 12,
    ROUNDS = 2000000, /* of SUMS instructions: about 10 ms */
};

typedef struct {
    double operations; /* of one thread in one pass */
    void (*run)(void);
    const char *name;
} dots;

static volatile uint64_t dots_sink; /* takes what would else be optimised away; as sink of ceilings.c */

/* `a` must look different every time, or the product is taken out of the loop. */
#define DOTS(vector, register_class, zero, ones, step)          \
    vector sums[SUMS], a = ones(1), b = ones(2);                \
    for (int i = 0; i < SUMS; i++)                              \
        sums[i] = zero();                                       \
    for (int round = 0; round < ROUNDS; round++)                \
        _Pragma("GCC unroll 12") for (int i = 0; i < SUMS; i++) \
        {                                                       \
            __asm__ volatile("" : "+" register_class(a));       \
            sums[i] = step(sums[i], a, b);                      \
        }                                                       \
    for (int i = 0; i < SUMS; i++)                              \
    dots_sink ^= (uint64_t)sums[i][0]

__attribute__((target("avx512f,avx512vnni"))) static void dots_avx512_vnni(void)
{
    DOTS(__m512i, "v", _mm512_setzero_si512, _mm512_set1_epi8, _mm512_dpbusd_epi32);
}

__attribute__((target("avx2,avxvnni"))) static void dots_avx_vnni(void)
{
    DOTS(__m256i, "x", _mm256_setzero_si256, _mm256_set1_epi8, _mm256_dpbusd_avx_epi32);
}

__attribute__((target("avx2"))) static void dots_avx2(void)
{
#define STEP(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)))
    DOTS(__m256i, "x", _mm256_setzero_si256, _mm256_set1_epi8, STEP);
}

/* Returns the best kind of int8 dot product here, or NULL. */
static const dots *dots_choose(void)
{
    static const dots avx512_vnni = { 128.0 * SUMS * ROUNDS, dots_avx512_vnni, "avx512_vnni" };
    static const dots avx_vnni = { 64.0 * SUMS * ROUNDS, dots_avx_vnni, "avx_vnni" };
    static const dots avx2 = { 64.0 * SUMS * ROUNDS, dots_avx2, "avx2" };
    if (__builtin_cpu_supports("avx512vnni"))
        return &avx512_vnni;
    if (__builtin_cpu_supports("avxvnni"))
        return &avx_vnni;
    return __builtin_cpu_supports("avx2") ? &avx2 : NULL;
}
