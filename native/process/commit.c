/* commit.c - from what the child left to a published snapshot; and the exchange of a process for one.
 *
 * What makes the file appear whole or not at all is written once, in snapshot/commit.c: the child has written segments to a file
 * that has no name, and everything after them goes the way of a heap's commit. What is different: nothing of this process is
 * mapped from the file, so there is nothing to make private; and a child that dies, however it dies, has only wasted its time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "error.h"
#include "process/fork.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "snapshot/image.h"
#include "snapshot/tables.h"
#include "sys/sys.h"

static int refuse_state(const mh_transaction *tx, mh_error *err)
{
    if (tx->state == MHI_REFUSED) {
        if (err != NULL)
            *err = tx->refusal;
        return tx->refusal.status;
    }
    if (!tx->is_process || tx->state != MHI_BEGUN)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no process transaction to commit: mh_begin comes before, and once");
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "this process was forked inside the transaction, which its parent will commit");
    return MH_OK;
}

int mh_scrub(mh_transaction *tx, const void *address, uint64_t size_bytes, mh_error *err)
{
    int status = refuse_state(tx, err);
    if (status != MH_OK)
        return status;
    if (tx->n_scrubs == tx->scrubs_capacity) {
        size_t capacity = tx->scrubs_capacity == 0 ? 64 : 2 * tx->scrubs_capacity;
        mhi_scrub *scrubs = realloc(tx->scrubs, capacity * sizeof *scrubs);
        if (scrubs == NULL)
            return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
        tx->scrubs = scrubs;
        tx->scrubs_capacity = capacity;
    }
    tx->scrubs[tx->n_scrubs++] = (mhi_scrub){ (void *)address, size_bytes };
    return MH_OK;
}

/* The strings that the kernel put above the stack. A resumed process has none there: they lie in the launcher's region. */
static int scrub_environment(mh_transaction *tx, mh_error *err)
{
    mhi_sys_layout layout;
    if (mhi_fork_arguments() != NULL)
        return MH_OK;
    int result = mhi_sys_layout_read(&layout);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot tell where the environment of this process lies");
    return mh_scrub(tx, (void *)layout.env_start, layout.env_end - layout.env_start, err);
}

static void release(mh_transaction *tx)
{
    if (tx->capture != NULL)
        mhi_descriptors_release(&tx->capture->descriptors);
    mhi_fork_release(tx->capture);
    tx->capture = NULL;
}

int mh_arm(mh_transaction *tx, mh_error *err)
{
    int status = refuse_state(tx, err);
    if (status == MH_OK && tx->capture != NULL)
        status = mhi_fail(err, MH_ERR_ARGUMENT, 0, "mh_arm was called before");
    if (status != MH_OK)
        return status;
    mh_end(tx);
    status = mhi_obstacles_check(err);
    if (status == MH_OK)
        status = scrub_environment(tx, err);
    if (status == MH_OK)
        status = mhi_fork_arm(&tx->capture, tx->writer.fd, tx->scrubs, tx->n_scrubs, err);
    if (status != MH_OK)
        return status;
    const int own[] = { tx->writer.fd, tx->writer.lock, tx->writer.directory };
    status = mhi_descriptors_collect(&tx->capture->descriptors, own, sizeof own / sizeof *own, err);
    if (status != MH_OK)
        release(tx);
    return status;
}

