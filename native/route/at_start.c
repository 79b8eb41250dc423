/* at_start.c - see at_start.h. Of the library alone: the launcher is at its start. */
#include "route/at_start.h"

#include <signal.h>

#include "sys/sys.h"

static mhi_dispositions at_start;

__attribute__((constructor)) static void read(void)
{
    at_start.ignored = mhi_sys_ignored_signals() & ~(uint64_t)MHI_IGNORED_BY_PYTHON;
    mhi_sys_mask(SIG_BLOCK, 0, &at_start.blocked);
}

const mhi_dispositions *mhi_dispositions_at_start(void) { return &at_start; }
