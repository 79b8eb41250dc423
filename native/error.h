/* error.h - filling in an mh_error in one line. */
#ifndef MHI_ERROR_H
#define MHI_ERROR_H
#include "magicheap.h"

/* Sets *err (if not NULL) to the status, the errno (0, or -result of a mhi_sys call) and a formatted sentence; returns
 * the status. */
__attribute__((format(printf, 4, 5))) int mhi_fail(mh_error *err, int status, int sys_errno, const char *format, ...);
/* The same for a failed system call: MH_ERR_NOSPACE for ENOSPC, EDQUOT and EFBIG, else MH_ERR_SYSTEM; ": <strerror>" is
 * appended. `result` is the negative value a mhi_sys function returned. */
__attribute__((format(printf, 3, 4))) int mhi_fail_sys(mh_error *err, int result, const char *format, ...);
/* MH_ERR_UNSUPPORTED for a feature that the machine refuses: the sentence is `what`, then the text of the error. */
int mhi_fail_unsupported(mh_error *err, int result, const char *what);

#endif
