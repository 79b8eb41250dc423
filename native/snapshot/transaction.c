/* transaction.c - the states of a transaction: open, begin, end; and what the caller tells it in between.
 *
 * Whatever goes wrong, the program goes on: a file that can't be taken makes the run cold, a transaction that can't
 * begin leaves it on the ordinary heap, and a commit that fails leaves it with the arena.
 */
#define _GNU_SOURCE
#include "snapshot/transaction.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/array.h"
#include "base/pages.h"
#include "base/text.h"
#include "error.h"
#include "route/questions.h"
#include "route/reads.h"
#include "route/route.h"
#include "route/asks.h"
#include "snapshot/answers.h"
#include "snapshot/attach.h"
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

static int attach(mh_transaction *tx, const struct mh_image *image, bool is_movable, mh_error *err)
{
    int status = mhi_route_guard(err); /* any library may come to free a block of the arena */
    if (status == MH_OK)
        status = mhi_attach(&tx->arena, &tx->moved_bytes, image, is_movable, err);
    if (status != MH_OK)
        return status;
    tx->root = image->header.hd_root == 0 ? NULL : (void *)(image->header.hd_root + tx->moved_bytes);
    tx->state = MHI_WARM;
    return MH_OK;
}

static int keep_text(char **kept, const char *text, mh_error *err)
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
                      .is_watched = given->is_watched };
}

/* Whether what is told apart as another variant is this run's own, of another state of the source: then it is stale for
 * the file's sake. */
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
    int status = mhi_image_expect(image, tx->is_process ? MH_KIND_PROCESS : MH_KIND_HEAP, err);
    if (status == MH_OK)
        status = mhi_inputs_check(image, &run, is_variant, err);
    return status == MH_ERR_STALE && *is_variant ? check_moved(image, options, key, is_variant, err) : status;
}

/* The variant of this number; where it is taken, tx says how. */
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
    if (status == MH_OK && tx->is_process) {
        tx->resumable = image->header.hd_checksum;
        status = keep_text(&tx->command, mhi_image_string(image, image->process->pr_command), err);
    }
    if (status == MH_OK && !tx->is_process)
        status = attach(tx, image, options->is_movable, err);
    if (status == MH_OK)
        mhi_image_stamp(image);
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
        tx->reason.status = MH_OK; /* nothing is wrong */
    if (options->ignore_snapshot)
        mhi_fail(&tx->reason, MH_OK, 0, "the snapshot is to be replaced");
}

/* What a commit will need to know of this moment. */
static int remember(mh_transaction *tx, const mh_options *options, const char *key, mh_error *err)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_KEY },
                   watched = { .in_kind = MH_INPUT_SYSTEM, .in_bytes = options->is_watched };
    tx->arguments = mhi_answer_arguments(options->arguments);
    int status = mhi_environment_read(&tx->variables, mhi_options_environment(options), err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &entry, NULL, key, err);
    if (status == MH_OK)
        status = mhi_inputs_add(&tx->inputs, &watched, MHI_SYSTEM_WATCHED, NULL, err);
    if (status == MH_OK)
        status = mhi_environment_add_watched(&tx->inputs, &tx->variables, err);
    for (const char *const *name = options->env; status == MH_OK && name != NULL && *name != NULL; name++)
        status = mhi_environment_add(&tx->inputs, &tx->variables, *name, err);
    return status;
}

