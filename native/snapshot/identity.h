/* identity.h - when a file of a snapshot is the one it was, decided in one place.
 *
 * Quickly: it is in the same state (base/identity.h). Else slowly, by what is in it: a library by size and build-id,
 * any other file by size and digest; so a copy of an image, an unpacked archive or a checkout of the same source is the
 * same, whatever its times.
 */
#ifndef MHI_IDENTITY_H
#define MHI_IDENTITY_H
#include <stdbool.h>
#include <sys/stat.h>

#include "format.h"
#include "magicheap.h"

/* What stat tells. */
mhi_file_input mhi_file_identity(int kind, const struct stat *found);
/* The times of what was recorded at `now_ns` are left out if they can't tell it from what it may be next: it may change
 * again within the same tick of the file system's clock, or that keeps whole seconds. */
void mhi_identity_forget_young(mhi_file_input *entry, int64_t now_ns);
/* The quick way. */
bool mhi_is_same_input(const mhi_file_input *was, const mhi_file_input *is);
/* Digest of the content of a regular file, never 0; -errno. */
int mhi_file_digest(int fd, uint64_t size, uint64_t *digest);
/* MH_OK, or MH_ERR_STALE with a sentence. */
int mhi_identity_check(const mhi_file_input *was, const char *path, mh_error *err);
/* The same of an open file. */
int mhi_identity_check_open(const mhi_file_input *was, int fd, const char *path, mh_error *err);

#endif
