/* maps.h - the mappings of this process, as /proc/self/maps tells them. */
#ifndef MHI_MAPS_H
#define MHI_MAPS_H
#include "magicheap.h"

typedef struct {
    uint64_t start, end;
    int prot;         /* PROT_READ and so on */
    uint64_t inode;   /* 0: of no file */
    const char *name; /* a path, "[heap]" and the like, or "" */
} mhi_mapping;

typedef struct {
    mhi_mapping *items; /* by address */
    size_t n_items;
    char *text; /* what the names point into */
} mhi_maps;

/* A moment of them: other threads may map and unmap meanwhile. Fails for want of memory or of /proc. */
int mhi_maps_read(mhi_maps *maps, mh_error *err);
void mhi_maps_release(mhi_maps *maps); /* zeroed structs are allowed */
/* The mapping around an address, or NULL. */
const mhi_mapping *mhi_maps_find(const mhi_maps *maps, uint64_t address);

#endif
