/* transaction.c - the states of a transaction, whatever its kind: open, begin, end, commit or abandon.
 *
 * After every failure the program goes on: a snapshot that can't be taken makes the run cold, a transaction that can't
 * begin changes nothing, and a commit that fails leaves all that was loaded in memory.
 */
#define _GNU_SOURCE
#include "snapshot/transaction.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "error.h"
#include "route/route.h"
#include "route/at_start.h"
#include "route/streams.h"
#include "snapshot/answers.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/key.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

static bool asks_for_verify(void)
{
    const char *value = getenv("MAGICHEAP_VERIFY");
    return value != NULL && strcmp(value, "1") == 0;
}

int mhi_keep_text(char **kept, const char *text, mh_error *err)
{
    char *copy = mhi_copy_text(text);
    if (copy == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    free(*kept);
    *kept = copy;
    return MH_OK;
}

mhi_run mhi_options_run(const mh_options *options, const char *key)
{
    static const mh_options defaults;
    const mh_options *given = options == NULL ? &defaults : options;
    return (mhi_run){ .key = key,
                      .env = given->env,
                      .environment = mhi_options_environment(options),
                      .arguments = given->arguments,
                      .is_watched = given->is_watched,
                      .streams = (int)mhi_streams_at_start(),
                      .dispositions = mhi_dispositions_at_start() };
}

/* Whether a snapshot that seems another variant is this run's own, of another state of the source: then a changed file
 * makes it stale. */
static int check_moved(const struct mh_image *image, const mh_options *options, const char *key, bool *is_variant,
                       mh_error *err)
{
    for (uint64_t i = 0; i < image->n_inputs; i++)
        if (image->inputs[i].in_kind == MH_INPUT_KEY &&
            !mhi_key_is_moved(mhi_image_string(image, image->inputs[i].in_text), key))
            return MH_ERR_STALE;
    mh_error other;
    bool is_other;
    mhi_run run = mhi_options_run(options, NULL);
    int status = mhi_inputs_check(image, &run, &is_other, &other);
    if (status == MH_ERR_STALE && !is_other) {
        *is_variant = false;
        *err = other;
    }
    return MH_ERR_STALE;
}

static int judge(mh_transaction *tx, const struct mh_image *image, const mh_options *options, const char *key,
                 bool *is_variant, mh_error *err)
{
    mhi_run run = mhi_options_run(options, key);
    int status = mhi_image_expect(image, tx->kind->file, err);
    if (status == MH_OK)
        status = mhi_inputs_check(image, &run, is_variant, err);
    return status == MH_ERR_STALE && *is_variant ? check_moved(image, options, key, is_variant, err) : status;
}

/* Takes the variant of this number, if it can be taken; the result is in tx. */
static int take(mh_transaction *tx, int number, const mh_options *options, const char *key, bool *is_variant,
                mh_error *err)
{
    char path[PATH_MAX];
    struct mh_image *image;
    mhi_slot *slot = &tx->slots[number];
    *is_variant = false;
    if (!mhi_variant_path(path, tx->path, number))
        return mhi_fail(err, MH_ERR_SYSTEM, ENAMETOOLONG, "its path is too long");
    int status = mhi_image_open_front(&image, path, true, err);
    if (status != MH_OK) {
        if (mhi_sys_lstat(path, &slot->found) < 0)
            slot->found = (struct stat){ 0 };
        return status;
    }
    slot->found = image->status;
    status = judge(tx, image, options, key, is_variant, err);
    slot->verdict = *is_variant ? MHI_SLOT_OTHER : MHI_SLOT_OWN;
    if (status == MH_OK)
        status = mhi_image_complete(image, err);
    if (status == MH_OK && options->ignore_snapshot)
        status = mhi_fail(err, MH_ERR_BUSY, 0, "the snapshot is to be replaced");
    if (status == MH_OK && asks_for_verify())
        status = mh_image_verify(image, err);
    if (status == MH_OK)
        status = tx->kind->take(tx, image, err);
    if (status == MH_OK)
        mhi_image_stamp(image);
    mh_image_close(image);
    return status;
}

char *const *mhi_options_environment(const mh_options *options)
{
    return options == NULL || options->environment == NULL ? environ : (char *const *)options->environment;
}

/* Takes the first variant that fits, or sets the reason. */
static void try_take(mh_transaction *tx, const mh_options *options, const char *key)
{
    tx->state = MHI_COLD;
    if (mhi_trust_process(&tx->reason) != MH_OK)
        return;
    mhi_nearest nearest = { 0 };
    for (tx->number = 0; tx->number < MHI_VARIANTS; tx->number++) {
        mh_error err;
        bool is_variant;
        if (take(tx, tx->number, options, key, &is_variant, &err) == MH_OK)
            return;
        mhi_nearest_add(&nearest, mhi_variant_rank(tx->number, &err, is_variant),
                        mhi_used_s(&tx->slots[tx->number].found), &err);
    }
    tx->number = 0;
    mhi_nearest_tell(&nearest, tx->path, &tx->reason);
    if (nearest.rank == MHI_ABSENT)
        tx->reason.status = MH_OK; /* a missing snapshot is no error */
    if (options->ignore_snapshot)
        mhi_fail(&tx->reason, MH_OK, 0, "the snapshot is to be replaced");
}

/* Keeps the data of this moment that a commit will need. */
static int remember(mh_transaction *tx, const mh_options *options, const char *key, mh_error *err)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_KEY },
                   watched = { .in_kind = MH_INPUT_SYSTEM, .in_bytes = options->is_watched },
                   streams = { .in_kind = MH_INPUT_OPEN, .in_bytes = mhi_streams_at_start() },
                   dispositions = { .in_kind = MH_INPUT_DISPOSITIONS,
                                    .in_bytes = mhi_dispositions_at_start()->ignored,
                                    .in_device = mhi_dispositions_at_start()->blocked };
    tx->arguments = mhi_answer_arguments(options->arguments);
    int status = mhi_environment_read(&tx->variables, mhi_options_environment(options), err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &entry, NULL, key, err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &watched, MHI_SYSTEM_WATCHED, NULL, err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &streams, NULL, NULL, err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &dispositions, NULL, NULL, err);
    if (status == MH_OK)
        status = mhi_environment_add_watched(&tx->inputs, &tx->variables, err);
    for (const char *const *name = options->env; status == MH_OK && name != NULL && *name != NULL; name++)
        status = mhi_environment_add(&tx->inputs, &tx->variables, *name, err);
    return status;
}

