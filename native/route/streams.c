/* streams.c - see streams.h. */
#define _GNU_SOURCE
#include "route/streams.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/text.h"
#include "route/reads.h"

static const char *const numbers[MHI_STREAMS] = { "0", "1", "2" };
static const char *const names[MHI_STREAMS] = { "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2" };

static mhi_stream given[MHI_STREAMS];
static uint32_t at_start;

__attribute__((constructor)) static void start(void) { at_start = mhi_streams_open(); }

uint32_t mhi_streams_at_start(void) { return at_start; }

void mhi_streams_begin(void)
{
    int error = errno;
    for (int fd = 0; fd < MHI_STREAMS; fd++)
        given[fd] = mhi_stream_look(fd);
    errno = error;
}

const mhi_stream *mhi_stream_given(int fd) { return &given[fd]; }

/* That a stream is closed is an input of each snapshot. Its number may be that of any file that is opened. */
void mhi_see_stream(mhi_asked kind, int fd)
{
    if (fd >= 0 && fd < MHI_STREAMS && given[fd].type != 0)
        mhi_question_note(kind, numbers[fd], NULL, 0);
}

/* ---- by a name ---- */

const char *mhi_stream_name(const char *path)
{
    static const char *const devices[MHI_STREAMS] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" };
    for (int fd = 0; fd < MHI_STREAMS; fd++)
        if (strcmp(path, devices[fd]) == 0)
            return names[fd];
    const char *number = NULL;
    if (mhi_begins(path, "/dev/fd/")) {
        number = path + strlen("/dev/fd/");
    } else if (mhi_begins(path, "/proc/")) {
        const char *process = path + strlen("/proc/"), *rest = strchr(process, '/');
        bool is_own = mhi_begins(process, "self/") || mhi_begins(process, "thread-self/") || atoi(process) == getpid();
        if (is_own && rest != NULL && mhi_begins(rest, "/fd/"))
            number = rest + strlen("/fd/");
    }
    bool is_stream = number != NULL && *number >= '0' && *number < '0' + MHI_STREAMS && number[1] == '\0';
    return is_stream ? names[*number - '0'] : NULL;
}

/* Where its link leads, and the rights to the file there, are questions about a path. */
void mhi_see_named_stream(mhi_asked kind, const char *name, const struct stat *found)
{
    int fd = name[strlen(name) - 1] - '0';
    if (kind == MHI_ASKED_LINK) {
        mhi_question_note(kind, name, NULL, 0);
        return;
    }
    mhi_see_stream(MHI_ASKED_STREAM, fd);
    if (found != NULL && S_ISREG(found->st_mode))
        mhi_see_stream(MHI_ASKED_LENGTH, fd);
}

/* ---- by a descriptor ---- */

/* Of an output, the length is left out: Python calls fstat for each stream that it makes, and a log is longer at each
 * run. */
void mhi_see_status(int fd)
{
    mhi_see_stream(MHI_ASKED_STREAM, fd);
    if (fd == STDIN_FILENO)
        mhi_see_stream(MHI_ASKED_LENGTH, fd);
}

int mhi_routed_fstat(int fd, struct stat *found) { return mhi_see_status(fd), fstat(fd, found); }
int mhi_routed_fxstat(int version, int fd, struct stat *found) { return (void)version, mhi_routed_fstat(fd, found); }

/* Whoever moves in standard input decides what is read next, as one who reads. */
off_t mhi_routed_lseek(int fd, off_t offset, int whence)
{
    mhi_see_stream(MHI_ASKED_POSITION, fd);
    if (whence != SEEK_SET && whence != SEEK_CUR)
        mhi_see_stream(MHI_ASKED_LENGTH, fd);
    off_t result = lseek(fd, offset, whence);
    if (fd == STDIN_FILENO && result >= 0 && (whence != SEEK_CUR || offset != 0))
        mhi_see_read(fd);
    return result;
}

int mhi_routed_fcntl(int fd, int command, ...)
{
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *); /* fcntl has at most one, no larger than a pointer */
    va_end(arguments);
    if (command == F_GETFL)
        mhi_see_stream(MHI_ASKED_STREAM, fd);
    return fcntl(fd, command, argument);
}

/* ---- terminals ---- */

int mhi_routed_isatty(int fd) { return mhi_see_stream(MHI_ASKED_TERMINAL, fd), isatty(fd); }

int mhi_routed_ioctl(int fd, unsigned long request, ...)
{
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *); /* ioctl has at most one, no larger than a pointer */
    va_end(arguments);
    if (request == TIOCGWINSZ)
        mhi_see_stream(MHI_ASKED_SIZE, fd);
    else if (request == TCGETS)
        mhi_see_stream(MHI_ASKED_TERMINAL, fd);
    else if (request == FIONREAD)
        mhi_see_read(fd);
    return ioctl(fd, request, argument);
}

int mhi_routed_tcgetattr(int fd, struct termios *settings)
{
    mhi_see_stream(MHI_ASKED_TERMINAL, fd);
    return tcgetattr(fd, settings);
}

static void see_name(int fd)
{
    mhi_see_stream(MHI_ASKED_TERMINAL, fd);
    if (fd >= 0 && fd < MHI_STREAMS && given[fd].is_terminal)
        mhi_question_note(MHI_ASKED_LINK, names[fd], NULL, 0);
}

char *mhi_routed_ttyname(int fd) { return see_name(fd), ttyname(fd); }
int mhi_routed_ttyname_r(int fd, char *name, size_t size) { return see_name(fd), ttyname_r(fd, name, size); }
