/* route_guest.c - a library that knows nothing of arenas; see route_guest.h. */
#define _GNU_SOURCE
#include "route_guest.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void *do_malloc(size_t size) { return malloc(size); }
static void *do_calloc(size_t n_items, size_t item_size) { return calloc(n_items, item_size); }
static void *do_realloc(void *block, size_t size) { return realloc(block, size); }
static void *do_reallocarray(void *block, size_t n_items, size_t item_size)
{
    return reallocarray(block, n_items, item_size);
}
static void *do_memalign(size_t align, size_t size) { return memalign(align, size); }
static int do_posix_memalign(void **out, size_t align, size_t size) { return posix_memalign(out, align, size); }
static void *do_aligned_alloc(size_t align, size_t size) { return aligned_alloc(align, size); }
static void *do_valloc(size_t size) { return valloc(size); }
static void *do_pvalloc(size_t size) { return pvalloc(size); }
static void do_free(void *block) { free(block); }
static size_t do_malloc_usable_size(void *block) { return malloc_usable_size(block); }
static char *do_strdup(const char *text) { return strdup(text); }

static char *do_format(const char *text)
{
    char *formatted;
    return asprintf(&formatted, "<%s>", text) < 0 ? NULL : formatted;
}

static char *read_line(const char *path)
{
    char *line = NULL;
    size_t size = 0;
    FILE *file = fopen(path, "r");
    if (file != NULL && getline(&line, &size, file) < 0)
        line = NULL;
    if (file != NULL)
        fclose(file);
    return line;
}

static int do_open(const char *path, int flags) { return open(path, flags, 0600); }

static int open_in(const char *directory, const char *name)
{
    int at = open(directory, O_RDONLY | O_DIRECTORY);
    int fd = openat(at, name, O_RDONLY);
    close(at);
    return fd;
}

static FILE *do_fopen(const char *path, const char *mode) { return fopen(path, mode); }

static void *do_dlopen(const char *name)
{
    /* volatile: a call, not a jump that would hide this library from dlopen */
    void *volatile handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    return handle;
}

static void *do_dlsym(void *handle, const char *name) { return dlsym(handle, name); }

static void *(*volatile hook_malloc)(size_t);
static void (*volatile hook_free)(void *);

static void set_hooks(void)
{
    hook_malloc = malloc;
    hook_free = free;
}

static void *hooked_malloc(size_t size) { return hook_malloc(size); }
static void hooked_free(void *block) { hook_free(block); }

static void *(*volatile the_registered)(size_t);
__attribute__((visibility("default"))) void guest_register(void *(*function)(size_t)) { the_registered = function; }
static void *(*registered(void))(size_t) { return the_registered; }
static void clear_registered(void) { the_registered = NULL; }

static int number = 42;
static const void *const table[] = { do_malloc, &number };

__attribute__((visibility("default"))) const guest the_guest = {
    do_malloc,
    do_calloc,
    do_realloc,
    do_reallocarray,
    do_memalign,
    do_posix_memalign,
    do_aligned_alloc,
    do_valloc,
    do_pvalloc,
    do_free,
    do_malloc_usable_size,
    do_strdup,
    do_format,
    read_line,
    do_open,
    open_in,
    do_fopen,
    do_dlopen,
    do_dlsym,
    set_hooks,
    hooked_malloc,
    hooked_free,
    registered,
    clear_registered,
    "a string literal",
    &number,
    table,
};