int mh_know_thread(mh_transaction *tx, int thread, const char *library, uint64_t n_switches, mh_error *err)
{
    if (tx->capture == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no commit that could lose a thread: mh_arm comes before");
    mhi_known_threads *known = &tx->capture->known;
    if (known->n == MHI_KNOWN_THREADS)
        return MH_OK;
    mhi_known_thread *added = &known->items[known->n++];
    *added = (mhi_known_thread){ .thread = thread, .n_switches = n_switches };
    snprintf(added->library, sizeof added->library, "%s", library);
    return MH_OK;
}

/* ---- inputs ---- */

/* A layer depends on what its parent depends on; whose inputs are as they were, or this process would not have been resumed. */
static int inherit_inputs(mh_transaction *tx, uint64_t *parent_checksum, mh_error *err)
{
    const mhi_arguments *arguments = mhi_fork_arguments();
    if (arguments == NULL)
        return MH_OK;
    struct mh_image *parent;
    int status = mhi_image_open(&parent, arguments->ar_image_path, true, err);
    if (status != MH_OK)
        return status;
    if (parent->header.hd_checksum != arguments->ar_image_checksum)
        status = mhi_fail(err, MH_ERR_STALE, 0, "the snapshot %s, which this process was resumed from, has been replaced", arguments->ar_image_path);
    for (uint64_t i = 0; i < parent->n_inputs && status == MH_OK; i++) {
        const mhi_file_input *input = &parent->inputs[i];
        const char *name = mhi_image_string(parent, input->in_name);
        bool is_wanted = input->in_kind == MH_INPUT_FILE || input->in_kind == MH_INPUT_LIBRARY || input->in_kind == MH_INPUT_ENV;
        if (is_wanted && mhi_inputs_find(&tx->inputs, (int)input->in_kind, name) == NULL)
            status = mhi_inputs_add(&tx->inputs, input, name, mhi_image_string(parent, input->in_text), err);
    }
    *parent_checksum = parent->header.hd_checksum;
    mh_image_close(parent);
    return status;
}

static int add_mapped_files(mh_transaction *tx, mh_error *err)
{
    const char *path = tx->capture->names + 1, *end = tx->capture->names + tx->capture->names_bytes;
    int status = MH_OK;
    for (; path < end && status == MH_OK; path += strlen(path) + 1)
        if (mhi_inputs_find(&tx->inputs, MH_INPUT_LIBRARY, path) == NULL && mhi_inputs_find(&tx->inputs, MH_INPUT_FILE, path) == NULL)
            status = mhi_inputs_add_file(&tx->inputs, path, err);
    return status;
}

/* ---- commit ---- */

static int wait_for(mh_transaction *tx, int child, mh_error *err)
{
    int how = 0;
    int result = mhi_sys_wait(child, &how);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot wait for the process that writes the snapshot");
    if (tx->capture->status == MH_OK && tx->capture->late_refusal.status != MH_OK) {
        if (err != NULL)
            *err = tx->capture->late_refusal;
        return tx->capture->late_refusal.status;
    }
    if (WIFSIGNALED(how) && tx->capture->status != MH_OK) /* else it was in its rehearsal */
        return mhi_fail(err, MH_ERR_SYSTEM, 0, "the process that was to write the snapshot was ended by signal %d", WTERMSIG(how));
    if (tx->capture->status != MH_OK && err != NULL)
        *err = tx->capture->error;
    return tx->capture->status;
}

static int write_rest(mh_transaction *tx, mhi_process_tables *process, mh_error *err)
{
    const mhi_capture *capture = tx->capture;
    const mhi_descriptors *open = &capture->descriptors;
    mhi_file_header header = {
        .hd_magic = MHI_MAGIC,
        .hd_version = MHI_FORMAT_VERSION,
        .hd_kind = MH_KIND_PROCESS,
        .hd_state = MHI_STATE_COMPLETE,
        .hd_created_ns = mhi_sys_wall_clock_ns(),
    };
    mhi_file_descriptor *descriptors = calloc(open->n_items + 1, sizeof *descriptors);
    const char **names = calloc(open->n_items + 1, sizeof *names);
    int status = descriptors == NULL || names == NULL ? mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory") : MH_OK;
    for (size_t i = 0; i < open->n_items && status == MH_OK; i++) {
        const mhi_descriptor *from = &open->items[i];
        names[i] = from->path;
        descriptors[i] = (mhi_file_descriptor){
            .ds_fd = (uint32_t)from->fd,
            .ds_flags = from->flags,
            .ds_is_cloexec = from->is_cloexec,
            .ds_offset = from->offset,
            .ds_inode = from->inode,
            .ds_device = from->device,
        };
    }
    process->descriptors = descriptors;
    process->descriptor_names = names;
    process->n_descriptors = open->n_items;
    if (status == MH_OK)
        status = mhi_commit_rest(tx, &header, capture->segments, capture->n_segments, process, err);
    free(descriptors);
    free(names);
    return status;
}

static int publish(mh_transaction *tx, mh_error *err)
{
    const mhi_capture *capture = tx->capture;
    mhi_process_tables process = {
        .names = capture->names,
        .process = capture->process,
        .program = tx->program,
        .command = tx->command,
        .signals = capture->signals,
        .n_signals = capture->n_signals,
        .touched = capture->touched,
        .n_touched = capture->n_touched,
    };
    int status = inherit_inputs(tx, &process.process.pr_parent_checksum, err);
    if (status == MH_OK)
        status = mhi_commit_inputs(tx, err);
    if (status == MH_OK)
        status = add_mapped_files(tx, err);
    return status == MH_OK ? write_rest(tx, &process, err) : status;
}

int mh_commit_child(mh_transaction *tx, int child, mh_error *err)
{
    int status = refuse_state(tx, err);
    if (status == MH_OK && (tx->capture == NULL || child <= 0))
        status = mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no child that writes a snapshot: mh_arm and fork come before");
    if (status != MH_OK)
        return status;
    status = wait_for(tx, child, err);
    if (status == MH_OK)
        status = publish(tx, err);
    release(tx);
    mhi_writer_close(&tx->writer);
    tx->state = status == MH_OK ? MHI_COMMITTED : MHI_ENDED;
    return status;
}

/* ---- resume ---- */

int mh_resume(mh_transaction *tx, const char *launcher, const char *const *argv, uint64_t n_skipped, const char *const *envp, mh_error *err)
{
    enum { OWN = 4 }; /* name, path, checksum, number skipped: format.h */
    char checksum[17], skipped[24];
    if (!mh_is_resumable(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no snapshot that could be resumed");
    snprintf(checksum, sizeof checksum, "%016" PRIx64, tx->resumable);
    snprintf(skipped, sizeof skipped, "%" PRIu64, n_skipped);
    size_t argc = 0;
    while (argv[argc] != NULL)
        argc++;
    const char **all = malloc((OWN + argc + 1) * sizeof *all);
    if (all == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    all[0] = MHI_RESUME_NAME;
    all[1] = tx->path;
    all[2] = checksum;
    all[3] = skipped;
    memcpy(all + OWN, argv, (argc + 1) * sizeof *argv);
    int result = mhi_sys_execve(launcher, (char *const *)all, (char *const *)envp);
    free(all);
    return mhi_fail_sys(err, result, "cannot execute the launcher %s", launcher);
}
