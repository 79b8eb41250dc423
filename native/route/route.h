/* route.h - sends malloc and its family, of libraries that know nothing of us, into an arena, and notes what they ask
 * of the world (questions.h).
 *
 * Done by patching the GOT entries of loaded objects, so that no LD_PRELOAD and no second exec is needed. The
 * interpreter's own allocations (and ours) stay on the ordinary heap; its free and realloc are patched, since blocks
 * may reach it.
 */
#ifndef MHI_ROUTE_H
#define MHI_ROUTE_H
#include "heap/arena.h"

/* Patches every loaded object, now and as dlopen returns, and routes the allocations of all threads into `arena` until
 * mhi_route_end. The patches stay for good: afterwards they pass through, but still know an arena block when they see
 * one. MH_ERR_BUSY: one at a time. */
int mhi_route_begin(mh_arena *arena, mh_error *err);
/* As mhi_route_begin, but only notes questions: allocations, and the slots that they go through, stay as they are. */
int mhi_route_watch(mh_error *err);
void mhi_route_end(void);
/* As mhi_route_watch, before there is a transaction: the next begin goes on with these notes; or they are dropped. */
int mhi_route_stand(mh_error *err);
void mhi_route_stand_down(void);
/* Patches as mhi_route_begin does, but routes nothing: for a process that attaches a snapshot, whose blocks may be
 * handed to any library's free. Costs a walk over the relocations of all modules, once; MH_ERR_SYSTEM if memory or a
 * page protection is refused. */
int mhi_route_guard(mh_error *err);
/* Path of the library with this owner number; "" for MHI_OWNER_EXPLICIT, "other libraries" for MHI_OWNER_OTHERS. */
const char *mhi_route_owner_path(uint8_t owner);

#endif
