/* commit.c - makes the snapshot real, or leaves everything as it was.
 *
 * The steps:   seal, audit, wipe        the heap stands still, and no pointer leaves it; these steps are in heap.c
 *              make private             the file's data will not change any more (see below)
 *              checksum data, write meta, tables, header      into the new file, which has no name that a reader would
 *              open; the steps from the tables on are here, for every kind
 *              fsync                    all of it is durable
 *              rename over the old one, fsync of the directory
 *
 * S1  After a crash anywhere, an open finds the old snapshot or the new one. Until the rename, the snapshot's name
 *     leads to the old file, which nobody writes (S3). The rename is atomic, and the file it puts there was made
 *     durable before it. If a crash comes before the directory's fsync, either of the two may have the name. Anything
 *     else that a crash leaves has one of the names that writer.h lists: no reader opens it, and the next writer
 *     removes it.
 * S2  The header's checksum covers magic, version, kind, state, sizes and the table directory with the tables'
 *     checksums; it is seeded, and a page of zeros is refused before it is computed. So an incomplete file is never
 *     taken for a complete one: the header is written last, and states the file's size and the checksums of the rest.
 * S3  No byte of a file that is mapped as a snapshot is ever overwritten. A commit writes to a file of its own, which
 *     has no reader until the rename. Afterwards no process has a descriptor or a mapping through which to write:
 *     readers open the file read-only and map it privately, and the committing process has replaced its shared mapping
 *     of the data by a private one.
 *
 * Why the data stands still from make_private on: the arena's shared mapping was the only way to those pages of the
 * file, and remapping is atomic towards every thread of this process: a store before the remap lands in the file, a
 * store after it in a private copy. No child has the shared mapping either: a fork detaches the arena from the file
 * before the child exists (heap/cache.c), and the data is then copied to a new file. A kernel transfer into pinned
 * pages (O_DIRECT, io_uring) could still land in the file. It would have to run during mh_commit, which the caller
 * promises to prevent, and `verify` would detect it: for this the checksum is computed from the file, as a later run
 * will map it, not from the mapping.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/tables.h"
#include "snapshot/transaction.h"
#include "sys/sys.h"

/* made durable between two steps of the progress: some tens of milliseconds on a disk; arbitrary */
enum { SYNC_BYTES = 32 << 20 };

/* Adds the files that are not recorded yet, neither as a library nor as a file that was read. */
static int add_mapped(mhi_inputs *inputs, const mhi_names *mapped, mh_error *err)
{
    const char *path = mapped->text + 1, *end = mapped->text + mapped->bytes;
    int status = MH_OK;
    for (; path < end && status == MH_OK; path += strlen(path) + 1)
        if (mhi_inputs_find(inputs, MH_INPUT_LIBRARY, path) == NULL &&
            mhi_inputs_find(inputs, MH_INPUT_FILE, path) == NULL)
            status = mhi_inputs_add_file(inputs, path, err);
    return status;
}

int mhi_commit_inputs(mhi_inputs *inputs, const mhi_inputs *variables, const mhi_scope *scope, const mhi_names *mapped,
                      mh_error *err)
{
    int status = mhi_inputs_add_libraries(inputs, err);
    if (status == MH_OK)
        status = mhi_record_questions(inputs, variables, scope, err);
    if (status == MH_OK)
        status = mhi_inputs_add_machine(inputs, err);
    return status == MH_OK && mapped != NULL ? add_mapped(inputs, mapped, err) : status;
}

int mhi_commit_cannot_write(int result, const mhi_writer *writer, mh_error *err)
{
    return mhi_fail_sys(err, result, "cannot write the new snapshot %s", writer->path);
}

mhi_file_header mhi_commit_header(const mhi_file_kind *kind, const mhi_choice *choice)
{
    return (mhi_file_header){
        .hd_magic = MHI_MAGIC,
        .hd_version = MHI_FORMAT_VERSION,
        .hd_kind = kind->number,
        .hd_state = MHI_STATE_COMPLETE,
        .hd_n_wasted = choice->n_wasted,
        .hd_created_ns = mhi_sys_wall_clock_ns(),
    };
}

/* The end of the last segment that lies in the file. */
static uint64_t tables_start(const mhi_file_segment *segments, size_t n_segments)
{
    uint64_t start = MHI_SEGMENTS_OFFSET;
    for (size_t i = 0; i < n_segments; i++)
        if (segments[i].sg_kind != MH_SEGMENT_FILE && segments[i].sg_kind != MH_SEGMENT_ZERO)
            start = segments[i].sg_offset + segments[i].sg_bytes;
    return start;
}

static int write_tables(const mhi_writer *writer, const mhi_tables_source *from, mhi_file_header *header, mh_error *err)
{
    uint64_t start = tables_start(from->segments, from->n_segments);
    mhi_tables tables;
    int status = mhi_tables_build(&tables, start, from, err);
    if (status != MH_OK)
        return status;
    int result = mhi_sys_pwrite_all(writer->fd, tables.bytes, tables.size, start);
    memcpy(header->hd_tables, tables.directory, sizeof tables.directory);
    header->hd_n_tables = tables.n;
    header->hd_file_bytes = start + tables.size;
    mhi_tables_release(&tables);
    return result < 0 ? mhi_commit_cannot_write(result, writer, err) : MH_OK;
}

/* Makes the file durable step by step, so that the progress advances; the final fsync then has little left to do. */
static int sync_in_steps(const mhi_writer *writer, mhi_progress *progress, uint64_t file_bytes, mh_error *err)
{
    uint64_t written = progress->counts_writing ? file_bytes : 0;
    atomic_store_explicit(&progress->total_bytes, written + file_bytes, memory_order_relaxed);
    atomic_store_explicit(&progress->done_bytes, written, memory_order_relaxed);
    for (uint64_t done = 0; done < file_bytes; done += SYNC_BYTES) {
        uint64_t left = file_bytes - done;
        int result = mhi_sys_sync_range(writer->fd, done, left < SYNC_BYTES ? left : SYNC_BYTES);
        /* not every file system has sync_file_range */
        if (result < 0 && result != -EINVAL && result != -ENOSYS && result != -EOPNOTSUPP)
            return mhi_commit_cannot_write(result, writer,
                                           err); /* fsync does not report an error again that was reported here */
        atomic_store_explicit(&progress->done_bytes, written + (left < SYNC_BYTES ? file_bytes : done + SYNC_BYTES),
                              memory_order_relaxed);
    }
    return MH_OK;
}

static int write_header(const mhi_writer *writer, mhi_file_header *header, mh_error *err)
{
    header->hd_checksum = mhi_checksum(header, offsetof(mhi_file_header, hd_checksum));
    int result = mhi_sys_pwrite_all(writer->fd, header, sizeof *header, 0);
    /* 0 means that no run has taken the snapshot (variants.h); where the time can't be set, a run seems to have */
    mhi_sys_set_accessed(writer->fd, 0);
    if (result == 0)
        result = mhi_sys_fsync(writer->fd);
    return result < 0 ? mhi_commit_cannot_write(result, writer, err) : MH_OK;
}

int mhi_commit_file(mhi_writer *writer, mhi_progress *progress, mhi_file_header *header, const mhi_tables_source *from,
                    mh_error *err)
{
    mhi_record_contents(from->inputs);
    mhi_record_thin(from->inputs);
    int status = write_tables(writer, from, header, err);
    if (status == MH_OK)
        status = sync_in_steps(writer, progress, header->hd_file_bytes, err);
    if (status == MH_OK)
        status = write_header(writer, header, err);
    return status == MH_OK ? mhi_writer_publish(writer, err) : status;
}
