/* heap.c - the kind of snapshot that keeps a heap: an arena, attached by later runs. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "error.h"
#include "route/route.h"
#include "snapshot/attach.h"
#include "snapshot/checksum.h"
#include "snapshot/transaction.h"
#include "sys/sys.h"

/* bytes copied, checksummed and written at once: the page cache then keeps them as one huge page */
enum { COPY_BYTES = MHI_HUGE_BYTES };

static int open_heap(mh_transaction *tx, const mh_options *options, mh_error *err)
{
    (void)err;
    tx->capacity_bytes = options->capacity_bytes;
    tx->audit_mode = options->audit;
    tx->is_movable = options->is_movable;
    return MH_OK;
}

static int attach(mh_transaction *tx, const struct mh_image *image, mh_error *err)
{
    int status = mhi_route_guard(err); /* any library may be handed a block of the arena to free */
    if (status == MH_OK)
        status = mhi_attach(&tx->arena, &tx->moved_bytes, image, tx->is_movable, err);
    if (status != MH_OK)
        return status;
    tx->root = image->header.hd_root == 0 ? NULL : (void *)(image->header.hd_root + tx->moved_bytes);
    tx->state = MHI_WARM;
    return MH_OK;
}

static int begin_arena(mh_transaction *tx, mh_error *err)
{
    mhi_arena_config config = {
        /* a slot by the path, so that several snapshots can be attached at once */
        .first_slot = mhi_checksum(tx->writer.target, strlen(tx->writer.target)),
        .capacity_bytes = tx->capacity_bytes,
        .fd = tx->writer.fd,
        .file_offset = MHI_SEGMENTS_OFFSET,
    };
    int status = mhi_arena_create(&tx->arena, &config, err);
    if (status == MH_OK)
        status = mhi_route_begin(tx->arena, err);
    if (status != MH_OK) {
        mh_arena_delete(tx->arena);
        tx->arena = NULL;
    }
    return status;
}

/* ---- what the caller declares ---- */

void *mh_root(const mh_transaction *tx) { return tx->root; }
mh_arena *mh_transaction_arena(const mh_transaction *tx) { return tx->arena; }
uint64_t mh_moved_bytes(const mh_transaction *tx) { return tx->moved_bytes; }

static bool is_inside(const mh_transaction *tx, const void *address)
{
    return tx->arena != NULL && mh_arena_of(address) == tx->arena;
}

/* The root is stored even if it is invalid, so that this run finds it where a warm run would; mh_commit then
 * refuses. */
int mh_set_root(mh_transaction *tx, void *root, mh_error *err)
{
    if (tx->state == MHI_WARM)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the run is warm: its root is the snapshot's");
    tx->root = root;
    tx->root_is_outside = tx->arena != NULL && root != NULL && !is_inside(tx, root);
    if (tx->root_is_outside)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "the root %p was not allocated in the transaction: a later run could not find it", root);
    return MH_OK;
}

int mh_keep(mh_transaction *tx, const void *address, mh_error *err)
{
    mhi_block block;
    if (!is_inside(tx, address) || !mhi_arena_find_block(tx->arena, (uintptr_t)address, &block))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "%p does not lie in memory that was allocated in the transaction and is in use", address);
    uint64_t *kept = mhi_array_grow(tx->kept, tx->n_kept, &tx->kept_capacity, sizeof *kept);
    if (kept == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->kept = kept;
    tx->kept[tx->n_kept++] = (uintptr_t)address;
    return MH_OK;
}

int mh_mark_data(mh_transaction *tx, const void *address, mh_error *err)
{
    if (!is_inside(tx, address) || !mhi_arena_mark_data(tx->arena, address))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "%p is not a live block of the transaction", address);
    return MH_OK;
}

void mh_read_audit(const mh_transaction *tx, mh_audit_summary *summary) { *summary = tx->audit.summary; }

int mh_read_finding(const mh_transaction *tx, uint32_t i, mh_finding *finding)
{
    if (i >= tx->audit.n_findings)
        return MH_ERR_ARGUMENT;
    *finding = tx->audit.findings[i];
    return MH_OK;
}

/* ---- commit ---- */

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

/* The mapping becomes private first, before any step can refuse or fail: from then on the program's writes stay out of
 * the file. */
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

