/* at_start.h - how this process was started. */
#ifndef MHI_AT_START_H
#define MHI_AT_START_H
#include "base/dispositions.h"

/* As they were when the library was loaded, which is before the program of a run that is watched from its first
 * instruction; in a resumed process, those of the committing one, which are the same. */
const mhi_dispositions *mhi_dispositions_at_start(void);

#endif
