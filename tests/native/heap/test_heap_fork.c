/* test_heap_fork.c - a fork during a transaction gives parent and child memory of their own, as any fork does. */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "heap/cache.h"

static mh_error err;

static mh_arena *arena_over(FILE *file)
{
    mh_arena *arena;
    mhi_arena_config config = { .capacity_bytes = 1 << 30, .fd = fileno(file), .file_offset = 2 << 20 };
    CHECK_OK(mhi_arena_create(&arena, &config, &err), err);
    return arena;
}

/* fork, and in the child an end to every deadlock. */
static pid_t fork_briefly(void)
{
    pid_t child = fork();
    if (child == 0)
        alarm(60);
    return child;
}

static void check_exit(pid_t child)
{
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

TEST(neither_process_sees_what_the_other_writes)
{
    FILE *file = tmpfile();
    mh_arena *arena = arena_over(file);
    char *block = mh_malloc(arena, 100), byte = 0;
    int to_child[2], to_parent[2];
    strcpy(block, "before");
    CHECK(pipe(to_child) == 0 && pipe(to_parent) == 0);
    pid_t child = fork_briefly();
    if (child == 0) {
        bool is_copy = read(to_child[0], &byte, 1) == 1 && strcmp(block, "before") == 0;
        strcpy(block, "child");
        _exit(write(to_parent[1], is_copy ? "y" : "n", 1) == 1 ? 0 : 1);
    }
    strcpy(block, "parent");
    CHECK(write(to_child[1], "x", 1) == 1);
    CHECK(read(to_parent[0], &byte, 1) == 1);
    CHECK_EQUAL(byte, 'y');
    CHECK(strcmp(block, "parent") == 0);
    check_exit(child);
    mh_arena_delete(arena);
    fclose(file);
}

TEST(the_parent_goes_on_allocating_and_knows_that_the_file_is_behind)
{
    FILE *file = tmpfile();
    mh_arena *arena = arena_over(file);
    CHECK(mh_malloc(arena, 100) != NULL);
    CHECK_EQUAL(mhi_arena_backing_error(arena), 0);
    pid_t child = fork_briefly();
    if (child == 0)
        _exit(0);
    check_exit(child);
    CHECK_EQUAL(mhi_arena_backing_error(arena), ECHILD);
    CHECK(mh_malloc(arena, 50 << 20) != NULL);
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_delete(arena);
    fclose(file);
}

TEST(the_snapshot_is_the_parents_to_make)
{
    FILE *file = tmpfile();
    mh_arena *arena = arena_over(file);
    void *block = mh_malloc(arena, 100);
    pid_t child = fork_briefly();
    if (child == 0) {
        mh_free(block);
        _exit(mhi_arena_is_sealed(arena) && mh_malloc(arena, 1) == NULL && mh_check(arena, &err) == MH_OK ? 0 : 1);
    }
    check_exit(child);
    CHECK(!mhi_arena_is_sealed(arena));
    mh_arena_delete(arena);
    fclose(file);
}

TEST(a_call_that_a_seal_refused_does_not_hold_up_a_fork)
{
    mh_arena *sealed, *open;
    CHECK_OK(mh_arena_new(&sealed, 0, &err), err);
    CHECK_OK(mh_arena_new(&open, 0, &err), err);
    void *block = mh_malloc(sealed, 100);
    CHECK_OK(mhi_arena_seal(sealed, &err), err);
    mh_free(block);
    alarm(60);
    pid_t child = fork_briefly();
    if (child == 0)
        _exit(0);
    check_exit(child);
    alarm(0);
    mh_arena_delete(sealed);
    mh_arena_delete(open);
}

/* The caches of threads that are not in this process. */
static int count_orphans(const mh_arena *arena)
{
    int n = 0;
    for (const mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        n += cache->arena == arena && cache != mhi_thread_cache;
    return n;
}

static atomic_bool stop;

static void *allocate_until_stopped(void *arena)
{
    uint64_t random = 1;
    while (!stop)
        mh_free(mh_malloc(arena, harness_below(&random, 70000)));
    return NULL;
}

TEST(a_child_forked_amid_allocating_threads_can_allocate)
{
    pthread_t threads[3];
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, allocate_until_stopped, arena), 0);
    for (int i = 0; i < 100; i++) {
        void *block = mh_malloc(arena, 100);
        pid_t child = fork_briefly();
        if (child == 0) {
            mh_free(block);
            bool works = count_orphans(arena) == 0 && mh_malloc(arena, 100) != NULL && mh_malloc(arena, 100000) != NULL;
            bool is_sound = mh_check(arena, &err) == MH_OK && mhi_arena_seal(arena, &err) == MH_OK &&
                            mh_check(arena, &err) == MH_OK;
            _exit(works && is_sound ? 0 : 1);
        }
        check_exit(child);
        mh_free(block);
    }
    stop = true;
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_delete(arena);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
