/* trust.h - the path of a snapshot, and whether another user could choose the file at that path.
 *
 * To map a snapshot is to run its author's code. So a snapshot must be a regular file that belongs to us or to root,
 * and that no other user can write. No directory of its path may let others put another file (or directory) in its
 * place.
 */
#ifndef MHI_TRUST_H
#define MHI_TRUST_H
#include <sys/stat.h>

#include "magicheap.h"

/* The absolute path of `path`, allocated. Symbolic links of its directory are resolved; its last name is kept, since a
 * link there is never followed. A directory that does not exist is no error here. */
int mhi_path_resolve(char **absolute, const char *path, mh_error *err);

/* MH_ERR_UNTRUSTED under set-user-ID and the like: environment and files then come from another user. */
int mhi_trust_process(mh_error *err);
int mhi_trust_file(const char *path, const struct stat *file, mh_error *err);
/* Judges every directory on the path `absolute`, a result of mhi_path_resolve. */
int mhi_trust_directories(const char *absolute, mh_error *err);

#endif
