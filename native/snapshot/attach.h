/* attach.h - maps a checked snapshot at its address. */
#ifndef MHI_ATTACH_H
#define MHI_ATTACH_H
#include "heap/arena.h"
#include "snapshot/image.h"

/* The arena of an image whose inputs are unchanged. MH_ERR_BUSY: something else lies in its address range;
 * MH_ERR_STALE: a module that its pointers lead into can't be loaded; MH_ERR_CORRUPT: the arena contradicts the header.
 * On failure nothing stays mapped. `is_movable` and `moved_bytes` are as in mh_options and mh_moved_bytes. */
int mhi_attach(mh_arena **arena, uint64_t *moved_bytes, const struct mh_image *image, bool is_movable, mh_error *err);

#endif
