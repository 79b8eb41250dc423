/* descriptors.h - the open files of a process that a later run must find open again. */
#ifndef MHI_DESCRIPTORS_H
#define MHI_DESCRIPTORS_H
#include "magicheap.h"

typedef struct {
    int fd;
    uint32_t flags; /* O_* to open it again with: none that would create or truncate */
    bool is_cloexec;
    char *path; /* absolute; leads to the file that is open */
    uint64_t offset;
    uint64_t inode;  /* 0: a device */
    uint64_t device; /* of a device: its st_rdev; else 0 */
    bool is_held;    /* only its number is kept, by /dev/null */
} mhi_descriptor;

typedef struct {
    mhi_descriptor *items; /* by number */
    size_t n_items;
} mhi_descriptors;

/* Those of the calling process but 0, 1 and 2, the `own` ones, and what it has inherited, which are of each run anew.
 * The `held` ones are their owner's to open again. MH_ERR_UNSUPPORTED names those that can't be opened again. On
 * failure `out` is empty. */
typedef struct {
    const int *own, *held;
    size_t n_own, n_held;
} mhi_descriptors_known;
int mhi_descriptors_collect(mhi_descriptors *out, const mhi_descriptors_known *known, mh_error *err);
void mhi_descriptors_release(mhi_descriptors *descriptors); /* zeroed ones are allowed */

/* Takes all that is open and stays open over execve, and is not known from the last collect, for inherited. This
 * happens once as the library is loaded; a resumed process, where others are inherited, does it again. Allocates
 * nothing and takes no lock. */
void mhi_descriptors_remember(void);
bool mhi_descriptors_is_inherited(int fd);
/* Whether a file, pipe or socket is open for writing, or may be, but 0, 1 and 2 and what was inherited. */
bool mhi_descriptors_may_write(void);

#endif
