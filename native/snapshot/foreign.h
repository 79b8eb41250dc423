/* foreign.h - which files are ours to replace or remove: those that begin as a snapshot or are empty, and no others. */
#ifndef MHI_FOREIGN_H
#define MHI_FOREIGN_H
#include "magicheap.h"

/* What stands at a path: nothing, our file, or a foreign one. */
enum {
    MHI_STANDS_NOTHING = 0,
    /* a regular file that begins as a snapshot of any format or is empty, or a link to a snapshot */
    MHI_STANDS_OURS = 1,
    MHI_STANDS_FOREIGN = 2,
};
/* One of these, or -errno where the path can't be examined. *kind names the sort of a foreign file, a noun with its
 * article; else it is "". */
int mhi_foreign_look(const char *path, const char **kind);
/* MH_ERR_FORMAT with the remedy if a foreign file stands at `path`; *stands: a file of ours is there. */
int mhi_foreign_refuse(const char *path, bool *stands, mh_error *err);
/* Whether a file is the remains of a writer that died: it begins as a snapshot, or nothing had been written yet. */
bool mhi_foreign_is_rest(const char *path);

#endif
