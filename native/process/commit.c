/* commit.c - from what the child left to a published snapshot; and the exchange of a process for one.
 *
 * What makes the file appear whole or not at all is written once, in snapshot/commit.c: the child has written segments
 * to a file that has no name, and everything after them goes the way of a heap's commit. What is different: nothing of
 * this process is mapped from the file, so there is nothing to make private; and a child that dies, however it dies,
 * has only wasted its time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/array.h"
#include "base/pages.h"
#include "error.h"
#include "process/fork.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "snapshot/image.h"
#include "snapshot/tables.h"
#include "sys/sys.h"

enum { WATCH_MILLISECONDS = 20 }; /* arbitrary: more often than anybody looks */

static int refuse_state(const mh_transaction *tx, mh_error *err)
{
    if (tx->state == MHI_REFUSED) {
        if (err != NULL)
            *err = tx->refusal;
        return tx->refusal.status;
    }
    if (!tx->is_process || tx->state != MHI_BEGUN)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "there is no process transaction to commit: mh_begin comes before, and once");
    if (!mhi_transaction_is_ours(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "this process was forked inside the transaction, which its parent will commit");
    return MH_OK;
}

int mh_scrub(mh_transaction *tx, const void *address, uint64_t size_bytes, mh_error *err)
{
    int status = refuse_state(tx, err);
    if (status != MH_OK)
        return status;
    mhi_scrub *scrubs = mhi_array_grow(tx->scrubs, tx->n_scrubs, &tx->scrubs_capacity, sizeof *scrubs);
    if (scrubs == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->scrubs = scrubs;
    tx->scrubs[tx->n_scrubs++] = (mhi_scrub){ (void *)address, size_bytes };
    return MH_OK;
}

int mh_hold_descriptor(mh_transaction *tx, int fd, mh_error *err)
{
    int status = refuse_state(tx, err);
    if (status != MH_OK)
        return status;
    int *held = realloc(tx->held, (tx->n_held + 1) * sizeof *held); /* they are few */
    if (held == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    tx->held = held;
    tx->held[tx->n_held++] = fd;
    return MH_OK;
}

bool mh_is_carried(const mh_transaction *tx, int fd)
{
    return fd != tx->writer.fd && fd != tx->writer.lock && fd != tx->writer.directory &&
           !mhi_descriptors_is_inherited(fd);
}

int mh_is_same_open(int fd, int other) { return mhi_sys_is_same_open(fd, other); }

/* The strings that the kernel put above the stack. A resumed process has none there: they lie in the launcher's region.
 * */
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

/* Bytes of this process's memory that are no file's. */
static int read_anonymous(uint64_t *bytes)
{
    char text[256]; /* in pages: size, resident, of which are of files or shared, ... */
    unsigned long resident, of_files;
    int result = mhi_sys_read_text("/proc/self/statm", text, sizeof text);
    if (result < 0 || sscanf(text, "%*u %lu %lu", &resident, &of_files) != 2)
        return result < 0 ? result : -ENODATA;
    *bytes = resident > of_files ? (resident - of_files) * MHI_PAGE : 0;
    return 0;
}

/* Before anything is written: a disk that is full would be filled at each run. Where it can't be told, writing will. */
static int check_room(const mh_transaction *tx, mh_error *err)
{
    uint64_t free_bytes, needed;
    if (mhi_sys_free_bytes(tx->writer.fd, &free_bytes) < 0 || read_anonymous(&needed) < 0 || free_bytes >= needed)
        return MH_OK;
    return mhi_fail(err, MH_ERR_NOSPACE, ENOSPC,
                    "%" PRIu64 " bytes are free where the snapshot would be, and the process has %" PRIu64
                    " to be kept",
                    free_bytes, needed);
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
        status = check_room(tx, err);
    if (status == MH_OK)
        status = scrub_environment(tx, err);
    if (status == MH_OK)
        status = mhi_fork_arm(&tx->capture, &tx->writer, tx->scrubs, tx->n_scrubs, err);
    if (status != MH_OK)
        return status;
    const int own[] = { tx->writer.fd, tx->writer.lock, tx->writer.directory };
    const mhi_descriptors_known known = {
        .own = own, .n_own = sizeof own / sizeof *own, .held = tx->held, .n_held = tx->n_held
    };
    status = mhi_descriptors_collect(&tx->capture->descriptors, &known, err);
    if (status != MH_OK)
        release(tx);
    uint64_t memory_bytes;
    /* less zeros, it is what the child will write */
    bool is_known = status == MH_OK && read_anonymous(&memory_bytes) == 0;
    atomic_store_explicit(&tx->total_bytes, is_known ? 2 * memory_bytes : 0, memory_order_relaxed);
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

/* A layer depends on what its parent depends on; whose inputs are as they were, or this process would not have been
 * resumed. */
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
        status =
            mhi_fail(err, MH_ERR_STALE, 0, "the snapshot %s, which this process was resumed from, has been replaced",
                     arguments->ar_image_path);
    for (uint64_t i = 0; i < parent->n_inputs && status == MH_OK; i++) {
        const mhi_file_input *input = &parent->inputs[i];
        bool is_of_imports = input->in_kind == MH_INPUT_NAMES ||
                             (input->in_kind == MH_INPUT_LISTING && input->in_bytes == MH_LISTING_IMPORTS);
        bool is_own =
            input->in_kind == MH_INPUT_KEY || input->in_kind == MH_INPUT_CPU || input->in_kind == MH_INPUT_SYSTEM;
        if (!is_own && !is_of_imports) /* what was imported still is */
            status = mhi_inputs_add(&tx->inputs, input, mhi_image_string(parent, input->in_name),
                                    mhi_image_string(parent, input->in_text), err);
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
        if (mhi_inputs_find(&tx->inputs, MH_INPUT_LIBRARY, path) == NULL &&
            mhi_inputs_find(&tx->inputs, MH_INPUT_FILE, path) == NULL)
            status = mhi_inputs_add_file(&tx->inputs, path, err);
    return status;
}

/* ---- commit ---- */

/* Each byte counts twice: written by the child, made durable by us. A kernel that does not tell when a child ends tells
 * nothing meanwhile. */
static void watch(mh_transaction *tx, int child)
{
    uint64_t total = atomic_load_explicit(&tx->total_bytes, memory_order_relaxed) / 2;
    while (mhi_sys_ends_within(child, WATCH_MILLISECONDS) == 0) {
        uint64_t done = *(volatile const uint64_t *)&tx->capture->file_end;
        atomic_store_explicit(&tx->done_bytes, done < total ? done : total, memory_order_relaxed);
    }
}

static int wait_for(mh_transaction *tx, int child, mh_error *err)
{
    int how = 0;
    watch(tx, child);
    int result = mhi_sys_wait(child, &how);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot wait for the process that writes the snapshot");
    if (tx->capture->status == MH_OK && tx->capture->late_refusal.status != MH_OK) {
        if (err != NULL)
            *err = tx->capture->late_refusal;
        return tx->capture->late_refusal.status;
    }
    if (WIFSIGNALED(how) && tx->capture->status != MH_OK) /* else it was in its rehearsal */
        return mhi_fail(err, MH_ERR_SYSTEM, 0, "the process that was to write the snapshot was ended by signal %d",
                        WTERMSIG(how));
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
        status =
            mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no child that writes a snapshot: mh_arm and fork come before");
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

int mh_resume(mh_transaction *tx, const char *launcher, const char *const *argv, uint64_t n_skipped,
              const char *const *envp, mh_error *err)
{
    enum { OWN = 5 }; /* name, path, checksum, number skipped, signals: format.h */
    char checksum[17], skipped[24], blocked[17];
    uint64_t before;
    if (!mh_is_resumable(tx))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no snapshot that could be resumed");
    snprintf(checksum, sizeof checksum, "%016" PRIx64, tx->resumable);
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
    /* our handlers would only note what comes, and be gone */
    int result = mhi_sys_mask(SIG_BLOCK, MHI_SIGNALS_HELD, &before);
    if (result == 0) {
        snprintf(blocked, sizeof blocked, "%016" PRIx64, before);
        result = mhi_sys_execve(launcher, (char *const *)all, (char *const *)envp);
        mhi_sys_mask(SIG_SETMASK, before, NULL);
    }
    free(all);
    return mhi_fail_sys(err, result, "cannot execute the launcher %s", launcher);
}
