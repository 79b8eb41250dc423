/* owners.c - who made the live blocks of an arena. */
#include <stdio.h>
#include <stdlib.h>

#include "route/route.h"

enum { N_OWNERS = MHI_OWNER_MASK + 1 };

typedef struct {
    mhi_owner_count count;
    uint8_t owner;
} tally;

static int compare_bytes(const void *a, const void *b)
{
    uint64_t x = ((const tally *)a)->count.bytes, y = ((const tally *)b)->count.bytes;
    return x > y ? -1 : x < y;
}

int mh_read_owners(mh_arena *arena, mh_owner *owners, int n_max)
{
    mhi_owner_count counts[N_OWNERS];
    tally tallies[N_OWNERS];
    mhi_arena_count_owners(arena, counts);
    for (int i = 0; i < N_OWNERS; i++)
        tallies[i] = (tally){ counts[i], (uint8_t)i };
    qsort(tallies, N_OWNERS, sizeof *tallies, compare_bytes);
    int n_owners = 0;
    for (; n_owners < N_OWNERS && tallies[n_owners].count.blocks > 0; n_owners++) {
        if (n_owners >= n_max)
            continue;
        mh_owner *owner = &owners[n_owners];
        owner->blocks = tallies[n_owners].count.blocks;
        owner->bytes = tallies[n_owners].count.bytes;
        snprintf(owner->name, sizeof owner->name, "%s", mhi_route_owner_path(tallies[n_owners].owner));
    }
    return n_owners;
}
