/* arena.c - the life of an arena: created or adopted, sealed, made private, deleted or forgotten. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "heap/cache.h"

/* "mh arena" as little-endian bytes: easy to see in a dump. */
#define CONTROL_MAGIC 0x616e65726120686dull
enum { CONTROL_VERSION = 1 };

static uint64_t table_bytes(uint64_t data_bytes) { return data_bytes / MHI_PAGE * sizeof(uint32_t); }
static uint64_t meta_bytes(uint64_t data_bytes) { return MHI_PAGE + mhi_round_up(table_bytes(data_bytes), MHI_PAGE); }

/* Makes the state of an arena that only this process has, in one mapping: struct | live map | spans. */
static int make_side(mh_arena **arena, uint64_t data_capacity, mh_error *err)
{
    uint64_t head = mhi_round_up(sizeof **arena, MHI_PAGE);
    uint64_t live = mhi_round_up(data_capacity / MHI_GRAIN, MHI_PAGE);
    uint64_t bytes = head + live + data_capacity / MHI_PAGE * sizeof(mhi_span);
    void *side;
    int result = mhi_sys_mmap(&side, NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot reserve %llu bytes for the live map of an arena",
                            (unsigned long long)bytes);
    result = mhi_sys_mprotect(side, head, PROT_READ | PROT_WRITE);
    if (result < 0) {
        mhi_sys_munmap(side, bytes);
        return mhi_fail_sys(err, result, "no memory for an arena");
    }
    *arena = side;
    (*arena)->side_bytes = bytes;
    if (data_capacity > 0) {
        (*arena)->live = (_Atomic uint8_t *)side + head;
        (*arena)->spans = (mhi_span *)((char *)side + head + live);
    }
    return MH_OK;
}

static void place(mh_arena *arena, uint64_t address, uint64_t capacity_bytes, uint64_t data_offset)
{
    arena->address = address;
    arena->capacity_bytes = capacity_bytes;
    arena->data_offset = data_offset;
    arena->data = address + data_offset;
    arena->table = (_Atomic uint32_t *)(address + MHI_PAGE);
}

static int register_arena(mh_arena *arena, mh_error *err)
{
    pthread_mutex_lock(&mhi_registry_lock);
    bool added = mhi_region_add(arena);
    pthread_mutex_unlock(&mhi_registry_lock);
    return added ? MH_OK
                 : mhi_fail(err, MH_ERR_BUSY, 0, "another arena lies at 0x%llx", (unsigned long long)arena->address);
}

int mhi_arena_create(mh_arena **arena, const mhi_arena_config *config, mh_error *err)
{
    uint64_t capacity =
        mhi_round_up(config->capacity_bytes != 0 ? config->capacity_bytes : MHI_DEFAULT_CAPACITY, MHI_GROWTH_STEP);
    uint64_t data_offset = mhi_round_up(meta_bytes(capacity), MHI_GROWTH_STEP), address;
    *arena = NULL;
    if (config->capacity_bytes > MHI_CAPACITY_MAX || capacity <= data_offset ||
        config->file_offset % MHI_GROWTH_STEP != 0)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "an arena of %llu bytes: between 4 MiB and 4 TiB are possible",
                        (unsigned long long)config->capacity_bytes);
    int status = mhi_cache_init(true, err);
    if (status == MH_OK)
        status = make_side(arena, capacity - data_offset, err);
    if (status != MH_OK)
        return status;
    status = mhi_region_reserve(&address, config->first_slot, capacity, err);
    if (status != MH_OK)
        goto no_region;
    int result = mhi_sys_mprotect((void *)address, MHI_PAGE, PROT_READ | PROT_WRITE);
    if (result < 0) {
        status = mhi_fail_sys(err, result, "no memory for an arena");
        goto no_control;
    }
    place(*arena, address, capacity, data_offset);
    atomic_store(&(*arena)->gate, mhi_cache_gate());
    (*arena)->fd = config->fd;
    (*arena)->file_offset = config->file_offset;
    mhi_span_init(*arena);
    mhi_slab_init(*arena);
    status = register_arena(*arena, err);
    if (status == MH_OK)
        return MH_OK;

no_control:
    mhi_sys_munmap((void *)address, capacity);
no_region:
    mhi_sys_munmap(*arena, (*arena)->side_bytes);
    *arena = NULL;
    return status;
}

int mh_arena_new(mh_arena **arena, uint64_t capacity_bytes, mh_error *err)
{
    return mhi_arena_create(arena, &(mhi_arena_config){ .capacity_bytes = capacity_bytes, .fd = -1 }, err);
}

