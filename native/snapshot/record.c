/* record.c - turns the body's questions into inputs, at the commit.
 *
 * A1  A file that was read is recorded in its state at the first question. If it has changed by the commit, the load
 *     may have seen either state, and nothing is committed. A file that the body itself could write is recorded as the
 *     body left it: the next run will find that state.
 * A2  A file that the body made is output, and no input.
 * A3  A path that was missing at the first question is absent, even if the body has made it since: the next plain run
 *     would find it, and might act otherwise.
 * A4  Of a path below a missing directory, only the first missing part counts.
 * A5  Files that the kernel makes up (/proc, /sys, /dev) have no identity, except where a name is that of a standard
 *     stream. Bytecode follows from its source, and Python rewrites it at will.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/identity.h"
#include "base/proc_dirs.h"
#include "base/text.h"
#include "error.h"
#include "route/questions.h"
#include "route/reads.h"
#include "route/streams.h"
#include "snapshot/answers.h"
#include "snapshot/checksum.h"
#include "snapshot/identity.h"
#include "snapshot/inputs.h"
#include "snapshot/image.h"
#include "snapshot/streams.h"
#include "sys/sys.h"

typedef struct {
    mhi_inputs *inputs;
    const mhi_inputs *variables;
    const mhi_scope *scope;
    int64_t now_ns;
    mh_error *err;
} record;

/* ---- questions that do not count ---- */

bool mhi_is_made_up(const char *path)
{
    return mhi_begins(path, "/proc/") || mhi_begins(path, "/sys/") || strcmp(path, "/proc") == 0 ||
           strcmp(path, "/sys") == 0 || (mhi_begins(path, "/dev/") && !mhi_begins(path, "/dev/shm/"));
}

/* Whether a file is of the standard library, which the interpreter's version covers. Installed packages may lie below
 * it, but are no part of it. */
static bool is_standard(const char *library, const char *path)
{
    size_t length = library == NULL ? 0 : strlen(library);
    if (length == 0 || strncmp(path, library, length) != 0 || path[length] != '/')
        return false;
    const char *rest = path + length + 1;
    return !mhi_begins(rest, "site-packages") && !mhi_begins(rest, "dist-packages");
}

static bool lies_below(const char *paths, const char *path)
{
    for (size_t length; paths != NULL && *paths != '\0'; paths += length + 1) {
        length = strcspn(paths, "\n");
        if (strncmp(paths, path, length) == 0 && (path[length] == '/' || path[length] == '\0'))
            return true;
    }
    return false;
}

static bool is_left_out(const record *r, const char *path)
{
    return lies_below(r->scope->left_out, path) || mhi_is_made_up(path) || strstr(path, "/__pycache__/") != NULL ||
           mhi_ends(path, "/__pycache__") || is_standard(r->scope->standard_library, path) ||
           (r->scope->snapshot != NULL && mhi_begins(path, r->scope->snapshot));
}

/* ---- paths ---- */

static int add_directory(const record *r, const char *path)
{
    struct stat found;
    if (mhi_sys_stat(path, &found) < 0)
        return MH_OK;
    mhi_file_input entry = mhi_file_identity(MH_INPUT_DIRECTORY, &found);
    mhi_identity_forget_young(&entry, r->now_ns);
    return mhi_inputs_add(r->inputs, &entry, path, NULL, r->err);
}

/* Shortens a path to its first missing part (A4); false if nothing is missing any more. */
static bool cut_to_missing(char *path)
{
    struct stat found;
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mhi_sys_stat(path, &found) < 0)
            return true;
        *slash = '/';
    }
    return mhi_sys_stat(path, &found) < 0;
}

static int add_present(const record *r, const char *path, mode_t mode)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_PRESENT, .in_bytes = mode & S_IFMT };
    if (S_ISLNK(mode) && mhi_answer_target(path, &entry.in_digest) < 0)
        return MH_OK;
    return mhi_inputs_add(r->inputs, &entry, path, NULL, r->err);
}

