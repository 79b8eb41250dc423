/* test_heap_fault.c - every system call of the allocator fails once, and no test of it notices more than an error.
 *
 * A scenario is run once to count its calls, then once per call with that one failing, then with that one and all later
 * ones.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "heap/heap.h"
#include "sys_fault.h"

static mh_error err;

/* ---- membarrier; first, since the process asks for it only once
 * ------------------------------------------------------ */

static void *allocate_until_sealed(void *arena)
{
    for (void *block = NULL; (block = mh_malloc(arena, 100)) != NULL;)
        mh_free(block);
    return NULL;
}

TEST(a_kernel_without_membarrier_gets_fences)
{
    pid_t child = fork();
    if (child == 0) {
        pthread_t thread;
        mh_arena *arena;
        sys_fault_select("membarrier membarrier_register");
        sys_fault_arm_from(1, ENOSYS);
        CHECK_OK(mh_arena_new(&arena, 0, &err), err);
        CHECK_EQUAL(arena->gate, MHI_GATE_FENCED);
        CHECK_EQUAL(pthread_create(&thread, NULL, allocate_until_sealed, arena), 0);
        for (int i = 0; i < 100; i++)
            CHECK_OK(mh_check(arena, &err), err);
        CHECK_OK(mhi_arena_seal(arena, &err), err);
        pthread_join(thread, NULL);
        _exit(mh_check(arena, &err) == MH_OK && sys_fault_calls() == 1 ? 0 : 2);
    }
    int status;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK_EQUAL(status, 0);
}

TEST(a_refused_barrier_prevents_the_seal_and_nothing_else)
{
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    mh_free(mh_malloc(arena, 1));
    sys_fault_select("membarrier membarrier_register");
    sys_fault_arm_from(1, EPERM);
    CHECK_EQUAL(mhi_arena_seal(arena, &err), MH_ERR_SYSTEM);
    CHECK_EQUAL(err.sys_errno, EPERM);
    sys_fault_disarm();
    CHECK(!mhi_arena_is_sealed(arena));
    CHECK(mh_malloc(arena, 1) != NULL);
    sys_fault_arm(1, EPERM); /* as after a fork by a kernel that does not inherit the registration */
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    sys_fault_disarm();
    sys_fault_select(NULL);
    mh_arena_delete(arena);
}

/* ---- Everything ------------------------------------------------------------------------------------------------- */

static int unnamed_file(void)
{
    char name[] = "test_heap_fault.XXXXXX";
    int fd = mkstemp(name);
    CHECK(fd >= 0);
    unlink(name);
    return fd;
}

/* A NULL is allowed; content that changes is not. */
static void use(mh_arena *arena, size_t size_bytes)
{
    unsigned char *block = mh_malloc(arena, size_bytes);
    if (block == NULL) {
        CHECK_EQUAL(errno, ENOMEM);
        return;
    }
    for (size_t i = 0; i < size_bytes; i += 4096)
        block[i] = 0x5a;
    block[size_bytes - 1] = 0x5a;
    unsigned char *moved = mh_realloc(arena, block, size_bytes * 5);
    CHECK_EQUAL((moved != NULL ? moved : block)[size_bytes - 1], 0x5a);
    mh_free(moved != NULL ? moved : block);
}

