/* test_heap_arena.c - the life of an arena: where it lies, on what, and how it ends. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "harness.h"
#include "heap/heap.h"

static mh_error err;

/* A file without a name, in the build directory: tmpfs would not have every call that a disk has. */
static int unnamed_file(void)
{
    char name[] = "test_heap_arena.XXXXXX";
    int fd = mkostemp(name, O_CLOEXEC);
    CHECK(fd >= 0);
    unlink(name);
    return fd;
}

static mh_arena *on_file(int fd, uint64_t capacity_bytes)
{
    mh_arena *arena;
    mhi_arena_config config = { .capacity_bytes = capacity_bytes, .fd = fd, .file_offset = 2 << 20 };
    CHECK_OK(mhi_arena_create(&arena, &config, &err), err);
    return arena;
}

static mhi_arena_layout layout_of(const mh_arena *arena)
{
    mhi_arena_layout layout;
    mhi_arena_read_layout(arena, &layout);
    return layout;
}

TEST(arenas_lie_apart_and_know_their_blocks)
{
    enum { N = 200 };
    mh_arena *arenas[N];
    void *blocks[N];
    for (int i = 0; i < N; i++) {
        CHECK_OK(mh_arena_new(&arenas[i], (uint64_t)(i % 3 + 1) << 29, &err), err);
        blocks[i] = mh_malloc(arenas[i], 100);
        memset(blocks[i], i, 100);
    }
    for (int i = 0; i < N; i++) {
        CHECK(mh_arena_of(blocks[i]) == arenas[i]);
        CHECK_EQUAL(*(unsigned char *)blocks[i], i);
        mh_free(blocks[i]);
        CHECK_OK(mh_check(arenas[i], &err), err);
    }
    for (int i = 0; i < N; i++)
        mh_arena_delete(arenas[i]);
    CHECK(mh_arena_of(blocks[0]) == NULL);
    mh_free(blocks[0]);
}