static int add_absent(const record *r, const char *asked)
{
    char path[PATH_MAX];
    struct stat found;
    mhi_file_input entry = { .in_kind = MH_INPUT_ABSENT };
    if (strlen(asked) >= sizeof path)
        return MH_OK; /* nothing can exist there */
    strcpy(path, asked);
    bool is_missing = cut_to_missing(path);
    if (is_left_out(r, path))
        return MH_OK;
    /* if the target appears, it appears in another directory */
    bool is_dangling = is_missing && mhi_sys_lstat(path, &found) == 0;
    entry.in_bytes = is_missing && !is_dangling; /* tables.c puts the directory's index there */
    entry.in_digest = is_dangling;
    int status = mhi_inputs_add(r->inputs, &entry, path, NULL, r->err);
    if (status == MH_OK && is_dangling)
        status = add_present(r, path, S_IFLNK);
    char *slash = strrchr(path, '/');
    if (status != MH_OK || entry.in_bytes == 0 || slash == NULL)
        return status;
    *(slash == path ? slash + 1 : slash) = '\0';
    return add_directory(r, path);
}

static int add_path(const record *r, const mhi_question *asked)
{
    struct stat found;
    const char *path = asked->name;
    if (asked->found.st_mode == 0)
        return add_absent(r, path);
    int result = mhi_sys_stat(path, &found);
    if (result == -ENOENT || result == -ENOTDIR) /* temporary */
        return MH_OK;
    if (asked->uses & MHI_FILE_OUTPUT)
        return MH_OK; /* A2 */
    if (!S_ISREG(asked->found.st_mode))
        return result < 0 ? MH_OK : add_present(r, path, found.st_mode);
    mhi_file_input entry = mhi_file_identity(MH_INPUT_FILE, &asked->found), is;
    if (result == 0) {
        is = mhi_file_identity(MH_INPUT_FILE, &found);
        if (asked->uses & MHI_FILE_CHANGED)
            entry = is;
        else if (!mhi_is_same_input(&entry, &is))
            return mhi_fail(r->err, MH_ERR_STALE, 0, "%s changed while it was being loaded: run again", path);
    }
    return mhi_inputs_add(r->inputs, &entry, path, NULL, r->err);
}

int mhi_record_listing(mhi_inputs *inputs, const char *path, uint64_t which, const char *modules, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_stat(path, &found);
    if (result < 0)
        return result == -ENOENT || result == -ENOTDIR
                   ? MH_OK
                   : mhi_fail_sys(err, result, "cannot record the directory %s as an input", path);
    mhi_file_input entry = mhi_file_identity(MH_INPUT_LISTING, &found);
    entry.in_bytes = which;
    mhi_identity_forget_young(&entry, mhi_sys_wall_clock_ns());
    result = mhi_answer_listing(path, which, modules, &entry.in_digest);
    return result < 0 ? MH_OK /* it can't be listed: that was the answer, which its access rights record */
                      : mhi_inputs_add(inputs, &entry, path, NULL, err);
}

/* Adds a listing as it was asked for. If its digest is unknown and the directory has changed since, no listing of a
 * later run will match. */
static int add_listing(const record *r, const mhi_question *asked)
{
    mhi_file_input entry = mhi_file_identity(MH_INPUT_LISTING, &asked->found), is;
    struct stat found;
    entry.in_bytes = asked->kind == MHI_ASKED_METADATA ? MH_LISTING_METADATA : MH_LISTING_ALL;
    entry.in_digest = asked->digest;
    if (mhi_sys_stat(asked->name, &found) < 0)
        return MH_OK; /* temporary */
    is = mhi_file_identity(MH_INPUT_LISTING, &found);
    if (entry.in_digest == 0 && mhi_is_same_input(&entry, &is))
        mhi_answer_listing(asked->name, entry.in_bytes, NULL, &entry.in_digest);
    mhi_identity_forget_young(&entry, r->now_ns);
    return mhi_inputs_add(r->inputs, &entry, asked->name, NULL, r->err);
}

/* ---- the rest ---- */

int mhi_record_place(mhi_inputs *inputs, const char *place, mh_error *err)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_PLACE };
    return mhi_inputs_add(inputs, &entry, NULL, place, err);
}

