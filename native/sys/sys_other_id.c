/* sys_other_id.c - continues under another process id if the kernel gave this process one that its memory knows.
 *
 * Random generators detect a fork by a changed process id, and then seed themselves anew. Ids repeat: the program of a
 * container is its process 1, and numbers wrap around. So if this process (a resumed one, or a child that it has
 * forked) has an id under which its memory has already run, it continues in a child, and stays as the child's parent
 * until the child ends:
 *
 *     signals     are passed to the child, except those of a terminal, which sends them to both, as one process group
 *     stops       of the child by the terminal also stop the parent, so that a shell sees them
 *     orphans     are reaped, as is the duty of process 1
 *     the end     of the child is passed on: the same status, the same signal. Process 1 can't end by a signal: its
 *                 status is then 128 plus the signal
 *
 * The parent holds no descriptors open, and if it is killed, so is the child.
 */
#define _GNU_SOURCE
#include <limits.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "sys/raw.h"
#include "sys/sys.h"

enum {
    FROM_KERNEL = 0x80,  /* SI_KERNEL: of a terminal, a timer or a limit */
    SIGNAL_STATUS = 128, /* the offset that shells add */
    /* descriptors closed one by one where the kernel has no close_range (before 5.9); the usual limit */
    OLD_LIMIT_FILES = 1024,
};

/* The state that a process keeps when it continues in a child. */
typedef struct {
    uint64_t mask;
    mhi_sys_action child_action;
    int *tid_address; /* where the C library keeps the thread id; NULL: nowhere yet */
    uintptr_t robust_list, robust_bytes;
} kept;

static const uint64_t all_signals = ~(uint64_t)0;

static long set_mask(const uint64_t *mask, uint64_t *old)
{
    return mhi_raw_4(SYS_rt_sigprocmask, SIG_SETMASK, (long)mask, (long)old, sizeof *mask);
}

static long set_action(int signal, const mhi_sys_action *action, mhi_sys_action *old)
{
    return mhi_raw_4(SYS_rt_sigaction, signal, (long)action, (long)old, sizeof action->mask);
}

static bool is_known(const uint32_t *ids, uint32_t n_ids, long id)
{
    for (uint32_t i = 0; i < n_ids; i++)
        if (ids[i] == (uint32_t)id)
            return true;
    return false;
}

__attribute__((noreturn)) static void end(int status)
{
    for (;;)
        mhi_raw_1(SYS_exit_group, status);
}

/* ---- the parent ---- */

static bool is_of_terminal(int signal)
{
    const uint64_t terminal = 1ull << SIGINT | 1ull << SIGQUIT | 1ull << SIGHUP | 1ull << SIGTSTP | 1ull << SIGTTIN |
                              1ull << SIGTTOU | 1ull << SIGCONT | 1ull << SIGWINCH;
    return signal < 64 && (terminal >> signal & 1);
}

static void let_go(void)
{
    if (mhi_raw_3(SYS_close_range, 0, UINT_MAX, 0) < 0)
        for (int fd = 0; fd < OLD_LIMIT_FILES; fd++)
            mhi_raw_1(SYS_close, fd);
    mhi_raw_1(SYS_chdir, (long)"/");
}

__attribute__((noreturn)) static void end_as(int status)
{
    if (WIFEXITED(status))
        end(WEXITSTATUS(status));
    int signal = WTERMSIG(status);
    struct rlimit none = { 0, 0 }; /* the child has already dumped its core */
    mhi_sys_action standard = { 0 };
    uint64_t others = ~(1ull << (signal - 1));
    mhi_raw_2(SYS_setrlimit, RLIMIT_CORE, (long)&none);
    set_action(signal, &standard, NULL);
    mhi_raw_2(SYS_kill, mhi_raw_0(SYS_getpid), signal);
    set_mask(&others, NULL);
    end(SIGNAL_STATUS + signal);
}

static bool is_pending(int signal)
{
    uint64_t pending = 0;
    mhi_raw_2(SYS_rt_sigpending, (long)&pending, sizeof pending);
    return pending >> (signal - 1) & 1;
}

/* Sees the child stop, continue and end. */
static void wait_for_children(long child, bool *has_continued)
{
    int status = 0;
    long id;
    while ((id = mhi_raw_4(SYS_wait4, -1, (long)&status, WNOHANG | WUNTRACED | WCONTINUED, 0)) > 0) {
        if (id != child)
            continue;
        bool is_stopped = WIFSTOPPED(status);
        *has_continued = WIFCONTINUED(status);
        if (!is_stopped && !*has_continued)
            end_as(status);
        /* who sends this one to the child alone continues the child alone */
        if (is_stopped && WSTOPSIG(status) != SIGSTOP && !is_pending(SIGCONT))
            mhi_raw_2(SYS_kill, mhi_raw_0(SYS_getpid), SIGSTOP);
    }
}

__attribute__((noreturn)) static void be_parent(long child)
{
    /* by a SIGCONT that went to both, whose own copy is still to come: SIGCHLD has the lower number */
    bool has_continued = false;
    let_go();
    for (;;) {
        siginfo_t info;
        long signal = mhi_raw_4(SYS_rt_sigtimedwait, (long)&all_signals, (long)&info, 0, sizeof all_signals);
        if (signal == SIGCHLD || signal == SIGCONT)
            wait_for_children(child, &has_continued);
        if (signal == SIGCHLD)
            continue;
        if (signal == SIGCONT && has_continued) {
            has_continued = false;
            continue;
        }
        if (signal > 0 && info.si_code == SI_QUEUE)
            mhi_raw_3(SYS_rt_sigqueueinfo, child, signal, (long)&info);
        else if (signal > 0 && !(info.si_code == FROM_KERNEL && is_of_terminal((int)signal)))
            mhi_raw_2(SYS_kill, child, signal);
    }
}

/* ---- the child ---- */

/* Saves that state, blocks all signals, and resets SIGCHLD: if it were ignored, the child's status would be lost. */
static void keep(kept *k)
{
    mhi_sys_action standard = { 0 };
    *k = (kept){ 0 };
    set_mask(&all_signals, &k->mask);
    set_action(SIGCHLD, &standard, &k->child_action);
    mhi_raw_2(SYS_prctl, PR_GET_TID_ADDRESS, (long)&k->tid_address);
    mhi_raw_3(SYS_get_robust_list, 0, (long)&k->robust_list, (long)&k->robust_bytes);
}

static void restore(const kept *k)
{
    if (k->tid_address != NULL)
        *k->tid_address = (int)mhi_raw_1(SYS_set_tid_address, (long)k->tid_address);
    if (k->robust_list != 0)
        mhi_raw_2(SYS_set_robust_list, (long)k->robust_list, (long)k->robust_bytes);
    set_action(SIGCHLD, &k->child_action, NULL);
    set_mask(&k->mask, NULL);
}

/* Makes the child die with its parent, which may already have been killed. A parent outside the pid namespace shows as
 * 0. */
static void tie_to_parent(long parent)
{
    mhi_raw_2(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
    long now = mhi_raw_0(SYS_getppid);
    if (now != parent && now != 0)
        end(SIGNAL_STATUS + SIGKILL);
}

int mhi_sys_take_other_id(const uint32_t *ids, uint32_t n_ids)
{
    long id, child = 0;
    while (child >= 0 && is_known(ids, n_ids, id = mhi_raw_0(SYS_getpid))) {
        kept k;
        keep(&k);
        child = mhi_raw_5(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child > 0)
            be_parent(child);
        if (child == 0)
            tie_to_parent(id);
        restore(&k);
    }
    return child < 0 ? (int)child : 0;
}
