/* capture.c - in the child of the commit's fork: the address space as segments, and the pages that must be in the file.
 *
 * A page has been written if it is present and anonymous, neither the file's nor another process's: pagemap tells.
 * Pages of a private mapping that were not written are still the file's, so only the file is named. Pages of anonymous
 * memory that were not written are zero, and so are many written ones: no page of zeros is stored, unless leaving it
 * out would cost one more mapping. A guard (MADV_GUARD_INSTALL), as the C library puts below the stacks of threads,
 * looks like a written page, but can't be read: a guard becomes a segment of its own.
 *
 * K1  Nothing here changes what is captured: no allocation, no static variable, and the stack frames of the calls below
 *     lie under the frame that the saved registers return to.
 * K2  A later run finds in a FILE segment the bytes that this process sees: the file at the path is compared with the
 *     mapped one here, and is an input of the snapshot. The pages of a file that is not at its path any more are stored
 *     instead.
 * K3  Neither the kernel's own areas nor the launcher's region are captured: each process has its own vdso, and the
 *     region holds the launcher of a later run, and here the capture itself.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#include "base/identity.h"
#include "base/memory.h"
#include "base/pages.h"
#include "error.h"
#include "process/fork.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "process/threads.h"
#include "snapshot/checksum.h"
#include "sys/sys.h"

enum {
    /* up to so many unwritten pages between written ones are stored too: each mapping costs every resume 2 to 4 us */
    GAP_PAGES = 64,
    POPULATE_READ = 22, /* MADV_POPULATE_READ of linux/mman.h, since 5.14 */
    /* up to this size a file's mapping is stored, which saves every resume the open of the file, 4 us; only large
     * libraries have more */
    SMALL_PAGES = 128,
};

/* Where nothing is mapped, below the capture. */
#define SPARE_PAGE ((void *)(MHI_CAPTURE_START - MHI_PAGE))

/* The state that the steps below share. */
typedef struct {
    mhi_capture *to;
    int pagemap;
    uint64_t name;         /* offset of the current mapping's path; 0: of no file */
    const char *last_path; /* the path in names that was compared last */
    mhi_file_id last_file; /* the file that the kernel has for the mapping of that path */
    uint64_t last_bytes;   /* of the file, in whole pages */
    bool last_is_there;
    mhi_checksum_state state; /* of the last written segment, so that it can be continued */
} capture;

static int fail(capture *c, int result, const char *what)
{
    return mhi_fail_sys(&c->to->error, result, "cannot capture the process: %s", what);
}

/* ---- segments ---- */

static int too_many(capture *c)
{
    return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0, "the process has more than %d separate pieces of memory",
                    MHI_CAPTURE_SEGMENTS);
}

static int add_segment(capture *c, mhi_file_segment segment)
{
    if (segment.sg_bytes == 0)
        return MH_OK;
    if (c->to->n_segments == MHI_CAPTURE_SEGMENTS)
        return too_many(c);
    c->to->segments[c->to->n_segments++] = segment;
    return MH_OK;
}

static uint32_t segment_flags(const mhi_mapping *mapping)
{
    return (mapping->grows_down ? MHI_SEGMENT_GROWS : 0) | (mapping->is_shared ? MHI_SEGMENT_SHARED : 0) |
           (mapping->is_droppable ? MHI_SEGMENT_DROPPABLE : 0) | (mapping->is_wiped ? MHI_SEGMENT_WIPED : 0) |
           (mapping->is_huge ? MHI_SEGMENT_HUGE : 0) |
           (mapping->is_not_dumped && mapping->file.inode == 0 ? MHI_SEGMENT_NOT_DUMPED : 0);
}

/* Adds a part of a mapping in which no page was written. A file's part gets no MADV_HUGEPAGE if it holds no huge page:
 * the advice would cost each resume a call in vain. */
static int add_unwritten(capture *c, const mhi_mapping *mapping, uint64_t start, uint64_t end)
{
    uint32_t pointless = c->name != 0 && !mhi_holds_huge(start, end) ? MHI_SEGMENT_HUGE : 0;
    return add_segment(c, (mhi_file_segment){
                              .sg_kind = c->name != 0 ? MH_SEGMENT_FILE : MH_SEGMENT_ZERO,
                              .sg_prot = mapping->prot,
                              .sg_address = start,
                              .sg_bytes = end - start,
                              .sg_offset = c->name != 0 ? mapping->offset + (start - mapping->start) : 0,
                              .sg_input = c->name,
                              .sg_flags = segment_flags(mapping) & ~pointless,
                          });
}