void mhi_arena_forget(mh_arena *arena)
{
    if (arena == NULL)
        return;
    pthread_mutex_lock(&mhi_registry_lock);
    mhi_region_remove(arena);
    mhi_cache_detach_all(arena, false);
    pthread_mutex_unlock(&mhi_registry_lock);
    mhi_sys_munmap(arena, arena->side_bytes);
}

void mh_arena_delete(mh_arena *arena)
{
    if (arena == NULL)
        return;
    void *address = (void *)arena->address;
    uint64_t capacity = arena->capacity_bytes;
    mhi_arena_forget(arena);
    mhi_sys_munmap(address, capacity);
}

/* ---- Figures ---------------------------------------------------------------------------------------------------- */

static uint64_t data_bytes(const mh_arena *arena)
{
    return arena->live != NULL ? (uint64_t)arena->n_pages * MHI_PAGE : mhi_limit(arena);
}

/* Of a paused or sealed arena. */
static void count(const mh_arena *arena, mh_arena_stats *stats)
{
    uint64_t blocks[MHI_CLASSES];
    for (int c = 0; c < MHI_CLASSES; c++)
        blocks[c] = (uint64_t)arena->classes[c].n_slabs * mhi_classes[c].n_blocks - arena->classes[c].n_free;
    for (const mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        for (int c = 0; c < MHI_CLASSES && mhi_cache_arena(cache) == arena; c++)
            blocks[c] -= cache->bins[c].n;
    stats->live_blocks = arena->large_blocks;
    stats->live_bytes = arena->large_bytes;
    for (int c = 0; c < MHI_CLASSES; c++) {
        stats->live_blocks += blocks[c];
        stats->live_bytes += blocks[c] * mhi_classes[c].block_bytes;
    }
    stats->free_bytes = (uint64_t)arena->n_pages * MHI_PAGE - stats->live_bytes;
}

static mhi_control *control_of(const mh_arena *arena) { return (mhi_control *)arena->address; }

void mh_arena_read_stats(mh_arena *arena, mh_arena_stats *stats)
{
    *stats = (mh_arena_stats){ .address = arena->address };
    mhi_pause(arena, NULL);
    stats->capacity_bytes = arena->capacity_bytes;
    stats->mapped_bytes = meta_bytes(mhi_limit(arena)) + mhi_limit(arena);
    if (arena->live != NULL)
        count(arena, stats);
    else
        stats->live_blocks = control_of(arena)->live_blocks;
    mhi_resume(arena);
}

void mhi_arena_read_layout(const mh_arena *arena, mhi_arena_layout *layout)
{
    mh_arena *shared = (mh_arena *)arena; /* pausing changes only the gate, which the caller can't see */
    mh_arena_stats stats = { 0 };
    mhi_pause(shared, NULL);
    if (arena->live != NULL)
        count(arena, &stats);
    else
        stats.live_blocks = control_of(arena)->live_blocks;
    uint64_t bytes = data_bytes(arena);
    *layout = (mhi_arena_layout){ .address = arena->address,
                                  .capacity_bytes = arena->capacity_bytes,
                                  .meta_bytes = meta_bytes(bytes),
                                  .data_offset = arena->data_offset,
                                  .data_bytes = bytes,
                                  .live_blocks = stats.live_blocks };
    mhi_resume(shared);
}

int mhi_arena_backing_error(const mh_arena *arena) { return arena->backing_error; }
bool mhi_arena_is_sealed(const mh_arena *arena) { return mhi_is_sealed(arena); }

/* ---- Sealing and what follows ----------------------------------------------------------------------------------- */

int mhi_arena_seal(mh_arena *arena, mh_error *err)
{
    int status = mhi_pause(arena, err);
    if (status == MH_OK && !mhi_is_sealed(arena)) {
        mh_arena_stats stats;
        mhi_cache_detach_all(arena, true);
        mhi_span_drop_last(arena);
        count(arena, &stats);
        *control_of(arena) = (mhi_control){ .magic = CONTROL_MAGIC,
                                            .version = CONTROL_VERSION,
                                            .classes = MHI_CLASSES,
                                            .address = arena->address,
                                            .data_offset = arena->data_offset,
                                            .data_bytes = data_bytes(arena),
                                            .live_blocks = stats.live_blocks };
        atomic_fetch_or(&arena->gate, MHI_GATE_SEALED);
    }
    mhi_resume(arena);
    return status;
}

/* Unmaps the address space behind the data: a sealed arena does not grow. */
static void trim(mh_arena *arena)
{
    uint64_t kept = data_bytes(arena), kept_bytes = arena->data_offset + kept;
    pthread_mutex_lock(&mhi_registry_lock);
    if (arena->capacity_bytes > kept_bytes) {
        atomic_store_explicit(&arena->limit_bytes, kept, memory_order_relaxed);
        if (mhi_sys_munmap((void *)(arena->address + kept_bytes), arena->capacity_bytes - kept_bytes) == 0)
            mhi_region_trim(arena, kept_bytes);
    }
    pthread_mutex_unlock(&mhi_registry_lock);
}

int mhi_arena_make_private(mh_arena *arena, mh_error *err)
{
    if (!mhi_is_sealed(arena) || arena->live == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "only a sealed arena that this process filled can be made private");
    int result = mhi_backing_make_private(arena);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot map the data of the arena privately");
    trim(arena);
    return MH_OK;
}

/* ---- Adopting --------------------------------------------------------------------------------------------------- */

static bool layout_is_sound(const mhi_arena_layout *layout)
{
    uint64_t end;
    return layout->address >= MHI_REGION_START && layout->address < MHI_REGION_END &&
           layout->address % MHI_SLOT_BYTES == 0 && layout->data_bytes % MHI_PAGE == 0 &&
           layout->data_offset % MHI_PAGE == 0 && layout->data_bytes < MHI_CAPACITY_MAX &&
           !__builtin_add_overflow(layout->data_offset, layout->data_bytes, &end) &&
           end <= MHI_REGION_END - layout->address && meta_bytes(layout->data_bytes) <= layout->meta_bytes &&
           layout->meta_bytes <= layout->data_offset;
}

static bool control_agrees(const mhi_arena_layout *layout)
{
    mhi_control control;
    memcpy(&control, (const void *)layout->address, sizeof control);
    return control.magic == CONTROL_MAGIC && control.version == CONTROL_VERSION && control.classes == MHI_CLASSES &&
           control.address == layout->address - layout->moved_bytes && control.data_offset == layout->data_offset &&
           control.data_bytes == layout->data_bytes && control.live_blocks == layout->live_blocks;
}

/* The fork handlers must be registered before the lock is first held, or a child could inherit a lock whose holder it
 * does not have. */
int mhi_arena_begin_adopting(mh_error *err)
{
    int status = mhi_cache_init(false, err);
    if (status == MH_OK)
        pthread_mutex_lock(&mhi_adoption_lock);
    return status;
}

void mhi_arena_end_adopting(void) { pthread_mutex_unlock(&mhi_adoption_lock); }

void mhi_arena_set_identity(mh_arena *arena, uint64_t identity)
{
    pthread_mutex_lock(&mhi_registry_lock);
    arena->identity = identity;
    pthread_mutex_unlock(&mhi_registry_lock);
}

bool mhi_arena_is_at(uint64_t address, uint64_t identity)
{
    pthread_mutex_lock(&mhi_registry_lock); /* no registered arena is unmapped meanwhile */
    const mh_arena *arena = mh_arena_of((const void *)address);
    bool is_at = arena != NULL && arena->address == address && arena->identity == identity;
    pthread_mutex_unlock(&mhi_registry_lock);
    return is_at;
}

int mhi_arena_reserve(uint64_t *address, uint64_t first_slot, uint64_t capacity_bytes, mh_error *err)
{
    return mhi_region_reserve(address, first_slot, capacity_bytes, err);
}

int mhi_arena_adopt(mh_arena **arena, const mhi_arena_layout *layout, mh_error *err)
{
    *arena = NULL;
    if (!layout_is_sound(layout) || !control_agrees(layout))
        return mhi_fail(err, MH_ERR_CORRUPT, 0, "the arena's control page does not agree with the snapshot's header");
    int status = mhi_cache_init(false, err);
    if (status == MH_OK)
        status = make_side(arena, 0, err);
    if (status != MH_OK)
        return status;
    place(*arena, layout->address, layout->data_offset + layout->data_bytes, layout->data_offset);
    (*arena)->fd = -1;
    atomic_store(&(*arena)->limit_bytes, layout->data_bytes);
    atomic_store(&(*arena)->gate, MHI_GATE_SEALED);
    status = register_arena(*arena, err);
    if (status != MH_OK) {
        mhi_sys_munmap(*arena, (*arena)->side_bytes);
        *arena = NULL;
    }
    return status;
}
