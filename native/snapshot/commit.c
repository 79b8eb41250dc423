/* commit.c - makes the snapshot real, or leaves everything as it was.
 *
 * The steps:   seal, audit, wipe        the heap stands still, and nothing in it leads out
 *              make private             the file's data will not change any more (below)
 *              checksum data, write meta, tables, header      in the new file, which has no name that a reader would
 *              open
 *              fsync                    all of it is durable
 *              rename over the old one, fsync of the directory
 *
 * S1  After a crash anywhere, an open finds the old snapshot or the new one. Until the rename, the snapshot's name
 *     leads to the old file, which nobody writes (S3). The rename is atomic, and the file it puts there was made
 *     durable before it. Whether the rename itself survives a crash before the directory's fsync decides only which of
 *     the two it is. What else a crash can leave, under the names that writer.h lists, no reader opens and the next
 *     writer removes.
 * S2  The header's checksum covers magic, version, kind, state, sizes and the table directory with the tables'
 *     checksums; it is seeded, and a page of zeros is refused before. So a file that is not wholly there is not taken
 *     for one that is: the header is written last, and states the file's size and what the rest must add up to.
 * S3  No byte of a file that anybody maps as a snapshot is ever overwritten: a commit writes to a file of its own,
 *     which has no reader until the rename, and afterwards nobody has a descriptor or a mapping through which to write:
 *     readers open it read-only and map it privately, and the committing process has replaced its shared mapping of the
 *     data by a private one.
 *
 * Why the data stands still from make_private on: the arena's shared mapping was the only way to those pages of the
 * file, and remapping is atomic towards every thread of this process: a store lands before it in the file, or after it
 * in a private copy. No child has it either: a fork parts arena and file before there is a child (heap/cache.c), and
 * the data is then copied to a new file. A transfer that the kernel has under way into pinned pages (O_DIRECT,
 * io_uring) could still land in the file; it would have to run during mh_commit, which the caller promises not to let
 * happen, and `verify` would tell. For that the checksum is read through the file, not through the mapping: it is of
 * what a later run will map.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/tables.h"
#include "snapshot/transaction.h"
#include "sys/sys.h"

enum {
    COPY_BYTES = MHI_HUGE_BYTES, /* copied, checksummed and written at once: what the page cache is to keep as one */
    /* made durable between two steps of the progress: some tens of milliseconds on a disk; arbitrary */
    SYNC_BYTES = 32 << 20,
};

static int refuse_findings(const mh_transaction *tx, mh_error *err)
{
    const mhi_audit *audit = &tx->audit;
    if (audit->summary.findings == 0 || tx->audit_mode == MH_AUDIT_WARN)
        return MH_OK;
    const mh_finding *first = &audit->findings[0];
    return mhi_fail(err, MH_ERR_DANGLING, 0,
                    "%" PRIu64 " pointers would dangle in a later run; the first is at offset %" PRIu64
                    " of a block of %" PRIu64 " bytes made by %.80s and leads to 0x%" PRIx64
                    " in %.80s, outside the arena",
                    audit->summary.findings, first->offset, first->block_bytes,
                    *first->owner == '\0' ? "the program" : first->owner, first->value, first->target_name);
}

