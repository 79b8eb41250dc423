/* stream.h - what a standard stream is: a pipe, a file, a terminal, closed. */
#ifndef MHI_STREAM_H
#define MHI_STREAM_H
#include <stdbool.h>
#include <stdint.h>

enum { MHI_STREAMS = 3 };
#define MHI_NO_POSITION UINT64_MAX

typedef struct {
    uint32_t type;     /* S_IFMT bits of its mode; 0: closed */
    uint32_t flags;    /* of its status flags: O_ACCMODE, O_APPEND, O_NONBLOCK */
    uint64_t device;   /* of a device: its st_rdev; 0: no device, or a terminal, which are alike */
    uint64_t position; /* MHI_NO_POSITION: it can't be sought in */
    uint64_t bytes;    /* length of a regular file; else 0 */
    bool is_terminal;
} mhi_stream;

/* What is inherited is never close-on-exec: a stream that was closed at the start may have its number taken by a file
 * of the interpreter, of the launcher or of ours, which all are. Such a stream is closed. */
bool mhi_stream_is_open(int fd);
mhi_stream mhi_stream_look(int fd);
/* Those that are open, a bit for each. */
uint32_t mhi_streams_open(void);

#endif
