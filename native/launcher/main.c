/* main.c - which snapshot, is it sound, trusted, and not stale: then resumes it, else executes the program cold.
 *
 * Nothing but a wrong command line is an error to the user: every doubt about a snapshot is a reason to go cold, and Python says
 * so if it is asked to.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "snapshot/command.h"
#include "snapshot/inputs.h"
#include "snapshot/trust.h"
#include "sys/raw.h"
#include "sys/sys.h"

/* How far the kernel's stack may reach below where we found it: it is made 128 KiB larger than what it holds, and nothing else is put within 128
 * MiB of it (arch/x86/mm/mmap.c, SIZE_128M). */
#define STACK_SLACK (1ull << 20)

typedef struct {
    mhi_startup startup;
    mhi_request request;
    mhi_arguments *arguments;
    struct mh_image *image;   /* the last that was opened, or NULL */
    char directory[PATH_MAX]; /* where the launcher is; "" if the kernel does not tell */
} launch;

/* ---- one snapshot ---- */

static bool is_set(const launch *l, const char *variable)
{
    const char *value = mhi_environment_get(l->arguments->ar_envp, variable);
    return value != NULL && strcmp(value, "1") == 0;
}

/* `command`: NULL when the request names the snapshot. */
static int check_is_meant(const launch *l, const char *command, mh_error *err)
{
    const struct mh_image *image = l->image;
    int status = mhi_image_expect(image, MH_KIND_PROCESS, err);
    if (status != MH_OK)
        return status;
    if (command == NULL && image->header.hd_checksum != l->request.checksum)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has been replaced", image->path);
    if (command != NULL && strcmp(command, mhi_image_string(image, image->process->pr_command)) != 0)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s is the snapshot of another command", image->path);
    return MH_OK;
}

/* Returns only on failure, and only as long as the kernel's stack is there, which holds the command line. */
static int resume(launch *l, mh_error *err)
{
    strcpy(l->arguments->ar_image_path, l->image->path);
    l->arguments->ar_image_checksum = l->image->header.hd_checksum;
    int status = mhi_reopen(l->image, err);
    if (status != MH_OK)
        return status;
    mhi_resume(l->image, &l->startup, l->arguments, err);
    mhi_reopen_undo(l->image);
    mhi_go_cold(&l->request, l->arguments, l->image, err->detail);
}

static int try_snapshot(launch *l, const char *path, const char *command, mh_error *err)
{
    mh_image_close(l->image);
    l->image = NULL;
    if (*path != '/' || strlen(path) >= PATH_MAX)
        return mhi_fail(err, MH_ERR_UNTRUSTED, 0, "the path of the snapshot is not absolute, or too long");
    int status = mhi_image_open(&l->image, path, true, err);
    if (status == MH_OK)
        status = check_is_meant(l, command, err);
    if (status == MH_OK)
        status = mhi_inputs_check(l->image, NULL, NULL, l->arguments->ar_envp, err);
    if (status == MH_OK && is_set(l, "MAGICHEAP_VERIFY"))
        status = mh_image_verify(l->image, err);
    return status == MH_OK ? resume(l, err) : status;
}

/* ---- which ---- */

/* What the link says must be ours to say: it decides whose process we become. */
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
    int status = mhi_command_spell(command, sizeof command, l->directory, request->kind, request->name, is_here, arguments, err);
    if (status == MH_OK)
        status = mhi_command_link(link, command, l->arguments->ar_envp, err);
    if (status == MH_OK)
        status = read_link(path, link, err);
    return status == MH_OK ? try_snapshot(l, path, command, err) : status;
}

/* Rather than stale because a file is gone. */
static bool is_no_snapshot(const mh_error *err) { return err->status == MH_ERR_SYSTEM && err->sys_errno == ENOENT; }

/* Returns only on failure. The general command first, then that of this place, then the exact one; the reason of these counts only if they
 * lead to a snapshot. */
static int try_all(launch *l, mh_error *err)
{
    int status = mhi_trust_process(err);
    if (status != MH_OK)
        return status;
    if (is_set(l, "MAGICHEAP_DISABLE"))
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "MAGICHEAP_DISABLE is set");
    if (l->request.kind == NULL)
        return try_snapshot(l, l->request.snapshot, NULL, err);
    mh_error narrower;
    status = try_command(l, false, NULL, err);
    if (try_command(l, true, NULL, &narrower) != MH_OK && !is_no_snapshot(&narrower))
        *err = narrower;
    if (try_command(l, true, l->request.arguments, &narrower) != MH_OK && !is_no_snapshot(&narrower))
        *err = narrower;
    return status;
}

/* ---- start ---- */

/* `initial` is the kernel's: argc, argv, NULL, envp, NULL, and the auxiliary vector, in pairs. */
static mhi_startup read_startup(uint64_t *initial)
{
    mhi_startup startup = { .began_ns = mhi_raw_clock_ns(), .argc = (int)initial[0], .argv = (char **)(initial + 1) };
    char **end = startup.envp = startup.argv + startup.argc + 1;
    while (*end != NULL)
        end++;
    const uint64_t *auxv = (const uint64_t *)(end + 1), *each = auxv;
    uintptr_t top = (uintptr_t)initial;
    for (; each[0] != AT_NULL; each += 2) {
        if (each[0] == AT_SYSINFO_EHDR)
            startup.vdso = each[1];
        if (each[0] == AT_EXECFN) /* the last of the strings; behind it come only 8 zero bytes */
            top = each[1] + strlen((const char *)each[1]) + 1 + 8;
    }
    startup.stack_start = ((uintptr_t)initial - STACK_SLACK) & ~(uintptr_t)(MHI_PAGE - 1);
    startup.stack_end = (top + MHI_PAGE - 1) & ~(uintptr_t)(MHI_PAGE - 1);
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

static void find_directory(char directory[PATH_MAX])
{
    char own[PATH_MAX];
    directory[0] = '\0';
    if (mhi_sys_readlink("/proc/self/exe", own, sizeof own) > 0)
        mhi_path_directory(own, directory);
}

/* Returns what was blocked before. Whoever goes on, the program resumed or cold, sets the mask that is due. */
static uint64_t hold_signals(void)
{
    uint64_t held = MHI_SIGNALS_HELD, before = 0;
    mhi_raw_4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&held, (long)&before, sizeof held);
    return before;
}

void mhi_launch(uint64_t *initial) __attribute__((noreturn));

void mhi_launch(uint64_t *initial)
{
    static launch l; /* large, and everything reachable from it must be in our region */
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
    find_directory(l.directory);
    snprintf(interpreter, sizeof interpreter, "%s%spython3", l.directory, strcmp(l.directory, "/") == 0 ? "" : "/");
    l.arguments = mhi_arguments_make(&l.request, interpreter, l.startup.envp);
    if (l.arguments == NULL) {
        mhi_print(2, "magic: no memory\n");
        mhi_exit(127);
    }
    l.arguments->ar_began_ns = l.startup.began_ns;
    l.arguments->ar_blocked = l.request.kind == NULL ? l.request.blocked : blocked;
    try_all(&l, &err);
    bool is_first_run = l.image == NULL && is_no_snapshot(&err); /* nothing has gone wrong: the program will see for itself */
    mhi_go_cold(&l.request, l.arguments, l.image, is_first_run ? NULL : err.detail);
}
