/* cold.c - executes the program as if there were no snapshot, and passes the reason on.
 *
 * The interpreter is the one that the launcher was installed for: pip writes it into the first line of the script
 * `magicheap` beside the launcher, also where neither lies beside the interpreter (pip install --user, Debian's
 * /usr/local). Else it is the interpreter beside the launcher; else the one that made the snapshot; else python3 in
 * PATH. If the library asked for the resume, the program was running under the snapshot's own interpreter, which
 * therefore comes first.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "snapshot/inputs.h"
#include "snapshot/places.h"
#include "sys/raw.h"
#include "sys/sys.h"

typedef struct {
    const mhi_request *request;
    const mhi_arguments *arguments;
    char **envp; /* with the reason */
    int result;  /* of the last execve that found something */
} program;

/* Executes the interpreter; returns only on failure. A reason that makes the environment too large is left out. */
static void execute(program *p, const char *interpreter)
{
    char *own = p->arguments->ar_argv[0];
    if (*interpreter != '/')
        return;
    if (p->request->kind != NULL)
        p->arguments->ar_argv[0] = (char *)interpreter; /* Python finds its environment by argv[0] */
    int result = mhi_sys_execve(interpreter, p->arguments->ar_argv, p->envp);
    if (result == -E2BIG)
        result = mhi_sys_execve(interpreter, p->arguments->ar_argv, p->arguments->ar_envp);
    if (result != -ENOENT && result != -ENOTDIR)
        p->result = result;
    p->arguments->ar_argv[0] = own;
}

/* The environment plus the reason and, if the launcher starts the program, MHI_WATCH_VARIABLE. */
static char **with_reason(const mhi_request *request, const mhi_arguments *arguments, const char *reason, bool is_kept)
{
    static char variable[sizeof MHI_COLD_VARIABLE + sizeof MHI_COLD_KEPT + sizeof(mh_error)],
        watch[] = MHI_WATCH_VARIABLE "=1";
    char **envp = malloc((arguments->ar_envc + 3) * sizeof *envp);
    uint64_t n = arguments->ar_envc;
    if (envp == NULL)
        return arguments->ar_envp;
    memcpy(envp, arguments->ar_envp, n * sizeof *envp);
    if (reason != NULL) {
        snprintf(variable, sizeof variable, "%s=%s%s", MHI_COLD_VARIABLE, is_kept ? MHI_COLD_KEPT : "", reason);
        envp[n++] = variable;
    }
    if (request->kind != NULL)
        envp[n++] = watch;
    envp[n] = NULL;
    return envp;
}

static void execute_beside(program *p, const char *directory)
{
    static const char *const names[] = { "python3", "python" };
    char path[PATH_MAX + 16];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", strcmp(directory, "/") == 0 ? "" : directory, names[i]);
        execute(p, path);
    }
}

static void execute_in_path(program *p)
{
    const char *directories = mhi_environment_get(p->arguments->ar_envp, "PATH");
    while (directories != NULL && *directories != '\0') {
        char path[PATH_MAX];
        size_t length = strcspn(directories, ":");
        if (snprintf(path, sizeof path, "%.*s/python3", (int)length, directories) < (int)sizeof path)
            execute(p, path);
        directories += length + (directories[length] == ':');
    }
}

void mhi_go_cold(const mhi_request *request, const mhi_arguments *arguments, const struct mh_image *image,
                 const char *directory, const char *reason, bool is_kept)
{
    program p = { request, arguments, with_reason(request, arguments, reason, is_kept), -ENOENT };
    /* signals that came meanwhile are delivered here */
    mhi_raw_4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&arguments->ar_blocked, 0, sizeof arguments->ar_blocked);
    const char *recorded = image == NULL ? "" : mhi_image_string(image, mhi_image_process(image)->pr_program);
    char interpreter[PATH_MAX];
    if (request->kind == NULL)
        execute(&p, recorded);
    mhi_read_interpreter(interpreter, directory);
    execute(&p, interpreter);
    if (*directory == '/')
        execute_beside(&p, directory);
    execute(&p, recorded);
    execute_in_path(&p);
    mhi_print(2, "magic: cannot execute Python, looked for as python3 beside the launcher and in PATH: ");
    mhi_print(2, mhi_sys_error_text(-p.result));
    mhi_print(2, "\n");
    mhi_exit(127);
}