static int add_number(const record *r, int kind, const char *name, uint64_t number, uint64_t digest)
{
    mhi_file_input entry = { .in_kind = (uint32_t)kind, .in_bytes = number, .in_digest = digest };
    return mhi_inputs_add(r->inputs, &entry, name, NULL, r->err);
}

/* The shell sets _ to the command that it starts, python or magic: no input. */
static int add_variable(const record *r, const char *name)
{
    bool is_one =
        strcmp(name, "_") != 0 && *name != '\0' && strchr(name, '=') == NULL && !mhi_begins(name, "MAGICHEAP_");
    return is_one ? mhi_environment_add(r->inputs, r->variables, name, r->err) : MH_OK;
}

static int add_host(const record *r, bool with_name)
{
    uint64_t digest;
    return mhi_answer_host(with_name, &digest) < 0
               ? MH_OK
               : add_number(r, MH_INPUT_HOST, with_name ? "name" : "kernel", with_name, digest);
}

static int add_rights(const record *r, const mhi_question *asked)
{
    struct stat found;
    if (mhi_sys_stat(asked->name, &found) < 0)
        return MH_OK; /* temporary */
    mhi_file_input entry = { .in_kind = MH_INPUT_RIGHTS, .in_bytes = asked->digest };
    return mhi_inputs_add(r->inputs, &entry, asked->name, NULL, r->err);
}

static int add_stream(const record *r, int kind, const char *number)
{
    mhi_file_input entry = mhi_stream_input(kind, mhi_stream_given(atoi(number)));
    return mhi_inputs_add(r->inputs, &entry, number, NULL, r->err);
}

static int add_question(const record *r, const mhi_question *asked)
{
    bool is_path = asked->kind == MHI_ASKED_PATH || asked->kind == MHI_ASKED_LINK || asked->kind == MHI_ASKED_LISTING ||
                   asked->kind == MHI_ASKED_METADATA || asked->kind == MHI_ASKED_RIGHTS;
    if (is_path && mhi_stream_name(asked->name) == NULL && is_left_out(r, asked->name))
        return MH_OK;
    switch (asked->kind) {
    case MHI_ASKED_PATH: return add_path(r, asked);
    case MHI_ASKED_RIGHTS: return add_rights(r, asked);
    case MHI_ASKED_LINK: return add_present(r, asked->name, S_IFLNK);
    case MHI_ASKED_LISTING:
    case MHI_ASKED_METADATA: return add_listing(r, asked);
    case MHI_ASKED_VARIABLE: return add_variable(r, asked->name);
    case MHI_ASKED_PLACE: return mhi_record_place(r->inputs, r->scope->place, r->err);
    case MHI_ASKED_TERMINAL: return add_stream(r, MH_INPUT_TERMINAL, asked->name);
    case MHI_ASKED_STREAM: return add_stream(r, MH_INPUT_STREAM, asked->name);
    case MHI_ASKED_POSITION: return add_stream(r, MH_INPUT_POSITION, asked->name);
    case MHI_ASKED_LENGTH: return add_stream(r, MH_INPUT_LENGTH, asked->name);
    case MHI_ASKED_SIZE:
        return add_number(r, MH_INPUT_SIZE, asked->name, mhi_answer_terminal_size(atoi(asked->name)), 0);
    case MHI_ASKED_HOST: return add_host(r, true);
    case MHI_ASKED_KERNEL: return add_host(r, false);
    case MHI_ASKED_USER: return add_number(r, MH_INPUT_USER, NULL, mhi_answer_user(), mhi_answer_groups());
    case MHI_SET_VARIABLE: return MH_OK;
    }
    return MH_OK;
}

int mhi_record_questions(mhi_inputs *inputs, const mhi_inputs *variables, const mhi_scope *scope, mh_error *err)
{
    record r = { inputs, variables, scope, mhi_sys_wall_clock_ns(), err };
    if (mhi_questions_lost() > 0)
        return mhi_fail(
            err, MH_ERR_UNSUPPORTED, 0,
            "the body asked about more files than can be recorded (%u besides %u): a change in one would go unnoticed",
            mhi_questions_lost(), mhi_questions_count());
    if (mhi_reads_what() != NULL)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                        "%s was read from, or waited for, before the end of the body, and each run has its own: read "
                        "it behind the with",
                        mhi_reads_what());
    int status = MH_OK;
    for (uint32_t i = 0; i < mhi_questions_count() && status == MH_OK; i++)
        if (mhi_question_at(i) != NULL)
            status = add_question(&r, mhi_question_at(i));
    return status;
}

