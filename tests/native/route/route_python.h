/* route_python.h - an interpreter that is none, and how a library calls what it has. */
#ifndef ROUTE_PYTHON_H
#define ROUTE_PYTHON_H
#include <stddef.h>

#define VISIBLE __attribute__((visibility("default")))

VISIBLE void *PyMem_RawMalloc(size_t size);
VISIBLE void *PyMem_RawCalloc(size_t n_items, size_t item_size);
VISIBLE void *PyMem_RawRealloc(void *block, size_t size);
VISIBLE void PyMem_RawFree(void *block);

typedef struct {
    void *(*malloc)(size_t size);
    void *(*calloc)(size_t n_items, size_t item_size);
    void *(*realloc)(void *block, size_t size);
    void (*free)(void *block);
} python_raw;

/* Not NULL: as if the debugging allocator were at work. */
VISIBLE void python_set_debugging(void *context);
/* The calls that the interpreter makes itself. */
VISIBLE extern const python_raw python_itself;

#endif
