/* transaction.c - the states of a transaction: open, begin, end; and what the caller tells it in between.
 *
 * Whatever goes wrong, the program goes on: a file that can't be taken makes the run cold, a transaction that can't begin leaves
 * it on the ordinary heap, and a commit that fails leaves it with the arena.
 */
#define _GNU_SOURCE
#include "snapshot/transaction.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "error.h"
#include "heap/route.h"
#include "snapshot/attach.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

static bool asks_for_verify(void)
{
    const char *value = getenv("MAGICHEAP_VERIFY");
    return value != NULL && strcmp(value, "1") == 0;
}

static int attach(mh_transaction *tx, const struct mh_image *image, mh_error *err)
{
    int status = mhi_route_guard(err); /* any library may come to free a block of the arena */
    if (status == MH_OK)
        status = mhi_attach(&tx->arena, image, err);
    if (status != MH_OK)
        return status;
    tx->root = (void *)image->header.hd_root;
    tx->state = MHI_WARM;
    return MH_OK;
}

static int take(mh_transaction *tx, const mh_options *options, const char *key, mh_error *err)
{
    struct mh_image *image;
    int status = mhi_image_open(&image, tx->path, true, err);
    if (status != MH_OK)
        return status;
    status = mhi_image_expect(image, tx->is_process ? MH_KIND_PROCESS : MH_KIND_HEAP, err);
    if (status == MH_OK)
        status = mhi_inputs_check(image, key, options->env, mhi_options_environment(options), err);
    if (status == MH_OK && asks_for_verify())
        status = mh_image_verify(image, err);
    if (status == MH_OK && tx->is_process)
        tx->resumable = image->header.hd_checksum;
    else if (status == MH_OK)
        status = attach(tx, image, err);
    mh_image_close(image);
    return status;
}

char *const *mhi_options_environment(const mh_options *options)
{
    return options == NULL || options->environment == NULL ? environ : (char *const *)options->environment;
}

/* WARM; or COLD and resumable, or with the reason. */
static void try_take(mh_transaction *tx, const mh_options *options, const char *key)
{
    tx->state = MHI_COLD;
    if (options->ignore_snapshot) {
        mhi_fail(&tx->reason, MH_OK, 0, "the snapshot is to be replaced");
        return;
    }
    if (mhi_trust_process(&tx->reason) != MH_OK)
        return;
    if (take(tx, options, key, &tx->reason) != MH_OK && tx->reason.sys_errno == ENOENT && tx->reason.status == MH_ERR_SYSTEM)
        mhi_fail(&tx->reason, MH_OK, 0, "there is no snapshot %s", tx->path);
}

/* What a commit will need to know of this moment. */
static int remember(mh_transaction *tx, const mh_options *options, const char *key, mh_error *err)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_KEY };
    int status = mhi_environment_read(&tx->variables, mhi_options_environment(options), err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &entry, NULL, key, err);
    if (status == MH_OK)
        status = mhi_environment_add_watched(&tx->inputs, &tx->variables, err);
    for (const char *const *name = options->env; status == MH_OK && name != NULL && *name != NULL; name++)
        status = mhi_environment_add(&tx->inputs, &tx->variables, *name, err);
    return status;
}

