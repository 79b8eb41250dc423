/* streams.c - see streams.h. */
#define _GNU_SOURCE
#include "snapshot/streams.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "error.h"
#include "snapshot/answers.h"

static const char *const names[MHI_STREAMS] = { "standard input", "standard output", "standard error" };

/* -1: none */
static int number_of(const char *text)
{
    return *text >= '0' && *text < '0' + MHI_STREAMS && text[1] == '\0' ? *text - '0' : -1;
}

mhi_file_input mhi_stream_input(int kind, const mhi_stream *is)
{
    mhi_file_input input = { .in_kind = (uint32_t)kind };
    switch (kind) {
    case MH_INPUT_TERMINAL: input.in_bytes = is->is_terminal; break;
    case MH_INPUT_STREAM:
        input.in_bytes = is->type | (uint64_t)is->flags << 32;
        input.in_device = is->device;
        break;
    case MH_INPUT_POSITION: input.in_bytes = is->position; break;
    case MH_INPUT_LENGTH: input.in_bytes = is->bytes; break;
    default: break;
    }
    return input;
}

static const char *words_for(const mhi_file_input *stream)
{
    switch (stream->in_bytes & S_IFMT) {
    case 0: return "closed";
    case S_IFIFO: return "a pipe";
    case S_IFSOCK: return "a socket";
    case S_IFDIR: return "a directory";
    case S_IFREG: return stream->in_bytes >> 32 & O_APPEND ? "a file that is appended to" : "a file";
    default: return stream->in_device == 0 ? "a terminal" : "a device";
    }
}

static int tell_what(const mhi_file_input *was, const mhi_file_input *is, const char *name, mh_error *err)
{
    const char *before = words_for(was), *now = words_for(is);
    if (strcmp(before, now) != 0)
        return mhi_fail(err, MH_ERR_STALE, 0, "%s was %s, now it is %s", name, before, now);
    return mhi_fail(err, MH_ERR_STALE, 0, "%s is %s as before, but another one, or opened in another way", name, now);
}

int mhi_stream_check(const mhi_file_input *was, const char *number, mh_error *err)
{
    int fd = number_of(number);
    const char *name = names[fd < 0 ? 0 : fd];
    mhi_stream now = mhi_stream_look(fd);
    mhi_file_input is = mhi_stream_input((int)was->in_kind, &now);
    if (is.in_bytes == was->in_bytes && is.in_device == was->in_device)
        return MH_OK;
    switch (was->in_kind) {
    case MH_INPUT_STREAM: return tell_what(was, &is, name, err);
    case MH_INPUT_POSITION:
        return mhi_fail(err, MH_ERR_STALE, 0, "%s stands at another place, which the snapshot's run asked about", name);
    case MH_INPUT_LENGTH:
        return mhi_fail(err, MH_ERR_STALE, 0, "%s has another length, which the snapshot's run asked about", name);
    default:
        return mhi_fail(err, MH_ERR_STALE, 0, "%s is %s terminal, which the snapshot's run asked about", name,
                        now.is_terminal ? "a" : "no");
    }
}

int mhi_stream_check_size(const mhi_file_input *was, const char *number, mh_error *err)
{
    int fd = number_of(number);
    if (mhi_answer_terminal_size(fd) == was->in_bytes)
        return MH_OK;
    return mhi_fail(err, MH_ERR_STALE, 0, "the terminal at %s has another size than the snapshot's run found",
                    names[fd < 0 ? 0 : fd]);
}

int mhi_streams_check_open(const mhi_file_input *was, uint32_t open, mh_error *err)
{
    for (int fd = 0; fd < MHI_STREAMS; fd++)
        if ((was->in_bytes ^ open) >> fd & 1)
            return mhi_fail(err, MH_ERR_STALE, 0, "%s was %s, now it is %s", names[fd],
                            open >> fd & 1 ? "closed" : "open", open >> fd & 1 ? "open" : "closed");
    return MH_OK;
}
