/* cache.h - the way in and out of an arena for a thread, and its stock of free blocks.
 *
 * Everything that changes an arena happens between mhi_enter and mhi_leave. In between the thread's cache is busy, and
 * mhi_pause waits for that; the argument why this needs no atomic read-modify-write stands in cache.c.
 */
#ifndef MHI_CACHE_H
#define MHI_CACHE_H
#include "heap/heap.h"

typedef struct {
    uint16_t n, max; /* blocks now, and when full */
    uint32_t first;  /* index in mhi_cache.blocks */
} mhi_bin;

typedef struct mhi_cache mhi_cache;
struct mhi_cache {
    _Atomic(mh_arena *) arena; /* whose blocks it holds; &mhi_no_arena: it is empty */
    _Atomic uint32_t busy;     /* its thread is inside the arena */
    /* Copies of the arena's members, so that the common case need not access the arena. Only the cache's thread reads
     * and writes them. */
    uintptr_t data;
    _Atomic uint8_t *live;
    _Atomic uint32_t *table;
    /* as of the thread's last entry by the slow path; 0 for the spare cache, which has no blocks */
    uint64_t limit_bytes;
    bool is_orphan;  /* in a forked child: no thread here owns it */
    mhi_cache *ring; /* the thread's next cache, circular; or the next unused one */
    mhi_cache *next; /* all caches there are: they are reused, never unmapped */
    mhi_bin bins[MHI_CLASSES];
    void *blocks[MHI_CACHE_BLOCKS];
};

/* The cache this thread used last; &mhi_spare_cache, which serves no arena, if it has none. initial-exec: one
 * instruction to reach. */
extern __thread mhi_cache *mhi_thread_cache __attribute__((tls_model("initial-exec")));
extern mhi_cache mhi_spare_cache;
extern mh_arena mhi_no_arena; /* its gate is closed for ever */

mhi_cache *mhi_enter_slow(mh_arena *arena);
void mhi_leave_spare(mh_arena *arena);

static inline void mhi_leave_quickly(mhi_cache *cache) { atomic_store_explicit(&cache->busy, 0, memory_order_release); }

/* The fast path of entry, with a cache that serves the arena; steps (1) and (2) in cache.c. False if the gate is not
 * open. */
static inline bool mhi_enter_quickly(mh_arena *arena, mhi_cache *cache)
{
    atomic_store_explicit(&cache->busy, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (__builtin_expect(atomic_load_explicit(&arena->gate, memory_order_acquire) == 0, 1))
        return true;
    mhi_leave_quickly(cache);
    return false;
}

static inline mh_arena *mhi_cache_arena(const mhi_cache *cache)
{
    return atomic_load_explicit(&cache->arena, memory_order_relaxed);
}

/* NULL: the arena is sealed. Waits while it is paused. */
static inline mhi_cache *mhi_enter(mh_arena *arena)
{
    mhi_cache *cache = mhi_thread_cache;
    return mhi_cache_arena(cache) == arena && mhi_enter_quickly(arena, cache) ? cache : mhi_enter_slow(arena);
}

static inline void mhi_leave(mh_arena *arena, mhi_cache *cache)
{
    if (cache == &mhi_spare_cache) {
        mhi_leave_spare(arena);
        return;
    }
    cache->limit_bytes = mhi_limit(arena);
    mhi_leave_quickly(cache);
}

/* Keeps all threads out of the arena until mhi_resume; the registry lock is held in between. Afterwards no thread is
 * inside, and the caches may be read and changed. MH_ERR_SYSTEM if the kernel refuses the barrier: then it is likely,
 * but not proved, that no thread is inside. */
int mhi_pause(mh_arena *arena, mh_error *err);
void mhi_resume(mh_arena *arena);
/* Arena paused or being deleted: empties its caches, into the slabs if `drain`, and detaches them. */
void mhi_cache_detach_all(mh_arena *arena, bool drain);
/* All caches, for a paused arena's invariants and sums. */
extern mhi_cache *mhi_caches;
/* Once per process: fork handlers, thread-exit handler and, before the first arena that allocates, membarrier.
 * MH_ERR_SYSTEM. */
int mhi_cache_init(bool allocates, mh_error *err);
uint32_t mhi_cache_gate(void); /* initial value of an arena's gate */

#endif