/* From creation to deletion; whatever fails, the arena is sound as long as there is one. */
static void live_and_die(int fd)
{
    mhi_arena_config config = { .capacity_bytes = 1 << 30, .fd = fd };
    mh_arena *arena;
    int status = mhi_arena_create(&arena, &config, &err);
    CHECK((status == MH_OK) == (arena != NULL));
    if (status != MH_OK) {
        CHECK(status == MH_ERR_SYSTEM || status == MH_ERR_NOSPACE || status == MH_ERR_BUSY);
        CHECK(err.status == status && err.detail[0] != '\0');
        return;
    }
    unsigned char *kept = mh_calloc(arena, 1, 70000);
    for (size_t size = 110; size < 10 << 20; size = size * 5) /* the last is given back to the kernel */
        use(arena, size);
    mh_check(arena, NULL); /* its pause may be refused: it says so, and the arena is open again */
    status = mhi_arena_seal(arena, &err);
    if (status == MH_OK) {
        CHECK(mh_malloc(arena, 1) == NULL);
        CHECK_OK(mhi_arena_wipe_free(arena, &err), err);
        status = mhi_arena_make_private(arena, &err);
        CHECK(status == MH_OK || status == MH_ERR_NOSPACE || status == MH_ERR_SYSTEM);
    }
    sys_fault_disarm();
    CHECK_OK(mh_check(arena, &err), err);
    for (int i = 0; kept != NULL && i < 70000; i++)
        CHECK_EQUAL(kept[i], 0);
    mh_arena_delete(arena);
}

/* Runs with the n-th call failing, for every n there is. */
static void fail_every_call(void (*arm)(uint64_t n, int code), int code, bool on_file)
{
    for (uint64_t n = 1;; n++) {
        int fd = on_file ? unnamed_file() : -1;
        arm(n, code);
        live_and_die(fd);
        bool struck = sys_fault_struck();
        sys_fault_disarm();
        if (fd >= 0)
            close(fd);
        if (!struck) {
            CHECK(n > 5);
            return;
        }
    }
}

/* Without munmap: what can't be unmapped is in the way of the next arena, which then makes more calls than the one
 * before. */
static void fail_for_good(int code, bool on_file)
{
    sys_fault_select("mmap mprotect madvise fallocate membarrier membarrier_register");
    fail_every_call(sys_fault_arm_from, code, on_file);
    sys_fault_select(NULL);
}

TEST(any_call_may_fail_once_on_anonymous_memory) { fail_every_call(sys_fault_arm, ENOMEM, false); }
TEST(any_call_may_fail_for_good_on_anonymous_memory) { fail_for_good(ENOMEM, false); }
TEST(any_call_may_fail_once_on_a_file) { fail_every_call(sys_fault_arm, ENOSPC, true); }
TEST(any_call_may_fail_for_good_on_a_file) { fail_for_good(ENOSPC, true); }

TEST(a_disk_that_fills_up_is_reported_and_malloc_goes_on)
{
    mh_arena *arena;
    mhi_arena_config config = { .capacity_bytes = 1 << 30, .fd = unnamed_file() };
    CHECK_OK(mhi_arena_create(&arena, &config, &err), err);
    char *first = mh_malloc(arena, 1 << 20);
    memset(first, 1, 1 << 20);
    sys_fault_select("fallocate");
    sys_fault_arm_from(1, ENOSPC);
    char *second = mh_malloc(arena, 20 << 20);
    CHECK(second != NULL);
    memset(second, 2, 20 << 20);
    CHECK_EQUAL(mhi_arena_backing_error(arena), ENOSPC);
    /* what spans file and anonymous memory can't be given back now: it stays, and is not called zero */
    mh_free(second);
    CHECK_OK(mh_check(arena, &err), err);
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_arena_wipe_free(arena, &err), err);
    CHECK_OK(mhi_arena_make_private(arena, &err), err);
    CHECK_EQUAL(first[(1 << 20) - 1], 1);
    sys_fault_disarm();
    sys_fault_select(NULL);
    mh_arena_delete(arena);
    close(config.fd);
}

TEST(an_old_kernel_that_maps_elsewhere_is_no_danger)
{
    mh_arena *first, *second;
    sys_fault_be_old(true);
    CHECK_OK(mh_arena_new(&first, 1 << 30, &err), err);
    CHECK_OK(mh_arena_new(&second, 1 << 30, &err), err); /* the first slot is taken: the kernel offers another place */
    CHECK_EQUAL(second->address, first->address + (1 << 30));
    sys_fault_be_old(false);
    mh_arena_delete(first);
    mh_arena_delete(second);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