static int keep_scope(mh_transaction *tx, const mh_options *options, mh_error *err)
{
    char place[PATH_MAX];
    int status = keep_text(&tx->scope.standard_library, options->standard_library, err);
    if (status == MH_OK)
        status = keep_text(&tx->scope.place, mhi_answer_place(place, sizeof place) < 0 ? "" : place, err);
    return status == MH_OK ? keep_text(&tx->scope.snapshot, tx->path, err) : status;
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
    tx->capacity_bytes = options->capacity_bytes;
    tx->audit_mode = options->audit;
    tx->is_process = options->process;
    int status = mhi_path_resolve(&tx->path, path, err);
    if (status == MH_OK)
        status = keep_text(&tx->program, options->program, err);
    if (status == MH_OK)
        status = keep_text(&tx->command, options->command, err);
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

const char *mh_command(const mh_transaction *tx) { return tx->command; }

int mh_set_command(mh_transaction *tx, const char *command, bool is_watched, mh_error *err)
{
    for (size_t i = 0; i < tx->inputs.n; i++)
        if (tx->inputs.items[i].entry.in_kind == MH_INPUT_SYSTEM &&
            strcmp(tx->inputs.items[i].name, MHI_SYSTEM_WATCHED) == 0)
            tx->inputs.items[i].entry.in_bytes = is_watched;
    return keep_text(&tx->command, command, err);
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
    free(tx->scope.standard_library);
    free(tx->scope.place);
    free(tx->scope.snapshot);
    free(tx->scope.left_out);
    free(tx->modules);
    free(tx->path);
    free(tx);
}

bool mh_was_committed(const mh_transaction *tx) { return tx->state == MHI_WARM; }
bool mh_is_resumable(const mh_transaction *tx) { return tx->resumable != 0; }
const char *mh_path(const mh_transaction *tx) { return tx->path; }
const char *mh_reason(const mh_transaction *tx) { return tx->state == MHI_WARM ? "" : tx->reason.detail; }
int mh_reason_status(const mh_transaction *tx) { return tx->state == MHI_WARM ? MH_OK : tx->reason.status; }
int mh_variant(const mh_transaction *tx) { return tx->number; }
void *mh_root(const mh_transaction *tx) { return tx->root; }
mh_arena *mh_transaction_arena(const mh_transaction *tx) { return tx->arena; }
uint64_t mh_moved_bytes(const mh_transaction *tx) { return tx->moved_bytes; }
uint64_t mh_checksum(const void *memory, uint64_t size_bytes) { return mhi_checksum(memory, size_bytes); }

static int begin_file(mh_transaction *tx, mh_error *err)
{
    int status = mhi_trust_process(err);
    if (status == MH_OK)
        status = mhi_trust_directories(tx->path, err); /* no run would take the snapshot */
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

/* A process is mapped from its file, code and all. Tried before the program loads for a snapshot that no run could
 * resume. */
static int check_code_can_be_mapped(const mh_transaction *tx, mh_error *err)
{
    void *place;
    int result = mhi_sys_mmap(&place, NULL, MHI_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, tx->writer.fd, 0);
    if (result == -EPERM || result == -EACCES)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                        "nothing in the directory of %s may be executed (a noexec mount): choose another, by a path "
                        "or by XDG_CACHE_HOME",
                        tx->path);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot map the new snapshot %s", tx->path);
    mhi_sys_munmap(place, MHI_PAGE);
    return MH_OK;
}

static int begin_process(mh_transaction *tx, mh_error *err)
{
    int status = check_code_can_be_mapped(tx, err);
    return status == MH_OK ? mhi_route_watch(err) : status;
}

static int begin_arena(mh_transaction *tx, mh_error *err)
{
    mhi_arena_config config = {
        /* its own slot, so that several can be attached at once */
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
        status = tx->is_process ? begin_process(tx, &failure) : begin_arena(tx, &failure);
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
    /* a forked child: its arena is private already, lock and file are its parent's */
    if (!mhi_transaction_is_ours(tx)) {
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
    default:
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no transaction to commit: mh_begin comes before, and once");
    }
    if (tx->is_process)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "a process is committed by mh_arm, fork and mh_commit_child");
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "this process was forked inside the transaction, which its parent will commit");
    mh_end(tx);
    int status = mhi_commit(tx, err);
    mhi_writer_close(&tx->writer);
    tx->state = status == MH_OK ? MHI_COMMITTED : MHI_ENDED;
    return status;
}

/* Of everything that the load depends on, in whatever order it was recorded. */
static uint64_t digest_inputs(const mhi_inputs *inputs, uint64_t sum)
{
    for (size_t i = 0; i < inputs->n; i++) {
        const mhi_input *input = &inputs->items[i];
        mhi_file_input entry = input->entry;
        if (entry.in_kind == MH_INPUT_DIRECTORY)
            continue;                          /* it changes with every file that is written there */
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

static int may_add(const mh_transaction *tx, mh_error *err)
{
    if (tx->state == MHI_WARM)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "the run is warm: its inputs are the snapshot's");
    return MH_OK;
}

int mh_add_file(mh_transaction *tx, const char *path, mh_error *err)
{
    int status = may_add(tx, err);
    return status != MH_OK || mhi_is_variant_path(path, tx->path) ? status
                                                                  : mhi_inputs_add_file(&tx->inputs, path, err);
}

/* Behind the path, or where it would be. */
static int add_missing(mh_transaction *tx, const char *path, mh_error *err)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_ABSENT };
    return mhi_inputs_add(&tx->inputs, &entry, path, NULL, err);
}

