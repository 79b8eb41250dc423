/* files.c - the open family: the real function, then a note of the question.
 *
 * A file that was created, emptied or only written is output, and stays output when it is read afterwards. An existing
 * file opened with O_RDWR is not: a database that is only read is opened so. The commit sees whether such a file was
 * changed.
 */
#define _GNU_SOURCE
#include "route/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>

#include "route/questions.h"
#include "route/entropy.h"
#include "route/reads.h"
#include "sys/sys.h"

int (*mhi_real_open)(const char *, int, ...) = open;
int (*mhi_real_openat)(int, const char *, int, ...) = openat;
FILE *(*mhi_real_fopen)(const char *, const char *) = fopen;
FILE *(*mhi_real_freopen)(const char *, const char *, FILE *) = freopen;

/* Whether open with these flags would create the file. Tested before the open, since the file exists afterwards in any
 * case. */
static bool would_create(int directory, const char *path, int flags)
{
    struct stat found;
    if (!(flags & O_CREAT) || !mhi_questions_are_noted())
        return false;
    int saved_errno = errno;
    bool is_missing = fstatat(directory, path, &found, 0) < 0;
    errno = saved_errno;
    return is_missing;
}

static unsigned uses_of(int flags, bool creates)
{
    if (creates || flags & O_TRUNC || (flags & O_ACCMODE) == O_WRONLY)
        return MHI_FILE_OUTPUT;
    return (flags & O_ACCMODE) == O_RDWR ? MHI_FILE_CHANGED : 0;
}

/* `error` is errno as the real function left it. */
static void note(int fd, int directory, const char *path, unsigned uses)
{
    int error = errno;
    struct stat found = { 0 };
    bool is_absent = fd < 0 && (error == ENOENT || error == ENOTDIR);
    if (is_absent || (fd >= 0 && mhi_sys_fstat(fd, &found) == 0))
        mhi_question_note_path(MHI_ASKED_PATH, directory, path, &found, uses);
    errno = error;
}

/* Inlined, so that the return address is that of the replacement. */
static inline __attribute__((always_inline)) int noted(int fd, int directory, const char *path, int flags, bool creates)
{
    if (fd >= 0)
        mhi_entropy_opened(path, __builtin_return_address(0));
    if (mhi_questions_are_noted() && (flags & O_TMPFILE) != O_TMPFILE)
        note(fd, directory, path, flags & O_PATH ? 0 : uses_of(flags, creates));
    return fd;
}

#define MODE_ARGUMENT(mode, flags)                                 \
    mode_t mode = 0;                                               \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list arguments;                                         \
        va_start(arguments, flags);                                \
        mode = va_arg(arguments, mode_t);                          \
        va_end(arguments);                                         \
    }

int mhi_routed_open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(mode, flags)
    bool creates = would_create(AT_FDCWD, path, flags);
    return noted(mhi_real_open(path, flags, mode), AT_FDCWD, path, flags, creates);
}

int mhi_routed_openat(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(mode, flags)
    bool creates = would_create(directory, path, flags);
    return noted(mhi_real_openat(directory, path, flags, mode), directory, path, flags, creates);
}

int mhi_routed_open_2(const char *path, int flags)
{
    return noted(mhi_real_open(path, flags), AT_FDCWD, path, flags, false);
}

int mhi_routed_openat_2(int directory, const char *path, int flags)
{
    return noted(mhi_real_openat(directory, path, flags), directory, path, flags, false);
}

static void note_stream(FILE *file, const char *path, const char *mode, bool creates)
{
    bool may_read = strchr(mode, '+') != NULL;
    unsigned uses =
        mode[0] == 'r' || (mode[0] == 'a' && may_read && !creates) ? may_read * MHI_FILE_CHANGED : MHI_FILE_OUTPUT;
    note(file == NULL ? -1 : fileno(file), AT_FDCWD, path, uses);
    if (file != NULL && (mode[0] == 'r' || may_read))
        mhi_see_read(fileno(file)); /* the C library's own reads are not seen */
}

FILE *mhi_routed_fopen(const char *path, const char *mode)
{
    bool creates = mode[0] != 'r' && would_create(AT_FDCWD, path, O_CREAT);
    FILE *file = mhi_real_fopen(path, mode);
    if (file != NULL)
        mhi_entropy_opened(path, __builtin_return_address(0));
    if (mhi_questions_are_noted())
        note_stream(file, path, mode, creates);
    return file;
}

/* `path` NULL: reopens the same file in another mode. */
FILE *mhi_routed_freopen(const char *path, const char *mode, FILE *old)
{
    bool creates = path != NULL && mode[0] != 'r' && would_create(AT_FDCWD, path, O_CREAT);
    FILE *file = mhi_real_freopen(path, mode, old);
    if (file != NULL && path != NULL)
        mhi_entropy_opened(path, __builtin_return_address(0));
    if (path != NULL && mhi_questions_are_noted())
        note_stream(file, path, mode, creates);
    return file;
}
