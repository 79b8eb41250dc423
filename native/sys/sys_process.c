/* sys_process.c - the kernel's data about a process. */
#define _GNU_SOURCE
#include "sys/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "arch/arch.h"

/* Fields of /proc/PID/stat by their numbers in proc(5). */
enum {
    START_TIME = 22,
    START_CODE = 26,
    END_CODE = 27,
    START_STACK = 28,
    START_DATA = 45,
    END_DATA,
    START_BRK,
    ARG_START,
    ARG_END,
    ENV_START,
    ENV_END,
    N_FIELDS
};

static int read_fields(uint64_t fields[N_FIELDS])
{
    char text[2048];
    int result = mhi_sys_read_text("/proc/self/stat", text, sizeof text);
    if (result < 0)
        return result;
    char *field = strrchr(text, ')'); /* the name of the program, field 2, may hold anything */
    for (int i = 3; i < N_FIELDS; i++) {
        if (field == NULL || (field = strchr(field + 1, ' ')) == NULL)
            return -ENODATA;
        fields[i] = strtoull(field + 1, NULL, 10);
    }
    return 0;
}

int mhi_sys_layout_read(mhi_sys_layout *layout)
{
    uint64_t fields[N_FIELDS];
    int result = read_fields(fields);
    if (result < 0)
        return result;
    *layout = (mhi_sys_layout){
        .start_code = fields[START_CODE],
        .end_code = fields[END_CODE],
        .start_data = fields[START_DATA],
        .end_data = fields[END_DATA],
        .start_brk = fields[START_BRK],
        .brk = (uint64_t)syscall(SYS_brk, 0),
        .start_stack = fields[START_STACK],
        .arg_start = fields[ARG_START],
        .arg_end = fields[ARG_END],
        .env_start = fields[ENV_START],
        .env_end = fields[ENV_END],
    };
    return 0;
}

int mhi_sys_began_ns(int64_t *ns)
{
    uint64_t fields[N_FIELDS];
    struct timespec since_boot;
    int result = read_fields(fields);
    if (result < 0)
        return result;
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    int64_t tick_ns = 1000000000 / sysconf(_SC_CLK_TCK),
            now_ns = (int64_t)since_boot.tv_sec * 1000000000 + since_boot.tv_nsec;
    *ns = mhi_sys_wall_clock_ns() - (now_ns - (int64_t)fields[START_TIME] * tick_ns);
    return 0;
}

int mhi_sys_layout_write(const mhi_sys_layout *layout)
{
    struct prctl_mm_map map = {
        .start_code = layout->start_code,
        .end_code = layout->end_code,
        .start_data = layout->start_data,
        .end_data = layout->end_data,
        .start_brk = layout->start_brk,
        .brk = layout->brk,
        .start_stack = layout->start_stack,
        .arg_start = layout->arg_start,
        .arg_end = layout->arg_end,
        .env_start = layout->env_start,
        .env_end = layout->env_end,
        .exe_fd = (uint32_t)-1,
    };
    return prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0 ? 0 : -errno;
}

int mhi_sys_mremap(void *from, size_t size, void *to)
{
    return mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, to) == MAP_FAILED ? -errno : 0;
}

int mhi_sys_thread_read(mhi_sys_thread *thread)
{
    *thread = (mhi_sys_thread){ 0 };
    void *tid_address = NULL;
    int result = mhi_arch_thread_pointer(&thread->thread_pointer);
    if (result < 0)
        return result;
    if (prctl(PR_GET_TID_ADDRESS, &tid_address, 0, 0, 0) != 0 || tid_address == NULL)
        return -EOPNOTSUPP;
    thread->tid_address = (uintptr_t)tid_address;
    if (syscall(SYS_get_robust_list, 0, &thread->robust_list, &thread->robust_bytes) != 0)
        return -errno;
    if (__rseq_size != 0) {
        thread->rseq = thread->thread_pointer + (uint64_t)__rseq_offset;
        thread->rseq_bytes = __rseq_size < MHI_RSEQ_BYTES ? MHI_RSEQ_BYTES : __rseq_size;
    }
    stack_t stack;
    if (sigaltstack(NULL, &stack) != 0)
        return -errno;
    if (!(stack.ss_flags & SS_DISABLE)) {
        thread->signal_stack = (uintptr_t)stack.ss_sp;
        thread->signal_stack_bytes = stack.ss_size;
    }
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, NULL, &thread->signal_mask, sizeof thread->signal_mask) != 0)
        return -errno;
    return prctl(PR_GET_NAME, thread->name, 0, 0, 0) == 0 ? 0 : -errno;
}

