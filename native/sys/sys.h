/* sys.h - every system call of the library, and nothing else.
 *
 * The seam between us and the kernel: nothing above this directory calls the kernel directly, so a test that links
 * sys_fault.c between can make the N-th call fail. All return a value >= 0 or -errno; interrupted calls are repeated.
 */
#ifndef MHI_SYS_H
#define MHI_SYS_H
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* memory: results in *out where there is one */
int mhi_sys_mmap(void **out, void *address, size_t size, int prot, int flags, int fd, uint64_t offset);
int mhi_sys_munmap(void *address, size_t size);
int mhi_sys_mprotect(void *address, size_t size, int prot);
int mhi_sys_madvise(void *address, size_t size, int advice);
int mhi_sys_membarrier_register(void); /* once, before the first mhi_sys_membarrier */
int mhi_sys_membarrier(void);          /* a full barrier on every thread of this process */
long mhi_sys_page_size(void);

/* files: descriptors are always close-on-exec, and never have the number of a standard stream: where one is closed, the
 * program is to find it so */
int mhi_sys_open(const char *path, int flags, mode_t mode);
int mhi_sys_openat(int directory, const char *name, int flags, mode_t mode);
int mhi_sys_close(int fd);
int mhi_sys_dup_to(int fd, int other); /* replaces an open `other`; not close-on-exec */
int mhi_sys_fstat(int fd, struct stat *out);
int mhi_sys_status_flags(int fd);     /* O_* */
int mhi_sys_descriptor_flags(int fd); /* FD_CLOEXEC */
int64_t mhi_sys_position(int fd);     /* -ESPIPE: it has none */
int mhi_sys_stat(const char *path, struct stat *out);
int mhi_sys_lstat(const char *path, struct stat *out);
int mhi_sys_flock(int fd, int operation);
/* Growing a file beyond RLIMIT_FSIZE is -EFBIG, here and in ftruncate and pwrite, without the signal SIGXFSZ. */
int mhi_sys_fallocate(int fd, int mode, uint64_t offset, uint64_t size);
int mhi_sys_ftruncate(int fd, uint64_t size);
/* of the file system, for this user; -ENODATA if unknown */
int mhi_sys_free_bytes(int fd, uint64_t *bytes);
int mhi_sys_fsync(int fd);
/* starts write-back and waits for it; durability is fsync's */
int mhi_sys_sync_range(int fd, uint64_t offset, uint64_t size);
int mhi_sys_start_sync(int fd, uint64_t offset, uint64_t size); /* starts write-back and does not wait for it: a hint */
int mhi_sys_link_fd(int fd, int directory, const char *name);   /* gives an O_TMPFILE a name; -EEXIST if taken */
int mhi_sys_renameat(int directory, const char *from, const char *to);
/* RENAME_*; -EINVAL: the file system can't */
int mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags);
int mhi_sys_unlinkat(int directory, const char *name);
int mhi_sys_mkdir(const char *path, mode_t mode);
int mhi_sys_symlinkat(const char *target, int directory, const char *name);
int mhi_sys_fchmod(int fd, mode_t mode);
/* the time of last access, since the epoch; -EPERM: the file is not ours */
int mhi_sys_set_accessed(int fd, int64_t ns);
int64_t mhi_sys_seek_data(int fd, uint64_t offset); /* next offset with data, -ENXIO past the last */
int64_t mhi_sys_seek_hole(int fd, uint64_t offset);
ssize_t mhi_sys_pread(int fd, void *buffer, size_t size, uint64_t offset);
ssize_t mhi_sys_pwrite(int fd, const void *buffer, size_t size, uint64_t offset);
ssize_t mhi_sys_read(int fd, void *buffer, size_t size);
/* struct linux_dirent64, as many as fit; 0: no more */
ssize_t mhi_sys_read_directory(int fd, void *entries, size_t size);
/* 1: two descriptors of one open file, as dup makes them; 0: not */
int mhi_sys_is_same_open(int fd, int other);
int mhi_sys_socket_option(int fd, int option);               /* of SOL_SOCKET, one that is an int */
int mhi_sys_socket_peer(int fd, void *address, size_t size); /* a struct sockaddr, cut off after size */

/* ---- Descriptors of no file: made close-on-exec ---- */

