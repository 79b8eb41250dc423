/* cpu.c - CPU features by name, from CPUID.
 *
 * The list holds the features that run-time dispatch tests in glibc, OpenBLAS, oneDNN, numpy and our own kernels. Bits
 * and leaves are from the Intel SDM volume 2, CPUID, and AMD's APM volume 3, appendix E; names are those of
 * /proc/cpuinfo.
 */
#include <cpuid.h>
#include <string.h>

#include "arch/arch.h"

enum { EAX, EBX, ECX, EDX };
#define EXTENDED 0x80000000u
/* State that the kernel must have enabled in XCR0 before the instructions may be used. */
enum { NO_STATE = 0, YMM = 0x6, ZMM = 0xe6, AMX = 0x60000 };

static const struct {
    const char *name;
    uint32_t leaf, subleaf;
    uint8_t word, bit; /* EAX to EDX, 0 to 31 */
    uint32_t state;    /* bits of XCR0 */
} features[] = {
    { "pni", 1, 0, ECX, 0, NO_STATE },
    { "pclmulqdq", 1, 0, ECX, 1, NO_STATE },
    { "ssse3", 1, 0, ECX, 9, NO_STATE },
    { "fma", 1, 0, ECX, 12, YMM },
    { "cx16", 1, 0, ECX, 13, NO_STATE },
    { "sse4_1", 1, 0, ECX, 19, NO_STATE },
    { "sse4_2", 1, 0, ECX, 20, NO_STATE },
    { "movbe", 1, 0, ECX, 22, NO_STATE },
    { "popcnt", 1, 0, ECX, 23, NO_STATE },
    { "aes", 1, 0, ECX, 25, NO_STATE },
    { "avx", 1, 0, ECX, 28, YMM },
    { "f16c", 1, 0, ECX, 29, YMM },
    { "rdrand", 1, 0, ECX, 30, NO_STATE },
    { "bmi1", 7, 0, EBX, 3, NO_STATE },
    { "hle", 7, 0, EBX, 4, NO_STATE },
    { "avx2", 7, 0, EBX, 5, YMM },
    { "bmi2", 7, 0, EBX, 8, NO_STATE },
    { "erms", 7, 0, EBX, 9, NO_STATE },
    { "rtm", 7, 0, EBX, 11, NO_STATE },
    { "avx512f", 7, 0, EBX, 16, ZMM },
    { "avx512dq", 7, 0, EBX, 17, ZMM },
    { "rdseed", 7, 0, EBX, 18, NO_STATE },
    { "adx", 7, 0, EBX, 19, NO_STATE },
    { "avx512ifma", 7, 0, EBX, 21, ZMM },
    { "clflushopt", 7, 0, EBX, 23, NO_STATE },
    { "clwb", 7, 0, EBX, 24, NO_STATE },
    { "avx512cd", 7, 0, EBX, 28, ZMM },
    { "sha_ni", 7, 0, EBX, 29, NO_STATE },
    { "avx512bw", 7, 0, EBX, 30, ZMM },
    { "avx512vl", 7, 0, EBX, 31, ZMM },
    { "avx512vbmi", 7, 0, ECX, 1, ZMM },
    { "avx512_vbmi2", 7, 0, ECX, 6, ZMM },
    { "gfni", 7, 0, ECX, 8, NO_STATE },
    { "vaes", 7, 0, ECX, 9, YMM },
    { "vpclmulqdq", 7, 0, ECX, 10, YMM },
    { "avx512_vnni", 7, 0, ECX, 11, ZMM },
    { "avx512_bitalg", 7, 0, ECX, 12, ZMM },
    { "avx512_vpopcntdq", 7, 0, ECX, 14, ZMM },
    { "fsrm", 7, 0, EDX, 4, NO_STATE },
    { "avx512_vp2intersect", 7, 0, EDX, 8, ZMM },
    { "amx_bf16", 7, 0, EDX, 22, AMX },
    { "avx512_fp16", 7, 0, EDX, 23, ZMM },
    { "amx_tile", 7, 0, EDX, 24, AMX },
    { "amx_int8", 7, 0, EDX, 25, AMX },
    { "avx_vnni", 7, 1, EAX, 4, YMM },
    { "avx512_bf16", 7, 1, EAX, 5, ZMM },
    { "amx_fp16", 7, 1, EAX, 21, AMX },
    { "avx_ifma", 7, 1, EAX, 23, YMM },
    { "avx_vnni_int8", 7, 1, EDX, 4, YMM },
    { "avx_ne_convert", 7, 1, EDX, 5, YMM },
    { "abm", 0x80000001, 0, ECX, 5, NO_STATE },
    { "sse4a", 0x80000001, 0, ECX, 6, NO_STATE },
    { "xop", 0x80000001, 0, ECX, 11, YMM },
    { "fma4", 0x80000001, 0, ECX, 16, YMM },
};

/* The result of the last CPUID. CPUID traps in virtual machines, where it takes microseconds, so no leaf is queried
 * twice. */
typedef struct { uint32_t highest, leaf, subleaf, word[4]; } answer;

static answer begin(void)
{
    answer last = { 0 };
    __cpuid(0, last.highest, last.word[EBX], last.word[ECX], last.word[EDX]);
    return last;
}

/* Every CPU with 64-bit mode has the extended leaf of the list. An invalid subleaf returns zeros, an invalid leaf does
 * not. */
static const uint32_t *query(answer *last, uint32_t leaf, uint32_t subleaf)
{
    if (last->leaf == leaf && last->subleaf == subleaf)
        return last->word;
    memset(last->word, 0, sizeof last->word);
    if (leaf >= EXTENDED || leaf <= last->highest)
        __cpuid_count(leaf, subleaf, last->word[EAX], last->word[EBX], last->word[ECX], last->word[EDX]);
    last->leaf = leaf, last->subleaf = subleaf;
    return last->word;
}

static uint32_t enabled_state(answer *last)
{
    uint32_t low = 0, high;
    if (query(last, 1, 0)[ECX] >> 27 & 1) /* OSXSAVE: the kernel uses XSAVE, and XGETBV is allowed */
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

uint32_t mhi_cpu_features(char text[MHI_CPU_TEXT_BYTES])
{
    answer last = begin();
    uint32_t state = enabled_state(&last);
    size_t used = 0;
    for (size_t i = 0; i < sizeof features / sizeof *features; i++) {
        const uint32_t *word = query(&last, features[i].leaf, features[i].subleaf);
        if (!(word[features[i].word] >> features[i].bit & 1) || (features[i].state & ~state))
            continue;
        size_t length = strlen(features[i].name);
        memcpy(text + used, features[i].name, length);
        used += length;
        text[used++] = ' ';
    }
    text[used - (used > 0)] = '\0';
    return state == 0 ? 0 : query(&last, 0xd, 0)[EBX];
}