int mhi_sys_rseq_renew(const mhi_sys_thread *thread)
{
    if (syscall(SYS_rseq, thread->rseq, thread->rseq_bytes, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) != 0)
        return -errno;
    return syscall(SYS_rseq, thread->rseq, thread->rseq_bytes, 0, RSEQ_SIG) == 0 ? 0 : -errno;
}

int mhi_sys_action_read(int signal, mhi_sys_action *action)
{
    return syscall(SYS_rt_sigaction, signal, NULL, action, sizeof action->mask) == 0 ? 0 : -errno;
}

int mhi_sys_action_default(int signal)
{
    static const mhi_sys_action standard;
    return syscall(SYS_rt_sigaction, signal, &standard, NULL, sizeof standard.mask) == 0 ? 0 : -errno;
}

int mhi_sys_mask(int how, uint64_t signals, uint64_t *before)
{
    return syscall(SYS_rt_sigprocmask, how, &signals, before, sizeof signals) == 0 ? 0 : -errno;
}

void mhi_sys_exit(int status)
{
    for (;;)
        syscall(SYS_exit_group, status);
}

int mhi_sys_die_with_parent(void) { return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 ? 0 : -errno; }

int mhi_sys_die_in(int seconds)
{
    struct sigevent killed = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL };
    timer_t timer;
    if (timer_create(CLOCK_MONOTONIC, &killed, &timer) != 0)
        return -errno;
    return timer_settime(timer, 0, &(struct itimerspec){ .it_value.tv_sec = seconds }, NULL) == 0 ? 0 : -errno;
}

int mhi_sys_wait(int child, int *status)
{
    pid_t result;
    do
        result = waitpid(child, status, 0);
    while (result == -1 && errno == EINTR);
    return result == -1 ? -errno : (int)result;
}

int mhi_sys_ends_within(int child, int milliseconds)
{
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    if (fd < 0)
        return -errno;
    int result = poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, milliseconds);
    result = result < 0 && errno != EINTR ? -errno : result > 0;
    close(fd);
    return result;
}

int mhi_sys_has_children(void)
{
    siginfo_t info;
    int result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT | __WALL);
    return result == 0 ? 1 : errno == ECHILD ? 0 : -errno;
}

int mhi_sys_fork(void)
{
    pid_t child = _Fork();
    return child == -1 ? -errno : (int)child;
}

int mhi_sys_shadow_stack(uint64_t *features) { return mhi_arch_shadow_stack(features); }

bool mhi_sys_is_terminal(int fd) { return isatty(fd); }

int mhi_sys_terminal_size(int fd, uint32_t *columns, uint32_t *rows)
{
    struct winsize size = { 0 };
    int result = ioctl(fd, TIOCGWINSZ, &size) < 0 ? -errno : 0;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return result;
}

int mhi_sys_host(char name[MHI_SYS_HOST_BYTES])
{
    struct utsname found = { 0 };
    int result = uname(&found) < 0 ? -errno : 0;
    memcpy(name, &found, MHI_SYS_HOST_BYTES);
    return result;
}

uid_t mhi_sys_uid(void) { return getuid(); }

int mhi_sys_stack_limit(uint64_t *bytes)
{
    struct rlimit limit;
    int result = getrlimit(RLIMIT_STACK, &limit) == 0 ? 0 : -errno;
    *bytes = result == 0 ? limit.rlim_cur : 0;
    return result;
}

int mhi_sys_cpus(uint64_t *bits, size_t size) { return syscall(SYS_sched_getaffinity, 0, size, bits) < 0 ? -errno : 0; }

int mhi_sys_execve(const char *path, char *const *argv, char *const *envp)
{
    execve(path, argv, envp);
    return -errno;
}
