/* rehearsal.c - finds the pages that every resumed process writes to before its program goes on, and at its end.
 *
 * Most of a resume's time is copy-on-write page faults, often preceded by a read fault on the same page. Prefaulting
 * the known pages in one MADV_POPULATE_WRITE is cheaper. To know them, a child of the writing child goes on as a
 * resumed process would. It runs other libraries' fork handlers, then the language's own steps after a resume and at
 * the end, as far as these have no outside effect. Then it writes to the words that exit writes in each library. At
 * last it records the pages that it has copied, and exits. The writing child itself could not do this: there, a page is
 * also no longer shared once the committing process has written to it.
 *
 * H1  The snapshot's segments are already written: the rehearsal leaves no trace in them.
 * H2  The result is a hint. If the rehearsal ends by a signal or by the timeout, the snapshot is still good.
 * H3  The rehearsal has no outside effect: its standard streams lead to /dev/null, and its arguments are made up.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <link.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"
#include "error.h"
#include "magicheap.h"
#include "process/process.h"
#include "python/environment.h"
#include "sys/sys.h"

enum {
    SECONDS = 4, /* the rehearsal takes milliseconds; arbitrary */
    N_STREAMS = 3,
    N_VARIABLES = 32,         /* about as many as a login shell or a runner has */
    N_VARIABLES_MAX = 512,    /* arbitrary, as is STRINGS_BYTES */
    STRINGS_BYTES = 64 << 10, /* in zeroed memory, which no image has */
    /* offset of l_init_called in glibc 2.36; other versions have it nearby, mostly on the same page */
    LINK_MAP_NOTE = 0x444,
};

/* NULL in every other process and in every image. */
static mhi_capture *rehearsed;
static uint64_t kinds[N_STREAMS];

/* ---- before ---- */

void mh_rehearse(mh_transaction *tx)
{
    mhi_process *own = mhi_process_of(tx);
    if (own != NULL && own->capture != NULL)
        own->capture->is_rehearsed = true;
}

static bool silence(void)
{
    int null = mhi_sys_open("/dev/null", O_RDWR, 0);
    for (int fd = 0; fd < N_STREAMS; fd++) {
        kinds[fd] = mh_descriptor_kind(fd);
        if (null < 0 || mhi_sys_dup_to(null, fd) < 0)
            return false;
    }
    return mhi_sys_close(null) == 0;
}

/* Fills in made-up variables; returns the end of their strings. */
static char *make_up_variables(mhi_arguments *arguments, char *strings, uint64_t strings_bytes)
{
    static char *envp[N_VARIABLES_MAX + 1];
    char *end = strings;
    arguments->ar_envp = envp;
    arguments->ar_envc = mhi_variables_make_up(strings, strings_bytes, envp, N_VARIABLES_MAX + 1);
    if (arguments->ar_envc > 0)
        return strchr(envp[arguments->ar_envc - 1], '\0') + 1;
    for (int i = 0; i < N_VARIABLES; i++) {
        envp[i] = end;
        end +=
            snprintf(end, strings_bytes - (uint64_t)(end - strings), "VARIABLE_%02d=a value of a usual length", i) + 1;
    }
    envp[N_VARIABLES] = NULL;
    arguments->ar_envc = N_VARIABLES;
    return end;
}

/* In the launcher's layout. */
static mhi_arguments *made_up_arguments(void)
{
    static const char words[] = "program\0argument";
    static char strings[STRINGS_BYTES];
    static char *argv[] = { strings, strings + 8, NULL };
    static mhi_arguments arguments = { .ar_argc = 2, .ar_argv = argv, .ar_n_skipped = 1 };
    memcpy(strings, words, sizeof words);
    arguments.ar_image_path = make_up_variables(&arguments, strings + sizeof words, sizeof strings - sizeof words);
    arguments.ar_ignored = mhi_sys_ignored_signals();
    return &arguments;
}

mhi_arguments *mhi_rehearsal_begin(mhi_capture *capture)
{
    int how, child = mhi_sys_fork();
    if (child > 0)
        mhi_sys_wait(child, &how);
    if (child != 0 || mhi_sys_die_with_parent() < 0 || mhi_sys_die_in(SECONDS) < 0 || !silence())
        return NULL;
    rehearsed = capture;
    return made_up_arguments();
}