static int fail_owned(capture *c, int thread)
{
    const char *text = mhi_known_text(&c->to->known, thread);
    return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0,
                    "the thread %s holds a lock that knows its owner, which has another id in a later run: let it come "
                    "to rest in the body",
                    *text != '\0' ? text : mhi_threads_name(thread));
}

/* The page cache makes a huge page only of bytes that one call writes: so pieces end at huge pages of the file. The
 * kernel reads each piece before we do, so that a page behind the end of a file is an error, not a signal. Memory that
 * changes meanwhile (our own stack, and the rseq area where the kernel notes our CPU) is copied, and the copy is
 * written and checksummed. */
static int write_memory(capture *c, uint64_t start, uint64_t end, bool is_writable)
{
    uintptr_t here = (uintptr_t)__builtin_frame_address(0);
    uint64_t rseq = c->to->process.pr_rseq;
    int owner;
    bool is_alive = (here >= start && here < end) || (rseq >= start && rseq < end);
    for (uint64_t place = start, size; place < end; place += size) {
        const void *piece = (const void *)place;
        size = MHI_CAPTURE_PIECE - c->to->file_end % MHI_CAPTURE_PIECE;
        size = size < end - place ? size : end - place;
        if (is_alive)
            piece = memcpy(c->to->piece, piece, size);
        if (c->to->has_threads && is_writable && (owner = mhi_threads_owner(piece, size)) != 0)
            return fail_owned(c, owner);
        int result = mhi_sys_pwrite_all(c->to->fd, piece, size, c->to->file_end);
        if (result < 0)
            return fail(c, result, "the new snapshot can't be written");
        mhi_checksum_stripes(&c->state, piece, size);
        c->to->file_end += size;
    }
    return MH_OK;
}

/* A segment that is mapped from the snapshot and holds a whole huge page gets MADV_HUGEPAGE, whatever the process had
 * there. */
static uint32_t memory_flags(const mhi_mapping *mapping, uint64_t start, uint64_t end)
{
    uint32_t read = segment_flags(mapping) & (MHI_SEGMENT_GROWS | MHI_SEGMENT_SHARED);
    return read == 0 && mhi_holds_huge(start, end) ? MHI_SEGMENT_HUGE : read;
}

/* The segment for written memory: the last one if it ends there and is of the same sort, else a new empty one. Memory
 * that holds a huge page continues only a segment whose file offset and address are congruent. */
static mhi_file_segment *segment_for(capture *c, const mhi_mapping *mapping, uint64_t start, uint64_t end)
{
    mhi_capture *to = c->to;
    uint32_t flags = memory_flags(mapping, start, end);
    mhi_file_segment *last = to->n_segments == 0 ? NULL : &to->segments[to->n_segments - 1];
    if (last != NULL && last->sg_kind == MH_SEGMENT_MEMORY && last->sg_address + last->sg_bytes == start &&
        last->sg_prot == mapping->prot && (flags == 0 || flags == MHI_SEGMENT_HUGE) &&
        (last->sg_flags == flags || last->sg_flags == MHI_SEGMENT_HUGE))
        return last;
    if (to->n_segments == MHI_CAPTURE_SEGMENTS)
        return NULL;
    to->file_end += mhi_hole_bytes(to->file_end, start, flags);
    mhi_checksum_begin(&c->state, MHI_CHECKSUM_SEED);
    to->segments[to->n_segments] = (mhi_file_segment){
        .sg_kind = MH_SEGMENT_MEMORY,
        .sg_prot = mapping->prot,
        .sg_address = start,
        .sg_offset = to->file_end,
        .sg_flags = flags,
    };
    return &to->segments[to->n_segments++];
}

