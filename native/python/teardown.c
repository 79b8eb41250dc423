/* teardown.c - the end of an interpreter without its own teardown.
 *
 *     main, or whoever called Py_Exit
 *     Py_RunMain or Py_Exit      goes on here, as if the finalisation had returned 0: exit status, C's atexit handlers,
 *                                destructors
 *     Py_FinalizeEx              has joined threads, called atexit's functions, flushed the streams
 *       the collector            mh_leave is called from its first collection, and comes here
 *
 * Teardown takes CPython as long as a whole resume, and all it leaves behind is memory, which the kernel takes anyway.
 * The frames are forgone as longjmp does it, to a place that nobody has marked: the unwind tables, which every
 * function has, tell the registers that its caller is owed.
 *
 * L1  The stack is read first, and nothing is changed until the place is found: where it is not, this returns, and
 *     CPython goes on.
 * L2  What is forgone is Py_FinalizeEx or what it hands on to, known by address, and no frame beside. Where a compiler
 *     has merged it into its caller, nothing matches.
 * L3  What Py_FinalizeEx calls last of all are the functions that C code gave Py_AtExit. Where there are any, nothing
 *     is forgone.
 */
#define _GNU_SOURCE
#include "python/teardown.h"

#include <dlfcn.h>
#include <link.h>
#include <stddef.h>
#include <string.h>
#include <unwind.h>

#include "arch/arch.h"
#include "magicheap.h"
#include "sys/sys.h"

enum {
    EXITS_MAX = 32, /* NEXITFUNCS of CPython, in one array with its count behind it: since 3.11 in _PyRuntime */
    CODE_MAX = 256, /* bytes of a Py_FinalizeEx that only hands on; arbitrary */
};

typedef struct {
    void *inner; /* the function of the frame that was seen before */
    bool is_found;
} search;

/* Found at the commit, by mh_can_leave; in the image, since a resumed process has them at the same addresses. */
static void *run_main, *py_exit, *finalize;
static size_t finalize_bytes;
static const int *n_exits; /* how many functions Py_AtExit has: one is ours */

static mhi_registers target; /* not on the stack, which it cuts off */

/* ---- what Py_AtExit has ---- */

static void marker(void) {}

static size_t size_of(void *symbol)
{
    Dl_info info;
    const ElfW(Sym) *entry = NULL;
    return dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) != 0 && entry != NULL && info.dli_saddr == symbol
               ? entry->st_size
               : 0;
}

/* The array is told from others that might hold the marker by what follows it. */
static const int *find_count(const uintptr_t *runtime, size_t n_words)
{
    for (size_t i = 0; i + EXITS_MAX < n_words; i++)
        if (runtime[i] == (uintptr_t)marker) {
            const int *count = (const int *)(runtime + i + EXITS_MAX);
            return *count == 1 ? count : NULL; /* else others were there before us */
        }
    return NULL;
}

bool mh_can_leave(void)
{
    static bool was_asked; /* a layer's commit asks again */
    if (was_asked)
        return n_exits != NULL;
    was_asked = true;
    run_main = dlsym(RTLD_DEFAULT, "Py_RunMain");
    py_exit = dlsym(RTLD_DEFAULT, "Py_Exit");
    finalize = dlsym(RTLD_DEFAULT, "Py_FinalizeEx");
    uintptr_t *runtime = dlsym(RTLD_DEFAULT, "_PyRuntime");
    int (*at_exit)(void (*)(void)) = (int (*)(void (*)(void)))dlsym(RTLD_DEFAULT, "Py_AtExit");
    if (run_main == NULL || py_exit == NULL || finalize == NULL || runtime == NULL || at_exit == NULL ||
        at_exit(marker) != 0)
        return false;
    finalize_bytes = size_of(finalize);
    n_exits = find_count(runtime, size_of(runtime) / sizeof *runtime);
    return n_exits != NULL;
}

/* ---- the place ---- */

/* Whether Py_FinalizeEx calls or jumps to `function`, as it does from CPython 3.13 on: by a displacement of 32 bits. */
static bool is_handed_on(const void *function)
{
    return mhi_arch_leads_to(finalize, finalize_bytes < CODE_MAX ? finalize_bytes : 0, function);
}

static _Unwind_Reason_Code visit(struct _Unwind_Context *context, void *argument)
{
    search *found = argument;
    uintptr_t ip = _Unwind_GetIP(context);
    void *function = _Unwind_FindEnclosingFunction((void *)(ip - 1));
    if (function == run_main || function == py_exit) {
        found->is_found = found->inner == finalize || (found->inner != NULL && is_handed_on(found->inner));
        mhi_registers_of_frame(&target, context);
        return _URC_END_OF_STACK;
    }
    found->inner = function;
    return _URC_NO_REASON;
}

void mhi_teardown_skip(void)
{
    search found = { 0 };
    uint64_t shadow_stack = 0;
    if (n_exits == NULL || *n_exits != 1 || mhi_sys_shadow_stack(&shadow_stack) < 0 || shadow_stack != 0)
        return;
    _Unwind_Backtrace(visit, &found);
    if (found.is_found)
        mhi_registers_go(&target, 0); /* as if Py_FinalizeEx had returned it */
}
