/* check.c - believes nothing that a process snapshot says about itself.
 *
 * As snapshot/check.c: every field is checked as if there were no checksum, and any value that no commit writes is
 * refused. A file that passes can be mapped and jumped to without touching the launcher, the kernel's own areas, or an
 * unmapped address. What the process then does can't be checked: an image is code.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "base/pages.h"
#include "resumable/tables.h"
#include "sys/sys.h"

enum {
    ADDRESS_MIN = 1 << 16,     /* the kernel's usual vm.mmap_min_addr */
    DESCRIPTORS_MAX = 1 << 20, /* the kernel's usual fs.nr_open */
    SIGNALS = 64,
    ROBUST_LIST_BYTES = 24,                 /* struct robust_list_head: the kernel takes no other size */
    RANDOM_BYTES = 16,                      /* at AT_RANDOM, getauxval(3) */
    OPEN_ONCE = O_CREAT | O_EXCL | O_TRUNC, /* flags that a second open must not have */
};

/* Whether `size` bytes at `address` lie in the user address space. */
static bool is_range(uint64_t address, uint64_t size)
{
    uint64_t end;
    return address >= ADDRESS_MIN && !__builtin_add_overflow(address, size, &end) && end <= MHI_USER_END;
}

static bool overlaps(uint64_t address, uint64_t size, uint64_t start, uint64_t end)
{
    return address < end && start < address + size;
}

static uint64_t vdso_end(const mhi_file_process *process)
{
    uint64_t end = process->pr_vdso;
    for (int i = 0; i < 4; i++)
        end += process->pr_vdso_bytes[i];
    return end;
}

static const char *check_vdso(const mhi_file_process *process)
{
    uint64_t place = process->pr_vdso;
    bool is_last = false;
    for (int i = 0; i < 4; i++) {
        uint64_t size = process->pr_vdso_bytes[i];
        if (!mhi_is_paged(size) || (size != 0 && (is_last || !is_range(place, size))))
            return "the sizes of the kernel's areas make no sense";
        is_last |= size == 0;
        place += size;
    }
    if (!mhi_is_paged(process->pr_vdso) ||
        overlaps(process->pr_vdso, place - process->pr_vdso, MHI_LAUNCHER_START, MHI_LAUNCHER_END))
        return "the kernel's areas lie where none belong";
    return NULL;
}

static bool is_reserved(const mhi_file_process *process, uint64_t address, uint64_t size)
{
    return overlaps(address, size, MHI_LAUNCHER_START, MHI_LAUNCHER_END) ||
           overlaps(address, size, process->pr_vdso, vdso_end(process));
}

/* An access behind the end of a file raises a signal. The dynamic linker leaves such pages in the holes of a library,
 * without access rights. */
static const char *check_file_segment(const struct mh_image *image, const mhi_file_segment *segment)
{
    const mhi_file_input *input = segment->sg_input < image->n_inputs ? &image->inputs[segment->sg_input] : NULL;
    uint64_t end, file_end;
    if (input == NULL || (input->in_kind != MH_INPUT_FILE && input->in_kind != MH_INPUT_LIBRARY))
        return "a segment is mapped from a file that is no input";
    if (!mhi_is_paged(segment->sg_offset) || __builtin_add_overflow(segment->sg_offset, segment->sg_bytes, &end) ||
        end > INT64_MAX)
        return "a segment has an impossible place in a file";
    if (segment->sg_prot != PROT_NONE &&
        (__builtin_add_overflow(input->in_bytes, MHI_PAGE - 1, &file_end) || end > file_end))
        return "a segment reaches behind the end of its file";
    if ((segment->sg_flags & MHI_SEGMENT_SHARED) && (segment->sg_prot & PROT_WRITE))
        return "a segment would write to a file";
    return NULL;
}

static uint32_t flags_allowed(uint32_t kind)
{
    switch (kind) {
    case MH_SEGMENT_MEMORY: return MHI_SEGMENT_GROWS | MHI_SEGMENT_SHARED | MHI_SEGMENT_HUGE;
    case MH_SEGMENT_FILE: return MHI_SEGMENT_SHARED | MHI_SEGMENT_HUGE | MHI_SEGMENT_GUARD;
    default:
        return MHI_SEGMENT_GROWS | MHI_SEGMENT_DROPPABLE | MHI_SEGMENT_WIPED | MHI_SEGMENT_HUGE |
               MHI_SEGMENT_NOT_DUMPED | MHI_SEGMENT_GUARD;
    }
}