int mh_add_listing(mh_transaction *tx, const char *path, int which, mh_error *err)
{
    struct stat found;
    int status = may_add(tx, err);
    if (status != MH_OK)
        return status;
    if (which < MH_LISTING_ALL || which > MH_LISTING_METADATA)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "%d is no kind of listing", which);
    if (mhi_sys_stat(path, &found) < 0)
        return add_missing(tx, path, err);
    return mhi_record_listing(&tx->inputs, path, (uint64_t)which, tx->modules, err);
}

void mh_note_listing(const char *path, int which)
{
    struct stat found;
    uint64_t digest;
    char absolute[PATH_MAX];
    mhi_asked kind = which == MH_LISTING_METADATA ? MHI_ASKED_METADATA : MHI_ASKED_LISTING;
    if (!mhi_questions_are_noted())
        return;
    if (mhi_sys_stat(path, &found) < 0) {
        mhi_question_note_path(MHI_ASKED_PATH, AT_FDCWD, path, &(struct stat){ 0 }, 0);
        return;
    }
    if (mhi_answer_listing(path, (uint64_t)which, NULL, &digest) < 0)
        return; /* the program is refused, too */
    if (*path != '/')
        mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
    if (*path == '/')
        mhi_question_note_listing(kind, path, &found, digest);
    else if (mhi_sys_realpath(path, absolute, sizeof absolute) == 0)
        mhi_question_note_listing(kind, absolute, &found, digest);
}

static int add_text(mh_transaction *tx, int kind, uint64_t digest, const char *text, mh_error *err)
{
    mhi_file_input entry = { .in_kind = (uint32_t)kind, .in_digest = digest };
    int status = may_add(tx, err);
    return status != MH_OK ? status
                           : mhi_inputs_add(&tx->inputs, &entry, kind == MH_INPUT_NOTE ? text : NULL, text, err);
}

int mh_add_names(mh_transaction *tx, const char *names, mh_error *err)
{
    free(tx->modules);
    int status = keep_text(&tx->modules, names, err);
    return status != MH_OK ? status : add_text(tx, MH_INPUT_NAMES, 0, names, err);
}

int mh_add_arguments(mh_transaction *tx, mh_error *err)
{
    return add_text(tx, MH_INPUT_ARGUMENTS, tx->arguments, NULL, err);
}
int mh_add_place(mh_transaction *tx, mh_error *err) { return add_text(tx, MH_INPUT_PLACE, 0, tx->scope.place, err); }
int mh_add_note(mh_transaction *tx, const char *text, mh_error *err)
{
    return add_text(tx, MH_INPUT_NOTE, 0, text, err);
}

int mh_watch(const char *program, mh_error *err)
{
    mhi_questions_leave_out(program);
    int status = mhi_route_stand(err);
    if (status == MH_OK && program != NULL && *program != '\0')
        mhi_reads_begin(true);
    return status;
}

void mh_note_zone(void) { mhi_note_zone(); }
void mh_note_host(bool name) { mhi_question_note(name ? MHI_ASKED_HOST : MHI_ASKED_KERNEL, "", NULL, 0); }
void mh_unwatch(void) { mhi_route_stand_down(); }
bool mh_asked_variable(const char *name) { return mhi_question_is_asked(MHI_ASKED_VARIABLE, name); }
bool mh_asked_place(void) { return mhi_question_is_asked(MHI_ASKED_PLACE, ""); }
void mh_pause(bool is_paused) { mhi_questions_pause(is_paused); }

int mh_add_output(mh_transaction *tx, const char *path, mh_error *err)
{
    struct stat found;
    int status = may_add(tx, err);
    if (status == MH_OK && mhi_sys_stat(path, &found) == 0)
        mhi_questions_mark_output(&found);
    return status;
}

int mh_leave_out(mh_transaction *tx, const char *path, mh_error *err)
{
    const char *before = tx->scope.left_out == NULL ? "" : tx->scope.left_out;
    int status = may_add(tx, err);
    if (status != MH_OK || strchr(path, '\n') != NULL)
        return status;
    char *both = malloc(strlen(before) + strlen(path) + 2);
    if (both == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    strcat(strcat(strcpy(both, before), path), "\n");
    free(tx->scope.left_out);
    tx->scope.left_out = both;
    return MH_OK;
}

int mh_add_env(mh_transaction *tx, const char *name, mh_error *err)
{
    int status = may_add(tx, err);
    return status != MH_OK ? status : mhi_environment_add(&tx->inputs, &tx->variables, name, err);
}

int mh_add_variables(mh_transaction *tx, const char *pattern, mh_error *err)
{
    int status = may_add(tx, err);
    return status != MH_OK ? status : mhi_environment_add_walk(&tx->inputs, &tx->variables, pattern, err);
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
