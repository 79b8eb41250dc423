/* stale.c - asks the snapshot's questions again, and names the first answer that has changed in one sentence.
 *
 * The order: first the inputs in which the variants of a command differ, since most of these are cheap and a run passes
 * over all variants but its own; then the machine; then files. An unchanged directory answers for all names that were
 * absent from it, and for its listing. Only in a directory that has changed, as one that programs write to does all the
 * time, each name is looked up.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "snapshot/answers.h"
#include "arch/arch.h"
#include "snapshot/identity.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "snapshot/key.h"
#include "snapshot/streams.h"
#include "sys/sys.h"

typedef struct {
    const struct mh_image *image;
    const mhi_run *run;
    const char *modules; /* of NAMES; NULL: none */
    bool *is_same;       /* of each DIRECTORY input: it is unchanged */
    mh_error *err;
} check;

static const char *text_of(const check *c, uint64_t offset) { return mhi_image_string(c->image, offset); }

/* ---- variants ---- */

static int check_place(const check *c, const mhi_file_input *input)
{
    char place[PATH_MAX];
    const char *was = text_of(c, input->in_text);
    int result = mhi_answer_place(place, sizeof place);
    if (result < 0)
        return mhi_fail_sys(c->err, result, "cannot tell the working directory");
    return strcmp(place, was) == 0
               ? MH_OK
               : mhi_fail(c->err, MH_ERR_STALE, 0, "run from the directory %.200s, the snapshot was made in %.200s",
                          place, was);
}

static int check_host(const check *c, const mhi_file_input *input)
{
    uint64_t digest;
    if (mhi_answer_host(input->in_bytes != 0, &digest) >= 0 && digest == input->in_digest)
        return MH_OK;
    return mhi_fail(c->err, MH_ERR_STALE, 0,
                    input->in_bytes != 0
                        ? "the host has another name or another kernel, which the snapshot's run asked for"
                        : "the kernel is another one, whose version the snapshot's run asked for");
}

static int check_user(const check *c, const mhi_file_input *input)
{
    uint64_t is = mhi_answer_user();
    if (is == input->in_bytes && mhi_answer_groups() == input->in_digest)
        return MH_OK;
    if (is == input->in_bytes)
        return mhi_fail(c->err, MH_ERR_STALE, 0,
                        "run with other groups than the snapshot, which was made by a run that had asked for them");
    return mhi_fail(c->err, MH_ERR_STALE, 0, "run by user %u, the snapshot was made by %u", (uint32_t)is,
                    (uint32_t)input->in_bytes);
}

static int check_arguments(const check *c, const mhi_file_input *input)
{
    if (mhi_answer_arguments(c->run->arguments) == input->in_digest)
        return MH_OK;
    return mhi_fail(c->err, MH_ERR_STALE, 0,
                    "run with other arguments than the snapshot, which was made by a run that had looked at them");
}

static int tell_disposition(const char *state, uint64_t was, uint64_t is, mh_error *err)
{
    int number = __builtin_ctzll(was ^ is) + 1;
    return mhi_fail(err, MH_ERR_STALE, 0, "signal %d was %s%s when the snapshot's run began, unlike now", number,
                    (was >> (number - 1)) & 1 ? "" : "not ", state);
}

static int check_dispositions(const check *c, const mhi_file_input *input)
{
    const mhi_dispositions *now = c->run->dispositions;
    if (now != NULL && input->in_bytes != now->ignored)
        return tell_disposition("ignored", input->in_bytes, now->ignored, c->err);
    return now == NULL || input->in_device == now->blocked
               ? MH_OK
               : tell_disposition("blocked", input->in_device, now->blocked, c->err);
}

static int check_difference(const check *c, const mhi_file_input *input)
{
    if (c->run->is_any && input->in_kind != MH_INPUT_KEY)
        return MH_OK;
    switch (input->in_kind) {
    case MH_INPUT_KEY:
        return c->run->key == NULL ? MH_OK : mhi_key_check(text_of(c, input->in_text), c->run->key, c->err);
    case MH_INPUT_ARGUMENTS: return check_arguments(c, input);
    case MH_INPUT_PLACE: return check_place(c, input);
    case MH_INPUT_OPEN:
        return c->run->streams < 0 ? MH_OK : mhi_streams_check_open(input, (uint32_t)c->run->streams, c->err);
    case MH_INPUT_DISPOSITIONS: return check_dispositions(c, input);
    case MH_INPUT_TERMINAL:
    case MH_INPUT_STREAM:
    case MH_INPUT_POSITION:
    case MH_INPUT_LENGTH: return mhi_stream_check(input, text_of(c, input->in_name), c->err);
    case MH_INPUT_SIZE: return mhi_stream_check_size(input, text_of(c, input->in_name), c->err);
    case MH_INPUT_HOST: return check_host(c, input);
    case MH_INPUT_USER: return check_user(c, input);
    default: return MH_OK;
    }
}

