/* region.c - which arena owns which part of the region.
 *
 * The region is cut into granules of MHI_SLOT_BYTES. An arena begins at one and covers as many as its capacity needs; a
 * table has the owner of each granule, so that mh_arena_of is a shift and a load for any address. The table is written
 * under the registry lock, and read without.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>

#include "error.h"
#include "heap/heap.h"

_Static_assert((MHI_REGION_START >> 44) + 1 == MHI_REGION_END >> 44, "mhi_in_region is one shift");

pthread_mutex_t mhi_registry_lock = PTHREAD_MUTEX_INITIALIZER;
pthread_mutex_t mhi_adoption_lock = PTHREAD_MUTEX_INITIALIZER;
mh_arena *mhi_arenas;

_Atomic(mh_arena *) mhi_granules[MHI_GRANULES];

mh_arena *mh_arena_of(const void *address) { return mhi_arena_around(address); }

static uint64_t slots_of(uint64_t bytes) { return mhi_round_up(bytes, MHI_SLOT_BYTES) / MHI_SLOT_BYTES; }

/* 0; -EEXIST if another mapping lies there; or the kernel's error. */
static int reserve_at(uint64_t address, uint64_t bytes)
{
    void *wanted = (void *)address, *got;
    int result = mhi_sys_mmap(&got, wanted, bytes, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (result == 0 && got != wanted) { /* kernels before 4.17 treat the address as a hint */
        mhi_sys_munmap(got, bytes);
        return -EEXIST;
    }
    return result;
}

int mhi_region_reserve(uint64_t *address, uint64_t first_slot, uint64_t capacity_bytes, mh_error *err)
{
    uint64_t n_starts = MHI_GRANULES - slots_of(capacity_bytes) + 1;
    *address = 0;
    for (uint64_t i = 0; i < n_starts; i++) {
        uint64_t candidate = MHI_REGION_START + (first_slot % n_starts + i) % n_starts * MHI_SLOT_BYTES;
        int result = reserve_at(candidate, capacity_bytes);
        if (result == 0) {
            *address = candidate;
            return MH_OK;
        }
        if (result != -EEXIST)
            return mhi_fail_sys(err, result, "cannot reserve %llu bytes of address space at 0x%llx",
                                (unsigned long long)capacity_bytes, (unsigned long long)candidate);
    }
    return mhi_fail(err, MH_ERR_BUSY, EEXIST, "no free range of %llu bytes between 0x%llx and 0x%llx",
                    (unsigned long long)capacity_bytes, MHI_REGION_START, MHI_REGION_END);
}

/* Hands the granules from `from_bytes` to the arena's end to `owner`. */
static void set_granules(const mh_arena *arena, uint64_t from_bytes, mh_arena *owner)
{
    uint64_t first = (arena->address - MHI_REGION_START) / MHI_SLOT_BYTES;
    for (uint64_t i = slots_of(from_bytes); i < slots_of(arena->capacity_bytes); i++)
        atomic_store_explicit(&mhi_granules[first + i], owner, memory_order_release);
}

bool mhi_region_add(mh_arena *arena)
{
    for (uint64_t offset = 0; offset < arena->capacity_bytes; offset += MHI_SLOT_BYTES)
        if (mh_arena_of((void *)(arena->address + offset)) != NULL)
            return false;
    arena->next = mhi_arenas;
    mhi_arenas = arena;
    set_granules(arena, 0, arena);
    return true;
}

void mhi_region_remove(mh_arena *arena)
{
    set_granules(arena, 0, NULL);
    mh_arena **link = &mhi_arenas;
    while (*link != arena)
        link = &(*link)->next;
    *link = arena->next;
}

void mhi_region_trim(mh_arena *arena, uint64_t kept_bytes)
{
    set_granules(arena, kept_bytes, NULL);
    arena->capacity_bytes = kept_bytes;
}
