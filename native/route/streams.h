/* streams.h - questions about the three standard streams: what they are, where they stand.
 *
 * The answers are those of the moment when the notes began: the body may write to a stream, seek in it or close it, and
 * a later run is asked before it has done so.
 */
#ifndef MHI_ROUTE_STREAMS_H
#define MHI_ROUTE_STREAMS_H
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <termios.h>

#include "base/stream.h"
#include "route/questions.h"

/* Takes the streams as they are as those that questions are about. */
void mhi_streams_begin(void);
/* fd: 0 to 2 */
const mhi_stream *mhi_stream_given(int fd);
/* Those that were open when this library was loaded, a bit for each. */
uint32_t mhi_streams_at_start(void);

/* Notes a question about a descriptor, if that is a standard stream. */
void mhi_see_stream(mhi_asked kind, int fd);
/* Notes fstat's question. */
void mhi_see_status(int fd);
/* If an absolute path is a name of a standard stream (/dev/stdin, /proc/self/fd/0 ...), one that is the same in each
 * process; else NULL. */
const char *mhi_stream_name(const char *path);
/* Notes the question of mhi_question_note_path about such a name. */
void mhi_see_named_stream(mhi_asked kind, const char *name, const struct stat *found);

int mhi_routed_fcntl(int fd, int command, ...);
int mhi_routed_fstat(int fd, struct stat *found);
/* For programs built before glibc 2.33. */
int mhi_routed_fxstat(int version, int fd, struct stat *found);
int mhi_routed_ioctl(int fd, unsigned long request, ...);
int mhi_routed_isatty(int fd);
off_t mhi_routed_lseek(int fd, off_t offset, int whence);
int mhi_routed_tcgetattr(int fd, struct termios *settings);
char *mhi_routed_ttyname(int fd);
int mhi_routed_ttyname_r(int fd, char *name, size_t size);

#endif
