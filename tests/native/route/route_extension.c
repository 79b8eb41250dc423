/* route_extension.c - an extension module that allocates by the interpreter's names. */
#include "route_python.h"

static void *do_malloc(size_t size) { return PyMem_RawMalloc(size); }
static void *do_calloc(size_t n_items, size_t item_size) { return PyMem_RawCalloc(n_items, item_size); }
static void *do_realloc(void *block, size_t size) { return PyMem_RawRealloc(block, size); }
static void do_free(void *block) { PyMem_RawFree(block); }

VISIBLE extern const python_raw the_extension;
const python_raw the_extension = { do_malloc, do_calloc, do_realloc, do_free };
