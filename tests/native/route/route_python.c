/* route_python.c - as much of an interpreter as routing looks for: its names for malloc and its like, and what it does
 * with a block itself. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "route_python.h"

typedef struct {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t n_items, size_t item_size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block);
} allocator;

static void *plain_malloc(void *context, size_t size)
{
    (void)context;
    return malloc(size == 0 ? 1 : size);
}

static void *plain_calloc(void *context, size_t n_items, size_t item_size)
{
    (void)context;
    return n_items == 0 || item_size == 0 ? calloc(1, 1) : calloc(n_items, item_size);
}

static void *plain_realloc(void *context, void *block, size_t size)
{
    (void)context;
    return realloc(block, size == 0 ? 1 : size);
}

static void plain_free(void *context, void *block)
{
    (void)context;
    free(block);
}

static allocator raw = { NULL, plain_malloc, plain_calloc, plain_realloc, plain_free };

void *PyMem_RawMalloc(size_t size) { return raw.malloc(raw.context, size); }
void *PyMem_RawCalloc(size_t n_items, size_t item_size)
{
    /* as CPython does, before it asks its allocator */
    bool fits = item_size == 0 || n_items <= PTRDIFF_MAX / item_size;
    return fits ? raw.calloc(raw.context, n_items, item_size) : NULL;
}
void *PyMem_RawRealloc(void *block, size_t size) { return raw.realloc(raw.context, block, size); }
void PyMem_RawFree(void *block) { raw.free(raw.context, block); }

__attribute__((visibility("default"))) void PyMem_GetAllocator(int domain, allocator *copy)
{
    (void)domain;
    *copy = raw;
}

void python_set_debugging(void *context) { raw.context = context; }

const python_raw python_itself = { PyMem_RawMalloc, PyMem_RawCalloc, PyMem_RawRealloc, PyMem_RawFree };