static int add_written(capture *c, const mhi_mapping *mapping, uint64_t start, uint64_t end)
{
    mhi_file_segment *segment = segment_for(c, mapping, start, end);
    if (segment == NULL)
        return too_many(c);
    bool is_hidden = !(mapping->prot & PROT_READ);
    int result = is_hidden ? mhi_sys_mprotect((void *)start, end - start, PROT_READ) : 0;
    if (result < 0)
        return fail(c, result, "memory can't be made readable");
    if (mapping->file.inode == 0 && !mapping->is_shared && !mapping->grows_down &&
        (mapping->prot & (PROT_READ | PROT_WRITE)) == (PROT_READ | PROT_WRITE))
        mhi_remnants_wipe(&c->to->remnants, start, end);
    int status = write_memory(c, start, end, mapping->prot & PROT_WRITE);
    if (is_hidden && mhi_sys_mprotect((void *)start, end - start, (int)mapping->prot) < 0 && status == MH_OK)
        return fail(c, -EACCES, "memory can't be protected again");
    segment->sg_bytes += end - start;
    mhi_checksum_state state = c->state;
    segment->sg_checksum = mhi_checksum_end(&state, NULL, 0);
    return status;
}

/* ---- pages ---- */

static bool is_written(const capture *c, const mhi_mapping *mapping, uint64_t address, uint64_t entry)
{
    if (!mhi_page_is_own(entry))
        return false;
    bool is_readable_zero = c->name == 0 && (mapping->prot & PROT_READ) && mhi_is_zero((const void *)address, MHI_PAGE);
    return !is_readable_zero;
}

/* Linux 6.13 and 6.14 have guards, but pagemap does not show them: a guard then looks swapped out, and can't be
 * read. */
static bool is_guard(const mhi_mapping *mapping, uint64_t address, uint64_t entry)
{
    if (entry & MHI_PAGE_GUARD)
        return true;
    bool may_be = (entry & (MHI_PAGE_PRESENT | MHI_PAGE_SWAPPED)) == MHI_PAGE_SWAPPED && (mapping->prot & PROT_READ);
    return may_be && mhi_sys_madvise((void *)address, MHI_PAGE, POPULATE_READ) == -EFAULT;
}

/* Memory that must not be kept: secrets, and states of random generators. */
static bool is_left_out(const mhi_mapping *mapping)
{
    return mapping->is_droppable || mapping->is_wiped || mapping->is_not_dumped;
}

/* Splits a mapping into runs of written pages, guards, and what lies between them. */
typedef struct {
    uint64_t done;       /* segments were made up to here */
    uint64_t start, end; /* of the run at hand; start == end: none */
    uint64_t limit;      /* where the readable part ends: the mapping may reach behind the end of its file */
} run;

enum { GAP_BYTES = GAP_PAGES * MHI_PAGE };

static int end_run(capture *c, const mhi_mapping *mapping, run *at)
{
    if (at->start == at->end)
        return MH_OK;
    int status = add_unwritten(c, mapping, at->done, at->start);
    if (status == MH_OK)
        status = add_written(c, mapping, at->start, at->end);
    at->done = at->start = at->end;
    return status;
}

static int take_page(capture *c, const mhi_mapping *mapping, run *at, uint64_t address)
{
    int status = MH_OK;
    if (at->start == at->end || address - at->end > GAP_BYTES) {
        status = end_run(c, mapping, at);
        at->start = address - at->done > GAP_BYTES ? address : at->done;
    }
    at->end = address + MHI_PAGE;
    return status;
}

/* Ends the current run; consecutive guards become one segment. */
static int take_guard(capture *c, const mhi_mapping *mapping, run *at, uint64_t address)
{
    mhi_capture *to = c->to;
    int status = end_run(c, mapping, at);
    if (status == MH_OK && at->done == address && to->n_segments > 0 &&
        (to->segments[to->n_segments - 1].sg_flags & MHI_SEGMENT_GUARD) &&
        to->segments[to->n_segments - 1].sg_address + to->segments[to->n_segments - 1].sg_bytes == address) {
        to->segments[to->n_segments - 1].sg_bytes += MHI_PAGE;
    } else {
        if (status == MH_OK)
            status = add_unwritten(c, mapping, at->done, address);
        if (status == MH_OK)
            status = add_unwritten(c, mapping, address, address + MHI_PAGE);
        if (status == MH_OK)
            to->segments[to->n_segments - 1].sg_flags =
                (segment_flags(mapping) & ~(uint32_t)MHI_SEGMENT_HUGE) | MHI_SEGMENT_GUARD;
    }
    at->done = at->start = at->end = address + MHI_PAGE;
    return status;
}

