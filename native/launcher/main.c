/* main.c - finds the snapshot of a command, and resumes it if it is sound, trusted and fresh; else executes the program
 * cold.
 *
 * Only a wrong command line is an error to the user. Every doubt about a snapshot is a reason to go cold, which Python
 * prints on request.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/pages.h"
#include "base/stream.h"
#include "base/text.h"
#include "error.h"
#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "python/command.h"
#include "resumable/links.h"
#include "snapshot/inputs.h"
#include "snapshot/key.h"
#include "snapshot/places.h"
#include "snapshot/trust.h"
#include "snapshot/variants.h"
#include "sys/raw.h"
#include "sys/sys.h"

/* How far the kernel's stack may reach below the initial stack pointer: the kernel makes the stack 128 KiB larger than
 * its content, and maps nothing else within 128 MiB of it (mmap_base of the kernel, SZ_128M). */
#define STACK_SLACK (1ull << 20)

typedef struct {
    mhi_startup startup;
    mhi_request request;
    mhi_arguments *arguments;
    mhi_dispositions dispositions;
    struct mh_image *image;   /* the image that was opened last, or NULL */
    bool is_only_variants;    /* only variants of other runs were found */
    bool is_ambiguous;        /* several snapshots fit, and differ in what only Python knows */
    char directory[PATH_MAX]; /* of the launcher; "" if unknown */
} launch;

/* ---- one snapshot ---- */

static bool is_set(const launch *l, const char *variable)
{
    const char *value = mhi_environment_get(l->arguments->ar_envp, variable);
    return value != NULL && strcmp(value, "1") == 0;
}

/* Checks that the image is of this command; `command` is NULL if the request names the snapshot. */
static int check_is_meant(const launch *l, const char *command, mh_error *err)
{
    const struct mh_image *image = l->image;
    int status = mhi_image_expect(image, &mhi_file_kind_process, err);
    if (status != MH_OK)
        return status;
    if (command == NULL && image->header.hd_checksum != l->request.checksum)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has been replaced", image->path);
    if (command != NULL && strcmp(command, mhi_image_string(image, mhi_image_process(image)->pr_command)) != 0)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s is the snapshot of another command", image->path);
    return MH_OK;
}

/* Resumes the image. Returns only if it fails while the kernel's stack, which holds the command line, is still
 * mapped. */
static int resume(launch *l, mh_error *err)
{
    strcpy(l->arguments->ar_image_path, l->image->path);
    l->arguments->ar_image_checksum = l->image->header.hd_checksum;
    const mhi_file_process *process = mhi_image_process(l->image);
    int result = l->request.is_question ? 0 : mhi_sys_take_other_id(process->pr_ids, process->pr_n_ids);
    if (result < 0)
        return mhi_fail_sys(err, result,
                            "the process would have an id that the snapshot knows, and can't be given another");
    int status = mhi_reopen(l->image, err);
    if (status != MH_OK)
        return status;
    if (l->request.is_question) {
        mhi_reopen_undo(l->image);
        mhi_answer_taken(l->image->path);
    }
    mhi_image_stamp(l->image);
    status = mhi_resume(l->image, &l->startup, l->arguments, err);
    mhi_reopen_undo(l->image);
    mhi_go_cold(&l->request, l->arguments, l->image, l->directory, err->detail, status != MH_ERR_STALE);
}

static mhi_run run_of(launch *l)
{
    const mhi_arguments *all = l->arguments;
    bool is_first = l->request.kind != NULL; /* else Python has compared what the process was started with */
    l->dispositions = (mhi_dispositions){ all->ar_ignored & ~(uint64_t)MHI_IGNORED_BY_PYTHON, all->ar_blocked };
    uint64_t own = all->ar_n_skipped + 1; /* the arguments begin behind the program's own name */
    return (mhi_run){ .environment = all->ar_envp,
                      .is_watched = is_first,
                      .streams = is_first ? (int)mhi_streams_open() : -1,
                      .dispositions = is_first ? &l->dispositions : NULL,
                      .arguments = own < all->ar_argc ? (const char *const *)all->ar_argv + own : NULL };
}

