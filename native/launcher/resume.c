/* resume.c - becomes the process that an image holds.
 *
 * The steps, in an order that matters:
 *     the kernel's stack goes         unused since entry.S, and its content was copied
 *     the vdso moves (vdso.c)         to the address where the image's C library calls it; before a segment is mapped
 *                                     there
 *     the segments                    over any mapping there; the address space is empty but for the launcher and the
 *                                     vdso
 *     the touched pages               are prefaulted
 *     brk, thread, signals            the kernel is told the addresses of heap, stack, thread data and signal stack
 *     the arguments                   their address is stored for fork.c of the image
 *     the registers                   are restored: mhi_registers_save returns, in the child of a fork; signals are
 *                                     still blocked
 *
 * Every step but the last may fail: the launcher's own region is untouched, so it can still execute the program cold.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/uio.h>

#include "error.h"
#include "launcher/launcher.h"
#include "snapshot/identity.h"
#include "sys/raw.h"
#include "sys/sys.h"

enum {
    RSEQ_CPU_UNINITIALIZED = -1,
    MMAP_DROPPABLE = 0x08, /* MAP_DROPPABLE of linux/mman.h, since 6.11 */
    THIS_PROCESS = -10001, /* PIDFD_SELF_THREAD_GROUP of linux/pidfd.h */
    POPULATE_WRITE = 23,   /* MADV_POPULATE_WRITE of linux/mman.h, since 5.14 */
    GUARD_INSTALL = 102,   /* MADV_GUARD_INSTALL of linux/mman.h, since 6.13 */
    RANGES_MAX = 1024,     /* UIO_MAXIOV of linux/uio.h */
};

/* ---- segments ---- */

typedef struct {
    const struct mh_image *image;
    uint64_t input; /* of the open file */
    int fd;         /* -1: none */
} mapper;

static int map(const mhi_file_segment *segment, int flags, int fd, mh_error *err)
{
    void *place;
    int result = mhi_sys_mmap(&place, (void *)segment->sg_address, segment->sg_bytes, (int)segment->sg_prot,
                              MAP_FIXED | MAP_NORESERVE | flags, fd, fd < 0 ? 0 : segment->sg_offset);
    if (result == -EPERM && fd >= 0 && (segment->sg_prot & PROT_EXEC))
        return mhi_fail(err, MH_ERR_UNSUPPORTED, EPERM,
                        "code in it can't be mapped: it lies where nothing may be executed (a noexec mount)");
    return result == 0
               ? MH_OK
               : mhi_fail_sys(err, result, "cannot map %lu bytes at 0x%lx", segment->sg_bytes, segment->sg_address);
}

/* Opens the file of a segment, unless it is still open from the segment before, and checks that it is the recorded
 * input. */
static int open_file(mapper *m, uint64_t input, mh_error *err)
{
    if (m->fd >= 0 && m->input == input)
        return MH_OK;
    if (m->fd >= 0)
        mhi_sys_close(m->fd);
    const mhi_file_input *was = &m->image->inputs[input];
    const char *path = mhi_image_string(m->image, was->in_name);
    m->input = input;
    m->fd = mhi_sys_open(path, O_RDONLY, 0);
    return m->fd < 0 ? mhi_fail_sys(err, m->fd, "cannot open %s", path)
                     : mhi_identity_check_open(was, m->fd, path, err);
}

/* Reads a segment that can't be mapped from the file: the stack, since the kernel does not grow the mapping of a file,
 * while an anonymous one grows up to RLIMIT_STACK; and memory shared with children, since a shared mapping of the file
 * would be shared with all processes. */