/* Checks the fields that all kinds of segments have; `free` is the first address behind the previous segment. */
static const char *check_segment(const struct mh_image *image, const mhi_file_segment *segment, uint64_t free)
{
    if (segment->sg_kind != MH_SEGMENT_MEMORY && segment->sg_kind != MH_SEGMENT_FILE &&
        segment->sg_kind != MH_SEGMENT_ZERO)
        return "a segment is of an unknown kind";
    if (!mhi_is_paged(segment->sg_address) || !mhi_is_paged(segment->sg_bytes) || segment->sg_bytes == 0)
        return "a segment is not of whole pages";
    if (!is_range(segment->sg_address, segment->sg_bytes) || segment->sg_address < free)
        return "a segment is out of order, or lies outside the address space";
    if (is_reserved(mhi_image_process(image), segment->sg_address, segment->sg_bytes))
        return "a segment lies where the launcher or the kernel is";
    if ((segment->sg_prot & ~(uint32_t)(PROT_READ | PROT_WRITE | PROT_EXEC)) ||
        (segment->sg_flags & ~flags_allowed(segment->sg_kind)) || segment->sg_reserved != 0)
        return "a segment has a flag that it can't have";
    if (segment->sg_kind == MH_SEGMENT_MEMORY && (segment->sg_flags & MHI_SEGMENT_HUGE) &&
        (segment->sg_flags != MHI_SEGMENT_HUGE ||
         !mhi_holds_huge(segment->sg_address, segment->sg_address + segment->sg_bytes)))
        return "a segment is for huge pages and can hold none";
    if (segment->sg_kind != MH_SEGMENT_MEMORY && segment->sg_checksum != 0)
        return "a segment has a checksum and no data";
    if (segment->sg_kind == MH_SEGMENT_FILE)
        return check_file_segment(image, segment);
    return segment->sg_input == 0 ? NULL : "a segment names a file that it does not come from";
}

static const char *check_places(const struct mh_image *image)
{
    uint64_t place = MHI_SEGMENTS_OFFSET;
    for (uint64_t i = 0; i < image->n_segments; i++) {
        const mhi_file_segment *segment = &image->segments[i];
        if (segment->sg_kind == MH_SEGMENT_ZERO && segment->sg_offset != 0)
            return "a segment of zeros has a place in the file";
        if (segment->sg_kind != MH_SEGMENT_MEMORY)
            continue;
        uint64_t hole = mhi_hole_bytes(place, segment->sg_address, segment->sg_flags);
        if (__builtin_add_overflow(place, hole, &place) || segment->sg_offset != place ||
            __builtin_add_overflow(place, segment->sg_bytes, &place))
            return "a segment lies where none belongs";
    }
    return place == image->header.hd_tables[0].tb_offset ? NULL : "its segments do not end where its tables begin";
}

static const char *check_segments(const struct mh_image *image)
{
    uint64_t free = 0;
    const char *wrong = NULL;
    for (uint64_t i = 0; i < image->n_segments && wrong == NULL; i++) {
        wrong = check_segment(image, &image->segments[i], free);
        free = image->segments[i].sg_address + image->segments[i].sg_bytes;
    }
    return wrong;
}

/* The main thread has one stack, and the kernel must be able to extend it. */
static const char *check_stack(const struct mh_image *image)
{
    const mhi_file_segment *last = NULL;
    for (uint64_t i = 0; i < image->n_segments; i++) {
        const mhi_file_segment *segment = &image->segments[i];
        if (!(segment->sg_flags & MHI_SEGMENT_GROWS))
            continue;
        if (last != NULL && last->sg_address + last->sg_bytes != segment->sg_address)
            return "its stack is in pieces";
        last = segment;
    }
    return NULL;
}

