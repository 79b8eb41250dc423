/* fork.c - the commit is a fork, and the resume is a return from it.
 *
 *     committing process            its child, once                     a resumed process
 *     mh_arm
 *     fork() ------------------->   child handler: registers saved
 *     waits                         writes the process to the file
 *                                   rehearses, if asked to; _exit
 *     publishes                                                         child handler: registers restored; returns
 *     goes on                                                           the other child handlers run, fork() returns 0
 *
 * So every resumed process does whatever libraries do in the child of a fork: they cannot tell the difference.
 *
 * The launcher blocks all signals. They are unblocked in our child handler, before those of other libraries; or later,
 * by mh_release_signals, if the program has more to restore first (mh_hold_signals).
 *
 * Our handlers are registered when the library is loaded, and moved before all others (first.h): prepare handlers run
 * in reverse order, so ours runs after those of all libraries; child handlers run in order, so ours runs before them.
 * Only the fork that mh_arm announced is a commit, and only of the thread that called it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "error.h"
#include "process/descriptors.h"
#include "process/first.h"
#include "process/fork.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "process/remade.h"
#include "process/threads.h"
#include "python/lock.h"
#include "sys/sys.h"

/* The capture of this thread's next fork; NULL: an ordinary fork. In static TLS, which a fork handler may access
 * without allocating. */
static _Thread_local mhi_capture *armed __attribute__((tls_model("initial-exec")));
static mhi_writer *armed_writer; /* of the last commit */
/* as pr_ids; libraries detect a fork by comparing the process id with a remembered one */
static uint32_t ids[MHI_IDS_MAX];
static uint32_t n_ids;     /* MHI_IDS_MAX + 1: there were more */
static uint32_t first_id;  /* of the process that was resumed last, or loaded the library */
static bool is_held_back;  /* this process was resumed, and its other threads are not there yet, */
static bool must_go;       /* or stand still */
static bool holds_signals; /* resumed processes keep signals blocked until mh_release_signals */
/* stored by the launcher, through the address in pr_arguments; NULL: this process was not resumed */
static mhi_arguments *arguments;
extern char *__curbrk; /* of the C library: the end of the heap as sbrk knows it */

/* Adds this process's id to those that its resumed processes must not have. A fork handler may call this. */
static void note_id(void)
{
    uint32_t id = (uint32_t)mhi_sys_process_id();
    for (uint32_t i = 0; i < n_ids && i < MHI_IDS_MAX; i++)
        if (ids[i] == id)
            return;
    if (n_ids < MHI_IDS_MAX)
        ids[n_ids] = id;
    n_ids += n_ids <= MHI_IDS_MAX;
}

static int check_alone(mhi_capture *capture)
{
    int status = mhi_threads_check(&capture->known, &capture->error);
    return status == MH_OK ? mhi_remade_take(&capture->error) : status;
}

/* A prepare handler can't stop the fork: the child of a refused commit ends at once, and the parent finds the
 * reason. */
static void prepare(void)
{
    if (armed != NULL)
        armed->refusal = check_alone(armed);
}

/* Meanwhile the child writes to the other members of the capture. */
static void parent(void)
{
    if (armed != NULL) {
        armed->is_forked = true;
        mhi_threads_check(&armed->known, &armed->late_refusal);
    }
    armed = NULL;
}

/* Last of all a resumed process does: a signal may come to any thread that takes it. */
static void release_signals(void)
{
    holds_signals = false;
    if (must_go)
        mhi_threads_go();
    must_go = false;
    if (arguments != NULL && !mhi_rehearsal_is_on())
        mhi_sys_mask(SIG_SETMASK, arguments->ar_mask, NULL);
}

/* In the child that writes. Returns only in the rehearsal. */
static void write_image(mhi_capture *capture)
{
    mhi_sys_die_with_parent();
    capture->status = capture->refusal == MH_OK ? mhi_capture_write(capture) : capture->refusal;
    if (capture->status != MH_OK || !capture->is_rehearsed || (arguments = mhi_rehearsal_begin(capture)) == NULL)
        mhi_sys_exit(0);
}

/* The first steps of a resumed process. */
static void begin_resumed(void)
{
    environ = arguments->ar_envp;
    first_id = (uint32_t)mhi_sys_process_id();
    note_id();
    mhi_writer_disown(armed_writer);
    __fpurge(stdin); /* drops what the committing process had read ahead */
    mhi_descriptors_remember();
    if (!holds_signals)
        release_signals();
}

static void child(void)
{
    mhi_capture *capture = armed;
    if (capture == NULL) {
        if (arguments != NULL) /* a failure can't be reported: the fork has succeeded */
            mhi_sys_take_other_id(ids, n_ids < MHI_IDS_MAX ? n_ids : MHI_IDS_MAX);
        note_id();
        return;
    }
    armed = NULL;
    if (mhi_registers_save(&capture->process.pr_registers) == 0)
        write_image(capture);
    begin_resumed();
}

