/* probe.c - tries the features that process snapshots need of the machine, one by one, so that a failure names the
 * broken assumption.
 *
 * An attempt that could harm this process is made in a child. The child is forked without fork handlers and makes
 * system calls only, so it is safe beside other threads.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "base/maps.h"
#include "base/pages.h"
#include "error.h"
#include "format.h"
#include "process/obstacles.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

/* Runs `attempt` in a child, and returns its result, 0 or -errno; -EFAULT if a signal ended the child. */
static int in_child(int (*attempt)(void))
{
    int status, child = mhi_sys_fork();
    if (child == 0)
        mhi_sys_exit(-attempt());
    int result = child < 0 ? child : mhi_sys_wait(child, &status);
    if (result < 0)
        return result;
    return WIFEXITED(status) ? -WEXITSTATUS(status) : -EFAULT;
}

/* ---- what /proc shows ---- */

static int probe_mappings(mh_error *err)
{
    mhi_mappings mappings;
    mhi_mapping mapping;
    uintptr_t here = (uintptr_t)&mappings;
    bool is_found = false;
    int result = mhi_mappings_open(&mappings, true);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "/proc/self/smaps can't be read");
    while ((result = mhi_mappings_next(&mappings, &mapping)) == 1)
        is_found |= here >= mapping.start && here < mapping.end;
    mhi_mappings_close(&mappings);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "/proc/self/smaps is not as expected");
    return is_found ? MH_OK
                    : mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "/proc/self/smaps does not list the stack it is read from");
}

/* 1: the page at `address` was written, by capture.c's criterion; 0: not. */
static int is_written(int pagemap, const void *address)
{
    uint64_t entry;
    int result = mhi_sys_pread_all(pagemap, &entry, sizeof entry, (uintptr_t)address / MHI_PAGE * sizeof entry);
    return result < 0 ? result : mhi_page_is_own(entry);
}

/* Touches one private page and looks at it before and after. */
static int try_page(int pagemap, volatile char *page, bool *holds)
{
    char was = *page;
    int before = is_written(pagemap, (const void *)page);
    *page = (char)(was + 1);
    int after = is_written(pagemap, (const void *)page);
    *holds &= before != 1 && after == 1;
    return before < 0 ? before : after < 0 ? after : 0;
}

static int try_pages(int pagemap, int file, bool *holds)
{
    void *page;
    int result = mhi_sys_mmap(&page, NULL, MHI_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (result < 0)
        return result;
    result = try_page(pagemap, page, holds);
    mhi_sys_munmap(page, MHI_PAGE);
    return result;
}

static int probe_pagemap(mh_error *err)
{
    bool holds = true;
    int pagemap = mhi_sys_open("/proc/self/pagemap", O_RDONLY, 0), file = mhi_sys_open("/proc/self/exe", O_RDONLY, 0);
    int result = pagemap < 0 ? pagemap : file < 0 ? file : try_pages(pagemap, file, &holds);
    if (pagemap >= 0)
        mhi_sys_close(pagemap);
    if (file >= 0)
        mhi_sys_close(file);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "/proc/self/pagemap can't be read, so written pages can't be told");
    return holds ? MH_OK
                 : mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                            "/proc/self/pagemap does not tell a written page from its file's");
}

static int probe_trace(mh_error *err)
{
    char text[2048];
    int result = mhi_sys_read_text("/proc/self/status", text, sizeof text);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "/proc/self/status can't be read");
    const char *tracer = strstr(text, "\nTracerPid:\t");
    long id = tracer == NULL ? 0 : strtol(tracer + strlen("\nTracerPid:\t"), NULL, 10);
    return id == 0 ? MH_OK
                   : mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                              "process %ld traces this one (a debugger, strace): it would lose track", id);
}

/* ---- what the kernel does ---- */

static int do_nothing(void) { return 0; }

static int probe_fork(mh_error *err)
{
    int result = in_child(do_nothing);
    return result < 0 ? mhi_fail_unsupported(err, result, "a child can't be forked") : MH_OK;
}

static int probe_thread(mh_error *err)
{
    mhi_sys_thread thread;
    int result = mhi_sys_thread_read(&thread);
    return result < 0
               ? mhi_fail_unsupported(err, result,
                                      "the kernel does not tell what it keeps of a thread (CONFIG_CHECKPOINT_RESTORE)")
               : MH_OK;
}

static int renew_rseq(void)
{
    mhi_sys_thread thread;
    int result = mhi_sys_thread_read(&thread);
    return result < 0 || thread.rseq == 0 ? result : mhi_sys_rseq_renew(&thread);
}

static int probe_rseq(mh_error *err)
{
    int result = in_child(renew_rseq);
    return result < 0 ? mhi_fail_unsupported(err, result, "restartable sequences can't be registered again") : MH_OK;
}

