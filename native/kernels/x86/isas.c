/* isas.c - the kernels for x86-64, and which of them run here, by what CPUID and the kernel offer. */
#include <cpuid.h>

#include "isa.h"
#include "variants.h"

enum { AVX512_VNNI, AVX2_VNNI, AVX2, SCALAR };

const mki_isa mki_cpu_isas[] = {
    { "avx512-vnni", &mki_strips_avx512, &mki_attention_ops_avx512, &mki_stage_ops_avx512 },
    { "avx2-vnni", &mki_strips_avx2_vnni, &mki_attention_ops_avx2, &mki_stage_ops_avx2 },
    { "avx2", &mki_strips_avx2, &mki_attention_ops_avx2, &mki_stage_ops_avx2 },
    { "scalar", &mki_strips_scalar, &mki_attention_ops_sse2, &mki_stage_ops_sse2 }, /* only its strips are scalar */
};
const int mki_n_cpu_isas = sizeof mki_cpu_isas / sizeof *mki_cpu_isas;

/* __builtin_cpu_supports asks the kernel's part too (XGETBV), which it must have said for AVX2 and so for these two,
 * whose names some compilers don't know. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & 1u << 29);
}

static bool has_avx_vnni(void)
{
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 4);
}

bool mki_cpu_has(int i)
{
    bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
    switch (i) {
    case AVX512_VNNI:
        return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vnni");
    case AVX2_VNNI: return avx2 && has_avx_vnni();
    case AVX2: return avx2;
    case SCALAR: return true;
    }
    return false;
}
