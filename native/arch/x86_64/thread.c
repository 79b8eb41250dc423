/* thread.c - state of a thread that arch_prctl reads and sets. */
#include <asm/prctl.h>
#include <errno.h>
#include <sys/syscall.h>

#include "arch/arch.h"

enum { SHADOW_STACK_STATUS = 0x5005 }; /* ARCH_SHSTK_STATUS: newer than the headers that we must compile with */

static int arch_prctl(long what, uintptr_t argument)
{
    return (int)mhi_raw_6(SYS_arch_prctl, what, (long)argument, 0, 0, 0, 0);
}

int mhi_arch_thread_pointer(uint64_t *address) { return arch_prctl(ARCH_GET_FS, (uintptr_t)address); }
int mhi_arch_set_thread_pointer(uint64_t address) { return arch_prctl(ARCH_SET_FS, address); }

int mhi_arch_shadow_stack(uint64_t *features)
{
    *features = 0;
    int result = arch_prctl(SHADOW_STACK_STATUS, (uintptr_t)features);
    return result == -EINVAL || result == -EOPNOTSUPP ? 0 : result;
}
