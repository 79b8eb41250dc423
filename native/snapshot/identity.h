/* identity.h - whether a file that a snapshot depends on is unchanged, decided in one place.
 *
 * Quickly: the file is in the same state (base/identity.h). Else slowly, by content: a library by size and build-id,
 * any other file by size and digest. So a copy of a disk image, an unpacked archive or a checkout of the same source is
 * the same, whatever its times.
 */
#ifndef MHI_IDENTITY_H
#define MHI_IDENTITY_H
#include <stdbool.h>
#include <sys/stat.h>

#include "format.h"
#include "magicheap.h"

/* The members of an input that stat fills in. */
mhi_file_input mhi_file_identity(int kind, const struct stat *found);
/* Drops the times of an input recorded at `now_ns` if they are too young to identify its state: the file may change
 * again within the same tick of the file system's clock, or within the second, if only seconds are kept. */
void mhi_identity_forget_young(mhi_file_input *entry, int64_t now_ns);
/* The quick comparison: same state. */
bool mhi_is_same_input(const mhi_file_input *was, const mhi_file_input *is);
/* Whether the recorded file is unwritten: two records of one file. */
bool mhi_is_unwritten_input(const mhi_file_input *was, const mhi_file_input *is);
/* Digest of the content of a regular file, never 0; -errno. */
int mhi_file_digest(int fd, uint64_t size, uint64_t *digest);
/* MH_OK, or MH_ERR_STALE with a sentence. */
int mhi_identity_check(const mhi_file_input *was, const char *path, mh_error *err);
/* The same for an open file. */
int mhi_identity_check_open(const mhi_file_input *was, int fd, const char *path, mh_error *err);

#endif
