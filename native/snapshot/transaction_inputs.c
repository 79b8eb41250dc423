/* transaction_inputs.c - inputs that the caller adds to a transaction, and questions that it notes itself. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "route/questions.h"
#include "route/reads.h"
#include "route/route.h"
#include "route/asks.h"
#include "route/streams.h"
#include "snapshot/answers.h"
#include "snapshot/transaction.h"
#include "sys/sys.h"

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

/* Adds the absence of a path. */
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
        return; /* the program's own request fails, too */
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
    int status = mhi_keep_text(&tx->modules, names, err);
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

void mh_note_stream(int fd) { mhi_see_stream(MHI_ASKED_STREAM, fd); }
void mh_note_zone(void) { mhi_note_zone(); }
void mh_note_host(bool name) { mhi_question_note(name ? MHI_ASKED_HOST : MHI_ASKED_KERNEL, "", NULL, 0); }
void mh_unwatch(void) { mhi_route_stand_down(); }
bool mh_asked_variable(const char *name) { return mhi_question_is_asked(MHI_ASKED_VARIABLE, name); }

const char *mh_next_set_variable(uint32_t *i)
{
    while (*i < mhi_questions_count()) {
        const mhi_question *each = mhi_question_at((*i)++);
        if (each != NULL && each->kind == MHI_SET_VARIABLE)
            return each->name;
    }
    return NULL;
}

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