static int probe_shadow_stack(mh_error *err)
{
    uint64_t features;
    int result = mhi_sys_shadow_stack(&features);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "cannot tell whether there is a shadow stack");
    return features == 0 ? MH_OK
                         : mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                                    "the process has a shadow stack, which no program can make anew "
                                    "(" MHI_NO_SHADOW_STACK ")");
}

/* An unused place far behind the launcher and its capture. */
#define SPARE_PLACE (MHI_LAUNCHER_END - (1ull << 32))

static int move_vdso(void)
{
    mhi_mappings mappings;
    mhi_mapping mapping;
    uint64_t to = SPARE_PLACE;
    int result = mhi_mappings_open(&mappings, true);
    if (result < 0)
        return result;
    while (result >= 0 && (result = mhi_mappings_next(&mappings, &mapping)) == 1)
        if (mhi_mapping_is_vdso(&mapping)) {
            result = mhi_sys_mremap((void *)mapping.start, mapping.end - mapping.start, (void *)to);
            to += mapping.end - mapping.start;
        }
    return result;
}

static int probe_vdso(mh_error *err)
{
    int result = in_child(move_vdso);
    return result < 0 ? mhi_fail_unsupported(err, result,
                                             "the kernel's vdso can't be moved (CONFIG_MSEAL_SYSTEM_MAPPINGS seals it)")
                      : MH_OK;
}

static int write_layout(void)
{
    mhi_sys_layout layout;
    int result = mhi_sys_layout_read(&layout);
    return result < 0 ? result : mhi_sys_layout_write(&layout);
}

static int probe_layout(mh_error *err)
{
    int result = in_child(write_layout);
    if (result < 0) /* then resume.c makes the C library believe that its old heap can't grow */
        mhi_fail(err, MH_OK, -result,
                 "PR_SET_MM_MAP is refused: malloc will leave its old heap as it is, and ps shows the launcher");
    return MH_OK;
}

/* The kernel itself writes below the mapping, so that a stack that does not grow causes an error, not a signal. */
static int probe_growth(mh_error *err)
{
    char *stack;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED_NOREPLACE;
    int result = mhi_sys_mmap((void **)&stack, (void *)SPARE_PLACE, MHI_PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "no memory that grows downwards can be had");
    result = mhi_sys_random(stack - MHI_PAGE, 1);
    mhi_sys_munmap(stack - MHI_PAGE, 2 * MHI_PAGE);
    return result < 0 ? mhi_fail_unsupported(err, result,
                                             "memory that should grow downwards does not: the stack could not grow")
                      : MH_OK;
}

static int probe_launcher(mh_error *err)
{
    mhi_mappings mappings;
    mhi_mapping mapping;
    int result = mhi_mappings_open(&mappings, true);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "/proc/self/smaps can't be read");
    while ((result = mhi_mappings_next(&mappings, &mapping)) == 1)
        if (mapping.end > MHI_LAUNCHER_START && mapping.start < MHI_LAUNCHER_END)
            break;
    mhi_mappings_close(&mappings);
    if (result == 1)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "something lies where the launcher must: %.160s at 0x%llx",
                        mapping.name, (unsigned long long)mapping.start);
    void *page;
    result = mhi_sys_mmap(&page, (void *)MHI_LAUNCHER_START, MHI_PAGE, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (result < 0)
        return mhi_fail_unsupported(err, result, "no memory can be had where the launcher must be");
    mhi_sys_munmap(page, MHI_PAGE);
    return MH_OK;
}

static const struct {
    const char *name;
    int (*run)(mh_error *err);
    bool is_of_process; /* may differ from process to process, so each commit probes again */
} probes[] = {
    { "no raised privileges", mhi_trust_process, true },
    { "no shadow stack", probe_shadow_stack, true },
    { "what the kernel keeps of a thread", probe_thread, true },
    { "which pages were written", probe_pagemap, true },
    { "list of the own memory", probe_mappings, false },
    { "fork", probe_fork, false },
    { "room for the launcher", probe_launcher, false },
    { "vdso that can be moved", probe_vdso, false },
    { "stack that grows", probe_growth, false },
    { "restartable sequences registered again", probe_rseq, false },
    { "heap that grows on", probe_layout, false },
    { "no debugger", probe_trace, false },
};

int mh_process_probe(uint32_t i, const char **name, mh_error *err)
{
    *name = NULL;
    if (i >= sizeof probes / sizeof *probes)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "there are %zu probes", sizeof probes / sizeof *probes);
    *name = probes[i].name;
    mhi_fail(err, MH_OK, 0, "%s", "");
    return probes[i].run(err);
}

int mhi_machine_check(mh_error *err)
{
    int status = MH_OK;
    for (size_t i = 0; i < sizeof probes / sizeof *probes && status == MH_OK; i++)
        if (probes[i].is_of_process)
            status = probes[i].run(err);
    return status;
}
