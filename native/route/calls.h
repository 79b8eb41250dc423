/* calls.h - the functions that routing replaces, and their replacements.
 *
 * Most replacements must know their caller, for the live map. So every library with an owner number gets entry points
 * of its own: small stubs (stubs.S of arch) in a table of one row per owner byte and one column per function, which
 * pass the owner as a last argument that the replaced function does not have. That costs one instruction and one jump.
 */
#ifndef MHI_ROUTE_CALLS_H
#define MHI_ROUTE_CALLS_H
#include "heap/arena.h"

/* Columns of the stub table, in its order. */
enum {
    MHI_STUB_MALLOC,
    MHI_STUB_CALLOC,
    MHI_STUB_REALLOC,
    MHI_STUB_REALLOCARRAY,
    MHI_STUB_MEMALIGN,
    MHI_STUB_POSIX_MEMALIGN,
    MHI_STUB_ALIGNED_ALLOC,
    MHI_STUB_VALLOC,
    MHI_STUB_PVALLOC,
    MHI_STUB_NEW,
    MHI_STUB_NEW_NOTHROW,
    MHI_STUB_NEW_ALIGNED,
    MHI_STUB_NEW_ALIGNED_NOTHROW,
    MHI_STUB_RAW_MALLOC,
    MHI_STUB_RAW_CALLOC,
    MHI_STUB_RAW_REALLOC,
    MHI_N_STUBS,
    MHI_NO_STUB = -1
};

typedef enum {
    MHI_ALLOCATES, /* also a likely value of function pointers that libraries set at run time (xmlFree and the like) */
    MHI_OPERATOR,  /* an operator new: only libstdc++'s own is replaced */
    /* the interpreter's name for malloc and its like, in libraries other than its own: see R5 of allocations.c */
    MHI_RAW,
    MHI_LINKS, /* loads libraries, or finds their functions */
    MHI_OPENS, /* opens a file */
    MHI_ASKS,  /* asks about the world without opening a file */
    MHI_DRAWS, /* draws random bytes from the kernel */
} mhi_role;

typedef struct {
    const char *name;
    mhi_role role;
    /* MHI_STUB_*: this column of the stub table replaces the function in routed modules; or MHI_NO_STUB ... */
    int stub;
    void (*plain)(void); /* ... and this function replaces it, for all callers */
    /* the replacement in the interpreter's own module, which is not routed: accepts arena blocks, or notes questions;
     * NULL: none */
    void (*kept)(void);
    void (**real)(void); /* where the address of the real function is kept; NULL: another entry keeps it */
} mhi_call;

enum { MHI_N_CALLS = 129 };
extern const mhi_call mhi_calls[MHI_N_CALLS]; /* sorted by name */
/* Index in mhi_calls, or -1. */
int mhi_call_lookup(const char *name);
/* The replacement of call number `call` in modules with this owner byte. */
uint64_t mhi_call_stub(int call, uint8_t owner);

/* The arena that allocations go to, or NULL. */
extern _Atomic(mh_arena *) mhi_route_target;
/* How many of the next allocations first look for newly loaded modules; see route.c. */
extern atomic_int mhi_route_rechecks;
void mhi_route_recheck(void);

/* The real dlsym. */
extern void *(*mhi_real_dlsym)(void *handle, const char *name);
extern void *(*mhi_real_dlopen)(const char *path, int mode);
/* Called by the stubs of dlopen and dlmopen, and of dlsym and dlvsym, before the real function. If mhi_before_dlsym
 * does not return NULL, that is the answer. */
void mhi_before_dlopen(void);
void *mhi_before_dlsym(void *handle, const char *name);

#endif
