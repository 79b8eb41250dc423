/* cache.c - thread caches: who owns one, and how an arena is paused.
 *
 * Pausing without a price on the fast path (asymmetric Dekker). On its way in, a thread
 *     (1) stores busy = 1      (2) loads gate: goes on if it is open, else steps back (busy = 0) and waits or gives up;
 * whoever pauses
 *     (a) stores gate = closed (b) membarrier          (c) waits until busy is 0.
 * The membarrier makes every running thread of the process execute a full barrier between (a) and (c). In the order of
 * one thread it falls before (2), and then (2) sees the gate closed; or behind (2), hence behind (1), and then (c) sees
 * busy = 1 and waits for the thread to leave. So from the end of (c) nobody is inside, and nobody comes in. Without it,
 * (1) could linger in a store buffer while (2) is done. Where the kernel has no membarrier, the gate is never quite
 * open (MHI_GATE_FENCED), and each thread that finds it so executes a fence and loads it again, which has the same
 * effect at 20 ns a call. The caches themselves need no atomics: leaving is a release that (c) acquires, and so is
 * opening the gate to (2).
 *
 * A seal is a pause that never ends. A fork is a pause around the fork: no lock is held and no list half-changed at
 * that moment in either process, whatever the other threads were doing.
 */
#define _GNU_SOURCE
#include "heap/cache.h"

#include <errno.h>
#include <sys/mman.h>

#include "error.h"

mh_arena mhi_no_arena = { .gate = MHI_GATE_SEALED };
mhi_cache mhi_spare_cache = { .arena = &mhi_no_arena, .ring = &mhi_spare_cache };
mhi_cache *mhi_caches;
__thread mhi_cache *mhi_thread_cache = &mhi_spare_cache;

static __thread bool thread_is_exiting;
static mhi_cache *unused; /* list by ring; registry lock */
static bool has_membarrier;
static pthread_key_t exit_key;

/* ---- A thread's caches -------------------------------------------------------------------------------------- */

static void init_bins(mhi_cache *cache)
{
    for (int c = 0; c < MHI_CLASSES; c++)
        cache->bins[c] = (mhi_bin){ .max = (uint16_t)mhi_classes[c].cache_blocks, .first = mhi_classes[c].cache_first };
}

static void empty(mh_arena *arena, mhi_cache *cache, bool drain)
{
    for (uint32_t c = 0; c < MHI_CLASSES; c++) {
        mhi_bin *bin = &cache->bins[c];
        if (drain && bin->n > 0)
            mhi_slab_give(arena, c, &cache->blocks[bin->first], bin->n);
        bin->n = 0;
    }
}