TEST(a_taken_address_is_left_alone_and_the_next_slot_used)
{
    mh_arena *arena;
    mhi_arena_config config = { .first_slot = 16384 + 5000, .capacity_bytes = 1 << 30, .fd = -1 };
    char *taken = (char *)(MHI_REGION_START + 5000 * MHI_SLOT_BYTES);
    char *mapped =
        mmap(taken + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(mapped == taken + 4096);
    *mapped = 42;
    CHECK_OK(mhi_arena_create(&arena, &config, &err), err);
    CHECK_EQUAL(layout_of(arena).address, (uintptr_t)taken + MHI_SLOT_BYTES);
    CHECK_EQUAL(*mapped, 42);
    munmap(mapped, 4096);
    mh_arena_delete(arena);
    CHECK_OK(mhi_arena_create(&arena, &config, &err), err);
    CHECK_EQUAL(layout_of(arena).address, (uintptr_t)taken);
    mh_arena_delete(arena);
}

TEST(an_arena_of_terabytes_costs_nothing_until_used)
{
    mh_arena *arenas[3];
    for (int i = 0; i < 3; i++) {
        CHECK_OK(mh_arena_new(&arenas[i], MHI_CAPACITY_MAX, &err), err);
        char *block = mh_malloc(arenas[i], 1ull << 36); /* sparse: only the page table of it is touched */
        CHECK(block != NULL);
        block[(1ull << 36) - 1] = 1;
        CHECK_EQUAL(mh_usable_size(block), 1ull << 36);
    }
    mh_arena *fourth;
    CHECK_EQUAL(mh_arena_new(&fourth, MHI_REGION_END - MHI_REGION_START, &err), MH_ERR_ARGUMENT);
    CHECK(mh_arena_new(&fourth, MHI_CAPACITY_MAX, &err) == MH_OK);
    mh_arena *fifth;
    CHECK_EQUAL(mh_arena_new(&fifth, MHI_CAPACITY_MAX, &err), MH_ERR_BUSY);
    CHECK(fifth == NULL);
    mh_arena_delete(fourth);
    for (int i = 0; i < 3; i++)
        mh_arena_delete(arenas[i]);
}

TEST(capacities_that_cannot_be_are_refused)
{
    mh_arena *arena;
    CHECK_EQUAL(mh_arena_new(&arena, 1, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_arena_new(&arena, UINT64_MAX, &err), MH_ERR_ARGUMENT);
    CHECK(arena == NULL);
    CHECK_OK(mh_arena_new(&arena, 4 << 20, &err), err);
    CHECK(mh_malloc(arena, 1 << 20) != NULL);
    mh_arena_delete(arena);
    mh_arena_delete(NULL);
}

TEST(sealed_arenas_allocate_and_free_nothing)
{
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    char *block = mh_malloc(arena, 100);
    mh_free(mh_malloc(arena, 100000));
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK(mhi_arena_is_sealed(arena));
    errno = 0;
    CHECK(mh_malloc(arena, 1) == NULL && errno == ENOMEM);
    CHECK(mh_realloc(arena, block, 200) == NULL);
    mh_free(block);
    CHECK_EQUAL(mh_usable_size(block), 112);
    CHECK_EQUAL(layout_of(arena).live_blocks, 1);
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_delete(arena);
}

TEST(a_seal_lowers_the_high_water_mark_to_the_last_block)
{
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    mh_malloc(arena, 100);
    mh_free(mh_malloc(arena, 10 << 20));
    CHECK(layout_of(arena).data_bytes > 10 << 20);
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK(layout_of(arena).data_bytes < 1 << 20);
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_delete(arena);
}

/* ---- On a file --------------------------------------------------------------------------------------------------- */

static char byte_of_file(int fd, uint64_t offset)
{
    char byte;
    CHECK_EQUAL(pread(fd, &byte, 1, (off_t)offset), 1);
    return byte;
}

TEST(data_is_the_file_until_private_and_never_after)
{
    int fd = unnamed_file();
    mh_arena *arena = on_file(fd, 0);
    char *block = mh_malloc(arena, 3 << 20);
    memset(block, 1, 3 << 20);
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_arena_wipe_free(arena, &err), err);
    mhi_arena_layout layout = layout_of(arena);
    uint64_t offset = (uintptr_t)block - layout.address - layout.data_offset + (2 << 20);
    CHECK_EQUAL(byte_of_file(fd, offset), 1);
    CHECK_OK(mhi_arena_make_private(arena, &err), err);
    CHECK_EQUAL(block[12345], 1);
    memset(block, 2, 3 << 20);
    CHECK_EQUAL(byte_of_file(fd, offset), 1);
    CHECK(mh_arena_of((char *)layout.address + layout.data_offset + layout.data_bytes) == arena);
    CHECK(mh_arena_of((char *)layout.address + layout.data_offset + layout.data_bytes + MHI_SLOT_BYTES) == NULL);
    mh_free(block);
    mh_arena_delete(arena);
    close(fd);
}

TEST(wiping_leaves_live_bytes_and_zeroes_all_others)
{
    enum { N = 3000 };
    static unsigned char *blocks[N], *last[5000];
    static size_t sizes[N];
    uint64_t random = harness_seed();
    for (int backed = 0; backed < 2; backed++) {
        int fd = backed ? unnamed_file() : -1;
        mh_arena *arena = on_file(fd, 0);
        for (int i = 0; i < N; i++) {
            sizes[i] = harness_below(&random, i % 50 == 0 ? 300000 : 3000) + 1;
            blocks[i] = mh_malloc(arena, sizes[i]);
            memset(blocks[i], 0xee, mh_usable_size(blocks[i]));
        }
        for (int i = 0; i < 5000; i++)
            memset(last[i] = mh_malloc(arena, 48), 0xdd, 48);
        for (int i = 0; i < 5000; i++) /* so that the data ends in free blocks of a slab */
            mh_free(i % 100 != 0 ? last[i] : NULL);
        for (int i = 0; i < N; i++)
            if (harness_below(&random, 3) != 0) {
                mh_free(blocks[i]);
                blocks[i] = NULL;
            }
        CHECK_EQUAL(mhi_arena_wipe_free(arena, &err), MH_ERR_ARGUMENT);
        CHECK_OK(mhi_arena_seal(arena, &err), err);
        CHECK_OK(mhi_arena_wipe_free(arena, &err), err);
        CHECK_OK(mh_check(arena, &err), err);
        mhi_arena_layout layout = layout_of(arena);
        const unsigned char *data = (unsigned char *)layout.address + layout.data_offset;
        uint64_t found = 0, others = 0, expected = 0;
        for (uint64_t i = 0; i < layout.data_bytes; i++)
            found += data[i] == 0xee, others += data[i] == 0xdd;
        for (int i = 0; i < N; i++)
            for (size_t k = 0; blocks[i] != NULL && k < mh_usable_size(blocks[i]); k++)
                expected += blocks[i][k] == 0xee;
        CHECK_EQUAL(found, expected);
        CHECK_EQUAL(others, 50 * 48);
        mh_arena_delete(arena);
        if (backed)
            close(fd);
    }
}

TEST(memory_given_back_to_a_file_is_zero_and_still_ours)
{
    int fd = unnamed_file();
    mh_arena *arena = on_file(fd, 0);
    char *block = mh_malloc(arena, 48 << 20);
    memset(block, 1, 48 << 20);
    mh_free(block);
    CHECK_OK(mh_check(arena, &err), err);
    block = mh_calloc(arena, 48 << 20, 1);
    for (size_t i = 0; i < 48 << 20; i++)
        CHECK_EQUAL(block[i], 0);
    mh_arena_delete(arena);
    close(fd);
}

TEST(a_file_size_limit_is_an_error_and_not_a_signal)
{
    int fd = unnamed_file();
    struct rlimit old, limit;
    getrlimit(RLIMIT_FSIZE, &old);
    limit = (struct rlimit){ 16 << 20, old.rlim_max };
    CHECK_EQUAL(setrlimit(RLIMIT_FSIZE, &limit), 0);
    mh_arena *arena = on_file(fd, 0);
    char *small = mh_malloc(arena, 1 << 20), *large = mh_malloc(arena, 32 << 20);
    setrlimit(RLIMIT_FSIZE, &old);
    memset(small, 1, 1 << 20);
    memset(large, 1, 32 << 20);
    CHECK_EQUAL(mhi_arena_backing_error(arena), EFBIG);
    CHECK_OK(mh_check(arena, &err), err);
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    CHECK_OK(mhi_arena_make_private(arena, &err), err);
    CHECK_EQUAL(small[0] + large[(32 << 20) - 1], 2);
    mh_arena_delete(arena);
    close(fd);
}

TEST(a_full_disk_is_no_reason_to_fail)
{
    int fd = open("/dev/full", O_RDWR | O_CLOEXEC); /* neither fallocate nor mmap works on it */
    mh_arena *arena = on_file(fd, 0);
    char *block = mh_malloc(arena, 5 << 20);
    memset(block, 1, 5 << 20);
    CHECK(mhi_arena_backing_error(arena) != 0);
    mh_free(block);
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_delete(arena);
    close(fd);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
