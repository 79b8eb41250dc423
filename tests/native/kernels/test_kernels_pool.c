/* The pool: every item once, whatever the number of threads, the size of the job and the load on the machine. */
#include "test_kernels.h"
#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_ITEMS = 1000 };

typedef struct {
    int32_t n_items;
    int32_t n_spins;      /* work per item */
    atomic_int n_outside; /* items that the job does not have */
    atomic_int n_done[MOST_ITEMS];
} tally;

static void count(void *arg, int32_t first, int32_t last)
{
    tally *t = arg;
    for (int32_t i = first; i < last; i++) {
        for (volatile int32_t spin = 0; spin < t->n_spins; spin++)
            ;
        if (i < 0 || i >= t->n_items)
            atomic_fetch_add(&t->n_outside, 1);
        else
            atomic_fetch_add(&t->n_done[i], 1);
    }
}

static void check_job(mk_pool *pool, tally *t, int32_t n_items, int32_t n_spins)
{
    t->n_items = n_items;
    t->n_spins = n_spins;
    for (int32_t i = 0; i < n_items; i++)
        atomic_store_explicit(&t->n_done[i], 0, memory_order_relaxed);
    mki_pool_run(pool, n_items, count, t);
    CHECK_EQUAL(t->n_outside, 0);
    for (int32_t i = 0; i < n_items; i++)
        CHECK_EQUAL(t->n_done[i], 1);
}

static mk_pool *pool_of(int32_t n_threads)
{
    mk_pool *pool;
    CHECK_EQUAL(mki_pool_new(&pool, n_threads), MK_OK);
    CHECK_EQUAL(mk_pool_threads(pool), n_threads);
    return pool;
}

TEST(every_item_is_done_once)
{
    uint64_t state = harness_seed();
    for (int32_t n_threads = 1; n_threads <= 8; n_threads++) {
        mk_pool *pool = pool_of(n_threads);
        tally t = { 0 };
        for (int job = 0; job < 300; job++)
            check_job(pool, &t, (int32_t)harness_below(&state, MOST_ITEMS + 1), (int32_t)harness_below(&state, 200));
        mk_pool_free(pool);
    }
}

TEST(jobs_that_follow_each_other_at_once_do_not_mix)
{
    /* Sizes as a layer has them. A worker that is late for one job must not touch the next before it is open. */
    static const int32_t sizes[] = { 60, 9, 36, 192, 36, 2 };
    for (int32_t n_threads = 2; n_threads <= 4; n_threads++) {
        mk_pool *pool = pool_of(n_threads);
        tally t = { 0 };
        for (int job = 0; job < 20000; job++)
            check_job(pool, &t, sizes[job % 6], 0);
        mk_pool_free(pool);
    }
}

static atomic_bool burning;

static void *burn(void *arg)
{
    while (atomic_load(&burning))
        ;
    return arg;
}

TEST(jobs_end_on_a_machine_that_has_no_cpu_to_spare)
{
    pthread_t burners[4];
    atomic_store(&burning, true);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&burners[i], NULL, burn, NULL), 0);
    mk_pool *pool = pool_of(8);
    tally t = { 0 };
    for (int job = 0; job < 200; job++)
        check_job(pool, &t, 50, 20);
    mk_pool_free(pool);
    atomic_store(&burning, false);
    for (int i = 0; i < 4; i++)
        pthread_join(burners[i], NULL);
}

TEST(sleeping_workers_wake_and_leave)
{
    mk_pool *pool = pool_of(4);
    tally t = { 0 };
    for (int i = 0; i < 5; i++) {
        usleep(20000); /* far longer than they spin */
        check_job(pool, &t, 100, 100);
    }
    usleep(20000);
    mk_pool_free(pool);
}

static atomic_int n_users;

static void *use_pool(void *arg)
{
    tally *t = calloc(1, sizeof *t);
    for (atomic_fetch_add(&n_users, 1); atomic_load(&n_users) < 2;) /* neither begins alone */
        ;
    for (int job = 0; job < 1000; job++)
        check_job(arg, t, 40, 1000); /* long enough that the other comes in between */
    free(t);
    return NULL;
}

TEST(two_threads_may_share_a_pool)
{
    mk_pool *pool = pool_of(3);
    pthread_t users[2];
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(pthread_create(&users[i], NULL, use_pool, pool), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(users[i], NULL);
    mk_pool_free(pool);
}

TEST(a_child_of_fork_works_alone)
{
    mk_pool *pool = pool_of(3);
    tally t = { 0 };
    check_job(pool, &t, 100, 0);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        check_job(pool, &t, 100, 0);
        mk_pool_free(pool);
        _exit(0);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
    mk_pool_free(pool);
}

TEST(a_pool_of_no_or_too_many_threads_is_refused)
{
    mk_pool *pool = (mk_pool *)1;
    CHECK_EQUAL(mk_pool_new(&pool, 0), MK_ERR_ARGUMENT);
    CHECK(!pool);
    CHECK_EQUAL(mk_pool_new(&pool, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pool_new(&pool, 257), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pool_new(NULL, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pool_threads(NULL), 1);
    mk_pool_free(NULL);
}

TEST(a_pool_has_no_more_threads_than_there_are_cpus)
{
    int32_t n_cpus = mk_cpu_count();
    mk_pool *pool;
    CHECK_EQUAL(mk_pool_new(&pool, 1), MK_OK);
    CHECK_EQUAL(mk_pool_threads(pool), 1);
    mk_pool_free(pool);
    CHECK_EQUAL(mk_pool_new(&pool, 256), MK_OK);
    CHECK_EQUAL(mk_pool_threads(pool), n_cpus < 256 ? n_cpus : 256);
    mk_pool_free(pool);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
