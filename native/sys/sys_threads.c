/* sys_threads.c - other threads of this process: signals to them, and words that threads wait for. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"
#include "sys/sys.h"

enum {
    WITH_RESTORER = 0x04000000, /* SA_RESTORER of the kernel's own header */
    RSEQ_CPU_UNINITIALIZED = -1,
};

int mhi_sys_signal_thread(int thread, int signal, void *value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info); /* the padding, too, goes to the kernel */
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_ptr = value;
    return syscall(SYS_rt_tgsigqueueinfo, info.si_pid, thread, signal, &info) == 0 ? 0 : -errno;
}

bool mhi_sys_has_thread(int thread) { return syscall(SYS_tgkill, getpid(), thread, 0) == 0 || errno != ESRCH; }

int mhi_sys_action_catch(int signal, mhi_sys_handler *handler, mhi_sys_action *before)
{
    const mhi_sys_action action = {
        .handler = (uintptr_t)handler,
        .flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | WITH_RESTORER,
        .restorer = (uintptr_t)mhi_arch_signal_return,
        .mask = ~(uint64_t)0,
    };
    return syscall(SYS_rt_sigaction, signal, &action, before, sizeof action.mask) == 0 ? 0 : -errno;
}

void mhi_sys_sleep_on(const _Atomic uint32_t *word, uint32_t value, int milliseconds)
{
    const struct timespec most = { .tv_sec = milliseconds / 1000, .tv_nsec = milliseconds % 1000 * 1000000 };
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, milliseconds < 0 ? NULL : &most, NULL, 0);
}

void mhi_sys_wake(const _Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

int mhi_sys_clock_ns(int clock, int64_t *ns)
{
    struct timespec now;
    if (clock_gettime(clock, &now) != 0)
        return -errno;
    *ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    return 0;
}

int mhi_sys_thread_begin(const mhi_sys_thread *thread, void *stack, void (*begin)(void *), void *argument)
{
    const unsigned long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |
                                CLONE_SETTLS | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
    return (int)mhi_arch_clone(flags, stack, (int *)thread->tid_address, thread->thread_pointer, begin, argument);
}

/* Only system calls: no variable of the thread may be used before its rseq area is registered. */
int mhi_sys_thread_restore(const mhi_sys_thread *thread, const uint64_t *cpus, size_t cpus_bytes)
{
    long result = mhi_raw_6(SYS_set_robust_list, (long)thread->robust_list, (long)thread->robust_bytes, 0, 0, 0, 0);
    if (result == 0 && thread->rseq != 0) {
        int32_t *rseq = (int32_t *)thread->rseq; /* the values from before the first registration */
        for (size_t i = 0; i < MHI_RSEQ_BYTES / sizeof *rseq; i++)
            rseq[i] = 0;
        rseq[1] = RSEQ_CPU_UNINITIALIZED;
        result = mhi_raw_6(SYS_rseq, (long)thread->rseq, (long)thread->rseq_bytes, 0, RSEQ_SIG, 0, 0);
    }
    mhi_raw_6(SYS_prctl, PR_SET_NAME, (long)thread->name, 0, 0, 0, 0);
    if (cpus != NULL) /* as far as the machine has them */
        mhi_raw_6(SYS_sched_setaffinity, 0, (long)cpus_bytes, (long)cpus, 0, 0, 0);
    return (int)result;
}