static int audit(mh_transaction *tx, mh_error *err)
{
    mhi_block block;
    if (tx->root_is_outside || (tx->root != NULL && !mhi_arena_find_block(tx->arena, (uintptr_t)tx->root, &block)))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the root %p does not lie in a live block of the arena", tx->root);
    uint64_t *roots = calloc(tx->n_kept + 1, sizeof *roots);
    if (roots == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    size_t n_roots = 0;
    if (tx->root != NULL)
        roots[n_roots++] = (uintptr_t)tx->root;
    for (size_t i = 0; i < tx->n_kept; i++)
        roots[n_roots++] = tx->kept[i];
    int status = mhi_audit_run(&tx->audit, tx->arena, roots, n_roots, err);
    free(roots);
    return status == MH_OK ? refuse_findings(tx, err) : status;
}

/* Private in any case, before anything can be refused or fail: afterwards the program's writes are its own. */
static int freeze(mh_transaction *tx, mh_error *err)
{
    int status = mhi_arena_seal(tx->arena, err);
    if (status == MH_OK)
        status = audit(tx, err);
    if (status == MH_OK)
        status = mhi_arena_wipe_free(tx->arena, err);
    mh_error failure;
    if (mhi_arena_make_private(tx->arena, &failure) != MH_OK && status == MH_OK) {
        if (err != NULL)
            *err = failure;
        status = failure.status;
    }
    return status;
}

int mhi_commit_inputs(mh_transaction *tx, mh_error *err)
{
    int status = mhi_inputs_add_libraries(&tx->inputs, err);
    if (status == MH_OK)
        status = mhi_record_questions(&tx->inputs, &tx->variables, &tx->scope, err);
    if (status == MH_OK)
        status = mhi_inputs_add_machine(&tx->inputs, err);
    return status;
}

static int cannot_write(int result, const mh_transaction *tx, mh_error *err)
{
    return mhi_fail_sys(err, result, "cannot write the new snapshot %s", tx->path);
}

/* Copies memory to its place in the file in pieces, so that checksum and file agree even if somebody writes to it
 * meanwhile. */
static int write_memory(const mh_transaction *tx, mhi_file_segment *segment, mh_error *err)
{
    uint8_t *piece = malloc(COPY_BYTES);
    if (piece == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    mhi_checksum_state state;
    mhi_checksum_begin(&state, MHI_CHECKSUM_SEED);
    int result = 0;
    for (uint64_t done = 0; done < segment->sg_bytes && result == 0; done += COPY_BYTES) {
        uint64_t left = segment->sg_bytes - done;
        size_t size = left < COPY_BYTES ? left : COPY_BYTES; /* whole pages, hence whole stripes */
        memcpy(piece, (const void *)(segment->sg_address + done), size);
        mhi_checksum_stripes(&state, piece, size);
        result = mhi_sys_pwrite_all(tx->writer.fd, piece, size, segment->sg_offset + done);
    }
    segment->sg_checksum = mhi_checksum_end(&state, NULL, 0);
    free(piece);
    return result < 0 ? cannot_write(result, tx, err) : MH_OK;
}

/* The data is in the file already, if the file backed the arena to the end; else (the disk was full, or the process has
 * forked) it is copied to a new one, and there must be room for it beside the first, which is mapped. */
static int settle_data(mh_transaction *tx, mhi_file_segment *data, mh_error *err)
{
    if (mhi_arena_backing_error(tx->arena) != 0) {
        int status = mhi_writer_restart(&tx->writer, err);
        return status == MH_OK ? write_memory(tx, data, err) : status;
    }
    int result = mhi_sys_ftruncate(tx->writer.fd, data->sg_offset + data->sg_bytes); /* the arena grew it in steps */
    /* the disk writes while we read; errors come with fsync */
    mhi_sys_start_sync(tx->writer.fd, data->sg_offset, data->sg_bytes);
    if (result == 0)
        result = mhi_checksum_file(tx->writer.fd, data->sg_offset, data->sg_bytes, &data->sg_checksum);
    return result < 0 ? cannot_write(result, tx, err) : MH_OK;
}

/* Behind the last segment that lies in the file. */
static uint64_t tables_start(const mhi_file_segment *segments, size_t n_segments)
{
    uint64_t start = MHI_SEGMENTS_OFFSET;
    for (size_t i = 0; i < n_segments; i++)
        if (segments[i].sg_kind != MH_SEGMENT_FILE && segments[i].sg_kind != MH_SEGMENT_ZERO)
            start = segments[i].sg_offset + segments[i].sg_bytes;
    return start;
}

static int write_tables(mh_transaction *tx, const mhi_tables_source *from, mhi_file_header *header, mh_error *err)
{
    uint64_t start = tables_start(from->segments, from->n_segments);
    mhi_tables tables;
    int status = mhi_tables_build(&tables, start, from, err);
    if (status != MH_OK)
        return status;
    int result = mhi_sys_pwrite_all(tx->writer.fd, tables.bytes, tables.size, start);
    memcpy(header->hd_tables, tables.directory, sizeof tables.directory);
    header->hd_n_tables = tables.n;
    header->hd_file_bytes = start + tables.size;
    mhi_tables_release(&tables);
    return result < 0 ? cannot_write(result, tx, err) : MH_OK;
}

/* Makes the file durable step by step, so that whoever watches sees it move; the fsync after it has little left to do.
 * */
static int sync_in_steps(mh_transaction *tx, uint64_t file_bytes, mh_error *err)
{
    uint64_t written = tx->is_process ? file_bytes : 0; /* which counted, too */
    atomic_store_explicit(&tx->total_bytes, written + file_bytes, memory_order_relaxed);
    atomic_store_explicit(&tx->done_bytes, written, memory_order_relaxed);
    for (uint64_t done = 0; done < file_bytes; done += SYNC_BYTES) {
        uint64_t left = file_bytes - done;
        int result = mhi_sys_sync_range(tx->writer.fd, done, left < SYNC_BYTES ? left : SYNC_BYTES);
        /* not every file system has it */
        if (result < 0 && result != -EINVAL && result != -ENOSYS && result != -EOPNOTSUPP)
            return cannot_write(result, tx, err); /* an error reported here will not be reported by fsync again */
        atomic_store_explicit(&tx->done_bytes, written + (left < SYNC_BYTES ? file_bytes : done + SYNC_BYTES),
                              memory_order_relaxed);
    }
    return MH_OK;
}

static int write_header(const mh_transaction *tx, mhi_file_header *header, mh_error *err)
{
    header->hd_n_wasted = tx->choice.n_wasted;
    header->hd_checksum = mhi_checksum(header, offsetof(mhi_file_header, hd_checksum));
    int result = mhi_sys_pwrite_all(tx->writer.fd, header, sizeof *header, 0);
    /* never: no run has taken it (variants.h); where that can't be said, one seems to have */
    mhi_sys_set_accessed(tx->writer.fd, 0);
    if (result == 0)
        result = mhi_sys_fsync(tx->writer.fd);
    return result < 0 ? cannot_write(result, tx, err) : MH_OK;
}

static mhi_file_header begin_header(const mh_transaction *tx, const mhi_arena_layout *layout)
{
    return (mhi_file_header){
        .hd_magic = MHI_MAGIC,
        .hd_version = MHI_FORMAT_VERSION,
        .hd_kind = MH_KIND_HEAP,
        .hd_state = MHI_STATE_COMPLETE,
        .hd_address = layout->address,
        .hd_capacity_bytes = layout->capacity_bytes,
        .hd_meta_bytes = layout->meta_bytes,
        .hd_data_offset = layout->data_offset,
        .hd_data_bytes = layout->data_bytes,
        .hd_live_blocks = layout->live_blocks,
        .hd_root = (uintptr_t)tx->root,
        .hd_created_ns = mhi_sys_wall_clock_ns(),
    };
}

static int write_file(mh_transaction *tx, mh_error *err)
{
    mhi_arena_layout layout;
    mhi_arena_read_layout(tx->arena, &layout);
    mhi_file_header header = begin_header(tx, &layout);
    mhi_file_segment segments[] = {
        { MH_SEGMENT_ARENA, PROT_READ | PROT_WRITE, layout.address + layout.data_offset, layout.data_bytes,
          MHI_SEGMENTS_OFFSET, 0, 0, 0, 0 },
        { MH_SEGMENT_PAGES, PROT_READ | PROT_WRITE, layout.address, layout.meta_bytes,
          MHI_SEGMENTS_OFFSET + layout.data_bytes, 0, 0, 0, 0 },
    };
    int status = settle_data(tx, &segments[0], err);
    if (status == MH_OK)
        status = write_memory(tx, &segments[1], err);
    return status == MH_OK ? mhi_commit_rest(tx, &header, segments, 2, NULL, err) : status;
}

int mhi_commit_rest(mh_transaction *tx, mhi_file_header *header, const mhi_file_segment *segments, size_t n_segments,
                    const mhi_process_tables *process, mh_error *err)
{
    mhi_record_contents(&tx->inputs);
    mhi_record_thin(&tx->inputs);
    mhi_tables_source from = { segments, n_segments, &tx->inputs, &tx->audit, process };
    int status = write_tables(tx, &from, header, err);
    if (status == MH_OK)
        status = sync_in_steps(tx, header->hd_file_bytes, err);
    if (status == MH_OK)
        status = write_header(tx, header, err);
    if (status == MH_OK)
        status = mhi_writer_publish(&tx->writer, err);
    if (status == MH_OK && tx->arena != NULL)
        mhi_arena_set_identity(tx->arena, header->hd_checksum);
    return status;
}

int mhi_commit(mh_transaction *tx, mh_error *err)
{
    int status = freeze(tx, err);
    if (status == MH_OK)
        status = mhi_commit_inputs(tx, err);
    return status == MH_OK ? write_file(tx, err) : status;
}