/* ---- the machine ---- */

static bool is_word_of(const char *word, size_t length, const char *text)
{
    for (const char *end; *text != '\0'; text = end + (*end == ' ')) {
        end = text + strcspn(text, " ");
        if ((size_t)(end - text) == length && memcmp(text, word, length) == 0)
            return true;
    }
    return false;
}

/* The first word of `had` that is not a word of `has`, with its length; NULL if there is none. */
static const char *find_missing(const char *had, const char *has, int *length)
{
    for (const char *end; *had != '\0'; had = end + (*end == ' ')) {
        end = had + strcspn(had, " ");
        *length = (int)(end - had);
        if (!is_word_of(had, (size_t)(end - had), has))
            return had;
    }
    return NULL;
}

static int check_cpu(const check *c, const mhi_file_input *was)
{
    char has[MHI_CPU_TEXT_BYTES];
    const char *features = text_of(c, was->in_text);
    uint32_t state_bytes = mhi_cpu_features(has);
    int length;
    /* equal texts are the usual case, and the search is quadratic */
    const char *missing = strcmp(features, has) == 0 ? NULL : find_missing(features, has, &length);
    if (missing != NULL)
        return mhi_fail(c->err, MH_ERR_STALE, 0, "this CPU lacks %.*s, which the snapshot was made with", length,
                        missing);
    if (state_bytes != was->in_bytes)
        return mhi_fail(c->err, MH_ERR_STALE, 0,
                        "the CPU's " MHI_CPU_STATE " has %u bytes, the snapshot was made with %" PRIu64, state_bytes,
                        was->in_bytes);
    return MH_OK;
}

static int check_system(const check *c, const mhi_file_input *was)
{
    const char *name = text_of(c, was->in_name), *text = text_of(c, was->in_text);
    /* the launcher has no libc, and compares its file as that of every other library */
    const char *libc = mhi_sys_libc_version();
    if (strcmp(name, MHI_SYSTEM_LIBC) == 0 && libc != NULL && strcmp(text, libc) != 0)
        return mhi_fail(c->err, MH_ERR_STALE, 0, "the C library is glibc %s, the snapshot was made with %s", libc,
                        text);
    if (strcmp(name, MHI_SYSTEM_PAGE) == 0 && was->in_bytes != (uint64_t)mhi_sys_page_size())
        return mhi_fail(c->err, MH_ERR_STALE, 0, "the page size is %ld, the snapshot was made with %" PRIu64,
                        mhi_sys_page_size(), was->in_bytes);
    if (strcmp(name, MHI_SYSTEM_WATCHED) == 0 && c->run->is_watched && was->in_bytes == 0)
        return mhi_fail(c->err, MH_ERR_STALE, 0,
                        "the snapshot was made by a run that had asked the world before anybody watched");
    return MH_OK;
}

/* ---- files ---- */

static int check_present(const check *c, const mhi_file_input *input)
{
    struct stat found;
    uint64_t digest;
    const char *path = text_of(c, input->in_name);
    bool is_link = S_ISLNK(input->in_bytes);
    int result = is_link ? mhi_sys_lstat(path, &found) : mhi_sys_stat(path, &found);
    if (result < 0)
        return mhi_fail(c->err, MH_ERR_STALE, -result,
                        "%s no longer exists, which was found while the snapshot was made", path);
    if ((found.st_mode & S_IFMT) != input->in_bytes)
        return mhi_fail(c->err, MH_ERR_STALE, 0, "%s is of another kind than when the snapshot was made", path);
    if (is_link && (mhi_answer_target(path, &digest) < 0 || digest != input->in_digest))
        return mhi_fail(c->err, MH_ERR_STALE, 0, "the link %s leads elsewhere", path);
    return MH_OK;
}

static int check_rights(const check *c, const mhi_file_input *input)
{
    const char *path = text_of(c, input->in_name);
    if (mhi_answer_rights(path) == input->in_bytes)
        return MH_OK;
    return mhi_fail(c->err, MH_ERR_STALE, 0,
                    "%s may be read, written or executed otherwise than when the snapshot was made", path);
}

static bool is_as_it_was(const mhi_file_input *input, const char *path)
{
    struct stat found;
    if (mhi_sys_stat(path, &found) < 0)
        return false;
    mhi_file_input is = mhi_file_identity((int)input->in_kind, &found);
    return mhi_is_same_input(input, &is);
}