typedef struct {
    int clock;
    unsigned flags;                                     /* TFD_* */
    int64_t value_s, value_ns, interval_s, interval_ns; /* what is left, and what comes behind it */
} mhi_sys_timer;
int mhi_sys_event(uint64_t count, bool is_semaphore);
int mhi_sys_epoll(void);
int mhi_sys_epoll_add(int set, int fd, uint32_t events, uint64_t data);
int mhi_sys_timer_make(const mhi_sys_timer *timer);
int mhi_sys_signals(uint64_t mask); /* a signalfd */
int mhi_sys_pipe(int ends[2]);
int mhi_sys_socket_pair(int type, int ends[2]); /* of AF_UNIX; type: SOCK_* */
int mhi_sys_shut(int fd, int how);              /* SHUT_* */
int mhi_sys_set_flags(int fd, uint32_t flags);  /* O_* that fcntl can change */
int mhi_sys_dup_as(int fd, int other, bool is_cloexec);
int64_t mhi_sys_unread(int fd); /* bytes that can be read */
int mhi_sys_pipe_capacity(int fd);
int mhi_sys_set_pipe_capacity(int fd, uint64_t bytes);
/* What could be read, which stays: its size. -EOPNOTSUPP: more than bytes, such as descriptors. */
int64_t mhi_sys_peek_pipe(int fd, void *buffer, size_t size);
int64_t mhi_sys_peek_socket(int fd, void *buffer, size_t size);
int mhi_sys_write_all(int fd, const void *buffer, size_t size);
bool mhi_sys_is_nameless_socket(int fd);
/* Of a socket of AF_UNIX by its inode: that of the socket at the other end, and 1 + SHUT_*, 0: not shut. -ENOTCONN:
 * there is none, or it has been closed; -ENOENT: no such socket here. */
int mhi_sys_unix_peer(uint64_t inode, uint64_t *peer, int *shut);

/* The beginning of a file of /proc, as far as there is room, NUL-terminated. 0 or -errno. */
int mhi_sys_read_text(const char *path, char *text, size_t size);

/* The whole range or an error: -ENODATA if the file ends first. */
int mhi_sys_pread_all(int fd, void *buffer, size_t size, uint64_t offset);
int mhi_sys_pwrite_all(int fd, const void *buffer, size_t size, uint64_t offset);

/* process and machine */
uid_t mhi_sys_uid(void);
uid_t mhi_sys_euid(void);
/* gid, egid, then the others, at most n in all: their number; -errno */
int mhi_sys_groups(gid_t *groups, int n);
int mhi_sys_access(const char *path, int mode); /* by the real ids */
bool mhi_sys_secure_exec(void);                 /* AT_SECURE: set-user-ID and the like */
int64_t mhi_sys_wall_clock_ns(void);
int mhi_sys_random(void *buffer, size_t size);
/* NUL-terminated; -ENAMETOOLONG if it does not fit */
ssize_t mhi_sys_readlink(const char *path, char *buffer, size_t size);
int mhi_sys_realpath(const char *path, char *buffer, size_t size);
int mhi_sys_thread_id(void);
void mhi_sys_yield(void);
int mhi_sys_process_id(void);
const char *mhi_sys_error_text(int code); /* of an errno: a constant, in no language but English */
const char *mhi_sys_libc_version(void);   /* NULL in the launcher, which has none */

/* ---- A process as such: the kernel's state of the calling thread and of its memory ---- */

/* As prctl_mm_map; addresses. */
typedef struct {
    uint64_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start,
        env_end;
} mhi_sys_layout;
int mhi_sys_layout_read(mhi_sys_layout *layout);
int mhi_sys_layout_write(const mhi_sys_layout *layout);
int mhi_sys_mremap(void *from, size_t size, void *to); /* replaces any mapping at `to` */

typedef struct {
    uint64_t thread_pointer, tid_address, robust_list, robust_bytes;
    uint64_t rseq, rseq_bytes;                 /* as the C library registered it; 0: none */
    uint64_t signal_stack, signal_stack_bytes; /* 0: none */
    uint64_t signal_mask;
    char name[16];
} mhi_sys_thread;
/* -EOPNOTSUPP: the kernel can't return where it stores the thread id (it has no checkpoint support). */
int mhi_sys_thread_read(mhi_sys_thread *thread);

enum { MHI_RSEQ_BYTES = 32 }; /* glibc registers at least so many, even if the kernel's part is smaller */
int mhi_sys_rseq_renew(const mhi_sys_thread *thread); /* unregisters the rseq area, and registers it again */

