/* mappings.h - the address space of this process, a mapping at a time, without allocating. */
#ifndef MHI_MAPPINGS_H
#define MHI_MAPPINGS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t start, end;
    uint32_t prot; /* PROT_* */
    bool is_shared;
    uint64_t offset;        /* in the file */
    uint64_t inode, device; /* 0: no file; device as st_dev has it */
    const char *name;       /* path, [heap] and the like, or ""; valid until the next call */
    bool is_deleted;        /* the file has no name any more; it is cut off from `name` */
    bool grows_down, is_droppable, is_wiped, is_not_dumped, is_huge, is_hugetlb, is_device; /* its VmFlags */
} mhi_mapping;

/* A reader of /proc/self/smaps. */
typedef struct {
    int fd;
    size_t used, size;  /* of the text: read so far, there is */
    char text[1 << 16]; /* a line is at most a path of PATH_MAX bytes, each escaped to four */
} mhi_mappings;

/* 0 or -errno. */
int mhi_mappings_open(mhi_mappings *mappings);
/* 1: here is one; 0: there are no more; -errno, -EINVAL if the text is not as expected. */
int mhi_mappings_next(mhi_mappings *mappings, mhi_mapping *mapping);
void mhi_mappings_close(mhi_mappings *mappings);

#endif