static int check_absent(const check *c, const mhi_file_input *input)
{
    struct stat found;
    const char *path = text_of(c, input->in_name);
    if (input->in_bytes != 0 && c->is_same[input->in_bytes - 1])
        return MH_OK;
    bool was_dangling = input->in_digest != 0; /* a dangling link; the link itself is an input of its own */
    int result = was_dangling ? mhi_sys_stat(path, &found) : mhi_sys_lstat(path, &found);
    if (result == -ENOENT || result == -ENOTDIR)
        return MH_OK;
    return mhi_fail(c->err, MH_ERR_STALE, 0,
                    "%s has appeared, which was looked for in vain while the snapshot was made", path);
}

static int check_listing(const check *c, const mhi_file_input *input)
{
    uint64_t digest;
    const char *path = text_of(c, input->in_name);
    if (is_as_it_was(input, path))
        return MH_OK;
    if (mhi_answer_listing(path, input->in_bytes, c->modules, &digest) == 0 && digest == input->in_digest)
        return MH_OK;
    static const char *const sentences[] = {
        "files in %s have appeared or gone, which was listed while the snapshot was made",
        "in %s a module has appeared or gone that imports would find",
        "in %s packages were installed or removed since the snapshot was made"
    };
    return mhi_fail(c->err, MH_ERR_STALE, 0, sentences[input->in_bytes], path);
}

static int check_rest(const check *c, const mhi_file_input *input)
{
    switch (input->in_kind) {
    case MH_INPUT_FILE:
    case MH_INPUT_LIBRARY: return mhi_identity_check(input, text_of(c, input->in_name), c->err);
    case MH_INPUT_CPU: return check_cpu(c, input);
    case MH_INPUT_SYSTEM: return check_system(c, input);
    case MH_INPUT_PRESENT: return check_present(c, input);
    default: return MH_OK;
    }
}

/* Checked last: the other inputs name the file that is gone, while these would only show that one is. */
static int check_directories(const check *c, const mhi_file_input *input)
{
    switch (input->in_kind) {
    case MH_INPUT_ABSENT: return check_absent(c, input);
    case MH_INPUT_RIGHTS: return check_rights(c, input);
    case MH_INPUT_LISTING: return check_listing(c, input);
    default: return MH_OK;
    }
}

/* ---- all ---- */

static int each_input(const check *c, int (*ask)(const check *, const mhi_file_input *))
{
    int status = MH_OK;
    for (uint64_t i = 0; i < c->image->n_inputs && status == MH_OK; i++)
        status = ask(c, &c->image->inputs[i]);
    return status;
}

static int look_at_directories(check *c)
{
    c->is_same = calloc(c->image->n_inputs + 1, sizeof *c->is_same);
    if (c->is_same == NULL)
        return mhi_fail(c->err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    for (uint64_t i = 0; i < c->image->n_inputs; i++) {
        const mhi_file_input *input = &c->image->inputs[i];
        if (input->in_kind == MH_INPUT_DIRECTORY)
            c->is_same[i] = is_as_it_was(input, text_of(c, input->in_name));
        if (input->in_kind == MH_INPUT_NAMES)
            c->modules = text_of(c, input->in_text);
    }
    return MH_OK;
}

int mhi_inputs_check(const struct mh_image *image, const mhi_run *run, bool *is_variant, mh_error *err)
{
    check c = { .image = image, .run = run, .err = err };
    /* before the key, which holds values that Python derived from the environment */
    int status = mhi_environment_check(image, run->env, run->environment, err);
    if (status == MH_OK)
        status = each_input(&c, check_difference);
    *is_variant = status == MH_ERR_STALE;
    if (status == MH_OK)
        status = look_at_directories(&c);
    if (status == MH_OK)
        status = each_input(&c, check_rest);
    if (status == MH_OK)
        status = each_input(&c, check_directories);
    free(c.is_same);
    return status;
}

bool mhi_inputs_are_gone(const struct mh_image *image)
{
    bool is_gone = false;
    for (uint64_t i = 0; i < image->n_inputs && !is_gone; i++) {
        const mhi_file_input *input = &image->inputs[i];
        mh_error err;
        if (input->in_kind == MH_INPUT_FILE || input->in_kind == MH_INPUT_LIBRARY)
            is_gone = mhi_identity_check(input, mhi_image_string(image, input->in_name), &err) != MH_OK &&
                      (err.sys_errno == 0 || err.sys_errno == ENOENT);
    }
    return is_gone;
}
