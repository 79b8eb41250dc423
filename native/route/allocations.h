/* allocations.h - the replacements of malloc and its family, and the real functions. */
#ifndef MHI_ROUTE_ALLOCATIONS_H
#define MHI_ROUTE_ALLOCATIONS_H
#include <stdbool.h>
#include <stddef.h>

/* The real functions. Until routing begins, these are our own bindings; routing then looks up better ones. In a program
 * that is not position-independent, our binding may be a PLT entry of the program, which jumps through a slot that is
 * about to be patched. Operators new are known only once some libstdc++ is loaded, PyMem_Raw* only where there is an
 * interpreter, and neither is replaced before. */
typedef struct {
    void *(*malloc)(size_t);
    void *(*calloc)(size_t, size_t);
    void *(*realloc)(void *, size_t);
    void *(*reallocarray)(void *, size_t, size_t);
    void *(*memalign)(size_t, size_t);
    int (*posix_memalign)(void **, size_t, size_t);
    void *(*aligned_alloc)(size_t, size_t);
    void *(*valloc)(size_t);
    void *(*pvalloc)(size_t);
    void (*free)(void *);
    size_t (*malloc_usable_size)(void *);
    void *(*new)(size_t);
    void *(*new_nothrow)(size_t, const void *);
    void *(*new_aligned)(size_t, size_t);
    void *(*new_aligned_nothrow)(size_t, size_t, const void *);
    void *(*raw_malloc)(size_t);
    void *(*raw_calloc)(size_t, size_t);
    void *(*raw_realloc)(void *, size_t);
    void (*raw_free)(void *);
} mhi_allocations;
extern mhi_allocations mhi_real;

/* Shared by all callers; the others are reached through stubs.S, which passes them the caller's owner. */
void mhi_routed_free(void *block);
void mhi_routed_raw_free(void *block);
size_t mhi_routed_malloc_usable_size(void *block);
/* For the interpreter: its own blocks stay ordinary, but it may be handed an arena block. */
void *mhi_kept_realloc(void *block, size_t size);
void *mhi_kept_reallocarray(void *block, size_t n_items, size_t item_size);

/* Whether R5 of allocations.c holds in this process. */
bool mhi_raw_is_plain(void);

#endif
