/* route.h - sends malloc and its family, of libraries that know nothing of us, into an arena, and notes the files that they open.
 *
 * Done by patching the GOT entries of loaded objects, so that no LD_PRELOAD and no second exec is needed. The interpreter's own
 * allocations (and ours) stay on the ordinary heap; its free and realloc are patched, since blocks may reach it.
 */
#ifndef MHI_ROUTE_H
#define MHI_ROUTE_H
#include <sys/stat.h>

#include "heap/arena.h"

/* Patches every loaded object, now and as dlopen returns, and routes the allocations of all threads into `arena` until mhi_route_end.
 * The patches stay for good: afterwards they pass through, but still know an arena block when they see one. MH_ERR_BUSY: one at a time. */
int mhi_route_begin(mh_arena *arena, mh_error *err);
/* As mhi_route_begin, but only notes files: allocations, and the slots that they go through, stay as they are. */
int mhi_route_watch(mh_error *err);
void mhi_route_end(void);
/* Patches as mhi_route_begin does, but routes nothing: for a process that attaches a snapshot, whose blocks may be handed to any library's
 * free. Costs a walk over the relocations of all modules, once; MH_ERR_SYSTEM if memory or a page protection is refused. */
int mhi_route_guard(mh_error *err);
/* Path of the library with this owner number; "" for MHI_OWNER_EXPLICIT, "other libraries" for MHI_OWNER_OTHERS. */
const char *mhi_route_owner_path(uint8_t owner);

/* What else than reading a file was opened for. */
enum {
    MHI_FILE_OUTPUT = 1,  /* at first: it was created, emptied, or only written */
    MHI_FILE_CHANGED = 2, /* at first or later: it could be written */
};

/* A file that libraries opened between begin and end (open, openat, fopen and their 64-bit names). */
typedef struct {
    const char *path;  /* absolute */
    struct stat found; /* as it was when first opened */
    atomic_uint uses;  /* MHI_FILE_* */
} mhi_opened;

/* Each once, in the order of their first opening. Valid until the next begin; NULL: a thread is just entering it. */
uint32_t mhi_route_opened_count(void);
const mhi_opened *mhi_route_opened(uint32_t i);
/* The file is output, by whatever name it was opened. */
void mhi_route_mark_output(const struct stat *found);
/* How many files that were read were not kept, because there were too many (4096) or memory ran out. */
uint32_t mhi_route_opened_lost(void);

#endif