static int take_any_page(capture *c, const mhi_mapping *mapping, run *at, uint64_t address, uint64_t entry)
{
    if (is_guard(mapping, address, entry))
        return take_guard(c, mapping, at, address);
    return !is_left_out(mapping) && is_written(c, mapping, address, entry) ? take_page(c, mapping, at, address) : MH_OK;
}

static uint64_t readable_end(const capture *c, const mhi_mapping *mapping)
{
    uint64_t bytes = mapping->end - mapping->start;
    if (c->name == 0)
        return mapping->end;
    uint64_t left = c->last_bytes > mapping->offset ? c->last_bytes - mapping->offset : 0;
    return mapping->start + (left < bytes ? left : bytes);
}

static int split(capture *c, const mhi_mapping *mapping)
{
    run at = {
        .done = mapping->start, .start = mapping->start, .end = mapping->start, .limit = readable_end(c, mapping)
    };
    int status = MH_OK;
    for (uint64_t page = mapping->start; page < mapping->end && status == MH_OK;) {
        uint64_t n = (mapping->end - page) / MHI_PAGE;
        n = n < MHI_CAPTURE_PAGES ? n : MHI_CAPTURE_PAGES;
        int result = mhi_sys_pread_all(c->pagemap, c->to->pagemap, n * sizeof *c->to->pagemap,
                                       page / MHI_PAGE * sizeof *c->to->pagemap);
        if (result < 0)
            return fail(c, result, "/proc/self/pagemap can't be read");
        for (uint64_t i = 0; i < n && status == MH_OK; i++, page += MHI_PAGE)
            status = take_any_page(c, mapping, &at, page, c->to->pagemap[i]);
    }
    if (at.start != at.end && at.end < at.limit && at.limit - at.end <= GAP_BYTES)
        at.end = at.limit;
    if (status == MH_OK)
        status = end_run(c, mapping, &at);
    /* Pages behind the end of the file are left out: no access to them can have succeeded, and a segment must not reach
     * behind its file. */
    return status == MH_OK && at.done < at.limit ? add_unwritten(c, mapping, at.done, at.limit) : status;
}

/* ---- mappings ---- */

/* Keeps a path, unless it is the one kept last. */
static int keep_name(capture *c, const char *path)
{
    mhi_capture *to = c->to;
    if (c->last_path != NULL && strcmp(c->last_path, path) == 0) {
        c->name = (uint64_t)(c->last_path - to->names);
        return MH_OK;
    }
    size_t size = strlen(path) + 1;
    if (size > MHI_CAPTURE_NAMES - to->names_bytes)
        return mhi_fail(&to->error, MH_ERR_UNSUPPORTED, 0, "the paths of the process's mapped files are too long");
    c->name = to->names_bytes;
    c->last_path = memcpy(to->names + c->name, path, size);
    to->names_bytes += size;
    return MH_OK;
}

/* Whether a mapping of the file at the path shows the mapped file. Where stat tells the same device as the kernel, as
 * on most file systems, nothing needs to be mapped. */
static bool is_mapped(capture *c, const mhi_mapping *mapping, const struct stat *found)
{
    mhi_file_id file = mhi_file_id_of(found);
    return mhi_is_same_file(file, mapping->file) ||
           (mhi_mapping_of_path(&file, mapping->name, SPARE_PAGE, &c->to->mappings_again) == 0 &&
            mhi_is_same_file(file, mapping->file));
}

/* Whether the mapped file is still at its path (K2). */
static bool is_there(capture *c, const mhi_mapping *mapping)
{
    if (mapping->is_deleted || mapping->name[0] != '/')
        return false;
    if (!mhi_is_same_file(c->last_file, mapping->file)) {
        struct stat found;
        c->last_is_there =
            mhi_sys_stat(mapping->name, &found) == 0 && S_ISREG(found.st_mode) && is_mapped(c, mapping, &found);
        c->last_bytes = c->last_is_there ? mhi_page_end((uint64_t)found.st_size) : 0;
        c->last_file = mapping->file;
    }
    return c->last_is_there;
}

