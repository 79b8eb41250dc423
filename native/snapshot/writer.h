/* writer.h - the files of a commit: the lock beside the snapshot, and the file that will take its place.
 *
 *     DIR/NAME               the snapshot; only ever replaced as a whole
 *     DIR/NAME.lock          locked by the one run that may replace the snapshot; exists only meanwhile
 *     DIR/NAME.uncommitted   the name of the new file between link and exchange, and then of the old one until it is
 *                            removed; where the file system has no nameless files, the name of the new file all along.
 *                            The next writer removes the file of a dead one
 */
#ifndef MHI_WRITER_H
#define MHI_WRITER_H
#include "magicheap.h"

typedef struct {
    char *path;            /* of the snapshot, absolute; NULL: closed */
    const char *lock_path; /* both in the same allocation as path */
    const char *temporary; /* DIR/NAME.uncommitted */
    /* the file that publish replaces: the snapshot itself, or another name in its directory; NULL: closed */
    char *target;
    int directory;
    int lock;
    bool is_lock_ours; /* false: another program's empty file has that name, and stays */
    int fd;            /* the file that is to become the snapshot, open read-write */
    bool is_named;     /* the file has the name `temporary` */
} mhi_writer;

/* Takes the lock and makes an empty file, mode 0600. MH_ERR_BUSY with EWOULDBLOCK: another run holds the lock.
 * MH_ERR_FORMAT: one of the names above leads to something that is not ours. On failure the writer is closed. */
int mhi_writer_open(mhi_writer *writer, const char *absolute, mh_error *err);
/* Sets the path that publish replaces, in the directory of the snapshot. */
int mhi_writer_aim(mhi_writer *writer, const char *absolute, mh_error *err);
/* Replaces the writer's file by an empty one. On failure the writer has no file, fd is -1. */
int mhi_writer_restart(mhi_writer *writer, mh_error *err);
/* Puts the file, which must be durable, in the snapshot's place, durably. MH_ERR_FORMAT: the file in that place is no
 * snapshot. If only the last step fails (the directory's fsync) the snapshot is in place, but may be the old one again
 * after a power failure. */
int mhi_writer_publish(mhi_writer *writer, mh_error *err);
/* Removes the file unless it was published, and releases the lock. A closed writer is allowed. */
void mhi_writer_close(mhi_writer *writer);
/* Closes the descriptors only: for a forked child, since lock and names are its parent's. */
void mhi_writer_forget(mhi_writer *writer);
/* In a resumed process: marks the writer closed without closing, since its descriptor numbers are those of the
 * committing process, and may belong to other files here. */
void mhi_writer_disown(mhi_writer *writer);

#endif
