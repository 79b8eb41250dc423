/* test_routing_threads.c - threads that allocate, resize and free one another's blocks while transactions begin and
 * end. */
#define _GNU_SOURCE
#include "route_host.h"

#include <pthread.h>
#include <stdatomic.h>

enum { N_THREADS = 4, N_STEPS = 40000, N_EXCHANGED = 64, N_TRANSACTIONS = 40 };

/* A block says how long it is and is filled with one byte, so that whoever gets it can tell whether it came whole. */
typedef struct {
    uint32_t size;
    uint8_t fill;
} head;

static _Atomic(void *) exchanged[N_EXCHANGED];
static atomic_int n_running;

static void fill(void *block, uint32_t size, uint8_t byte)
{
    *(head *)block = (head){ size, byte };
    memset((char *)block + sizeof(head), byte, size - sizeof(head));
}

static void check_filled(const void *block, uint32_t size)
{
    const head *h = block;
    for (const uint8_t *byte = (const uint8_t *)(h + 1); byte < (const uint8_t *)block + size; byte++)
        CHECK_EQUAL(*byte, h->fill);
}

static uint32_t random_size(uint64_t *seed)
{
    return (uint32_t)(sizeof(head) + harness_below(seed, harness_below(seed, 50) == 0 ? 100000 : 300));
}

static void *make(const guest *g, uint64_t *seed, uint32_t size)
{
    void *block = NULL;
    switch (harness_below(seed, 4)) {
    case 0: block = g->calloc(1, size); break;
    case 1: CHECK_EQUAL(g->posix_memalign(&block, 64, size), 0); break;
    default: block = g->malloc(size); break;
    }
    CHECK(block != NULL);
    fill(block, size, (uint8_t)harness_random(seed));
    return block;
}

static void *resize(const guest *g, uint64_t *seed, void *block)
{
    uint32_t old_size = ((head *)block)->size, size = random_size(seed);
    block = g->realloc(block, size);
    CHECK(block != NULL && g->malloc_usable_size(block) >= size);
    check_filled(block, old_size < size ? old_size : size);
    fill(block, size, (uint8_t)harness_random(seed));
    return block;
}

static void *work(void *number)
{
    const guest *g = load_guest();
    uint64_t seed = harness_seed() + (uintptr_t)number;
    for (int i = 0; i < N_STEPS; i++) {
        void *block = make(g, &seed, random_size(&seed));
        block = atomic_exchange(&exchanged[harness_below(&seed, N_EXCHANGED)], block);
        if (block == NULL)
            continue;
        check_filled(block, ((head *)block)->size);
        if (harness_below(&seed, 2) == 0)
            block = resize(g, &seed, block);
        g->free(block);
    }
    atomic_fetch_sub(&n_running, 1);
    return NULL;
}

TEST(blocks_cross_the_boundary_at_any_time_from_any_thread)
{
    const guest *g = load_guest();
    mh_error err;
    pthread_t threads[N_THREADS];
    n_running = N_THREADS;
    for (uintptr_t i = 0; i < N_THREADS; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, work, (void *)i), 0);
    for (int i = 0; i < N_TRANSACTIONS && atomic_load(&n_running) > 0; i++) {
        mh_arena *arena = begin_routing();
        usleep(2000);
        mhi_route_end();
        if (i % 2 == 0)
            CHECK_OK(mhi_arena_seal(arena, &err), err);
    }
    for (int i = 0; i < N_THREADS; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < N_EXCHANGED; i++)
        g->free(exchanged[i]);
}

static atomic_bool stop;

static void *load_and_close(void *path)
{
    const guest *g = load_guest();
    while (!atomic_load(&stop)) {
        void *handle = g->dlopen(path);
        CHECK(handle != NULL);
        void *(*late_malloc)(size_t) = g->dlsym(handle, "late_malloc");
        void (*late_free)(void *) = g->dlsym(handle, "late_free");
        void *block = late_malloc(100), *other = g->malloc(100);
        late_free(other);
        g->free(block);
        CHECK_EQUAL(dlclose(handle), 0);
    }
    return NULL;
}

TEST(libraries_come_and_go_while_transactions_begin_and_end)
{
    pthread_t threads[2];
    char path[PATH_MAX];
    load_guest();
    snprintf(path, sizeof path, "%s", guest_path("route_late"));
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, load_and_close, path), 0);
    for (int i = 0; i < N_TRANSACTIONS; i++) {
        mh_arena *arena = begin_routing();
        usleep(2000);
        mhi_route_end();
        (void)arena;
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