/* Whether one of the pages may be a guard; the mapping is small enough for one read of pagemap. */
static bool holds_guard(const capture *c, const mhi_mapping *mapping)
{
    uint64_t n = (mapping->end - mapping->start) / MHI_PAGE, start = mapping->start;
    int result = mhi_sys_pread_all(c->pagemap, c->to->pagemap, n * sizeof *c->to->pagemap,
                                   start / MHI_PAGE * sizeof *c->to->pagemap);
    bool is_found = result < 0; /* then split reports the error */
    for (uint64_t i = 0; i < n && !is_found; i++)
        is_found = is_guard(mapping, start + i * MHI_PAGE, c->to->pagemap[i]);
    return is_found;
}

static bool is_small(const capture *c, const mhi_mapping *mapping)
{
    return mapping->end - mapping->start <= SMALL_PAGES * (uint64_t)MHI_PAGE &&
           readable_end(c, mapping) == mapping->end && mapping->prot != PROT_NONE && !mapping->is_shared &&
           !holds_guard(c, mapping);
}

static int take_file(capture *c, const mhi_mapping *mapping)
{
    if (!is_there(c, mapping) && mapping->is_shared)
        return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0,
                        "%.300s is mapped shared, and no longer what lies at that path", mapping->name);
    if (!is_there(c, mapping))
        return add_written(c, mapping, mapping->start, mapping->end);
    int status = keep_name(c, mapping->name); /* also for a file whose pages are stored: it is an input */
    if (status != MH_OK)
        return status;
    if (mapping->is_shared)
        return add_unwritten(c, mapping, mapping->start, readable_end(c, mapping));
    return is_small(c, mapping) ? add_written(c, mapping, mapping->start, mapping->end) : split(c, mapping);
}

/* The used part of the main thread's stack: below the stack pointer (and its red zone) lie only dead frames. */
static mhi_mapping used_stack(const capture *c, const mhi_mapping *mapping)
{
    mhi_mapping used = *mapping;
    uint64_t top = mhi_registers_stack(&c->to->process.pr_registers);
    if (top >= mapping->start && top < mapping->end)
        used.start = mhi_page_start(top - MHI_RED_ZONE);
    return used;
}

static int take_anonymous(capture *c, const mhi_mapping *mapping)
{
    if (mapping->is_shared)
        return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0, "there is shared memory: %.300s", mapping->name);
    if (!mapping->grows_down || is_left_out(mapping))
        return split(c, mapping);
    mhi_mapping stack = used_stack(c, mapping);
    return add_written(c, &stack, stack.start, stack.end);
}

static bool is_of_kernel(const mhi_mapping *mapping)
{
    return mhi_mapping_is_vdso(mapping) || strcmp(mapping->name, "[vsyscall]") == 0 ||
           strcmp(mapping->name, "[uprobes]") == 0;
}

/* Records where the kernel's areas lie, data and then code; every process has its own (K3). */
static int take_vdso(capture *c, const mhi_mapping *mapping)
{
    mhi_file_process *process = &c->to->process;
    if (strcmp(mapping->name, "[vsyscall]") == 0 || strcmp(mapping->name, "[uprobes]") == 0)
        return MH_OK;
    uint64_t end = process->pr_vdso == 0 ? mapping->start : process->pr_vdso;
    size_t n = 0;
    for (; n < 4 && process->pr_vdso_bytes[n] != 0; n++)
        end += process->pr_vdso_bytes[n];
    if (n == 4 || end != mapping->start)
        return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0, "this kernel's vdso is not laid out as known");
    process->pr_vdso = n == 0 ? mapping->start : process->pr_vdso;
    process->pr_vdso_bytes[n] = mapping->end - mapping->start;
    if (strcmp(mapping->name, "[vdso]") == 0)
        process->pr_vdso_checksum = mhi_checksum((const void *)mapping->start, mapping->end - mapping->start);
    return MH_OK;
}

static int take_mapping(capture *c, const mhi_mapping *mapping)
{
    c->name = 0;
    if (mhi_is_of_launcher(mapping))
        return MH_OK;
    if (is_of_kernel(mapping))
        return take_vdso(c, mapping);
    if (mapping->is_device || mapping->is_hugetlb)
        return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0, "%s is mapped: %.300s",
                        mapping->is_device ? "a device" : "hugetlb memory", mapping->name);
    if (mhi_is_fresh_shared(mapping))
        return add_written(c, mapping, mapping->start, mapping->end);
    if (mapping->is_shared && (mapping->prot & PROT_WRITE))
        return mhi_fail(&c->to->error, MH_ERR_UNSUPPORTED, 0, "%.300s is mapped shared and writable", mapping->name);
    return mapping->file.inode != 0 ? take_file(c, mapping) : take_anonymous(c, mapping);
}

