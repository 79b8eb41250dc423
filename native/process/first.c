/* first.c - reorders the C library's list of fork handlers.
 *
 * POSIX gives no way to register a handler before others, and `import magicheap` may well come after `import numpy`. In
 * glibc the list is a dynamic array (posix/register-atfork.c), a static variable of libc in the form of
 * malloc/dynarray.h:
 *
 *     size_t used, allocated; struct fork_handler *array; struct fork_handler scratch[48];
 *
 * whose entries are { prepare, parent, child, dso_handle }, since glibc 2.36 followed by an id that grows from entry to
 * entry. The list has no symbol to look up, so it is found by its content:
 *
 * F1  Its last two entries are the handlers just registered and a marker that only this file can have registered, in
 *     full, each with our own dso_handle. Eight words at the distance of one entry don't appear by accident.
 * F2  Nothing is written until F1 holds. A word that may be no pointer is dereferenced through /proc/self/mem, where a
 *     wrong guess is an error, not a signal.
 * F3  Ids belong to places, not to handlers: a fork in progress finds its position by them.
 */
#define _GNU_SOURCE
#include "process/first.h"

#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "sys/sys.h"

enum {
    WORDS = 4, /* of an entry: three handlers and the dso_handle */
    WORDS_WITH_ID = 5,
    HANDLERS_MAX = 4 << 10, /* arbitrary: a count beyond is none */
};

typedef struct { uintptr_t words[WORDS]; } entry;

typedef struct { uintptr_t used, allocated, *array; } handler_list;

/* of crtbegin: pthread_atfork registers handlers under it for this object */
extern void *__dso_handle __attribute__((visibility("hidden")));
/* of glibc: its address leads to libc wherever that is loaded */
extern int __register_atfork(void (*)(void), void (*)(void), void (*)(void), void *);

static void marker_prepare(void) {}
static void marker_child(void) {}

/* Whether a list whose entries are `stride` words long ends with these two entries. */
static bool ends_with(const handler_list *list, size_t stride, const entry expected[2], int memory)
{
    uintptr_t found[2 * WORDS_WITH_ID];
    uintptr_t at = (uintptr_t)list->array + (list->used - 2) * stride * sizeof *found;
    if (mhi_sys_pread_all(memory, found, 2 * stride * sizeof *found, at) < 0)
        return false;
    bool ids_grow = stride == WORDS || found[WORDS] < found[stride + WORDS];
    return memcmp(found, &expected[0], sizeof *expected) == 0 &&
           memcmp(found + stride, &expected[1], sizeof *expected) == 0 && ids_grow;
}

/* ---- the search ---- */

typedef struct {
    const entry *expected;
    int memory; /* /proc/self/mem */
    handler_list found;
    size_t stride, n_found;
} search;

static void look_at(search *s, const handler_list *list)
{
    if (list->used < 2 || list->used > list->allocated || list->allocated > HANDLERS_MAX ||
        (uintptr_t)list->array % sizeof *list->array != 0)
        return;
    for (size_t stride = WORDS; stride <= WORDS_WITH_ID; stride++)
        if (ends_with(list, stride, s->expected, s->memory)) {
            s->found = *list;
            s->stride = stride;
            s->n_found++;
        }
}

static bool contains(const struct dl_phdr_info *object, uintptr_t address)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && address - (object->dlpi_addr + part->p_vaddr) < part->p_memsz)
            return true;
    }
    return false;
}

/* Searches libc's variables. */
static int look_in(struct dl_phdr_info *object, size_t size, void *context)
{
    (void)size;
    if (!contains(object, (uintptr_t)&__register_atfork))
        return 0;
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &object->dlpi_phdr[i];
        if (part->p_type != PT_LOAD || !(part->p_flags & PF_W))
            continue;
        uintptr_t start = (object->dlpi_addr + part->p_vaddr + sizeof start - 1) / sizeof start * sizeof start;
        uintptr_t end = object->dlpi_addr + part->p_vaddr + part->p_memsz;
        for (uintptr_t at = start; at + sizeof(handler_list) <= end; at += sizeof at)
            look_at(context, (const handler_list *)at);
    }
    return 1;
}

/* ---- the move ---- */

static void rotate(const search *s)
{
    size_t last = s->found.used - 2;
    for (size_t i = last; i > 0; i--)
        /* not the id: F3 */
        memcpy(s->found.array + i * s->stride, s->found.array + (i - 1) * s->stride, sizeof(entry));
    memcpy(s->found.array, s->expected, sizeof(entry));
}

bool mhi_first_move_to_front(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    uintptr_t dso = (uintptr_t)__dso_handle;
    const entry expected[2] = {
        { { (uintptr_t)prepare, (uintptr_t)parent, (uintptr_t)child, dso } },
        { { (uintptr_t)marker_prepare, 0, (uintptr_t)marker_child, dso } },
    };
    search s = { .expected = expected, .memory = mhi_sys_open("/proc/self/mem", O_RDONLY, 0) };
    if (s.memory < 0)
        return false;
    if (pthread_atfork(marker_prepare, NULL, marker_child) == 0)
        dl_iterate_phdr(look_in, &s);
    mhi_sys_close(s.memory);
    if (s.n_found != 1)
        return false;
    rotate(&s);
    return true;
}
