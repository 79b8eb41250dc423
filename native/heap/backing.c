/* backing.c - memory under the data of an arena: the file that will be the snapshot, or anonymous.
 *
 *     data  | file, MAP_SHARED          | anonymous                | reserved, inaccessible           |
 *           0                       file_bytes                limit_bytes              capacity - data_offset
 *
 * An arena without a file has file_bytes 0. One with a file goes on anonymously when the disk is full: malloc never
 * fails because of the disk. Disk blocks are allocated before the pages are mapped, since a store into a mapped hole on
 * a full disk is a SIGBUS, not an errno.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/falloc.h>
#include <string.h>
#include <sys/mman.h>

#include "heap/heap.h"

/* Growth in one step: an eighth of what there is, between 2 MiB and this. Arbitrary: a step costs microseconds, and the
 * unused part of the last one is given back when the arena is committed. */
#define STEP_MAX (256ull << 20)

static uint64_t data_capacity(const mh_arena *arena) { return arena->capacity_bytes - arena->data_offset; }

static int allow(void *start, uint64_t bytes)
{
    uintptr_t from = mhi_page_start((uintptr_t)start), to = mhi_round_up((uintptr_t)start + bytes, MHI_PAGE);
    return mhi_sys_mprotect((void *)from, to - from, PROT_READ | PROT_WRITE);
}

/* Makes the part of live map, page table and spans accessible that describes data [from, to). */
static int grow_tables(mh_arena *arena, uint64_t from, uint64_t to)
{
    uint64_t page = from / MHI_PAGE, n = (to - from) / MHI_PAGE;
    int result = allow((void *)&arena->live[from / MHI_GRAIN], (to - from) / MHI_GRAIN);
    if (result == 0)
        result = allow((void *)&arena->table[page], n * sizeof *arena->table);
    return result == 0 ? allow(&arena->spans[page], n * sizeof *arena->spans) : result;
}

static int grow_file(mh_arena *arena, uint64_t from, uint64_t to)
{
    void *start = (void *)(arena->data + from), *got;
    int result = mhi_sys_fallocate(arena->fd, 0, arena->file_offset + from, to - from);
    if (result == 0)
        result = mhi_sys_mmap(&got, start, to - from, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, arena->fd,
                              arena->file_offset + from);
    if (result < 0)
        return result;
    /* the first touch takes a third of the time, and later runs map pages that are already huge */
    mhi_sys_madvise(start, to - from, MADV_HUGEPAGE);
    arena->file_bytes = to;
    return 0;
}

static int grow_data(mh_arena *arena, uint64_t from, uint64_t to)
{
    if (arena->fd >= 0 && arena->backing_error == 0) {
        int result = grow_file(arena, from, to);
        if (result == 0)
            return 0;
        arena->backing_error = -result;
    }
    int result = allow((void *)(arena->data + from), to - from);
    /* the first touch takes a quarter of the time; where the kernel has no huge pages, nothing is lost */
    if (result == 0)
        mhi_sys_madvise((void *)(arena->data + from), to - from, MADV_HUGEPAGE);
    return result;
}

bool mhi_backing_grow(mh_arena *arena, uint64_t bytes)
{
    uint64_t from = mhi_limit(arena), step = mhi_min(mhi_max(from / 8, MHI_GROWTH_STEP), STEP_MAX);
    if (bytes <= from)
        return true;
    if (bytes > data_capacity(arena))
        return false;
    uint64_t to = mhi_min(mhi_round_up(mhi_max(bytes, from + step), MHI_GROWTH_STEP), data_capacity(arena));
    if (grow_tables(arena, from, to) != 0 || grow_data(arena, from, to) != 0)
        return false;
    atomic_store_explicit(&arena->limit_bytes, to, memory_order_relaxed);
    return true;
}

/* How much of [offset, offset + bytes) is in the file. */
static uint64_t part_in_file(const mh_arena *arena, uint64_t offset, uint64_t bytes)
{
    return offset >= arena->file_bytes ? 0 : mhi_min(bytes, arena->file_bytes - offset);
}

bool mhi_backing_clear(mh_arena *arena, uint64_t offset, uint64_t bytes)
{
    uint64_t in_file = part_in_file(arena, offset, bytes);
    if (in_file > 0 && arena->is_private)
        return false;
    if (in_file > 0 && mhi_sys_fallocate(arena->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                         arena->file_offset + offset, in_file) < 0)
        return false; /* not every file system can punch holes: then the pages stay unchanged */
    return in_file == bytes ||
           mhi_sys_madvise((void *)(arena->data + offset + in_file), bytes - in_file, MADV_DONTNEED) == 0;
}

void mhi_backing_punch(mh_arena *arena, uint64_t offset, uint64_t bytes)
{
    uint64_t in_file = part_in_file(arena, offset, bytes);
    char *start = (char *)(arena->data + offset);
    if (in_file > 0 && (arena->is_private || mhi_sys_fallocate(arena->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                                               arena->file_offset + offset, in_file) < 0))
        memset(start, 0, in_file);
    if (in_file < bytes && mhi_sys_madvise(start + in_file, bytes - in_file, MADV_DONTNEED) < 0)
        memset(start + in_file, 0, bytes - in_file);
}

int mhi_backing_make_private(mh_arena *arena)
{
    void *got;
    if (arena->file_bytes == 0 || arena->is_private)
        return 0;
    int result = mhi_sys_mmap(&got, (void *)arena->data, arena->file_bytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED, arena->fd, arena->file_offset);
    arena->is_private = result == 0;
    return result;
}

/* After a fork each process must have memory of its own. A shared mapping would stay one memory. A private mapping in
 * the child alone would still show the parent's writes to the file, in each page that the child has not written. So the
 * parent gives up the file, too. */
void mhi_backing_leave_file(mh_arena *arena)
{
    if (arena->fd >= 0 && !arena->is_private && mhi_backing_make_private(arena) == 0)
        arena->backing_error = ECHILD;
}
