/* text.h - texts and paths: functions that the C library lacks, or has but that may not be called here. */
#ifndef MHI_TEXT_H
#define MHI_TEXT_H
#include <stdbool.h>
#include <string.h>

static inline bool mhi_begins(const char *text, const char *with) { return strncmp(text, with, strlen(with)) == 0; }
static inline bool mhi_ends(const char *text, const char *with)
{
    size_t length = strlen(text), n = strlen(with);
    return length >= n && memcmp(text + length - n, with, n) == 0;
}

/* A copy that the caller owns, of "" for NULL; NULL for want of memory. Not strdup: that calls malloc from inside libc,
 * which is routed into the arena. */
char *mhi_copy_text(const char *text);

/* The part behind the last slash; the whole path if there is none. */
const char *mhi_path_name(const char *path);
/* The directory of an absolute path, into a buffer of PATH_MAX bytes. */
void mhi_path_directory(const char *absolute, char *directory);

#endif
