/* commit.c - turns the child's capture into a published snapshot.
 *
 * Why the file appears whole or not at all is written once, in snapshot/commit.c: the child has written the segments to
 * a file without a name, and all later steps are those of a heap's commit. Two differences: no memory of this process
 * is mapped from the file, so there is nothing to make private; and a child that dies, in whatever way, has only wasted
 * its time.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/pages.h"
#include "error.h"
#include "process/fork.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "resumable/tables.h"
#include "snapshot/image.h"
#include "snapshot/tables.h"
#include "sys/sys.h"

enum { WATCH_MILLISECONDS = 20 }; /* arbitrary: more often than a progress bar is drawn */

/* ---- before the fork ---- */

/* Scrubs the strings that the kernel put above the stack. A resumed process has its strings in the launcher's
 * region. */
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

/* Bytes of this process's anonymous memory. */
static int read_anonymous(uint64_t *bytes)
{
    char text[256]; /* in pages: size, resident, resident of files or shared, ... */
    unsigned long resident, of_files;
    int result = mhi_sys_read_text("/proc/self/statm", text, sizeof text);
    if (result < 0 || sscanf(text, "%*u %lu %lu", &resident, &of_files) != 2)
        return result < 0 ? result : -ENODATA;
    *bytes = resident > of_files ? (resident - of_files) * MHI_PAGE : 0;
    return 0;
}

/* Checks the free space before any write: else each run would fill a nearly full disk. Where it is unknown, the write
 * will fail. */
static int check_room(const mhi_writer *writer, mh_error *err)
{
    uint64_t free_bytes, needed;
    if (mhi_sys_free_bytes(writer->fd, &free_bytes) < 0 || read_anonymous(&needed) < 0 || free_bytes >= needed)
        return MH_OK;
    return mhi_fail(err, MH_ERR_NOSPACE, ENOSPC,
                    "%" PRIu64 " bytes are free where the snapshot would be, and the process has %" PRIu64
                    " to be kept",
                    free_bytes, needed);
}

/* Collects the open descriptors that a later run opens again. */
static int collect_descriptors(mhi_descriptors *found, const mhi_writer *writer, const mhi_process *own, mh_error *err)
{
    const int ours[] = { writer->fd, writer->lock, writer->directory };
    const mhi_descriptors_known known = {
        .own = ours, .n_own = sizeof ours / sizeof *ours, .held = own->held, .n_held = own->n_held
    };
    return mhi_descriptors_collect(found, &known, err);
}

/* The child will write this much, less the pages of zeros. */
static void expect_bytes(mhi_progress *progress)
{
    uint64_t bytes;
    bool is_known = read_anonymous(&bytes) == 0;
    atomic_store_explicit(&progress->total_bytes, is_known ? 2 * bytes : 0, memory_order_relaxed);
}

int mh_arm(mh_transaction *tx, mh_error *err)
{
    mhi_process *own = mhi_process_of(tx);
    int status = mhi_process_check_begun(tx, err);
    if (status == MH_OK && own->capture != NULL)
        status = mhi_fail(err, MH_ERR_ARGUMENT, 0, "mh_arm was called before");
    if (status != MH_OK)
        return status;
    mh_end(tx);
    status = mhi_obstacles_check(err);
    if (status == MH_OK)
        status = check_room(&tx->writer, err);
    if (status == MH_OK)
        status = scrub_environment(tx, err);
    if (status == MH_OK)
        status = mhi_fork_arm(&own->capture, &tx->writer, own->scrubs, own->n_scrubs, err);
    if (status != MH_OK)
        return status;
    status = collect_descriptors(&own->capture->descriptors, &tx->writer, own, err);
    if (status == MH_OK)
        expect_bytes(&tx->progress);
    else
        mhi_process_disarm(own);
    return status;
}

void mhi_process_disarm(mhi_process *own)
{
    if (own->capture == NULL)
        return;
    mhi_descriptors_release(&own->capture->descriptors);
    mhi_fork_release(own->capture);
    own->capture = NULL;
}

