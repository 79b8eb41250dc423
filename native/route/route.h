/* route.h - routes malloc and its family into an arena, in libraries that know nothing of us, and notes their questions
 * (questions.h).
 *
 * Routing patches the GOT entries of loaded objects, so it needs no LD_PRELOAD and no second exec. The interpreter's
 * own allocations (and ours) stay on the ordinary heap; the interpreter's free and realloc are patched, since arena
 * blocks may reach them.
 */
#ifndef MHI_ROUTE_H
#define MHI_ROUTE_H
#include "heap/arena.h"

/* Patches every loaded object, now and as dlopen returns, and routes the allocations of all threads into `arena` until
 * mhi_route_end. The patches stay for good: afterwards they call the real functions, but still recognise arena blocks.
 * MH_ERR_BUSY: another transaction is active. */
int mhi_route_begin(mh_arena *arena, mh_error *err);
/* As mhi_route_begin, but only notes questions: allocations, and the slots that they go through, stay as they are. */
int mhi_route_watch(mh_error *err);
void mhi_route_end(void);
/* As mhi_route_watch, before there is a transaction: the next begin goes on with these notes, or mhi_route_stand_down
 * drops them. */
int mhi_route_stand(mh_error *err);
void mhi_route_stand_down(void);
/* Patches as mhi_route_begin does, but routes nothing: for a process that attaches a snapshot, whose blocks may be
 * handed to any library's free. Walks the relocations of all modules, once. MH_ERR_SYSTEM if the kernel refuses memory
 * or a page protection. */
int mhi_route_guard(mh_error *err);
/* Path of the library with this owner number; "" for MHI_OWNER_EXPLICIT, "other libraries" for MHI_OWNER_OTHERS. */
const char *mhi_route_owner_path(uint8_t owner);

#endif