static int map_read(const mapper *m, const mhi_file_segment *segment, mh_error *err)
{
    int flags = segment->sg_flags & MHI_SEGMENT_GROWS ? MAP_PRIVATE | MAP_GROWSDOWN : MAP_SHARED;
    int status = map(segment, MAP_ANONYMOUS | flags, -1, err);
    if (status != MH_OK)
        return status;
    int result = mhi_sys_pread_all(m->image->fd, (void *)segment->sg_address, segment->sg_bytes, segment->sg_offset);
    return result == 0
               ? MH_OK
               : mhi_fail_sys(err, result, "cannot read memory at 0x%lx from the snapshot", segment->sg_address);
}

/* Maps a segment, with MADV_HUGEPAGE if flagged: kernel and file system may then read and map huge pages. If they
 * can't, nothing is lost. */
static int map_file(const mhi_file_segment *segment, int flags, int fd, mh_error *err)
{
    int status = map(segment, flags, fd, err);
    if (status == MH_OK && (segment->sg_flags & MHI_SEGMENT_HUGE))
        mhi_sys_madvise((void *)segment->sg_address, segment->sg_bytes, MADV_HUGEPAGE);
    return status;
}

static int map_zero(const mhi_file_segment *segment, mh_error *err)
{
    static const struct {
        uint32_t flag;
        int advice;
    } advices[] = { { MHI_SEGMENT_WIPED, MADV_WIPEONFORK },
                    { MHI_SEGMENT_NOT_DUMPED, MADV_DONTDUMP },
                    { MHI_SEGMENT_HUGE, MADV_HUGEPAGE } };
    bool is_droppable = segment->sg_flags & MHI_SEGMENT_DROPPABLE;
    int status = map(segment, MAP_ANONYMOUS | (is_droppable ? MMAP_DROPPABLE : MAP_PRIVATE), -1, err);
    for (size_t i = 0; i < sizeof advices / sizeof *advices && status == MH_OK; i++)
        if (segment->sg_flags & advices[i].flag)
            mhi_sys_madvise((void *)segment->sg_address, segment->sg_bytes, advices[i].advice);
    return status;
}

/* Installs a guard: the process needs it to stop a stack that grows too far. */
static int guard(const mhi_file_segment *segment, mh_error *err)
{
    if (!(segment->sg_flags & MHI_SEGMENT_GUARD))
        return MH_OK;
    int result = mhi_sys_madvise((void *)segment->sg_address, segment->sg_bytes, GUARD_INSTALL);
    return result == 0 ? MH_OK
                       : mhi_fail(err, MH_ERR_STALE, -result,
                                  "this kernel can't guard memory (MADV_GUARD_INSTALL): that of the snapshot could");
}

static int map_segments(mapper *m, mh_error *err)
{
    const mhi_file_segment *segments = m->image->segments, *end = segments + m->image->n_segments;
    int status = MH_OK;
    for (const mhi_file_segment *each = segments; each < end && status == MH_OK; each++) {
        if (each->sg_kind == MH_SEGMENT_ZERO) {
            status = map_zero(each, err);
            if (status == MH_OK)
                status = guard(each, err);
            continue;
        }
        if (each->sg_kind == MH_SEGMENT_MEMORY) {
            bool is_read = each->sg_flags & (MHI_SEGMENT_GROWS | MHI_SEGMENT_SHARED);
            status = is_read ? map_read(m, each, err) : map_file(each, MAP_PRIVATE, m->image->fd, err);
            continue;
        }
        status = open_file(m, each->sg_input, err);
        if (status == MH_OK)
            status = map_file(each, each->sg_flags & MHI_SEGMENT_SHARED ? MAP_SHARED : MAP_PRIVATE, m->fd, err);
        if (status == MH_OK)
            status = guard(each, err);
    }
    if (m->fd >= 0)
        mhi_sys_close(m->fd);
    return status;
}

/* Prefaults the touched pages in one call; else each would cost a copy-on-write page fault, most of them after a read
 * fault. This needs Linux 6.13, and 6.14 for PIDFD_SELF; on older kernels the faults remain. */