static int keep_scope(mh_transaction *tx, const mh_options *options, mh_error *err)
{
    char place[PATH_MAX];
    int status = mhi_keep_text(&tx->scope.standard_library, options->standard_library, err);
    if (status == MH_OK)
        status = mhi_keep_text(&tx->scope.place, mhi_answer_place(place, sizeof place) < 0 ? "" : place, err);
    return status == MH_OK ? mhi_keep_text(&tx->scope.snapshot, tx->path, err) : status;
}

int mh_open(mh_transaction **opened, const char *path, const mh_options *options, mh_error *err)
{
    static const mh_options defaults;
    *opened = NULL;
    if (options == NULL)
        options = &defaults;
    const char *key = options->key == NULL ? "" : options->key;
    if (path == NULL || (options->audit != MH_AUDIT_REFUSE && options->audit != MH_AUDIT_WARN))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        path == NULL ? "no path" : "audit is neither MH_AUDIT_REFUSE nor MH_AUDIT_WARN");
    mh_transaction *tx = calloc(1, sizeof *tx);
    if (tx == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->kind = mhi_kind_of(options);
    int status = mhi_path_resolve(&tx->path, path, err);
    if (status == MH_OK)
        status = tx->kind->open(tx, options, err);
    if (status == MH_OK)
        status = keep_scope(tx, options, err);
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
    tx->kind->close(tx);
    mhi_inputs_release(&tx->inputs);
    mhi_inputs_release(&tx->variables);
    free(tx->scope.standard_library);
    free(tx->scope.place);
    free(tx->scope.snapshot);
    free(tx->scope.left_out);
    free(tx->modules);
    free(tx->path);
    free(tx);
}

bool mh_was_committed(const mh_transaction *tx) { return tx->state == MHI_WARM; }
const char *mh_path(const mh_transaction *tx) { return tx->path; }
const char *mh_reason(const mh_transaction *tx) { return tx->state == MHI_WARM ? "" : tx->reason.detail; }
int mh_reason_status(const mh_transaction *tx) { return tx->state == MHI_WARM ? MH_OK : tx->reason.status; }
int mh_variant(const mh_transaction *tx) { return tx->number; }
uint64_t mh_checksum(const void *memory, uint64_t size_bytes) { return mhi_checksum(memory, size_bytes); }