static int take_mappings(capture *c)
{
    int result = mhi_mappings_open(&c->to->mappings, true);
    if (result < 0)
        return fail(c, result, "/proc/self/smaps can't be opened");
    int status = MH_OK;
    mhi_mapping mapping;
    while (status == MH_OK && (result = mhi_mappings_next(&c->to->mappings, &mapping)) == 1)
        status = take_mapping(c, &mapping);
    mhi_mappings_close(&c->to->mappings);
    return status == MH_OK && result < 0 ? fail(c, result, "/proc/self/smaps can't be read") : status;
}

/* ---- thread and process ---- */

static int take_thread(capture *c)
{
    mhi_file_process *process = &c->to->process;
    mhi_sys_thread thread;
    mhi_sys_layout layout;
    int result = mhi_sys_thread_read(&thread);
    if (result == 0)
        result = mhi_sys_layout_read(&layout);
    if (result < 0)
        return fail(c, result, "the kernel does not tell enough about it");
    process->pr_thread_pointer = thread.thread_pointer;
    process->pr_tid_address = thread.tid_address;
    process->pr_robust_list = thread.robust_list;
    process->pr_robust_bytes = thread.robust_bytes;
    process->pr_rseq = thread.rseq;
    process->pr_rseq_bytes = thread.rseq_bytes;
    process->pr_signal_stack = thread.signal_stack;
    process->pr_signal_stack_bytes = thread.signal_stack_bytes;
    process->pr_signal_mask = thread.signal_mask;
    memcpy(process->pr_name, thread.name, sizeof process->pr_name);
    /* from the C library's copy: in a resumed process, too, that of the image */
    process->pr_headers = getauxval(AT_PHDR);
    process->pr_n_headers = getauxval(AT_PHNUM);
    process->pr_linker = getauxval(AT_BASE);
    process->pr_entry = getauxval(AT_ENTRY);
    process->pr_name_executed = getauxval(AT_EXECFN);
    process->pr_platform = getauxval(AT_PLATFORM);
    process->pr_random = getauxval(AT_RANDOM);
    process->pr_start_code = layout.start_code;
    process->pr_end_code = layout.end_code;
    process->pr_start_data = layout.start_data;
    process->pr_end_data = layout.end_data;
    process->pr_start_brk = layout.start_brk;
    process->pr_brk = layout.brk;
    process->pr_start_stack = layout.start_stack;
    return MH_OK;
}

static int take_signals(capture *c)
{
    for (int signal = 1; signal <= MHI_CAPTURE_SIGNALS; signal++) {
        mhi_sys_action action;
        int result = mhi_sys_action_read(signal, &action);
        if (result < 0)
            return fail(c, result, "a signal's action can't be read");
        if (action.handler == (uintptr_t)SIG_DFL)
            continue;
        c->to->signals[c->to->n_signals++] = (mhi_file_signal){
            .si_signal = (uint32_t)signal,
            .si_handler = action.handler,
            .si_flags = action.flags,
            .si_restorer = action.restorer,
            .si_mask = action.mask,
        };
    }
    return MH_OK;
}

int mhi_capture_write(mhi_capture *to)
{
    for (uint64_t i = 0; i < to->n_scrubs; i++)
        mhi_remnants_learn(&to->remnants, to->scrubs[i].address, to->scrubs[i].size_bytes);
    for (uint64_t i = 0; i < to->n_scrubs; i++)
        memset(to->scrubs[i].address, 0, to->scrubs[i].size_bytes);
    to->n_segments = to->n_signals = 0;
    to->names_bytes = 1; /* so that no name has offset 0 */
    to->file_end = MHI_SEGMENTS_OFFSET;
    capture c = { .to = to };
    int status = take_thread(&c);
    if (status == MH_OK)
        status = take_signals(&c);
    if (status != MH_OK)
        return status;
    c.pagemap = mhi_sys_open("/proc/self/pagemap", O_RDONLY, 0);
    if (c.pagemap < 0)
        return fail(&c, c.pagemap, "/proc/self/pagemap can't be opened");
    status = take_mappings(&c);
    mhi_sys_close(c.pagemap);
    return status;
}