static void copy_touched(const struct mh_image *image)
{
    _Static_assert(sizeof *mhi_image_touched(image) == sizeof(struct iovec), "it is handed to the kernel as it is");
    uint64_t n;
    for (uint64_t i = 0; i < mhi_image_n_touched(image); i += n) {
        n = mhi_image_n_touched(image) - i < RANGES_MAX ? mhi_image_n_touched(image) - i : RANGES_MAX;
        mhi_raw_5(SYS_process_madvise, THIS_PROCESS, (long)&mhi_image_touched(image)[i], (long)n, POPULATE_WRITE, 0);
    }
}

/* ---- what the kernel keeps ---- */

/* The auxiliary vector for /proc and core files, by which debuggers find the program and its libraries: the kernel's
 * vector of this run, but with the image's entries for the program in memory and for the moved vdso. Returns its size
 * in bytes: the kernel accepts no more than it would have set itself. */
static size_t merge_auxv(uint64_t auxv[MHI_AUXV_MAX][2], const mhi_file_process *process, const mhi_startup *startup)
{
    const uint64_t ours[][2] = {
        { AT_PHDR, process->pr_headers },         { AT_PHNUM, process->pr_n_headers },
        { AT_BASE, process->pr_linker },          { AT_ENTRY, process->pr_entry },
        { AT_EXECFN, process->pr_name_executed }, { AT_PLATFORM, process->pr_platform },
        { AT_RANDOM, process->pr_random },        { AT_SYSINFO_EHDR, mhi_vdso_code(process) },
    };
    memcpy(auxv, startup->auxv, sizeof startup->auxv);
    size_t n = 0;
    for (; auxv[n][0] != AT_NULL; n++)
        for (size_t k = 0; k < sizeof ours / sizeof *ours; k++)
            if (auxv[n][0] == ours[k][0])
                auxv[n][1] = ours[k][1];
    if (process->pr_random != 0)
        memcpy((void *)process->pr_random, startup->random, sizeof startup->random);
    return (n + 1) * sizeof *auxv;
}

/* Restores the image's brk heap. If the kernel does not allow that, __curbrk is set to the end of the address space: so
 * the C library uses mmap, and does not mistake a result of brk for an extension of its own heap. */
static void restore_layout(const mhi_file_process *process, const mhi_startup *startup, const mhi_arguments *arguments)
{
    uint64_t auxv[MHI_AUXV_MAX][2];
    size_t auxv_bytes = merge_auxv(auxv, process, startup);
    const char *first = arguments->ar_argv[0], *end = arguments->ar_image_path;
    const char *middle = arguments->ar_envc > 0 ? arguments->ar_envp[0] : end;
    struct prctl_mm_map layout = {
        .start_code = process->pr_start_code,
        .end_code = process->pr_end_code,
        .start_data = process->pr_start_data,
        .end_data = process->pr_end_data,
        .start_brk = process->pr_start_brk,
        .brk = process->pr_brk,
        .start_stack = process->pr_start_stack,
        .arg_start = (uintptr_t)first,
        .arg_end = (uintptr_t)middle, /* ps shows the range */
        .env_start = (uintptr_t)middle,
        .env_end = (uintptr_t)end,
        .auxv = (void *)auxv,
        .auxv_size = (uint32_t)auxv_bytes,
        .exe_fd = (uint32_t)-1,
    };
    long result = mhi_raw_5(SYS_prctl, PR_SET_MM, PR_SET_MM_MAP, (long)&layout, sizeof layout, 0);
    if (result < 0 && process->pr_curbrk != 0)
        *(uint64_t *)process->pr_curbrk = ~(uint64_t)0;
}

