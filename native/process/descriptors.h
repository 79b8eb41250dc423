/* descriptors.h - the files that a later run must find open again. */
#ifndef MHI_DESCRIPTORS_H
#define MHI_DESCRIPTORS_H
#include "base/identity.h"
#include "magicheap.h"

typedef struct {
    int fd;
    uint32_t flags; /* O_* for opening it again: none that would create or truncate */
    bool is_cloexec;
    char *path; /* absolute; leads to the open file */
    uint64_t offset;
    mhi_open_id id;
    bool is_held; /* only its number is kept: /dev/null is opened there */
} mhi_descriptor;

typedef struct {
    mhi_descriptor *items; /* by number */
    size_t n_items;
} mhi_descriptors;

/* Collects the descriptors of the calling process, except 0, 1 and 2, the `own` ones, and inherited ones, which each
 * run gets anew. The owner of the `held` ones opens them again. MH_ERR_UNSUPPORTED names descriptors that can't be
 * opened again. On failure `out` is empty. */
typedef struct {
    const int *own, *held;
    size_t n_own, n_held;
} mhi_descriptors_known;
int mhi_descriptors_collect(mhi_descriptors *out, const mhi_descriptors_known *known, mh_error *err);
void mhi_descriptors_release(mhi_descriptors *descriptors); /* zeroed ones are allowed */

/* Marks as inherited every descriptor that is open, not close-on-exec, and not in the last collect. Called once when
 * the library is loaded, and again in a resumed process, which inherits others. Allocates nothing and takes no lock. */
void mhi_descriptors_remember(void);
bool mhi_descriptors_is_inherited(int fd);
/* Whether a file, pipe or socket may be open for writing, apart from 0, 1 and 2 and inherited ones. */
bool mhi_descriptors_may_write(void);

#endif
