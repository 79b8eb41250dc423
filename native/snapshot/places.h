/* places.h - the place of snapshots without an explicit path: the user's cache directory. One rule, for the library and
 * the launcher.
 *
 * XDG_CACHE_HOME, else .cache below HOME, else .cache below the home that /etc/passwd names for this user, who may be a
 * service without HOME. A relative path counts as none, as in the XDG base directory specification: it would name
 * another directory for each working directory.
 */
#ifndef MHI_PLACES_H
#define MHI_PLACES_H
#include <stdint.h>
#include <sys/types.h>

#include "magicheap.h"

/* magicheap's directory in the cache directory, which need not exist, into a buffer of PATH_MAX bytes.
 * MH_ERR_UNSUPPORTED: the user has none. */
int mhi_cache_directory(char *path, char *const *environment, mh_error *err);
/* The absolute home of a user from a list like /etc/passwd, into a buffer of PATH_MAX bytes; -ENOENT: the list names
 * none. */
int mhi_home_of(char *home, const char *list, uid_t user);
/* Makes a directory and its missing parents, accessible to the user alone. Makes nothing below a directory that another
 * user could exchange, or in another user's home: a run by root with a user's HOME would lock that user out. */
int mhi_make_directories(const char *path, mh_error *err);
/* The same for this user's cache directory and `below` in it, "" or a path that begins with a slash. A missing home is
 * not made: it means that the user has none (/nonexistent). */
int mhi_make_cache_directory(const char *below, mh_error *err);

/* The interpreter that the commands in `directory` were installed for, into a buffer of PATH_MAX bytes; "" if unknown.
 * The first line of the script `magicheap` names it: every installer writes that line for its interpreter. */
void mhi_read_interpreter(char *path, const char *directory);

#endif