/* Copies memory to its place in the file in pieces, so that checksum and file agree even if a thread writes to the
 * memory meanwhile. */
static int write_memory(const mhi_writer *writer, mhi_file_segment *segment, mh_error *err)
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
        result = mhi_sys_pwrite_all(writer->fd, piece, size, segment->sg_offset + done);
    }
    segment->sg_checksum = mhi_checksum_end(&state, NULL, 0);
    free(piece);
    return result < 0 ? mhi_commit_cannot_write(result, writer, err) : MH_OK;
}

/* The data is already in the file if the file backed the arena to the end. Else (the disk was full, or the process has
 * forked) the data is copied to a new file, and the disk must have room for both: the first file is still mapped. */
static int settle_data(mhi_writer *writer, const mh_arena *arena, mhi_file_segment *data, mh_error *err)
{
    if (mhi_arena_backing_error(arena) != 0) {
        int status = mhi_writer_restart(writer, err);
        return status == MH_OK ? write_memory(writer, data, err) : status;
    }
    int result = mhi_sys_ftruncate(writer->fd, data->sg_offset + data->sg_bytes); /* the arena grew it in steps */
    /* the disk writes while we read; fsync reports errors */
    mhi_sys_start_sync(writer->fd, data->sg_offset, data->sg_bytes);
    if (result == 0)
        result = mhi_checksum_file(writer->fd, data->sg_offset, data->sg_bytes, &data->sg_checksum);
    return result < 0 ? mhi_commit_cannot_write(result, writer, err) : MH_OK;
}

static int write_file(mh_transaction *tx, mh_error *err)
{
    mhi_arena_layout layout;
    mhi_arena_read_layout(tx->arena, &layout);
    mhi_file_header header = mhi_commit_header(&mhi_file_kind_heap, &tx->choice);
    header.hd_address = layout.address;
    header.hd_capacity_bytes = layout.capacity_bytes;
    header.hd_meta_bytes = layout.meta_bytes;
    header.hd_data_offset = layout.data_offset;
    header.hd_data_bytes = layout.data_bytes;
    header.hd_live_blocks = layout.live_blocks;
    header.hd_root = (uintptr_t)tx->root;
    mhi_file_segment segments[] = {
        { MH_SEGMENT_ARENA, PROT_READ | PROT_WRITE, layout.address + layout.data_offset, layout.data_bytes,
          MHI_SEGMENTS_OFFSET, 0, 0, 0, 0 },
        { MH_SEGMENT_PAGES, PROT_READ | PROT_WRITE, layout.address, layout.meta_bytes,
          MHI_SEGMENTS_OFFSET + layout.data_bytes, 0, 0, 0, 0 },
    };
    const mhi_tables_source from = {
        .segments = segments, .n_segments = 2, .inputs = &tx->inputs, .audit = &tx->audit
    };
    int status = settle_data(&tx->writer, tx->arena, &segments[0], err);
    if (status == MH_OK)
        status = write_memory(&tx->writer, &segments[1], err);
    if (status == MH_OK)
        status = mhi_commit_file(&tx->writer, &tx->progress, &header, &from, err);
    if (status == MH_OK)
        mhi_arena_set_identity(tx->arena, header.hd_checksum);
    return status;
}

static int commit(mh_transaction *tx, mh_error *err)
{
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "this process was forked inside the transaction, which its parent will commit");
    mh_end(tx);
    int status = freeze(tx, err);
    if (status == MH_OK)
        status = mhi_commit_inputs(&tx->inputs, &tx->variables, &tx->scope, NULL, err);
    if (status == MH_OK)
        status = write_file(tx, err);
    return mhi_transaction_settle(tx, status);
}

/* ---- the end ---- */

static void abandon(mh_transaction *tx)
{
    if (mhi_arena_seal(tx->arena, NULL) == MH_OK)
        mhi_arena_make_private(tx->arena, NULL); /* on failure the arena goes on in a file that has no name */
}

static void close_heap(mh_transaction *tx)
{
    mhi_audit_release(&tx->audit);
    free(tx->kept);
}

const mhi_kind mhi_kind_heap = {
    .file = &mhi_file_kind_heap,
    .open = open_heap,
    .take = attach,
    .begin = begin_arena,
    .commit = commit,
    .abandon = abandon,
    .close = close_heap,
};
