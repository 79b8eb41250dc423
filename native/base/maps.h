/* maps.h - the address space of this process: the one parser of /proc/self/maps and smaps. */
#ifndef MHI_MAPS_H
#define MHI_MAPS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/identity.h"
#include "magicheap.h"

typedef struct {
    uint64_t start, end;
    uint32_t prot; /* PROT_* */
    bool is_shared;
    uint64_t offset;  /* in the file */
    mhi_file_id file; /* zero: of no file; as the kernel has it: mhi_mapping_of_path */
    /* path, [heap] and the like, or ""; valid until the next call, or as long as the list */
    const char *name;
    bool is_deleted; /* the file has no name any more; that mark is cut off from `name` */
    /* its VmFlags; false where they were not read */
    bool grows_down, is_droppable, is_wiped, is_not_dumped, is_huge, is_hugetlb, is_device;
} mhi_mapping;

/* The kernel's data and code that it maps into every process. */
bool mhi_mapping_is_vdso(const mhi_mapping *mapping);

/* ---- A mapping at a time, without allocating ---- */

/* A reader of /proc/self/smaps, or of maps. */
typedef struct {
    int fd;
    bool has_flags;
    size_t used, size;  /* of the text: bytes parsed, bytes there */
    char text[1 << 16]; /* a line is at most a path of PATH_MAX bytes, each escaped to four */
} mhi_mappings;

/* 0 or -errno. With the VmFlags, which take the kernel a walk over all pages, or without them. */
int mhi_mappings_open(mhi_mappings *mappings, bool with_flags);
/* 1: a mapping; 0: no more; -errno, -EINVAL if the text is not as expected. */
int mhi_mappings_next(mhi_mappings *mappings, mhi_mapping *mapping);
void mhi_mappings_close(mhi_mappings *mappings);
/* What a mapping of the file at `path` has as its `file`: the device that the kernel has may differ from stat's, as on
 * btrfs and overlayfs. Maps a page for a moment at `page`, where nothing is mapped. 0 or -errno. `mappings`: memory for
 * a reader, which is opened and closed. */
int mhi_mapping_of_path(mhi_file_id *file, const char *path, void *page, mhi_mappings *mappings);

/* ---- All of them at once, without VmFlags ---- */

typedef struct {
    mhi_mapping *items; /* by address */
    size_t n_items;
    char *text; /* the names point into it */
} mhi_maps;

/* The mappings at one moment: other threads may map and unmap meanwhile. Fails for want of memory or of /proc. */
int mhi_maps_read(mhi_maps *maps, mh_error *err);
void mhi_maps_release(mhi_maps *maps); /* zeroed structs are allowed */
/* The mapping around an address, or NULL. */
const mhi_mapping *mhi_maps_find(const mhi_maps *maps, uint64_t address);

/* ---- Pages: an entry of /proc/self/pagemap ---- */

/* The bits of an entry, from Documentation/admin-guide/mm/pagemap.rst. */
#define MHI_PAGE_PRESENT (1ull << 63)
#define MHI_PAGE_SWAPPED (1ull << 62)
#define MHI_PAGE_OF_FILE (1ull << 61)   /* or shared anonymous */
#define MHI_PAGE_GUARD (1ull << 58)     /* MADV_GUARD_INSTALL, shown by Linux 6.15 and later */
#define MHI_PAGE_EXCLUSIVE (1ull << 56) /* no other process has it mapped */

/* Whether the page is the process's own and no file's: it was written to, or zeros were read from it. */
static inline bool mhi_page_is_own(uint64_t entry)
{
    return (entry & (MHI_PAGE_PRESENT | MHI_PAGE_SWAPPED)) != 0 && !(entry & MHI_PAGE_OF_FILE);
}

#endif