static int check(launch *l, const char *command, bool *is_variant, mh_error *err)
{
    const mhi_run run = run_of(l);
    int status = check_is_meant(l, command, err);
    *is_variant = status == MH_ERR_STALE && command != NULL;
    if (status == MH_OK)
        status = mhi_inputs_check(l->image, &run, is_variant, err);
    if (status == MH_OK)
        status = mhi_image_complete(l->image, err);
    if (status == MH_OK && is_set(l, "MAGICHEAP_VERIFY"))
        status = mh_image_verify(l->image, err);
    return status;
}

static const char *key_of(const struct mh_image *image)
{
    for (uint64_t i = 0; i < image->n_inputs; i++)
        if (image->inputs[i].in_kind == MH_INPUT_KEY)
            return mhi_image_string(image, image->inputs[i].in_text);
    return "";
}

/* Whether the variant at `path` would also be taken, and has another key than the chosen one. */
static bool is_rival(launch *l, const char *path, const char *command)
{
    struct stat found;
    struct mh_image *other;
    mh_error err;
    bool is_variant;
    if (mhi_sys_lstat(path, &found) < 0 || mhi_image_open_front(&other, path, true, &err) != MH_OK)
        return false;
    const mhi_run run = run_of(l);
    const mhi_file_process *process = mhi_image_process(other);
    bool is = process != NULL && strcmp(command, mhi_image_string(other, process->pr_command)) == 0 &&
              !mhi_key_is_same_place(key_of(other), key_of(l->image)) &&
              mhi_inputs_check(other, &run, &is_variant, &err) == MH_OK;
    mh_image_close(other);
    return is;
}

/* Only Python can compare keys. If two snapshots differ in the key, Python must choose: as when the program reaches one
 * of two transactions. */
static int check_alone(launch *l, const char *first, int number, const char *command, mh_error *err)
{
    char path[PATH_MAX];
    for (int i = number + 1; i < MHI_VARIANTS && !l->is_ambiguous; i++)
        l->is_ambiguous = mhi_variant_path(path, first, i) && is_rival(l, path, command);
    return l->is_ambiguous
               ? mhi_fail(err, MH_ERR_STALE, 0, "%s would answer, too: Python will know which is meant", path)
               : MH_OK;
}

/* Returns only on failure. An image that is merely stale, or could not be resumed, stays in l->image, since its
 * interpreter may be needed; its descriptor is closed, since another image may need the number. */
static int try_snapshot(launch *l, const char *path, const char *first, int number, const char *command,
                        bool *is_variant, mh_error *err)
{
    struct mh_image *image;
    *is_variant = false;
    if (*path != '/' || strlen(path) >= PATH_MAX)
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0, "the path of the snapshot is not absolute, or too long");
    int status = mhi_image_open_front(&image, path, true, err);
    if (status != MH_OK)
        return status;
    mh_image_close(l->image);
    l->image = image;
    status = check(l, command, is_variant, err);
    if (status == MH_OK && command != NULL) {
        status = check_alone(l, first, number, command, err);
        *is_variant = status != MH_OK;
    }
    bool is_sound = status == MH_OK || status == MH_ERR_STALE;
    if (status == MH_OK)
        status = resume(l, err);
    mhi_sys_close(image->fd);
    image->fd = -1;
    if (!is_sound) /* an unsound image is not trusted for anything */
        l->image = NULL;
    return status;
}

/* Returns only on failure. */
static int try_variants(launch *l, const char *first, const char *command, mh_error *err)
{
    mhi_nearest nearest = { 0 };
    for (int i = 0; i < MHI_VARIANTS && !l->is_ambiguous; i++) {
        char path[PATH_MAX];
        bool is_variant;
        if (!mhi_variant_path(path, first, i))
            break;
        try_snapshot(l, path, first, i, command, &is_variant, err);
        int rank = mhi_variant_rank(i, err, is_variant);
        if (l->request.is_question)
            mhi_answer_variant(path, rank, err->detail);
        mhi_nearest_add(&nearest, rank,
                        rank < MHI_OTHER_VARIANT || l->image == NULL ? 0 : mhi_used_s(&l->image->status), err);
    }
    l->is_only_variants |= nearest.rank == MHI_OTHER_VARIANT || l->is_ambiguous;
    return mhi_nearest_tell(&nearest, first, err);
}

/* ---- which ---- */