/* Whether a whole range has these access rights. The range may span several segments, which are sorted. */
static bool is_mapped(const struct mh_image *image, uint64_t address, uint64_t size, uint32_t prot)
{
    if (!is_range(address, size))
        return false;
    uint64_t end = address + size;
    for (uint64_t i = 0; i < image->n_segments && address < end; i++) {
        const mhi_file_segment *segment = &image->segments[i];
        if (segment->sg_address + segment->sg_bytes <= address)
            continue;
        if (segment->sg_address > address || (segment->sg_prot & prot) != prot ||
            (segment->sg_flags & MHI_SEGMENT_GUARD))
            return false;
        address = segment->sg_address + segment->sg_bytes;
    }
    return address >= end;
}

static bool is_data(const struct mh_image *image, uint64_t address, uint64_t size, uint64_t alignment)
{
    return address % alignment == 0 && is_mapped(image, address, size, PROT_READ | PROT_WRITE);
}

static bool is_code(const struct mh_image *image, uint64_t address)
{
    return is_mapped(image, address, 1, PROT_READ | PROT_EXEC);
}

static const char *check_registers(const struct mh_image *image)
{
    const mhi_file_process *process = mhi_image_process(image);
    const mhi_registers *registers = &process->pr_registers;
    if (!is_code(image, mhi_registers_code(registers)))
        return "it would go on where no code is";
    if (!is_data(image, mhi_registers_stack(registers), 8, 8) ||
        !is_data(image, process->pr_thread_pointer, MHI_THREAD_BYTES, 8))
        return "its stack or its thread pointer lies outside its memory";
    if (!mhi_registers_are_sound(registers))
        return "a control register has an impossible value";
    return NULL;
}

/* Checks the addresses that the kernel and the C library write to. */
static const char *check_thread(const struct mh_image *image)
{
    const mhi_file_process *process = mhi_image_process(image);
    if (!is_data(image, process->pr_tid_address, 4, 4) || !is_data(image, process->pr_arguments, 8, 8))
        return "its thread id or its arguments lie outside its memory";
    if (process->pr_curbrk != 0 && !is_data(image, process->pr_curbrk, 8, 8))
        return "its end of data is kept outside its memory";
    if (process->pr_random != 0 && !is_data(image, process->pr_random, RANDOM_BYTES, 1))
        return "its random bytes lie outside its memory";
    if (process->pr_robust_list != 0 && (process->pr_robust_bytes != ROBUST_LIST_BYTES ||
                                         !is_data(image, process->pr_robust_list, ROBUST_LIST_BYTES, 8)))
        return "its list of robust locks lies outside its memory";
    if (process->pr_rseq != 0 &&
        (process->pr_rseq_bytes == 0 || !is_data(image, process->pr_rseq, process->pr_rseq_bytes, 32)))
        return "its area of restartable sequences lies outside its memory";
    if (process->pr_signal_stack != 0 && !is_data(image, process->pr_signal_stack, process->pr_signal_stack_bytes, 1))
        return "its signal stack lies outside its memory";
    return NULL;
}

static const char *check_layout(const mhi_file_process *process)
{
    const uint64_t pairs[][2] = { { process->pr_start_code, process->pr_end_code },
                                  { process->pr_start_data, process->pr_end_data },
                                  { process->pr_start_brk, process->pr_brk },
                                  { process->pr_start_stack, process->pr_start_stack } };
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (pairs[i][0] > pairs[i][1] || pairs[i][1] > MHI_USER_END)
            return "a part of its layout ends before it begins";
    return NULL;
}

static const char *check_ids(const struct mh_image *image)
{
    const mhi_file_process *process = mhi_image_process(image);
    if (process->pr_n_ids == 0 || process->pr_n_ids > MHI_IDS_MAX)
        return "it has had no process id, or too many";
    for (uint32_t i = 0; i < MHI_IDS_MAX; i++)
        if ((process->pr_ids[i] == 0) != (i >= process->pr_n_ids))
            return "its process ids make no sense";
    return NULL;
}

static const char *check_names(const struct mh_image *image)
{
    const mhi_file_process *process = mhi_image_process(image);
    if (!mhi_is_string(image, process->pr_program) || !mhi_is_string(image, process->pr_command))
        return "its program or its command lies outside the strings";
    return process->pr_name[sizeof process->pr_name - 1] == '\0' ? NULL : "the name of its thread has no end";
}

