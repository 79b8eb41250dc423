/* kind.c - the kind of snapshot that keeps a process: a transaction until its commit, and the replacement of this
 * process by a snapshot.
 *
 * Such a transaction is never WARM: it is COLD, and may be resumable. BEGUN has no arena and routes no memory: only
 * questions are noted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "base/pages.h"
#include "error.h"
#include "process/fork.h"
#include "process/process.h"
#include "resumable/tables.h"
#include "snapshot/key.h"
#include "sys/sys.h"

static int open_process(mh_transaction *tx, const mh_options *options, mh_error *err)
{
    mhi_process *own = tx->own = calloc(1, sizeof *own);
    if (own == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->progress.counts_writing = true; /* the writing by the child counts */
    int status = mhi_keep_text(&own->program, options->program, err);
    return status == MH_OK ? mhi_keep_text(&own->command, options->command, err) : status;
}

static int take(mh_transaction *tx, const struct mh_image *image, mh_error *err)
{
    mhi_process *own = tx->own;
    own->resumable = image->header.hd_checksum;
    return mhi_keep_text(&own->command, mhi_image_string(image, mhi_image_process(image)->pr_command), err);
}

/* A process is mapped from its file, code included. Tried first, lest the program load for a snapshot that no run could
 * resume. */
static int check_code_can_be_mapped(const mhi_writer *writer, mh_error *err)
{
    void *place;
    int result = mhi_sys_mmap(&place, NULL, MHI_PAGE, PROT_READ | PROT_EXEC, MAP_PRIVATE, writer->fd, 0);
    if (result == -EPERM || result == -EACCES)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                        "nothing in the directory of %s may be executed (a noexec mount): choose another, by a path "
                        "or by XDG_CACHE_HOME",
                        writer->path);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot map the new snapshot %s", writer->path);
    mhi_sys_munmap(place, MHI_PAGE);
    return MH_OK;
}

static int begin(mh_transaction *tx, mh_error *err)
{
    int status = check_code_can_be_mapped(&tx->writer, err);
    return status == MH_OK ? mhi_transaction_watch(err) : status;
}

static int refuse_commit(mh_transaction *tx, mh_error *err)
{
    (void)tx;
    return mhi_fail(err, MH_ERR_ARGUMENT, 0, "a process is committed by mh_arm, fork and mh_commit_child");
}

static void abandon(mh_transaction *tx) { mhi_process_disarm(tx->own); }

static void close_process(mh_transaction *tx)
{
    mhi_process *own = tx->own;
    if (own == NULL)
        return;
    free(own->scrubs);
    free(own->held);
    free(own->program);
    free(own->command);
    free(own);
}

const mhi_kind mhi_kind_process = {
    .file = &mhi_file_kind_process,
    .may_lack_key = true,
    .open = open_process,
    .take = take,
    .begin = begin,
    .commit = refuse_commit, /* mh_commit_child commits */
    .abandon = abandon,
    .close = close_process,
};

mhi_process *mhi_process_of(const mh_transaction *tx) { return tx->kind == &mhi_kind_process ? tx->own : NULL; }

/* ---- what the caller declares ---- */

int mhi_process_check_begun(const mh_transaction *tx, mh_error *err)
{
    if (tx->state == MHI_REFUSED) {
        if (err != NULL)
            *err = tx->refusal;
        return tx->refusal.status;
    }
    if (mhi_process_of(tx) == NULL || tx->state != MHI_BEGUN)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "there is no process transaction to commit: mh_begin comes before, and once");
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "this process was forked inside the transaction, which its parent will commit");
    return MH_OK;
}

bool mh_is_resumable(const mh_transaction *tx)
{
    const mhi_process *own = mhi_process_of(tx);
    return own != NULL && own->resumable != 0;
}

const char *mh_command(const mh_transaction *tx)
{
    const mhi_process *own = mhi_process_of(tx);
    return own == NULL ? "" : own->command;
}

int mh_set_command(mh_transaction *tx, const char *command, bool is_watched, mh_error *err)
{
    mhi_process *own = mhi_process_of(tx);
    for (size_t i = 0; i < tx->inputs.n; i++)
        if (tx->inputs.items[i].entry.in_kind == MH_INPUT_SYSTEM &&
            strcmp(tx->inputs.items[i].name, MHI_SYSTEM_WATCHED) == 0)
            tx->inputs.items[i].entry.in_bytes = is_watched;
    return own == NULL ? MH_OK : mhi_keep_text(&own->command, command, err);
}

int mh_scrub(mh_transaction *tx, const void *address, uint64_t size_bytes, mh_error *err)
{
    int status = mhi_process_check_begun(tx, err);
    if (status != MH_OK)
        return status;
    mhi_process *own = tx->own;
    mhi_scrub *scrubs = mhi_array_grow(own->scrubs, own->n_scrubs, &own->scrubs_capacity, sizeof *scrubs);
    if (scrubs == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    own->scrubs = scrubs;
    own->scrubs[own->n_scrubs++] = (mhi_scrub){ (void *)address, size_bytes };
    return MH_OK;
}

int mh_hold_descriptor(mh_transaction *tx, int fd, mh_error *err)
{
    int status = mhi_process_check_begun(tx, err);
    if (status != MH_OK)
        return status;
    mhi_process *own = tx->own;
    int *held = realloc(own->held, (own->n_held + 1) * sizeof *held); /* held descriptors are few */
    if (held == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    own->held = held;
    own->held[own->n_held++] = fd;
    return MH_OK;
}

bool mh_is_carried(const mh_transaction *tx, int fd)
{
    return fd != tx->writer.fd && fd != tx->writer.lock && fd != tx->writer.directory &&
           !mhi_descriptors_is_inherited(fd);
}

int mh_is_same_open(int fd, int other) { return mhi_sys_is_same_open(fd, other); }

/* ---- resume ---- */

int mh_resume(mh_transaction *tx, const char *launcher, const char *const *argv, uint64_t n_skipped,
              const char *const *envp, mh_error *err)
{
    enum { OWN = 5 }; /* name, path, checksum, number skipped, signals: format.h */
    char checksum[17], skipped[24], blocked[17];
    uint64_t before;
    const mhi_process *own = mhi_process_of(tx);
    if (!mh_is_resumable(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no snapshot that could be resumed");
    snprintf(checksum, sizeof checksum, "%016" PRIx64, own->resumable);
    snprintf(skipped, sizeof skipped, "%" PRIu64, n_skipped);
    size_t argc = 0;
    while (argv[argc] != NULL)
        argc++;
    char path[PATH_MAX];
    if (!mhi_variant_path(path, tx->path, tx->number))
        return mhi_fail(err, MH_ERR_ARGUMENT, ENAMETOOLONG, "the path of the snapshot is too long");
    const char **all = malloc((OWN + argc + 1) * sizeof *all);
    if (all == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    all[0] = MHI_RESUME_NAME;
    all[1] = path;
    all[2] = checksum;
    all[3] = skipped;
    all[4] = blocked;
    memcpy(all + OWN, argv, (argc + 1) * sizeof *argv);
    /* a handler that runs now would only leave a note in memory that execve discards */
    int result = mhi_sys_mask(SIG_BLOCK, MHI_SIGNALS_HELD, &before);
    if (result == 0) {
        snprintf(blocked, sizeof blocked, "%016" PRIx64, before);
        result = mhi_sys_execve(launcher, (char *const *)all, (char *const *)envp);
        mhi_sys_mask(SIG_SETMASK, before, NULL);
    }
    free(all);
    return mhi_fail_sys(err, result, "cannot execute the launcher %s", launcher);
}
