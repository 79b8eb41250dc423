/* teardown.c - ends an interpreter without its own teardown.
 *
 *     main, or whoever called Py_Exit
 *     Py_RunMain or Py_Exit      continues here, as if the finalisation had returned 0: exit status, C's atexit
 *                                handlers, destructors
 *     Py_FinalizeEx              has joined threads, called atexit's functions, flushed the streams
 *       the collector            its first collection calls mh_leave, which comes here
 *
 * CPython's teardown takes as long as a whole resume, and only gives back memory, which the kernel frees anyway. The
 * frames are discarded as by longjmp, but without a setjmp: the unwind tables, which every function has, give the
 * registers of its caller.
 *
 * L1  The stack is read first, and nothing changes until the target frame is found. If it is not found, this returns,
 *     and CPython goes on.
 * L2  The outermost discarded frame is that of Py_FinalizeEx, or of a function that it calls or jumps to, recognised by
 *     address. If a compiler has inlined it into its caller, no frame matches.
 * L3  What Py_FinalizeEx calls last of all are the functions that C code gave Py_AtExit. If there are any, the teardown
 *     is not skipped.
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
    CODE_MAX = 256, /* bytes of a Py_FinalizeEx that only calls another function; arbitrary */
};

typedef struct {
    void *inner; /* the function of the previous frame */
    bool is_found;
} search;

/* Found at the commit, by mh_can_leave; in the image, since a resumed process has them at the same addresses. */
static void *run_main, *py_exit, *finalize;
static size_t finalize_bytes;
static const int *n_exits; /* how many functions Py_AtExit has: one is ours */

static mhi_registers target; /* not on the stack, which is cut off */

/* ---- the functions of Py_AtExit ---- */

static void marker(void) {}

static size_t size_of(void *symbol)
{
    Dl_info info;
    const ElfW(Sym) *entry = NULL;
    return dladdr1(symbol, &info, (void **)&entry, RTLD_DL_SYMENT) != 0 && entry != NULL && info.dli_saddr == symbol
               ? entry->st_size
               : 0;
}

/* Finds the count behind the array. The count tells the array from other memory that holds the marker. */
static const int *find_count(const uintptr_t *runtime, size_t n_words)
{
    for (size_t i = 0; i + EXITS_MAX < n_words; i++)
        if (runtime[i] == (uintptr_t)marker) {
            const int *count = (const int *)(runtime + i + EXITS_MAX);
            return *count == 1 ? count : NULL; /* otherwise others registered functions before us */
        }
    return NULL;
}

bool mh_can_leave(void)
{
    static bool was_asked; /* a layer's commit calls this again */
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

/* ---- the target frame ---- */

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