/* Reads a link, which must belong to us or to root: it decides which process we become. */
static int read_link(char *path, const char *link, mh_error *err)
{
    struct stat found;
    int result = mhi_sys_lstat(link, &found);
    if (result == -ENOENT)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOENT, "there is no snapshot of this command");
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot examine %s", link);
    if (found.st_uid != 0 && found.st_uid != mhi_sys_euid())
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0, "the link %s belongs to user %u", link, found.st_uid);
    int status = mhi_trust_directories(link, err);
    ssize_t length = status == MH_OK ? mhi_sys_readlink(link, path, PATH_MAX) : 0;
    return length < 0 ? mhi_fail_sys(err, (int)length, "cannot read the link %s", link) : status;
}

/* Returns only on failure. */
static int try_command(launch *l, bool is_here, const char *const *arguments, mh_error *err)
{
    static char command[MHI_COMMAND_BYTES];
    char link[PATH_MAX], path[PATH_MAX];
    const mhi_request *request = &l->request;
    if (l->is_ambiguous)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOENT, "it is for Python to choose");
    int status =
        mhi_command_spell(command, sizeof command, l->directory, request->kind, request->name, is_here, arguments, err);
    if (status == MH_OK)
        status = mhi_command_link(link, command, l->arguments->ar_envp, err);
    if (status == MH_OK)
        status = read_link(path, link, err);
    if (status == MH_OK && l->request.is_question)
        mhi_answer_link(link, path);
    return status == MH_OK ? try_variants(l, path, command, err) : status;
}

/* There is no snapshot, as opposed to one that is stale because a file is gone. */
static bool is_no_snapshot(const mh_error *err) { return err->status == MH_ERR_SYSTEM && err->sys_errno == ENOENT; }

/* There is no cache directory for links; the program itself may name a path. */
static bool is_nowhere(const launch *l, const mh_error *err)
{
    return err->status == MH_ERR_UNSUPPORTED && !is_set(l, "MAGICHEAP_DISABLE");
}

/* Returns only on failure. The general command first, then that of this place, then the exact one; the reason of the
 * latter two counts only if they lead to a snapshot. */
static int try_all(launch *l, mh_error *err)
{
    int status = mhi_trust_process(err);
    if (status != MH_OK)
        return status;
    if (is_set(l, "MAGICHEAP_DISABLE"))
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "MAGICHEAP_DISABLE is set");
    if (l->request.kind == NULL)
        return try_snapshot(l, l->request.snapshot, NULL, 0, NULL, &(bool){ false }, err);
    mh_error narrower;
    status = try_command(l, false, NULL, err);
    if (try_command(l, true, NULL, &narrower) != MH_OK && !is_no_snapshot(&narrower))
        *err = narrower;
    if (try_command(l, true, l->request.arguments, &narrower) != MH_OK && !is_no_snapshot(&narrower))
        *err = narrower;
    return status;
}

/* ---- start ---- */

/* Reads the initial stack of the kernel: argc, argv, NULL, envp, NULL, and the auxiliary vector, in pairs. */
static mhi_startup read_startup(uint64_t *initial)
{
    mhi_startup startup = { .began_ns = mhi_raw_clock_ns(), .argc = (int)initial[0], .argv = (char **)(initial + 1) };
    char **end = startup.envp = startup.argv + startup.argc + 1;
    while (*end != NULL)
        end++;
    const uint64_t *auxv = (const uint64_t *)(end + 1), *each = auxv;
    uintptr_t top = (uintptr_t)initial;
    for (size_t n = 0; each[0] != AT_NULL; each += 2, n++) {
        if (n < MHI_AUXV_MAX - 1)
            memcpy(startup.auxv[n], each, sizeof startup.auxv[n]);
        if (each[0] == AT_RANDOM)
            memcpy(startup.random, (const void *)each[1], sizeof startup.random);
        if (each[0] == AT_SYSINFO_EHDR)
            startup.vdso = each[1];
        if (each[0] == AT_EXECFN) { /* the last of the strings; only 8 zero bytes follow */
            startup.path = (const char *)each[1];
            top = each[1] + strlen(startup.path) + 1 + 8;
        }
    }
    startup.stack_start = mhi_page_start((uintptr_t)initial - STACK_SLACK);
    startup.stack_end = mhi_page_end(top);
    mhi_raw_begin(auxv);
    return startup;
}

