/* thread.c - state of a thread that arch_prctl reads and sets, and that a signal frame holds. */
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <errno.h>
#include <sys/syscall.h>
#include <ucontext.h>

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

bool mhi_arch_call_again(void *context, const mhi_waiting *call)
{
    enum { CALL_BYTES = 2 }; /* of the instruction */
    greg_t *is = ((ucontext_t *)context)->uc_mcontext.gregs;
    const greg_t arguments[] = { is[REG_RDI], is[REG_RSI], is[REG_RDX], is[REG_R10], is[REG_R8], is[REG_R9] };
    bool is_it = is[REG_RAX] == -EINTR && (uint64_t)is[REG_RIP] == call->code && (uint64_t)is[REG_RSP] == call->stack;
    for (size_t i = 0; i < sizeof arguments / sizeof *arguments; i++)
        is_it &= (uint64_t)arguments[i] == call->arguments[i];
    if (is_it) {
        is[REG_RAX] = (greg_t)call->number;
        is[REG_RIP] -= CALL_BYTES;
    }
    return is_it;
}
