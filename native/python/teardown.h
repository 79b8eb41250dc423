/* teardown.h - skips the freeing of memory at an interpreter's end. */
#ifndef MHI_TEARDOWN_H
#define MHI_TEARDOWN_H

/* Called inside Py_FinalizeEx: continues behind its call, or returns if that is impossible. mh_can_leave, at the
 * commit, has found out whether it is allowed. */
void mhi_teardown_skip(void);

#endif