static void answer(const mhi_startup *startup)
{
    const char *option = startup->argc == 2 ? startup->argv[1] : "";
    if (strcmp(option, "--help") == 0)
        mhi_print(1, mhi_usage);
    else if (strcmp(option, "--version") == 0)
        mhi_print(1, "magic " MH_VERSION "\n");
    else
        return;
    mhi_exit(0);
}

/* Makes `name` a path: a relative one is appended to `directory`. False if the result is too long. */
static bool put_behind(char own[PATH_MAX], const char *directory, const char *name)
{
    char joined[PATH_MAX];
    int length =
        snprintf(joined, sizeof joined, "%s%s%s", *name == '/' ? "" : directory, *name == '/' ? "" : "/", name);
    strcpy(own, length < PATH_MAX ? joined : "");
    return length < PATH_MAX;
}

/* Without /proc, finds the launcher by the path that it was executed by, and follows links. */
static bool find_without_proc(char own[PATH_MAX], const char *path)
{
    enum { LINKS_MAX = 40 }; /* the kernel's own limit */
    char directory[PATH_MAX], target[PATH_MAX];
    if (path == NULL || mhi_raw_2(SYS_getcwd, (long)directory, sizeof directory) < 0 ||
        !put_behind(own, directory, path))
        return false;
    for (int i = 0; i < LINKS_MAX && mhi_sys_readlink(own, target, sizeof target) > 0; i++) {
        mhi_path_directory(own, directory);
        if (!put_behind(own, directory, target))
            return false;
    }
    return *own == '/';
}

static void find_directory(launch *l)
{
    char own[PATH_MAX];
    if (mhi_sys_readlink("/proc/self/exe", own, sizeof own) > 0 || find_without_proc(own, l->startup.path))
        mhi_path_directory(own, l->directory);
}

/* The interpreter's path that a plain run would have as argv[0]. */
static void name_interpreter(const launch *l, char path[PATH_MAX + 16])
{
    struct stat found;
    snprintf(path, PATH_MAX + 16, "%s%spython3", l->directory, strcmp(l->directory, "/") == 0 ? "" : "/");
    if (mhi_sys_stat(path, &found) < 0)
        mhi_read_interpreter(path, l->directory);
    if (*path == '\0')
        strcpy(path, "python3");
}

/* Returns the previous mask. The program, resumed or cold, later sets its own. */
static uint64_t hold_signals(void)
{
    uint64_t held = MHI_SIGNALS_HELD, before = 0;
    mhi_raw_4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&held, (long)&before, sizeof held);
    return before;
}

void mhi_launch(uint64_t *initial) __attribute__((noreturn));

void mhi_launch(uint64_t *initial)
{
    static launch l; /* static, since it is large, and all that it points to must lie in our region */
    mh_error err;
    char interpreter[PATH_MAX + 16];
    uint64_t blocked = hold_signals();
    l.startup = read_startup(initial);
    const char *wrong = mhi_request_parse(&l.request, l.startup.argc, l.startup.argv);
    if (wrong != NULL) {
        answer(&l.startup);
        mhi_print(2, wrong);
        mhi_exit(2);
    }
    find_directory(&l);
    name_interpreter(&l, interpreter);
    l.arguments = mhi_arguments_make(&l.request, interpreter, l.startup.envp);
    if (l.arguments == NULL) {
        mhi_print(2, "magic: no memory\n");
        mhi_exit(127);
    }
    l.arguments->ar_began_ns = l.startup.began_ns;
    l.arguments->ar_blocked = l.request.kind == NULL ? l.request.blocked : blocked;
    try_all(&l, &err);
    /* A first run needs no reason: nothing has gone wrong. About a variant, Python can say more, since it knows the
     * key. */
    bool is_first_run = (l.image == NULL && (is_no_snapshot(&err) || is_nowhere(&l, &err))) || l.is_only_variants;
    if (l.request.is_question)
        mhi_answer_cold(is_no_snapshot(&err) ? "there is no snapshot that this command leads to" : err.detail);
    mhi_go_cold(&l.request, l.arguments, l.image, l.directory, is_first_run ? NULL : err.detail,
                err.status == MH_ERR_BUSY);
}