static int begin_file(mh_transaction *tx, mh_error *err)
{
    int status = mhi_trust_process(err);
    if (status == MH_OK)
        status = mhi_trust_directories(tx->path, err); /* else no run would take the snapshot */
    if (status == MH_OK)
        status = mhi_writer_open(&tx->writer, tx->path, err);
    if (status != MH_OK)
        return status;
    char target[PATH_MAX];
    status = mhi_slots_choose(&tx->choice, tx->path, tx->slots, err);
    tx->number = tx->choice.number;
    if (status == MH_OK && mhi_variant_path(target, tx->path, tx->number))
        status = mhi_writer_aim(&tx->writer, target, err);
    if (status != MH_OK)
        mhi_writer_close(&tx->writer);
    return status;
}

int mh_begin(mh_transaction *tx, mh_error *err)
{
    if (tx->state != MHI_COLD)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        tx->state == MHI_WARM ? "the run is warm: there is nothing to load"
                                              : "mh_begin was called before");
    mh_error failure = { 0 };
    tx->process_id = mhi_sys_process_id();
    int status = begin_file(tx, &failure);
    if (status == MH_OK) {
        status = tx->kind->begin(tx, &failure);
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

int mhi_transaction_watch(mh_error *err) { return mhi_route_watch(err); }

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
    /* a forked child: transaction, lock and file are its parent's */
    if (!mhi_transaction_is_ours(tx)) {
        mhi_writer_forget(&tx->writer);
        tx->state = MHI_ENDED;
        return;
    }
    tx->kind->abandon(tx);
    mhi_writer_close(&tx->writer);
    tx->state = MHI_ENDED;
}

int mhi_transaction_settle(mh_transaction *tx, int status)
{
    mhi_writer_close(&tx->writer);
    tx->state = status == MH_OK ? MHI_COMMITTED : MHI_ENDED;
    return status;
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
    default:
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no transaction to commit: mh_begin comes before, and once");
    }
    return tx->kind->commit(tx, err);
}

/* Digest of all inputs, independent of the order of recording. */
static uint64_t digest_inputs(const mhi_inputs *inputs, uint64_t sum)
{
    for (size_t i = 0; i < inputs->n; i++) {
        const mhi_input *input = &inputs->items[i];
        mhi_file_input entry = input->entry;
        if (entry.in_kind == MH_INPUT_DIRECTORY)
            continue;                          /* a directory changes with every file that is written there */
        if (entry.in_kind == MH_INPUT_LISTING) /* only the names count */
            entry.in_inode = 0, entry.in_mtime_ns = entry.in_ctime_ns = 0;
        const uint64_t all[] = { mhi_checksum(&entry, sizeof entry), mhi_checksum(input->name, strlen(input->name)),
                                 mhi_checksum(input->text, strlen(input->text)) };
        sum += mhi_checksum(all, sizeof all);
    }
    return sum;
}

static const char *why_doubtful(const mh_transaction *tx)
{
    return tx->choice.n_wasted >= MHI_WASTED_MAX ? "nothing has resumed from the last snapshots"
                                                 : "every run is another variant";
}

int mh_wants_commit(mh_transaction *tx, bool *is_wanted, mh_error *err)
{
    *is_wanted = true;
    if (tx->state != MHI_BEGUN || !tx->choice.is_doubtful || !mhi_transaction_is_ours(tx))
        return MH_OK;
    mhi_inputs more = { 0 };
    int status = mhi_inputs_add_libraries(&more, err);
    if (status == MH_OK)
        status = mhi_record_questions(&more, &tx->variables, &tx->scope, err);
    uint64_t digest = digest_inputs(&more, digest_inputs(&tx->inputs, 0));
    if (status == MH_OK)
        *is_wanted = mhi_slots_saw(tx->path, digest == 0 ? 1 : digest);
    mhi_inputs_release(&more);
    if (status == MH_OK && !*is_wanted)
        mhi_fail(err, MH_OK, 0, "%.300s, as at every run (%s): the next run that finds the same commits",
                 tx->reason.detail, why_doubtful(tx));
    return status;
}

void mh_commit_progress(const mh_transaction *tx, uint64_t *done_bytes, uint64_t *total_bytes)
{
    *done_bytes = atomic_load_explicit(&tx->progress.done_bytes, memory_order_relaxed);
    *total_bytes = atomic_load_explicit(&tx->progress.total_bytes, memory_order_relaxed);
}
