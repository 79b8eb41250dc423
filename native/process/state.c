/* state.c - the kernel's state of the process besides its memory: as it was when the library was loaded, and at
 * present. */
#include "base/identity.h"
#include "base/stream.h"
#include "magicheap.h"
#include "sys/sys.h"

_Static_assert(MH_STATE_VALUES == (int)MHI_STATE_VALUES, "all of it is told");

static int64_t first[MHI_STATE_VALUES];

/* The last values are of the standard streams. What the interpreter reads may have the number of a closed one. */
__attribute__((constructor)) static void read_first(void)
{
    enum { EACH = 3 };
    mhi_sys_state(first, mhi_file_mark);
    int64_t *stream = first + MHI_STATE_VALUES - MHI_STREAMS * EACH;
    for (int fd = 0; fd < MHI_STREAMS; fd++, stream += EACH)
        if (!mhi_stream_is_open(fd))
            stream[0] = 0, stream[1] = stream[2] = -1;
}

void mh_read_state(bool at_first, int64_t *values)
{
    if (!at_first)
        mhi_sys_state(values, mhi_file_mark);
    for (int i = 0; i < MHI_STATE_VALUES && at_first; i++)
        values[i] = first[i];
}