static const char *check_descriptors(const struct mh_image *image)
{
    uint64_t free = 0; /* the lowest number that may follow */
    for (uint64_t i = 0; i < mhi_image_n_descriptors(image); i++) {
        const mhi_file_descriptor *descriptor = &mhi_image_descriptors(image)[i];
        if (descriptor->ds_fd < free || descriptor->ds_fd >= DESCRIPTORS_MAX)
            return "a descriptor is out of order";
        if ((descriptor->ds_flags & OPEN_ONCE) || descriptor->ds_is_cloexec > 1 || descriptor->ds_reserved != 0 ||
            descriptor->ds_offset > INT64_MAX)
            return "a descriptor has a value that it can't have";
        if (!mhi_is_string(image, descriptor->ds_name) || *mhi_image_string(image, descriptor->ds_name) != '/')
            return "a descriptor has no path";
        free = (uint64_t)descriptor->ds_fd + 1;
    }
    return NULL;
}

static const char *check_signals(const struct mh_image *image)
{
    uint64_t seen = 0;
    for (uint64_t i = 0; i < mhi_image_n_signals(image); i++) {
        const mhi_file_signal *signal = &mhi_image_signals(image)[i];
        if (signal->si_signal < 1 || signal->si_signal > SIGNALS || signal->si_signal == SIGKILL ||
            signal->si_signal == SIGSTOP || signal->si_reserved != 0)
            return "a signal has an impossible number";
        uint64_t bit = 1ull << (signal->si_signal - 1);
        if (seen & bit)
            return "a signal has two dispositions";
        seen |= bit;
        bool has_handler = signal->si_handler != (uintptr_t)SIG_DFL && signal->si_handler != (uintptr_t)SIG_IGN;
        if (has_handler && !(is_code(image, signal->si_handler) && is_code(image, signal->si_restorer)))
            return "a signal would be handled where no code is";
    }
    return NULL;
}

static bool is_private_data(const mhi_file_segment *segment)
{
    return (segment->sg_prot & PROT_WRITE) &&
           !(segment->sg_flags & (MHI_SEGMENT_GROWS | MHI_SEGMENT_SHARED | MHI_SEGMENT_GUARD));
}

static const char *check_touched(const struct mh_image *image)
{
    const mhi_file_segment *segment = image->segments, *last = segment + image->n_segments;
    uint64_t free = 0;
    for (uint64_t i = 0; i < mhi_image_n_touched(image); i++) {
        uint64_t address = mhi_image_touched(image)[i].to_address, size = mhi_image_touched(image)[i].to_bytes;
        while (segment < last && segment->sg_address + segment->sg_bytes <= address)
            segment++;
        if (!mhi_is_paged(address) || !mhi_is_paged(size) || size == 0 || address < free || segment == last ||
            address < segment->sg_address || size > segment->sg_address + segment->sg_bytes - address ||
            !is_private_data(segment))
            return "pages are touched that it does not have";
        free = address + size;
    }
    return NULL;
}

static const char *check_header(const mhi_file_header *header)
{
    size_t start = offsetof(mhi_file_header, hd_address), end = offsetof(mhi_file_header, hd_created_ns);
    return mhi_is_zero((const uint8_t *)header + start, end - start) ? NULL
                                                                     : "it is of a process and speaks of an arena";
}

static const char *check_front(const struct mh_image *image)
{
    return mhi_image_own(image, MHI_TABLE_PROCESS)->n == 1 ? check_names(image)
                                                           : "its tables are not those of one process";
}

static const char *check_tables(const struct mh_image *image)
{
    if (image->n_modules != 0 || image->n_relocations != 0)
        return "its tables are not those of one process";
    const char *wrong = check_vdso(mhi_image_process(image));
    if (wrong == NULL)
        wrong = check_layout(mhi_image_process(image));
    static const char *(*const checks[])(
        const struct mh_image *) = { check_segments, check_places, check_stack,       check_registers, check_thread,
                                     check_ids,      check_names,  check_descriptors, check_signals,   check_touched };
    for (size_t i = 0; i < sizeof checks / sizeof *checks && wrong == NULL; i++)
        wrong = checks[i](image);
    return wrong;
}

const mhi_file_kind mhi_file_kind_process = {
    .number = MH_KIND_PROCESS,
    .name = "process",
    .n_tables = MHI_TABLES_OF_PROCESS,
    .check_header = check_header,
    .check_front = check_front,
    .check_tables = check_tables,
};