typedef struct { uint64_t handler, flags, restorer, mask; } mhi_sys_action; /* the kernel's struct sigaction */
int mhi_sys_action_read(int signal, mhi_sys_action *action);
int mhi_sys_action_default(int signal);
uint64_t mhi_sys_ignored_signals(void); /* as a mask, without real-time signals */
typedef void mhi_sys_handler(int signal, siginfo_t *info, void *context);
/* Has this handler called with all signals blocked, on the thread's signal stack if it has one. Also for the signals
 * that the C library keeps for itself. */
int mhi_sys_action_catch(int signal, mhi_sys_handler *handler, mhi_sys_action *before);
/* of the calling thread; `how` as in sigprocmask; before: NULL is allowed */
int mhi_sys_mask(int how, uint64_t signals, uint64_t *before);

/* ---- Other threads of this process, by their ids ---- */

int mhi_sys_signal_thread(int thread, int signal, void *value); /* -ESRCH: it has ended */
bool mhi_sys_has_thread(int thread);
/* Sleeps until somebody wakes the word, but not if it has another value, and no longer than that; -1: without end. May
 * return at any time. */
void mhi_sys_sleep_on(const _Atomic uint32_t *word, uint32_t value, int milliseconds);
void mhi_sys_wake(const _Atomic uint32_t *word); /* all that sleep on it */
int mhi_sys_clock_ns(int clock, int64_t *ns);
/* Makes a thread with this thread pointer, which keeps its id at tid_address; `begin` gets the lower end of `stack`,
 * and must not return. Returns the thread's id. */
int mhi_sys_thread_begin(const mhi_sys_thread *thread, void *stack, void (*begin)(void *), void *argument);
/* Gives the calling thread, just begun, what the kernel had of the other one, besides its signal mask and stack.
 * `cpus`: NULL to keep those of this process. */
int mhi_sys_thread_restore(const mhi_sys_thread *thread, const uint64_t *cpus, size_t cpus_bytes);

int mhi_sys_began_ns(int64_t *ns); /* start time of this process, by the present wall clock; up to a tick early */
void mhi_sys_exit(int status) __attribute__((noreturn)); /* at once, without any handler */
int mhi_sys_die_with_parent(void);                       /* SIGKILL when the parent ends */
int mhi_sys_die_in(int seconds);                         /* SIGKILL, unless it has ended by then */
int mhi_sys_wait(int child, int *status);                /* as waitpid */
/* 1 as soon as the child has ended (mhi_sys_wait still reaps it); 0: not within that time */
int mhi_sys_ends_within(int child, int milliseconds);
/* 1 or 0; a child that has ended counts until it is waited for */
int mhi_sys_has_children(void);
/* without any fork handler: the child may only make system calls */
int mhi_sys_fork(void);
/* Returns in a process that has none of these ids: if need be in a child, whose parent stays and passes on the child's
 * end. 0; or -errno: the process still has one of these ids. The calling process must have one thread. */
int mhi_sys_take_other_id(const uint32_t *ids, uint32_t n_ids);
int mhi_sys_shadow_stack(uint64_t *features); /* the enabled ones; 0: none, or the machine has no shadow stack */
bool mhi_sys_is_terminal(int fd);
int mhi_sys_terminal_size(int fd, uint32_t *columns, uint32_t *rows);
enum { MHI_SYS_HOST_BYTES = 5 * 65 }; /* sysname, nodename, release, version, machine */
int mhi_sys_host(char name[MHI_SYS_HOST_BYTES]);
int mhi_sys_stack_limit(uint64_t *bytes); /* the soft one */
/* the CPU affinity of this thread; unknown bits are left alone */
int mhi_sys_cpus(uint64_t *bits, size_t size);
/* The kernel's state of this process besides its memory, as numbers for comparison: working directory, umask, nice
 * value, CPUs; limits, soft and hard; session, process group, scheduler, no_new_privs, dumpable, signal of the parent's
 * death, subreaper, securebits, slack of timers, groups, root directory; whether each interval timer runs; of each
 * standard stream its file, its status flags, its descriptor flags. `mark` makes a file a number; 0: there is none. */
enum { MHI_STATE_LIMITS = 16, MHI_STATE_VALUES = 4 + 2 * MHI_STATE_LIMITS + 11 + 3 + 9 };
void mhi_sys_state(int64_t values[MHI_STATE_VALUES], int64_t (*mark)(const struct stat *file));
int mhi_sys_execve(const char *path, char *const *argv, char *const *envp); /* returns only on failure */

#endif