int mh_copy(mh_transaction *tx, int *child, mh_error *err)
{
    mhi_capture *capture = armed;
    const mhi_process *own = mhi_process_of(tx);
    *child = 0;
    if (own == NULL || own->capture == NULL || own->capture != capture)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there is no commit to make a copy for: mh_arm comes before");
    int lock = mhi_python_hold(), status = mhi_threads_stop(&capture->known, err);
    if (status == MH_OK && (status = mhi_remade_take(err)) != MH_OK)
        mhi_threads_go();
    if (status == MH_OK) {
        armed = NULL;
        capture->is_forked = capture->has_threads = true;
        if (mhi_registers_save(&capture->process.pr_registers) != 0) {
            begin_resumed();
            is_held_back = true;
        } else if ((*child = mhi_sys_fork()) == 0) {
            write_image(capture);
            begin_resumed(); /* the rehearsal */
        } else {
            mhi_threads_go();
            status = *child > 0 ? MH_OK : mhi_fail_sys(err, *child, "cannot copy this process");
        }
    }
    mhi_python_let(lock);
    return status;
}

bool mh_must_revive(const mh_transaction *tx)
{
    const mhi_process *own = mhi_process_of(tx);
    return own != NULL && own->capture != NULL && mhi_remade_are_there();
}

int mh_revive(mh_error *err)
{
    bool is_due = is_held_back;
    is_held_back = false;
    int status = arguments == NULL || mhi_rehearsal_is_on() ? MH_OK : mhi_remade_make(err);
    must_go = is_due && status == MH_OK;
    return must_go ? mhi_threads_revive(err) : status;
}

uint32_t mh_first_id(void) { return first_id; }

void mh_hold_signals(mh_transaction *tx)
{
    const mhi_process *own = mhi_process_of(tx);
    holds_signals = own != NULL && own->capture != NULL;
}

void mh_release_signals(void)
{
    mh_rehearsed(NULL);
    release_signals();
}

/* Handlers are reset because one that runs now could only leave a note in memory that execve discards. */
void mh_surrender_signals(void)
{
    for (int signal = 1; signal <= MHI_CAPTURE_SIGNALS && arguments != NULL; signal++) {
        mhi_sys_action action;
        if (mhi_sys_action_read(signal, &action) == 0 && action.handler != (uintptr_t)SIG_DFL &&
            action.handler != (uintptr_t)SIG_IGN)
            mhi_sys_action_default(signal);
    }
    if (arguments != NULL)
        mhi_sys_mask(SIG_SETMASK, arguments->ar_blocked, NULL);
}

/* If our handlers can't be moved to the front, child handlers registered before ours run once, in the committing child,
 * before the registers are saved; a resumed process starts behind them and never runs them. */
__attribute__((constructor)) static void register_handlers(void)
{
    first_id = (uint32_t)mhi_sys_process_id();
    note_id();
    pthread_atfork(prepare, parent, child);
    mhi_first_move_to_front(prepare, parent, child);
}

int mhi_fork_arm(mhi_capture **made, mhi_writer *writer, const mhi_scrub *scrubs, uint64_t n_scrubs, mh_error *err)
{
    _Static_assert(sizeof(mhi_capture) < MHI_CAPTURE_END - MHI_CAPTURE_START, "the capture fits its place");
    *made = NULL;
    note_id(); /* also for a child that was made without fork handlers */
    if (n_ids > MHI_IDS_MAX)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the memory of this process has run under more than %d process ids",
                        MHI_IDS_MAX);
    void *place;
    int result = mhi_sys_mmap(&place, (void *)MHI_CAPTURE_START, sizeof(mhi_capture), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "no memory at 0x%llx, where parent and child of the commit would meet",
                            MHI_CAPTURE_START);
    mhi_capture *capture = place;
    capture->fd = writer->fd;
    capture->scrubs = scrubs;
    capture->n_scrubs = n_scrubs;
    capture->status =
        mhi_fail(&capture->error, MH_ERR_SYSTEM, 0, "the process that was to write the snapshot ended before it had");
    mhi_remnants_begin(&capture->remnants);
    capture->process.pr_arguments = (uintptr_t)&arguments;
    capture->process.pr_curbrk = (uintptr_t)&__curbrk;
    capture->process.pr_n_ids = n_ids;
    memcpy(capture->process.pr_ids, ids, sizeof ids);
    armed_writer = writer;
    armed = capture;
    *made = capture;
    return MH_OK;
}

void mhi_fork_release(mhi_capture *capture)
{
    bool is_another_threads = armed != capture && !capture->is_forked;
    armed = NULL;
    holds_signals = false;
    if (!is_another_threads)
        mhi_sys_munmap(capture, sizeof *capture);
}

const mhi_arguments *mhi_fork_arguments(void) { return arguments; }

bool mh_read_resumed(mh_resumed *resumed)
{
    *resumed = (mh_resumed){ 0 };
    if (arguments == NULL)
        return false;
    const char *end = arguments->ar_envc > 0 ? arguments->ar_envp[0] : arguments->ar_image_path;
    *resumed = (mh_resumed){
        .argc = arguments->ar_argc,
        .envc = arguments->ar_envc,
        .argv = arguments->ar_argv,
        .envp = arguments->ar_envp,
        .n_skipped = arguments->ar_n_skipped,
        .ignored_signals = arguments->ar_ignored,
        .began_ns = arguments->ar_began_ns,
        .path = arguments->ar_image_path,
        .strings = arguments->ar_argv[0],
        .strings_bytes = (uint64_t)(arguments->ar_image_path - arguments->ar_argv[0]),
        .arguments_bytes = (uint64_t)(end - arguments->ar_argv[0]),
    };
    return !mhi_rehearsal_is_on();
}
