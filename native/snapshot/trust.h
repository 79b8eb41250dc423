/* trust.h - where a snapshot lies, and whether anybody else could choose what lies there.
 *
 * To map a snapshot is to run its author's code. So it must be a regular file that belongs to us or to root, that
 * nobody else can write, at a path none of whose directories lets others put another file (or directory) in its place.
 */
#ifndef MHI_TRUST_H
#define MHI_TRUST_H
#include <sys/stat.h>

#include "magicheap.h"

/* The absolute path of `path`, allocated: symbolic links of its directory are resolved, its last name is kept as it is,
 * since a link there is never followed. A directory that does not exist is no error here. */
int mhi_path_resolve(char **absolute, const char *path, mh_error *err);

/* MH_ERR_UNTRUSTED under set-user-ID and the like: the environment and the caller's files are then somebody else's. */
int mhi_trust_process(mh_error *err);
int mhi_trust_file(const char *path, const struct stat *file, mh_error *err);
/* Every directory that leads to `absolute`, as mhi_path_resolve made it. */
int mhi_trust_directories(const char *absolute, mh_error *err);

#endif