static int keep_text(char **kept, const char *text, mh_error *err)
{
    size_t size = text == NULL ? 1 : strlen(text) + 1;
    *kept = malloc(size);
    if (*kept == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    memcpy(*kept, text == NULL ? "" : text, size);
    return MH_OK;
}

int mh_open(mh_transaction **opened, const char *path, const mh_options *options, mh_error *err)
{
    static const mh_options defaults;
    *opened = NULL;
    if (options == NULL)
        options = &defaults;
    const char *key = options->key == NULL ? "" : options->key;
    if (path == NULL || (options->audit != MH_AUDIT_REFUSE && options->audit != MH_AUDIT_WARN))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, path == NULL ? "no path" : "audit is neither MH_AUDIT_REFUSE nor MH_AUDIT_WARN");
    mh_transaction *tx = calloc(1, sizeof *tx);
    if (tx == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->capacity_bytes = options->capacity_bytes;
    tx->audit_mode = options->audit;
    tx->is_process = options->process;
    int status = mhi_path_resolve(&tx->path, path, err);
    if (status == MH_OK)
        status = keep_text(&tx->program, options->program, err);
    if (status == MH_OK)
        status = keep_text(&tx->command, options->command, err);
    if (status == MH_OK) {
        try_take(tx, options, key);
        if (tx->state == MHI_COLD)
            status = remember(tx, options, key, err);
    }
    if (status != MH_OK) {
        mh_close(tx);
        return status;
    }
    *opened = tx;
    return MH_OK;
}

void mh_close(mh_transaction *tx)
{
    if (tx == NULL)
        return;
    mh_abandon(tx);
    mhi_audit_release(&tx->audit);
    mhi_inputs_release(&tx->inputs);
    mhi_inputs_release(&tx->variables);
    free(tx->kept);
    free(tx->scrubs);
    free(tx->held);
    free(tx->program);
    free(tx->command);
    free(tx->path);
    free(tx);
}

bool mh_was_committed(const mh_transaction *tx) { return tx->state == MHI_WARM; }
bool mh_is_resumable(const mh_transaction *tx) { return tx->resumable != 0; }
const char *mh_path(const mh_transaction *tx) { return tx->path; }
const char *mh_reason(const mh_transaction *tx) { return tx->state == MHI_WARM ? "" : tx->reason.detail; }
int mh_reason_status(const mh_transaction *tx) { return tx->state == MHI_WARM ? MH_OK : tx->reason.status; }
void *mh_root(const mh_transaction *tx) { return tx->root; }
mh_arena *mh_transaction_arena(const mh_transaction *tx) { return tx->arena; }

static int begin_file(mh_transaction *tx, mh_error *err)
{
    int status = mhi_trust_process(err);
    if (status == MH_OK)
        status = mhi_trust_directories(tx->path, err); /* no run would take the snapshot */
    return status == MH_OK ? mhi_writer_open(&tx->writer, tx->path, err) : status;
}

static int begin_arena(mh_transaction *tx, mh_error *err)
{
    mhi_arena_config config = {
        .first_slot = mhi_checksum(tx->path, strlen(tx->path)), /* its own slot, so that several can be attached at once */
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

int mh_begin(mh_transaction *tx, mh_error *err)
{
    if (tx->state != MHI_COLD)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, tx->state == MHI_WARM ? "the run is warm: there is nothing to load" : "mh_begin was called before");
    mh_error failure = { 0 };
    tx->process_id = mhi_sys_process_id();
    int status = begin_file(tx, &failure);
    if (status == MH_OK) {
        status = tx->is_process ? mhi_route_watch(&failure) : begin_arena(tx, &failure);
        if (status != MH_OK)
            mhi_writer_close(&tx->writer);
    }
    tx->is_routing = status == MH_OK;
    tx->state = status == MH_OK ? MHI_BEGUN : MHI_REFUSED;
    tx->refusal = failure;
    if (err != NULL && status != MH_OK)
        *err = failure;
    return status;
}

bool mhi_transaction_is_ours(const mh_transaction *tx) { return tx->process_id == mhi_sys_process_id(); }

void mh_end(mh_transaction *tx)
{
    if (tx->is_routing)
        mhi_route_end();
    tx->is_routing = false;
}

void mh_abandon(mh_transaction *tx)
{
    if (tx->state != MHI_BEGUN)
        return;
    mh_end(tx);
    if (!mhi_transaction_is_ours(tx)) { /* a forked child: its arena is private already, lock and file are its parent's */
        mhi_writer_forget(&tx->writer);
        tx->state = MHI_ENDED;
        return;
    }
    if (!tx->is_process && mhi_arena_seal(tx->arena, NULL) == MH_OK)
        mhi_arena_make_private(tx->arena, NULL); /* if not: then it goes on in a file that has no name */
    mhi_writer_close(&tx->writer);
    tx->state = MHI_ENDED;
}

int mh_commit(mh_transaction *tx, mh_error *err)
{
    switch (tx->state) {
    case MHI_BEGUN: break;
    case MHI_REFUSED:
        if (err != NULL)
            *err = tx->refusal;
        return tx->refusal.status;
    case MHI_WARM: return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the run is warm: there is nothing to commit");
    default: return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no transaction to commit: mh_begin comes before, and once");
    }
    if (tx->is_process)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "a process is committed by mh_arm, fork and mh_commit_child");
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "this process was forked inside the transaction, which its parent will commit");
    mh_end(tx);
    int status = mhi_commit(tx, err);
    mhi_writer_close(&tx->writer);
    tx->state = status == MH_OK ? MHI_COMMITTED : MHI_ENDED;
    return status;
}

