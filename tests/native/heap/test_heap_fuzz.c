/* test_heap_fuzz.c - random traffic against the oracle, alone and with threads; mh_check after every batch.
 *
 * With a file as its argument it takes its random numbers from there, for coverage-guided fuzzers: test_heap_fuzz
 * @file.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "heap_oracle.h"

static mh_error err;

static void check_batch(const oracle *o)
{
    CHECK_OK(mh_check(o->arena, &err), err);
    CHECK_EQUAL(live_blocks(o->arena), oracle_live(o));
}

static void run_alone(uint64_t seed, uint32_t n_blocks, int n_batches)
{
    static oracle o;
    o = (oracle){ .random = seed, .n_blocks = n_blocks };
    CHECK_OK(mh_arena_new(&o.arena, 0, &err), err);
    for (int batch = 0; batch < n_batches; batch++) {
        for (int i = 0; i < 2000; i++)
            oracle_step(&o);
        check_batch(&o);
    }
    oracle_free_all(&o);
    check_batch(&o);
    mh_arena_delete(o.arena);
}

TEST(random_traffic_on_few_blocks_keeps_every_byte) { run_alone(harness_seed(), 16, 20); }
TEST(random_traffic_on_many_blocks_keeps_every_byte) { run_alone(harness_seed() + 1, ORACLE_BLOCKS, 20); }

/* ---- Threads: everyone frees what others allocated -------------------------------------------------------------- */

enum { THREADS = 4, MAILBOXES = 64 };

static pthread_mutex_t mailbox_lock = PTHREAD_MUTEX_INITIALIZER;
static oracle_block mailboxes[MAILBOXES];

/* Leaves a block there and takes away, and frees, the one that another thread left. */
static void exchange(oracle *o, oracle_block *mine)
{
    uint64_t i = harness_below(&o->random, MAILBOXES);
    pthread_mutex_lock(&mailbox_lock);
    oracle_block found = mailboxes[i];
    mailboxes[i] = *mine;
    pthread_mutex_unlock(&mailbox_lock);
    mine->address = NULL;
    if (found.address != NULL)
        oracle_free(&found);
}

static void *run_thread(void *context)
{
    oracle *o = context;
    for (int i = 0; i < 20000; i++) {
        oracle_block *block = &o->blocks[harness_below(&o->random, o->n_blocks)];
        if (block->address != NULL && harness_below(&o->random, 4) == 0)
            exchange(o, block);
        else
            oracle_step(o);
    }
    oracle_free_all(o);
    return NULL;
}

TEST(threads_that_free_each_others_blocks_keep_every_byte)
{
    static oracle oracles[THREADS];
    pthread_t threads[THREADS];
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < THREADS; i++) {
            oracles[i] =
                (oracle){ .arena = arena, .random = harness_seed() + (uint64_t)(round * THREADS + i), .n_blocks = 256 };
            CHECK_EQUAL(pthread_create(&threads[i], NULL, run_thread, &oracles[i]), 0);
        }
        for (int i = 0; i < 50; i++)
            CHECK_OK(mh_check(arena, &err), err); /* waits at the door, then lets them go on */
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        for (int i = 0; i < MAILBOXES; i++)
            if (mailboxes[i].address != NULL)
                oracle_free(&mailboxes[i]);
        CHECK_OK(mh_check(arena, &err), err);
        CHECK_EQUAL(live_blocks(arena), 0);
    }
    mh_arena_delete(arena);
}

/* ---- Sealing in the middle ----------------------------------------------------------------------------------------
 * */

typedef struct {
    mh_arena *arena;
    atomic_uint *ready;
    uint64_t random, n_kept;
    void *kept[4096];
} hammer;

static void *hammer_until_sealed(void *context)
{
    hammer *h = context;
    atomic_fetch_add(h->ready, 1);
    for (;;) {
        uint64_t i = harness_below(&h->random, 4096);
        if (h->kept[i] != NULL) {
            mh_free(h->kept[i]);
            h->kept[i] = NULL;
        }
        h->kept[i] = mh_malloc(h->arena, harness_below(&h->random, 2048) * (i % 64 == 0 ? 64 : 1));
        if (h->kept[i] == NULL)
            return NULL;
    }
}

TEST(a_seal_stops_threads_in_full_flight)
{
    static hammer hammers[THREADS];
    for (int round = 0; round < 20; round++) {
        pthread_t threads[THREADS];
        atomic_uint ready = 0;
        mh_arena *arena;
        CHECK_OK(mh_arena_new(&arena, 0, &err), err);
        for (int i = 0; i < THREADS; i++) {
            hammers[i] =
                (hammer){ .arena = arena, .ready = &ready, .random = harness_seed() + (uint64_t)(100 * round + i) };
            CHECK_EQUAL(pthread_create(&threads[i], NULL, hammer_until_sealed, &hammers[i]), 0);
        }
        while (ready < THREADS)
            sched_yield();
        CHECK_OK(mhi_arena_seal(arena, &err), err);
        mhi_arena_layout layout;
        mhi_arena_read_layout(arena, &layout); /* threads still try, but nothing changes any more */
        CHECK_OK(mh_check(arena, &err), err);
        for (int i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
        CHECK_OK(mh_check(arena, &err), err);
        CHECK_EQUAL(live_blocks(arena), layout.live_blocks);
        mh_arena_delete(arena);
    }
}

/* ---- Random numbers from a file ------------------------------------------------------------------------------------
 * */

static int run_file(const char *path)
{
    uint64_t seed = 0;
    static oracle o;
    FILE *file = fopen(path, "rb");
    CHECK(file != NULL);
    o = (oracle){ .n_blocks = 64 };
    CHECK_OK(mh_arena_new(&o.arena, 64 << 20, &err), err);
    while (fread(&seed, 1, 2, file) > 0) { /* two bytes choose one operation */
        o.random = seed;
        oracle_step(&o);
    }
    fclose(file);
    check_batch(&o);
    oracle_free_all(&o);
    check_batch(&o);
    mh_arena_delete(o.arena);
    return 0;
}

int main(int argc, char **argv)
{
    return argc == 2 && argv[1][0] == '@' ? run_file(argv[1] + 1) : harness_main(argc, argv);
}
