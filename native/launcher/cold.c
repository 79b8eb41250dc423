/* cold.c - executes the program as if there were no snapshot, and passes on why.
 *
 * The interpreter is that beside the launcher, where pip puts both; else the one that made the snapshot; else python3 in PATH. When
 * the library asked for the resume, the program was running under the snapshot's own interpreter, which therefore comes first.
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
#include "sys/raw.h"
#include "sys/sys.h"

typedef struct {
    const mhi_request *request;
    const mhi_arguments *arguments;
    char **envp; /* with the reason */
    int result;  /* of the last execve that found something */
} program;

/* Returns only on failure. A reason that makes the environment too large is left out. */
static void execute(program *p, const char *interpreter)
{
    char *own = p->arguments->ar_argv[0];
    if (*interpreter != '/')
        return;
    if (p->request->kind != NULL)
        p->arguments->ar_argv[0] = (char *)interpreter; /* by this name Python finds its environment */
    int result = mhi_sys_execve(interpreter, p->arguments->ar_argv, p->envp);
    if (result == -E2BIG)
        result = mhi_sys_execve(interpreter, p->arguments->ar_argv, p->arguments->ar_envp);
    if (result != -ENOENT && result != -ENOTDIR)
        p->result = result;
    p->arguments->ar_argv[0] = own;
}

static char **with_reason(const mhi_arguments *arguments, const char *reason)
{
    static char variable[sizeof MHI_COLD_VARIABLE + sizeof(mh_error)];
    char **envp = malloc((arguments->ar_envc + 2) * sizeof *envp);
    if (envp == NULL)
        return arguments->ar_envp;
    snprintf(variable, sizeof variable, "%s=%s", MHI_COLD_VARIABLE, reason);
    memcpy(envp, arguments->ar_envp, arguments->ar_envc * sizeof *envp);
    envp[arguments->ar_envc] = variable;
    envp[arguments->ar_envc + 1] = NULL;
    return envp;
}

static void execute_beside(program *p)
{
    static const char *const names[] = { "python3", "python" };
    char own[PATH_MAX], path[PATH_MAX + 16];
    if (mhi_sys_readlink("/proc/self/exe", own, sizeof own) < 0)
        return;
    strrchr(own, '/')[1] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s%s", own, names[i]);
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

void mhi_go_cold(const mhi_request *request, const mhi_arguments *arguments, const struct mh_image *image, const char *reason)
{
    program p = { request, arguments, reason == NULL ? arguments->ar_envp : with_reason(arguments, reason), -ENOENT };
    mhi_raw_4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&arguments->ar_blocked, 0, sizeof arguments->ar_blocked); /* what came meanwhile comes now */
    const char *recorded = image == NULL ? "" : mhi_image_string(image, image->process->pr_program);
    if (request->kind == NULL)
        execute(&p, recorded);
    execute_beside(&p);
    execute(&p, recorded);
    execute_in_path(&p);
    mhi_print(2, "magic: cannot execute Python, looked for as python3 beside the launcher and in PATH: ");
    mhi_print(2, mhi_sys_error_text(-p.result));
    mhi_print(2, "\n");
    mhi_exit(127);
}