static bool is_inside(const mh_transaction *tx, const void *address)
{
    return tx->arena != NULL && mh_arena_of(address) == tx->arena;
}

/* Stored in any case, so that this run finds its root where a warm one would; mh_commit then refuses. */
int mh_set_root(mh_transaction *tx, void *root, mh_error *err)
{
    if (tx->state == MHI_WARM)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the run is warm: its root is the snapshot's");
    tx->root = root;
    tx->root_is_outside = tx->arena != NULL && root != NULL && !is_inside(tx, root);
    if (tx->root_is_outside)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the root %p was not allocated in the transaction: a later run could not find it", root);
    return MH_OK;
}

int mh_keep(mh_transaction *tx, const void *address, mh_error *err)
{
    if (!is_inside(tx, address))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "%p was not allocated in the transaction", address);
    if (tx->n_kept == tx->kept_capacity) {
        size_t capacity = tx->kept_capacity == 0 ? 64 : 2 * tx->kept_capacity;
        uint64_t *kept = realloc(tx->kept, capacity * sizeof *kept); /* not reallocarray, which libc's routed realloc serves */
        if (kept == NULL)
            return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
        tx->kept = kept;
        tx->kept_capacity = capacity;
    }
    tx->kept[tx->n_kept++] = (uintptr_t)address;
    return MH_OK;
}

int mh_mark_data(mh_transaction *tx, const void *address, mh_error *err)
{
    if (!is_inside(tx, address) || !mhi_arena_mark_data(tx->arena, address))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "%p is not a live block of the transaction", address);
    return MH_OK;
}

static int may_add(const mh_transaction *tx, mh_error *err)
{
    if (tx->state == MHI_WARM)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the run is warm: its inputs are the snapshot's");
    return MH_OK;
}

int mh_add_file(mh_transaction *tx, const char *path, mh_error *err)
{
    int status = may_add(tx, err);
    return status != MH_OK || strcmp(path, tx->path) == 0 ? status : mhi_inputs_add_file(&tx->inputs, path, err);
}

int mh_add_output(mh_transaction *tx, const char *path, mh_error *err)
{
    struct stat found;
    int status = may_add(tx, err);
    if (status == MH_OK && mhi_sys_stat(path, &found) == 0)
        mhi_route_mark_output(&found);
    return status;
}

int mh_add_env(mh_transaction *tx, const char *name, mh_error *err)
{
    int status = may_add(tx, err);
    return status != MH_OK ? status : mhi_environment_add(&tx->inputs, &tx->variables, name, err);
}

void mh_commit_progress(const mh_transaction *tx, uint64_t *done_bytes, uint64_t *total_bytes)
{
    *done_bytes = atomic_load_explicit(&tx->done_bytes, memory_order_relaxed);
    *total_bytes = atomic_load_explicit(&tx->total_bytes, memory_order_relaxed);
}

void mh_read_audit(const mh_transaction *tx, mh_audit_summary *summary) { *summary = tx->audit.summary; }

int mh_read_finding(const mh_transaction *tx, uint32_t i, mh_finding *finding)
{
    if (i >= tx->audit.n_findings)
        return MH_ERR_ARGUMENT;
    *finding = tx->audit.findings[i];
    return MH_OK;
}
