/* foreign.h - which files are ours to replace or remove: those that begin as a snapshot does, or are empty, and no
 * others. */
#ifndef MHI_FOREIGN_H
#define MHI_FOREIGN_H
#include "magicheap.h"

/* What stands at a path. */
enum {
    MHI_STANDS_NOTHING = 0,
    /* a regular file that begins as a snapshot of any format or is empty, or a link to a snapshot */
    MHI_STANDS_OURS = 1,
    MHI_STANDS_FOREIGN = 2,
};
/* One of these, or -errno: it can't be told. With `kind`, of what is foreign: a noun with its article. */
int mhi_foreign_look(const char *path, const char **kind);
/* MH_ERR_FORMAT with the remedy where anything foreign stands at `path`; *stands: there is something of ours. */
int mhi_foreign_refuse(const char *path, bool *stands, mh_error *err);
/* Whether a file is what a writer that died under this name left: it begins as a snapshot, or nothing had been written
 * yet. */
bool mhi_foreign_is_rest(const char *path);

#endif