static int restore_thread(const mhi_file_process *process, mh_error *err)
{
    long result = mhi_arch_set_thread_pointer(process->pr_thread_pointer);
    if (result == 0) {
        result = mhi_raw_1(SYS_set_tid_address, (long)process->pr_tid_address);
        *(int *)process->pr_tid_address = (int)result;
        result = mhi_raw_2(SYS_set_robust_list, (long)process->pr_robust_list, (long)process->pr_robust_bytes);
    }
    if (result == 0 && process->pr_rseq != 0) {
        /* struct rseq: the kernel demands the values from before the first registration */
        int32_t *rseq = (int32_t *)process->pr_rseq;
        memset(rseq, 0, 32);
        rseq[1] = RSEQ_CPU_UNINITIALIZED;
        result = mhi_raw_4(SYS_rseq, (long)process->pr_rseq, (long)process->pr_rseq_bytes, 0, RSEQ_SIG);
    }
    mhi_raw_2(SYS_prctl, PR_SET_NAME, (long)process->pr_name);
    return result == 0 ? MH_OK : mhi_fail_sys(err, (int)result, "the kernel does not take the thread back");
}

/* Resets signal handlers: they lie in the image, which will not be resumed. Signals are blocked, so no handler has
 * run. */
static void forget_handlers(const struct mh_image *image)
{
    static const mhi_sys_action standard;
    for (uint64_t i = 0; i < mhi_image_n_signals(image); i++)
        mhi_raw_4(SYS_rt_sigaction, mhi_image_signals(image)[i].si_signal, (long)&standard, 0, sizeof standard.mask);
}

/* Signals that this process was started to ignore, as the committing one was, and that the program gave their default
 * action: the image has an action of all others. */
static void restore_defaults(const struct mh_image *image, uint64_t ignored)
{
    static const mhi_sys_action standard;
    for (uint64_t i = 0; i < mhi_image_n_signals(image); i++)
        ignored &= ~(1ull << (mhi_image_signals(image)[i].si_signal - 1));
    for (int signal = 1; ignored != 0; signal++, ignored >>= 1)
        if (ignored & 1)
            mhi_raw_4(SYS_rt_sigaction, signal, (long)&standard, 0, sizeof standard.mask);
}

static int restore_signals(const struct mh_image *image, uint64_t ignored, mh_error *err)
{
    const mhi_file_process *process = mhi_image_process(image);
    long result = 0;
    for (uint64_t i = 0; i < mhi_image_n_signals(image) && result == 0; i++) {
        const mhi_file_signal *signal = &mhi_image_signals(image)[i];
        mhi_sys_action action = { signal->si_handler, signal->si_flags, signal->si_restorer, signal->si_mask };
        result = mhi_raw_4(SYS_rt_sigaction, signal->si_signal, (long)&action, 0, sizeof action.mask);
    }
    if (result == 0 && process->pr_signal_stack != 0) {
        stack_t stack = { .ss_sp = (void *)process->pr_signal_stack, .ss_size = process->pr_signal_stack_bytes };
        result = mhi_raw_2(SYS_sigaltstack, (long)&stack, 0);
    }
    if (result != 0)
        forget_handlers(image);
    else
        restore_defaults(image, ignored);
    return result == 0 ? MH_OK : mhi_fail_sys(err, (int)result, "the kernel does not take the signals back");
}

/* ---- */

int mhi_resume(const struct mh_image *image, const mhi_startup *startup, mhi_arguments *arguments, mh_error *err)
{
    const mhi_file_process *process = mhi_image_process(image);
    mapper m = { .image = image, .fd = -1 };
    mhi_sys_munmap((void *)startup->stack_start, startup->stack_end - startup->stack_start);
    int status = mhi_vdso_place(process, startup->vdso, err);
    if (status == MH_OK)
        status = map_segments(&m, err);
    if (status == MH_OK)
        status = restore_thread(process, err);
    if (status == MH_OK)
        status = restore_signals(image, arguments->ar_ignored, err);
    if (status != MH_OK)
        return status;
    arguments->ar_mask = process->pr_signal_mask; /* in part inherited, as in this run */
    copy_touched(image);
    restore_layout(process, startup, arguments);
    *(mhi_arguments **)process->pr_arguments = arguments;
    mhi_sys_close(image->fd);
    mhi_registers_go(&process->pr_registers, 1);
}
