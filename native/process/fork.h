/* fork.h - the fork that commits, and the arguments of a resumed process. */
#ifndef MHI_FORK_H
#define MHI_FORK_H
#include "process/process.h"
#include "snapshot/writer.h"

/* Address of the capture, which parent and child share: in the launcher's region, far behind the launcher itself. */
#define MHI_CAPTURE_START 0x210000000000ull
#define MHI_CAPTURE_END MHI_LAUNCHER_END

/* Makes this thread's next fork a commit by `writer`, which a resumed process disowns. The scrubs must live until that
 * fork. */
int mhi_fork_arm(mhi_capture **capture, mhi_writer *writer, const mhi_scrub *scrubs, uint64_t n_scrubs, mh_error *err);
/* Unmaps the capture, and disarms if there was no fork. A capture with which another thread is armed stays mapped,
 * since that thread's fork will access it. */
void mhi_fork_release(mhi_capture *capture);
/* NULL in a process that was not resumed. */
const mhi_arguments *mhi_fork_arguments(void);

#endif
