/* route_guest.h - a library that knows nothing of arenas, as one table of what it can do. */
#ifndef ROUTE_GUEST_H
#define ROUTE_GUEST_H
#include <stddef.h>
#include <stdio.h>

typedef struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t n_items, size_t item_size);
    void *(*realloc)(void *block, size_t size);
    void *(*reallocarray)(void *block, size_t n_items, size_t item_size);
    void *(*memalign)(size_t align, size_t size);
    int (*posix_memalign)(void **out, size_t align, size_t size);
    void *(*aligned_alloc)(size_t align, size_t size);
    void *(*valloc)(size_t size);
    void *(*pvalloc)(size_t size);
    void (*free)(void *block);
    size_t (*malloc_usable_size)(void *block);
    char *(*strdup)(const char *text);
    char *(*format)(const char *text);    /* asprintf */
    char *(*read_line)(const char *path); /* fopen, getline */
    int (*open)(const char *path, int flags);
    int (*open_in)(const char *directory, const char *name); /* openat */
    FILE *(*fopen)(const char *path, const char *mode);
    void *(*dlopen)(const char *name);
    void *(*dlsym)(void *handle, const char *name);
    void (*set_hooks)(void);             /* from here on: */
    void *(*hooked_malloc)(size_t size); /* malloc through a pointer set at run time */
    void (*hooked_free)(void *block);
    void *(*(*registered)(void))(size_t size); /* what a plugin's constructor has registered */
    void (*clear_registered)(void);
    const char *literal;      /* in constants */
    int *number;              /* in writable data */
    const void *const *table; /* in read-only data that is relocated, as vtables are */
} guest;

#endif