typedef struct {
    int fd;
    mhi_file_id id;
} open_file;

enum { OPEN_FILES = 1024 }; /* arbitrary; of more, the first count */

typedef struct {
    open_file items[OPEN_FILES];
    size_t n;
} open_files;

static int take_open_file(void *context, int reader, int fd)
{
    open_files *files = context;
    struct stat found;
    if (fd > 2 && fd != reader && files->n < OPEN_FILES && mhi_sys_fstat(fd, &found) == 0 && S_ISREG(found.st_mode))
        files->items[files->n++] = (open_file){ fd, mhi_file_id_of(&found) };
    return 0;
}

/* The descriptor by which the process has this file open, or -1. Opening and closing another one would release the
 * process's locks on the file (fcntl(2)). */
static int own_descriptor(const mhi_file_input *entry, const open_files *files)
{
    for (size_t i = 0; i < files->n; i++)
        if (mhi_is_same_file(files->items[i].id, (mhi_file_id){ entry->in_inode, entry->in_device }))
            return files->items[i].fd;
    return -1;
}

/* Computes a file's digest. It counts only if the file was in the recorded state before and after the reading. */
static void settle(mhi_input *input, int own, int64_t now_ns)
{
    struct stat found = { 0 };
    mhi_file_input *entry = &input->entry, is;
    uint64_t digest;
    int fd = own >= 0 ? own : mhi_look(input->name, 0);
    if (fd < 0)
        return;
    bool is_same = mhi_sys_fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
    is = mhi_file_identity((int)entry->in_kind, &found);
    is_same = is_same && mhi_is_same_input(entry, &is) && mhi_file_digest(fd, entry->in_bytes, &digest) == 0 &&
              mhi_sys_stat(input->name, &found) == 0;
    is = mhi_file_identity((int)entry->in_kind, &found);
    if (own < 0)
        mhi_sys_close(fd);
    if (is_same && mhi_is_same_input(entry, &is))
        entry->in_digest = digest;
    mhi_identity_forget_young(entry, now_ns);
}

void mhi_record_contents(mhi_inputs *inputs)
{
    int64_t now_ns = mhi_sys_wall_clock_ns();
    open_files files;
    files.n = 0;
    mhi_each_number("/proc/self/fd", take_open_file, &files); /* without /proc there are none */
    for (size_t i = 0; i < inputs->n; i++) {
        mhi_input *each = &inputs->items[i];
        bool has_id = each->entry.in_build_id_bytes > 0;
        if ((each->entry.in_kind == MH_INPUT_FILE || each->entry.in_kind == MH_INPUT_LIBRARY) && !has_id &&
            each->entry.in_digest == 0 && each->entry.in_mtime_ns != MHI_MTIME_UNKNOWN)
            settle(each, own_descriptor(&each->entry, &files), now_ns);
    }
}

/* Drops a PRESENT directory if an input in it shows that it exists. */
void mhi_record_thin(mhi_inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++) {
        mhi_input *each = &inputs->items[i];
        size_t length = strlen(each->name);
        if (each->entry.in_kind != MH_INPUT_PRESENT || !S_ISDIR(each->entry.in_bytes))
            continue;
        for (size_t k = 0; k < inputs->n; k++) {
            uint32_t kind = inputs->items[k].entry.in_kind;
            bool is_there = kind == MH_INPUT_FILE || kind == MH_INPUT_LIBRARY || kind == MH_INPUT_LISTING ||
                            kind == MH_INPUT_DIRECTORY || (kind == MH_INPUT_PRESENT && k != i);
            const char *name = inputs->items[k].name;
            if (is_there && strncmp(name, each->name, length) == 0 &&
                (name[length] == '/' || (name[length] == '\0' && kind != MH_INPUT_PRESENT))) {
                mhi_inputs_drop(inputs, i--);
                break;
            }
        }
    }
}
