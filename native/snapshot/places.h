/* places.h - where snapshots lie that nobody gave a path: the user's cache directory. One rule, for the library and the
 * launcher.
 *
 * XDG_CACHE_HOME, else .cache below HOME, else .cache below the home that /etc/passwd names for this user, who may be a
 * service without HOME. What is not absolute counts as none, as the XDG base directory specification has it: it would
 * lie elsewhere for each working directory.
 */
#ifndef MHI_PLACES_H
#define MHI_PLACES_H
#include <stdint.h>
#include <sys/types.h>

#include "magicheap.h"

/* magicheap's directory in there, which need not exist, into a buffer of PATH_MAX bytes. MH_ERR_UNSUPPORTED: there is
 * none. */
int mhi_cache_directory(char *path, char *const *environment, mh_error *err);
/* The home of a user by a list like /etc/passwd, absolute, into a buffer of PATH_MAX bytes; -ENOENT: it names none. */
int mhi_home_of(char *home, const char *list, uid_t user);
/* Makes a directory and what is missing on the way to it, for the user alone. Nothing is made below what somebody else
 * could exchange, or in somebody else's home: root's run with a user's HOME would lock that user out. */
int mhi_make_directories(const char *path, mh_error *err);
/* The same for this user's cache directory and what is `below` it, "" or a path that begins with a slash. A home that
 * is not there is not made: it says that the user has none (/nonexistent). */
int mhi_make_cache_directory(const char *below, mh_error *err);

/* The interpreter that the commands in `directory` were installed for, into a buffer of PATH_MAX bytes; "" if nothing
 * there says. The script `magicheap` does, which every installer writes with a first line of its own. */
void mhi_read_interpreter(char *path, const char *directory);

#endif