bool mhi_rehearsal_is_on(void) { return rehearsed != NULL; }
uint64_t mhi_rehearsal_kind(int fd) { return fd >= 0 && fd < N_STREAMS ? kinds[fd] : 0; }

/* ---- behind ---- */

static bool is_candidate(const mhi_file_segment *segment)
{
    const uint32_t others =
        MHI_SEGMENT_GROWS | MHI_SEGMENT_SHARED | MHI_SEGMENT_DROPPABLE | MHI_SEGMENT_WIPED | MHI_SEGMENT_GUARD;
    return (segment->sg_prot & PROT_WRITE) && !(segment->sg_flags & others);
}

/* Whether the page was written to, and so is no longer shared with the parent. */
static bool is_own(uint64_t entry)
{
    const uint64_t wanted = MHI_PAGE_PRESENT | MHI_PAGE_EXCLUSIVE;
    return (entry & (wanted | MHI_PAGE_OF_FILE)) == wanted;
}

/* Adds a page; the first `n_before` ranges belong to other segments, and are not extended. */
static void note(mhi_capture *capture, uint64_t n_before, uint64_t address)
{
    mhi_file_touched *last = capture->n_touched > n_before ? &capture->touched[capture->n_touched - 1] : NULL;
    if (last != NULL && last->to_address + last->to_bytes == address)
        last->to_bytes += MHI_PAGE;
    else if (capture->n_touched < MHI_CAPTURE_TOUCHED)
        capture->touched[capture->n_touched++] = (mhi_file_touched){ address, MHI_PAGE };
}

static int note_segment(mhi_capture *capture, int pagemap, const mhi_file_segment *segment)
{
    uint64_t n_before = capture->n_touched, page = segment->sg_address, end = page + segment->sg_bytes;
    int result = 0;
    while (page < end && result == 0) {
        uint64_t n = (end - page) / MHI_PAGE;
        n = n < MHI_CAPTURE_PAGES ? n : MHI_CAPTURE_PAGES;
        result = mhi_sys_pread_all(pagemap, capture->pagemap, n * sizeof *capture->pagemap,
                                   page / MHI_PAGE * sizeof *capture->pagemap);
        for (uint64_t i = 0; i < n && result == 0; i++, page += MHI_PAGE)
            if (is_own(capture->pagemap[i]))
                note(capture, n_before, page);
    }
    return result;
}

static bool is_in_candidate(const mhi_capture *capture, uintptr_t address)
{
    for (uint64_t i = 0; i < capture->n_segments; i++)
        if (address - capture->segments[i].sg_address < capture->segments[i].sg_bytes)
            return is_candidate(&capture->segments[i]);
    return false;
}

static void touch(const mhi_capture *capture, uintptr_t address)
{
    volatile char *byte = (char *)address;
    if (is_in_candidate(capture, address))
        *byte = *byte;
}

/* At exit, each library records in the first byte of its .bss that its destructors have run (`completed` of
 * crtbegin). */
static int touch_library(struct dl_phdr_info *info, size_t size, void *capture)
{
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        if (header->p_type == PT_LOAD && header->p_memsz > header->p_filesz)
            touch(capture, info->dlpi_addr + header->p_vaddr + header->p_filesz);
    }
    return 0;
}

/* The dynamic linker records the same in its private part of the library's struct link_map. */
static void touch_as_at_exit(const mhi_capture *capture)
{
    dl_iterate_phdr(touch_library, (void *)capture);
    for (const struct link_map *map = _r_debug.r_map; map != NULL; map = map->l_next)
        touch(capture, (uintptr_t)map + LINK_MAP_NOTE);
}

void mh_rehearsed(const char *failure)
{
    mhi_capture *capture = rehearsed;
    if (capture == NULL)
        return;
    capture->has_rehearsed = true;
    if (failure != NULL)
        capture->status =
            mhi_fail(&capture->error, MH_ERR_UNSUPPORTED, 0, "no later run could be resumed: %s", failure);
    touch_as_at_exit(capture);
    int pagemap = mhi_sys_open("/proc/self/pagemap", O_RDONLY, 0);
    for (uint64_t i = 0; pagemap >= 0 && i < capture->n_segments; i++)
        if (is_candidate(&capture->segments[i]) && note_segment(capture, pagemap, &capture->segments[i]) < 0)
            break;
    mhi_sys_exit(0);
}
