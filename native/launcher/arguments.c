/* arguments.c - copies command line and environment from the kernel's stack to the block in which the resumed process
 * will find them.
 *
 *     mhi_arguments | ar_argv | ar_envp | strings of argv | strings of envp | path of the image, PATH_MAX bytes
 *
 * One block of whole pages: the strings lie in the kernel's order, so that ps can show them, and the process can unmap
 * the block at once.
 */
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "base/pages.h"
#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "sys/sys.h"

static bool is_called(const char *variable, const char *name)
{
    size_t length = strlen(name);
    return strncmp(variable, name, length) == 0 && variable[length] == '=';
}

/* Whether the variable is one that we set ourselves. */
static bool is_reason(const char *variable)
{
    return is_called(variable, MHI_COLD_VARIABLE) || is_called(variable, MHI_WATCH_VARIABLE);
}

/* Calls `take` with each argument, then each variable. */
static void each_text(const mhi_request *request, const char *interpreter, char *const *envp,
                      void (*take)(void *, const char *, bool), void *context)
{
    if (request->kind != NULL)
        take(context, interpreter, false);
    if (request->module != NULL) {
        take(context, "-P", false);
        take(context, "-m", false);
        take(context, request->module, false);
    }
    for (char *const *each = request->rest; *each != NULL; each++)
        take(context, *each, false);
    for (; *envp != NULL; envp++)
        if (!is_reason(*envp))
            take(context, *envp, true);
}

typedef struct { uint64_t n_arguments, n_variables, bytes; } measure;

static void add_up(void *context, const char *text, bool is_variable)
{
    measure *m = context;
    *(is_variable ? &m->n_variables : &m->n_arguments) += 1;
    m->bytes += strlen(text) + 1;
}

typedef struct {
    mhi_arguments *block;
    char *next; /* the first free byte */
} writer;

static void copy(void *context, const char *text, bool is_variable)
{
    writer *w = context;
    mhi_arguments *block = w->block;
    size_t size = strlen(text) + 1;
    *(is_variable ? &block->ar_envp[block->ar_envc++] : &block->ar_argv[block->ar_argc++]) =
        memcpy(w->next, text, size);
    w->next += size;
}

mhi_arguments *mhi_arguments_make(const mhi_request *request, const char *interpreter, char *const *envp)
{
    measure sum = { .bytes = PATH_MAX };
    each_text(request, interpreter, envp, add_up, &sum);
    uint64_t pointers = sum.n_arguments + sum.n_variables + 2;
    uint64_t bytes = mhi_page_end(sizeof(mhi_arguments) + pointers * sizeof(char *) + sum.bytes);
    mhi_arguments *block = mhi_memory(bytes);
    if (block == NULL)
        return NULL;
    block->ar_bytes = bytes;
    block->ar_argv = (char **)(block + 1);
    block->ar_envp = block->ar_argv + sum.n_arguments + 1;
    block->ar_n_skipped = request->n_skipped;
    block->ar_ignored = mhi_sys_ignored_signals();
    writer w = { block, (char *)(block->ar_envp + sum.n_variables + 1) };
    each_text(request, interpreter, envp, copy, &w);
    block->ar_image_path = w.next;
    return block;
}
