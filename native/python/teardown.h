/* teardown.h - past what an interpreter does with its memory at its end. */
#ifndef MHI_TEARDOWN_H
#define MHI_TEARDOWN_H

/* Called inside Py_FinalizeEx: goes on behind it, or returns where that can't be done. mh_can_leave, at the commit, has
 * found out whether it may be. */
void mhi_teardown_skip(void);

#endif
