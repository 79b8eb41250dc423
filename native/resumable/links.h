/* links.h - from a command to its snapshot.
 *
 * A symbolic link whose name is the checksum of the command's text (python/command.h) leads to the snapshot, and the
 * snapshot holds the text itself, so that two texts of one checksum are told apart.
 */
#ifndef MHI_LINKS_H
#define MHI_LINKS_H
#include "magicheap.h"

/* The path of a command's link, into a buffer of PATH_MAX bytes: in the cache directory that this environment names.
 * MH_ERR_UNSUPPORTED: the environment names none. */
int mhi_command_link(char *path, const char *command, char *const *environment, mh_error *err);

#endif