int mh_know_thread(mh_transaction *tx, int thread, const char *text, mh_error *err)
{
    const mhi_process *own = mhi_process_of(tx);
    if (own == NULL || own->capture == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no commit that knows threads: mh_arm comes before");
    mhi_known_threads *known = &own->capture->known;
    if (known->n == MHI_KNOWN_THREADS)
        return MH_OK;
    mhi_known_thread *added = &known->items[known->n++];
    *added = (mhi_known_thread){ .thread = thread };
    snprintf(added->text, sizeof added->text, "%s", text);
    return MH_OK;
}

/* ---- behind the fork ---- */

/* Each byte counts twice: written by the child, made durable by us. Where the kernel can't wait with a timeout, there
 * is no progress meanwhile. */
static void watch(int child, const mhi_capture *capture, mhi_progress *progress)
{
    uint64_t total = atomic_load_explicit(&progress->total_bytes, memory_order_relaxed) / 2;
    while (mhi_sys_ends_within(child, WATCH_MILLISECONDS) == 0) {
        uint64_t done = *(volatile const uint64_t *)&capture->file_end;
        atomic_store_explicit(&progress->done_bytes, done < total ? done : total, memory_order_relaxed);
    }
}

static int wait_for(int child, const mhi_capture *capture, mhi_progress *progress, mh_error *err)
{
    int how = 0;
    watch(child, capture, progress);
    int result = mhi_sys_wait(child, &how);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot wait for the process that writes the snapshot");
    if (capture->status == MH_OK && capture->late_refusal.status != MH_OK) {
        if (err != NULL)
            *err = capture->late_refusal;
        return capture->late_refusal.status;
    }
    if (WIFSIGNALED(how) && capture->status != MH_OK) /* with MH_OK the child was in its rehearsal */
        return mhi_fail(err, MH_ERR_SYSTEM, 0, "the process that was to write the snapshot was ended by signal %d",
                        WTERMSIG(how));
    if (capture->status != MH_OK && err != NULL)
        *err = capture->error;
    if (capture->status == MH_OK && capture->has_threads && capture->is_rehearsed && !capture->has_rehearsed)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                        "a later run could not go on: it needs a lock that another thread holds, which goes on only "
                        "behind it; let the threads come to rest in the body, or start them after the with");
    return capture->status;
}

/* A layer also depends on its parent's inputs. These are unchanged, or this process would not have been resumed. */
static int inherit_inputs(mhi_inputs *inputs, uint64_t *parent_checksum, mh_error *err)
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
        if (!is_own && !is_of_imports) /* imported modules stay imported */
            status = mhi_inputs_add(inputs, input, mhi_image_string(parent, input->in_name),
                                    mhi_image_string(parent, input->in_text), err);
    }
    *parent_checksum = parent->header.hd_checksum;
    mh_image_close(parent);
    return status;
}

static void fill_descriptors(mhi_file_descriptor *to, mhi_own_string *paths, const mhi_descriptors *open)
{
    for (size_t i = 0; i < open->n_items; i++) {
        const mhi_descriptor *from = &open->items[i];
        to[i] = (mhi_file_descriptor){
            .ds_fd = (uint32_t)from->fd,
            .ds_flags = from->flags,
            .ds_is_cloexec = from->is_cloexec,
            .ds_offset = from->offset,
            .ds_inode = from->id.inode,
            .ds_device = from->id.number,
        };
        paths[i] = (mhi_own_string){ from->path, &to[i].ds_name };
    }
}

/* Writes the tables of one snapshot from the results of child and parent. */
static int write_file(mhi_writer *writer, mhi_progress *progress, mhi_file_header *header, mhi_inputs *inputs,
                      const mhi_names *mapped, const mhi_process *own, mh_error *err)
{
    enum { N_NAMES = 2 }; /* of the process itself */
    mhi_capture *capture = own->capture;
    size_t n = capture->descriptors.n_items;
    mhi_file_descriptor *descriptors = calloc(n + 1, sizeof *descriptors);
    mhi_own_string *strings = calloc(n + N_NAMES, sizeof *strings);
    int status = descriptors == NULL || strings == NULL ? mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory") : MH_OK;
    if (status == MH_OK) {
        strings[0] = (mhi_own_string){ own->program, &capture->process.pr_program };
        strings[1] = (mhi_own_string){ own->command, &capture->process.pr_command };
        fill_descriptors(descriptors, strings + N_NAMES, &capture->descriptors);
        const mhi_own_table tables[] = { { &capture->process, 1 },
                                         { descriptors, n },
                                         { capture->signals, capture->n_signals },
                                         { capture->touched, capture->n_touched } };
        const mhi_tables_source from = { .segments = capture->segments,
                                         .n_segments = capture->n_segments,
                                         .mapped = mapped,
                                         .inputs = inputs,
                                         .tables = tables,
                                         .n_tables = sizeof tables / sizeof *tables,
                                         .strings = strings,
                                         .n_strings = n + N_NAMES };
        status = mhi_commit_file(writer, progress, header, &from, err);
    }
    free(descriptors);
    free(strings);
    return status;
}

int mh_commit_child(mh_transaction *tx, int child, mh_error *err)
{
    mhi_process *own = mhi_process_of(tx);
    int status = mhi_process_check_begun(tx, err);
    if (status == MH_OK && (own->capture == NULL || child <= 0))
        status =
            mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no child that writes a snapshot: mh_arm and fork come before");
    if (status != MH_OK)
        return status;
    mhi_capture *capture = own->capture;
    status = wait_for(child, capture, &tx->progress, err);
    const mhi_names mapped = { capture->names, capture->names_bytes };
    if (status == MH_OK)
        status = inherit_inputs(&tx->inputs, &capture->process.pr_parent_checksum, err);
    if (status == MH_OK)
        status = mhi_commit_inputs(&tx->inputs, &tx->variables, &tx->scope, &mapped, err);
    mhi_file_header header = mhi_commit_header(&mhi_file_kind_process, &tx->choice);
    if (status == MH_OK)
        status = write_file(&tx->writer, &tx->progress, &header, &tx->inputs, &mapped, own, err);
    mhi_process_disarm(own);
    return mhi_transaction_settle(tx, status);
}