/* A cache that no thread owns; NULL: no memory. */
static mhi_cache *get_unused(void)
{
    void *memory;
    mhi_cache *cache = unused;
    if (cache != NULL) {
        unused = cache->ring;
        return cache;
    }
    if (mhi_sys_mmap(&memory, NULL, sizeof *cache, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < 0)
        return NULL;
    cache = memory;
    atomic_store_explicit(&cache->arena, &mhi_no_arena, memory_order_relaxed);
    init_bins(cache);
    cache->next = mhi_caches;
    mhi_caches = cache;
    return cache;
}

/* The cache in this thread's ring that serves `arena`, or NULL. */
static mhi_cache *find_own(mh_arena *arena)
{
    mhi_cache *first = mhi_thread_cache, *cache = first;
    do {
        if (cache != &mhi_spare_cache && mhi_cache_arena(cache) == arena)
            return cache;
        cache = cache->ring;
    } while (cache != first);
    return NULL;
}

/* Gives this thread a cache for the arena; the spare one if there is no memory or the thread is on its way out. */
static mhi_cache *attach(mh_arena *arena)
{
    mhi_cache *cache = find_own(arena);
    if (cache != NULL || thread_is_exiting)
        return cache != NULL ? cache : &mhi_spare_cache;
    cache = find_own(&mhi_no_arena);
    if (cache == NULL) {
        cache = get_unused();
        if (cache == NULL)
            return &mhi_spare_cache;
        if (mhi_thread_cache == &mhi_spare_cache) {
            cache->ring = cache;
        } else {
            cache->ring = mhi_thread_cache->ring;
            mhi_thread_cache->ring = cache;
        }
    }
    cache->data = arena->data;
    cache->live = arena->live;
    cache->table = arena->table;
    cache->limit_bytes = mhi_limit(arena);
    atomic_store_explicit(&cache->arena, arena, memory_order_relaxed);
    return cache;
}

/* All cases but the one that mhi_enter handles. The spare cache is used under the registry lock, which keeps both other
 * users and pauses away; it serves threads that cannot have a cache of their own, one call at a time. */
mhi_cache *mhi_enter_slow(mh_arena *arena)
{
    mhi_cache *cache = mhi_thread_cache;
    if (mhi_cache_arena(cache) == arena) {
        atomic_store_explicit(&cache->busy, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        if ((atomic_load_explicit(&arena->gate, memory_order_acquire) & ~(uint32_t)MHI_GATE_FENCED) == 0)
            return cache;
        mhi_leave_quickly(cache);
    }
    if (mhi_is_sealed(arena))
        return NULL;
    cache = find_own(arena);
    if (cache != NULL && cache != mhi_thread_cache) { /* the thread uses several arenas */
        mhi_thread_cache = cache;
        return mhi_enter(arena);
    }
    pthread_mutex_lock(&mhi_registry_lock); /* until a pause is over */
    if (mhi_is_sealed(arena)) {
        pthread_mutex_unlock(&mhi_registry_lock);
        return NULL;
    }
    cache = attach(arena);
    if (cache == &mhi_spare_cache)
        return cache;
    bool is_first = mhi_thread_cache == &mhi_spare_cache;
    mhi_thread_cache = cache;
    atomic_store_explicit(&cache->busy, 1, memory_order_relaxed);
    pthread_mutex_unlock(&mhi_registry_lock);
    if (is_first)
        pthread_setspecific(exit_key, cache); /* pthread_setspecific may call calloc, even ours */
    return cache;
}

void mhi_leave_spare(mh_arena *arena)
{
    empty(arena, &mhi_spare_cache, true);
    pthread_mutex_unlock(&mhi_registry_lock);
}

/* Needs the registry lock. */
static void retire(mhi_cache *cache)
{
    empty(mhi_cache_arena(cache), cache, true);
    atomic_store_explicit(&cache->arena, &mhi_no_arena, memory_order_relaxed);
    cache->ring = unused;
    unused = cache;
}

static void exit_thread(void *ignored)
{
    (void)ignored;
    int saved_errno = errno;
    pthread_mutex_lock(&mhi_registry_lock);
    mhi_cache *first = mhi_thread_cache, *cache = first;
    mhi_thread_cache = &mhi_spare_cache;
    thread_is_exiting = true;
    do {
        mhi_cache *next = cache->ring;
        retire(cache);
        cache = next;
    } while (cache != first);
    pthread_mutex_unlock(&mhi_registry_lock);
    errno = saved_errno;
}

/* ---- Pausing --------------------------------------------------------------------------------------------------- */

/* (b) */
static int barrier(mh_error *err)
{
    if (!has_membarrier)
        return MH_OK; /* every thread has its own fence */
    int result = mhi_sys_membarrier();
    if (result == -EPERM && mhi_sys_membarrier_register() == 0)
        result = mhi_sys_membarrier();
    return result == 0 ? MH_OK : mhi_fail_sys(err, result, "membarrier was available, but is refused");
}

static void close_gate(mh_arena *arena) { atomic_fetch_or(&arena->gate, MHI_GATE_PAUSED); }
static void open_gate(mh_arena *arena) { atomic_fetch_and(&arena->gate, ~(uint32_t)MHI_GATE_PAUSED); }

/* (c), for one arena or (NULL) all. The pausing thread itself is not inside. */
static void wait_until_left(const mh_arena *arena)
{
    for (mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next) {
        if (arena != NULL && mhi_cache_arena(cache) != arena)
            continue;
        while (atomic_load_explicit(&cache->busy, memory_order_acquire) != 0)
            mhi_sys_yield();
    }
}

int mhi_pause(mh_arena *arena, mh_error *err)
{
    pthread_mutex_lock(&mhi_registry_lock);
    if (mhi_is_sealed(arena))
        return MH_OK;
    close_gate(arena);
    int status = barrier(err);
    wait_until_left(arena);
    return status;
}

void mhi_resume(mh_arena *arena)
{
    open_gate(arena);
    pthread_mutex_unlock(&mhi_registry_lock);
}

void mhi_cache_detach_all(mh_arena *arena, bool drain)
{
    for (mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        if (mhi_cache_arena(cache) == arena) {
            empty(arena, cache, drain);
            atomic_store_explicit(&cache->arena, &mhi_no_arena, memory_order_relaxed);
        }
}

/* ---- Fork ------------------------------------------------------------------------------------------------------- */

static void before_fork(void)
{
    bool any = false;
    pthread_mutex_lock(&mhi_adoption_lock);
    pthread_mutex_lock(&mhi_registry_lock);
    for (mh_arena *arena = mhi_arenas; arena != NULL; arena = arena->next)
        if (!mhi_is_sealed(arena)) {
            close_gate(arena);
            any = true;
        }
    if (any) {
        barrier(NULL); /* a refusal can't stop a fork */
        wait_until_left(NULL);
    }
    for (mh_arena *arena = mhi_arenas; arena != NULL; arena = arena->next)
        if (!mhi_is_sealed(arena))
            mhi_backing_leave_file(arena);
}

static void after_fork_in_parent(void)
{
    for (mh_arena *arena = mhi_arenas; arena != NULL; arena = arena->next)
        open_gate(arena);
    pthread_mutex_unlock(&mhi_registry_lock);
    pthread_mutex_unlock(&mhi_adoption_lock);
}

/* The snapshot is the parent's to make. The child keeps what the arena holds as a private copy, sealed; other arenas go
 * on in it. */
static void leave_file_to_parent(mh_arena *arena)
{
    mhi_backing_make_private(arena); /* retried in case it failed before the fork */
    arena->is_private = true;        /* even if that failed again: draining must not change the parent's file */
    mhi_cache_detach_all(arena, true);
    atomic_fetch_or(&arena->gate, MHI_GATE_SEALED);
}

static void after_fork_in_child(void)
{
    for (mh_arena *arena = mhi_arenas; arena != NULL; arena = arena->next)
        if (arena->fd >= 0)
            leave_file_to_parent(arena);
    for (mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        cache->is_orphan = true;
    for (mhi_cache *cache = mhi_thread_cache; cache->is_orphan; cache = cache->ring)
        cache->is_orphan = false;
    unused = NULL;
    for (mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        if (cache->is_orphan) { /* its thread does not exist in this process, but may have been between (1) and (2) */
            atomic_store_explicit(&cache->busy, 0, memory_order_relaxed);
            retire(cache);
        }
    after_fork_in_parent();
}

static int init_result;

static void init_once(void)
{
    mhi_slab_init_classes();
    init_bins(&mhi_spare_cache);
    init_result = -pthread_key_create(&exit_key, exit_thread);
    if (init_result == 0)
        init_result = -pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

/* With several threads the registration takes the kernel some milliseconds; a run that only attaches avoids it. */
static void init_barrier_once(void) { has_membarrier = mhi_sys_membarrier_register() == 0; }

int mhi_cache_init(bool allocates, mh_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT, barrier_once = PTHREAD_ONCE_INIT;
    pthread_once(&once, init_once);
    if (allocates)
        pthread_once(&barrier_once, init_barrier_once);
    return init_result == 0 ? MH_OK : mhi_fail_sys(err, init_result, "cannot prepare the allocator for threads");
}

uint32_t mhi_cache_gate(void) { return has_membarrier ? 0 : MHI_GATE_FENCED; }
