/* state.c - the kernel's state of the process besides its memory: as it was when the library was loaded, and at
 * present; and what a thread waits in. */
#include "base/identity.h"
#include "magicheap.h"
#include "sys/sys.h"

_Static_assert(MH_STATE_VALUES == (int)MHI_STATE_VALUES, "all of it is told");

static int64_t first[MHI_STATE_VALUES];

__attribute__((constructor)) static void read_first(void) { mhi_sys_state(first, mhi_file_mark); }

void mh_read_state(bool at_first, int64_t *values)
{
    if (!at_first)
        mhi_sys_state(values, mhi_file_mark);
    for (int i = 0; i < MHI_STATE_VALUES && at_first; i++)
        values[i] = first[i];
}

