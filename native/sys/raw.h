/* raw.h - system calls without a C library, for the launcher. Results are the kernel's: -errno on failure. */
#ifndef MHI_RAW_H
#define MHI_RAW_H
#include <stdint.h>
#include <sys/syscall.h>

#include "arch/arch.h" /* mhi_raw_6 */

static inline long mhi_raw_5(long number, long a, long b, long c, long d, long e)
{
    return mhi_raw_6(number, a, b, c, d, e, 0);
}
static inline long mhi_raw_4(long number, long a, long b, long c, long d) { return mhi_raw_5(number, a, b, c, d, 0); }
static inline long mhi_raw_3(long number, long a, long b, long c) { return mhi_raw_4(number, a, b, c, 0); }
static inline long mhi_raw_2(long number, long a, long b) { return mhi_raw_3(number, a, b, 0); }
static inline long mhi_raw_1(long number, long a) { return mhi_raw_2(number, a, 0); }
static inline long mhi_raw_0(long number) { return mhi_raw_1(number, 0); }

/* Takes the auxiliary vector, pairs of an AT_* and a value. Called before any other function of sys_raw.c. */
void mhi_raw_begin(const uint64_t *auxv);
uint64_t mhi_raw_clock_ns(void); /* CLOCK_MONOTONIC */

#endif
