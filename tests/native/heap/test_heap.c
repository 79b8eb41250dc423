/* test_heap.c - the malloc family, entry by entry. */
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include "harness.h"
#include "heap/cache.h"

static mh_error err;
static mh_arena *arena;

/* Runs the rest of a case on an arena of its own. */
static mh_arena *fresh(uint64_t capacity_bytes)
{
    mh_arena_delete(arena);
    CHECK_OK(mh_arena_new(&arena, capacity_bytes, &err), err);
    return arena;
}

static void check_live(uint64_t n)
{
    mh_arena_stats stats;
    CHECK_OK(mh_check(arena, &err), err);
    mh_arena_read_stats(arena, &stats);
    CHECK_EQUAL(stats.live_blocks, n);
}

static bool is_zero(const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i] != 0)
            return false;
    return true;
}

TEST(classes_hold_every_small_size_with_little_waste)
{
    fresh(0);
    for (size_t size = 0; size <= MHI_SMALL_MAX; size++) {
        uint32_t c = mhi_class_of(size), bytes = mhi_classes[c].block_bytes;
        CHECK(size <= bytes && bytes % MHI_GRAIN == 0);
        CHECK(c == 0 || mhi_classes[c - 1].block_bytes < size || size == 0);
        CHECK(bytes - size <= 16 || bytes - size <= size / 4); /* the step above 2^n is 2^n / 4 */
    }
    CHECK_EQUAL(mhi_class_of(MHI_SMALL_MAX), MHI_CLASSES - 1);
}

TEST(the_reciprocal_finds_the_block_around_every_byte)
{
    fresh(0);
    for (int c = 0; c < MHI_CLASSES; c++)
        for (uint64_t offset = 0; offset < mhi_classes[c].n_pages * MHI_PAGE; offset += 8)
            CHECK_EQUAL(mhi_block_index(&mhi_classes[c], offset), offset / mhi_classes[c].block_bytes);
}

TEST(malloc_of_nothing_is_unique)
{
    fresh(0);
    void *a = mh_malloc(arena, 0), *b = mh_malloc(arena, 0);
    CHECK(a != NULL && b != NULL && a != b);
    check_live(2);
}

TEST(a_freed_block_is_reused)
{
    fresh(0);
    void *a = mh_malloc(arena, 100), *large = mh_malloc(arena, 100000);
    mh_free(a);
    CHECK(mh_malloc(arena, 100) == a);
    mh_free(large);
    CHECK(mh_malloc(arena, 100000) == large);
}

TEST(a_heap_filled_and_freed_twice_does_not_grow)
{
    enum { N = 20000 };
    static void *blocks[N];
    uint64_t grown = 0;
    fresh(0);
    for (int round = 0; round < 4; round++) {
        mh_arena_stats stats;
        uint64_t random = 1;
        for (int i = 0; i < N; i++)
            blocks[i] = mh_malloc(arena, harness_below(&random, i % 100 == 0 ? 200000 : 2000));
        for (int i = 0; i < N; i++)
            mh_free(blocks[i]);
        mh_arena_read_stats(arena, &stats);
        CHECK(round == 0 || stats.mapped_bytes == grown);
        grown = stats.mapped_bytes;
    }
    check_live(0);
}

TEST(sizes_beyond_ptrdiff_max_are_refused)
{
    fresh(0);
    size_t sizes[] = { SIZE_MAX, SIZE_MAX - 4096, (size_t)PTRDIFF_MAX + 1, PTRDIFF_MAX, (size_t)1 << 46 };
    void *block = mh_malloc(arena, 10);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        errno = 0;
        CHECK(mh_malloc(arena, sizes[i]) == NULL && errno == ENOMEM);
        CHECK(mh_calloc(arena, 1, sizes[i]) == NULL);
        CHECK(mh_aligned_alloc(arena, 64, sizes[i]) == NULL);
        CHECK(mh_realloc(arena, block, sizes[i]) == NULL);
    }
    check_live(1);
}

TEST(products_that_overflow_are_refused)
{
    fresh(0);
    void *block = mh_malloc(arena, 10);
    errno = 0;
    CHECK(mh_calloc(arena, SIZE_MAX / 16 + 2, 16) == NULL && errno == ENOMEM);
    errno = 0;
    CHECK(mh_reallocarray(arena, block, SIZE_MAX / 16 + 2, 16) == NULL && errno == ENOMEM);
    CHECK(mh_usable_size(block) >= 10);
    check_live(1);
}

TEST(a_full_arena_says_so_and_goes_on_after_free)
{
    void *blocks[64];
    int n = 0;
    fresh(32 << 20);
    errno = 0;
    while ((blocks[n] = mh_malloc(arena, 1 << 20)) != NULL)
        n++;
    CHECK(errno == ENOMEM && n > 20);
    while (mh_malloc(arena, 64) != NULL) /* down to the last page */
        ;
    CHECK(mh_malloc(arena, 64) == NULL);
    mh_free(blocks[n / 2]);
    CHECK(mh_malloc(arena, 64) != NULL);
    CHECK_OK(mh_check(arena, &err), err);
}

TEST(calloc_zeroes_what_was_used_before)
{
    size_t sizes[] = { 1, 100, 5000, 50000, 40 << 20 };
    fresh(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *block = mh_malloc(arena, sizes[i]);
        memset(block, 0xaa, sizes[i]);
        mh_free(block);
        block = mh_calloc(arena, sizes[i], 1);
        CHECK(is_zero(block, sizes[i]));
    }
    check_live(5);
}

TEST(calloc_zeroes_to_the_very_end)
{
    size_t sizes[] = { 1, 17, 129, 20000, 33000, 100001 };
    fresh(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        unsigned char *block = mh_malloc(arena, sizes[i]);
        memset(block, 0xaa, mh_usable_size(block));
        mh_free(block);
        CHECK(mh_calloc(arena, 1, sizes[i]) == block);
        CHECK(is_zero(block, mh_usable_size(block)));
    }
}

TEST(aligned_blocks_are_aligned_and_apart)
{
    fresh(0);
    uint64_t n = 0;
    for (size_t align = 1; align <= 64 << 20; align *= 2)
        for (size_t size = 1; size <= 100000; size = size * 3 + 1) {
            unsigned char *block = mh_aligned_alloc(arena, align, size);
            CHECK(block != NULL);
            CHECK_EQUAL((uintptr_t)block % align, 0);
            CHECK(mh_usable_size(block) >= size);
            CHECK(align > 65536 || is_zero(block, size));
            memset(block, 1, size);
            n++;
        }
    check_live(n);
}

TEST(alignment_must_be_a_power_of_two_and_fit)
{
    fresh(0);
    size_t wrong[] = { 0, 3, 24, SIZE_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        errno = 0;
        CHECK(mh_aligned_alloc(arena, wrong[i], 8) == NULL && errno == EINVAL);
    }
    errno = 0;
    CHECK(mh_aligned_alloc(arena, 1ull << 45, 8) == NULL && errno == ENOMEM);
    CHECK(mh_aligned_alloc(arena, 1ull << 63, 8) == NULL && errno == ENOMEM);
    check_live(0);
}

TEST(what_alignment_skips_is_reused)
{
    fresh(0);
    mh_free(mh_aligned_alloc(arena, 1 << 20, 1 << 20));
    mh_arena_stats before, after;
    mh_arena_read_stats(arena, &before);
    for (int i = 0; i < 100; i++)
        mh_free(mh_aligned_alloc(arena, 1 << 20, 1 << 20));
    mh_arena_read_stats(arena, &after);
    CHECK_EQUAL(after.mapped_bytes, before.mapped_bytes);
    check_live(0);
}

TEST(realloc_keeps_content_through_every_size)
{
    fresh(0);
    size_t sizes[] = { 1, 40, 30, 500, 31000, 33000, 400000, 390000, 40000, 100, 5 << 20, 7 };
    unsigned char *block = mh_realloc(arena, NULL, 1);
    size_t old = 1;
    block[0] = 0;
    for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++) {
        block = mh_realloc(arena, block, sizes[i]);
        for (size_t k = 0; k < (old < sizes[i] ? old : sizes[i]); k++)
            CHECK_EQUAL(block[k], (unsigned char)(k * 31));
        for (size_t k = 0; k < sizes[i]; k++)
            block[k] = (unsigned char)(k * 31);
        old = sizes[i];
        check_live(1);
    }
}

TEST(realloc_of_large_blocks_stays_in_place_where_it_can)
{
    fresh(0);
    char *block = mh_malloc(arena, 1 << 20);
    CHECK(mh_realloc(arena, block, 8 << 20) == block); /* grows past the high-water mark */
    char *behind = mh_malloc(arena, 1 << 20);
    CHECK(mh_realloc(arena, block, 2 << 20) == block);
    CHECK_EQUAL(mh_usable_size(block), 2 << 20);
    CHECK(mh_realloc(arena, block, 8 << 20) == block); /* into the free pages it left */
    CHECK(mh_realloc(arena, block, 9 << 20) != block);
    check_live(2);
    mh_free(behind);
}

TEST(realloc_copies_nothing_of_the_neighbour)
{
    fresh(0);
    char *block = mh_malloc(arena, 40960), *neighbour = mh_malloc(arena, 40960);
    memset(block, 1, 40960);
    memset(neighbour, 2, 40960);
    block = mh_realloc(arena, block, 81920);
    CHECK(block > neighbour && block[40959] == 1);
    CHECK(is_zero((unsigned char *)block + 40960, 40960)); /* fresh memory */
}

TEST(realloc_to_nothing_frees)
{
    fresh(0);
    void *block = mh_malloc(arena, 100);
    CHECK(mh_realloc(arena, block, 0) == NULL);
    check_live(0);
}

TEST(a_failed_realloc_leaves_the_block)
{
    fresh(16 << 20);
    unsigned char *block = mh_malloc(arena, 1 << 20), *wall = mh_malloc(arena, 4096);
    memset(block, 7, 1 << 20);
    CHECK(mh_realloc(arena, block, 64 << 20) == NULL);
    CHECK_EQUAL(block[(1 << 20) - 1], 7);
    CHECK_EQUAL(mh_usable_size(block), 1 << 20);
    mh_free(wall);
    check_live(1);
}

TEST(free_leaves_what_is_no_live_block_alone)
{
    fresh(0);
    char *small = mh_malloc(arena, 1000), *large = mh_malloc(arena, 1 << 20), local;
    mh_arena_stats stats;
    mh_arena_read_stats(arena, &stats);
    void *wrong[] = { NULL,
                      &local,
                      small + 1,
                      small + 16,
                      large + 16,
                      large + 4096,
                      (void *)stats.address,
                      (void *)(stats.address + 4096),
                      (void *)(stats.address + stats.capacity_bytes - 16),
                      (void *)(stats.address + stats.capacity_bytes),
                      (void *)MHI_REGION_START,
                      (void *)(MHI_REGION_END - 16),
                      (void *)-16 };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        mh_free(wrong[i]);
        CHECK_EQUAL(mh_usable_size(wrong[i]), 0);
    }
    check_live(2);
    mh_free(small);
    mh_free(small);
    mh_free(large);
    mh_free(large);
    check_live(0);
    errno = 0;
    CHECK(mh_realloc(arena, small, 10) == NULL && errno == EINVAL);
}

TEST(free_keeps_errno)
{
    fresh(0);
    void *small = mh_malloc(arena, 10), *huge = mh_malloc(arena, 64 << 20);
    errno = 77;
    mh_free(small);
    mh_free(huge);
    CHECK_EQUAL(errno, 77);
}

static size_t resident_pages(void *start, size_t bytes)
{
    static unsigned char in_core[(64 << 20) / MHI_PAGE];
    size_t n = 0;
    CHECK_EQUAL(mincore(start, bytes, in_core), 0);
    for (size_t i = 0; i < bytes / MHI_PAGE; i++)
        n += in_core[i] & 1;
    return n;
}

TEST(huge_free_spans_give_their_memory_back)
{
    char *blocks[8];
    fresh(0);
    for (int i = 0; i < 8; i++)
        memset(blocks[i] = mh_malloc(arena, 8 << 20), 1, 8 << 20);
    CHECK(resident_pages(blocks[0], 64 << 20) == (64 << 20) / MHI_PAGE);
    for (int i = 0; i < 8; i++) /* every other one first, so that they join with both neighbours */
        mh_free(blocks[i < 4 ? 2 * i : 15 - 2 * i]);
    CHECK(resident_pages(blocks[0], 64 << 20) < (32 << 20) / MHI_PAGE);
    check_live(0);
}

TEST(calloc_does_not_touch_memory_that_was_given_back)
{
    fresh(0);
    char *block = mh_malloc(arena, 64 << 20);
    memset(block, 1, 64 << 20);
    mh_free(block);
    CHECK(mh_calloc(arena, 64 << 20, 1) == block);
    CHECK(resident_pages(block, 64 << 20) < 10);
    CHECK(is_zero((unsigned char *)block, 64 << 20));
}

TEST(pages_of_freed_small_blocks_serve_large_ones)
{
    enum { N = 100000 };
    static void *blocks[N];
    mh_arena_stats before, after;
    fresh(0);
    for (int i = 0; i < N; i++)
        blocks[i] = mh_malloc(arena, 100);
    for (int i = 0; i < N; i++)
        mh_free(blocks[i]);
    mh_arena_read_stats(arena, &before);
    CHECK(mh_malloc(arena, 8 << 20) != NULL);
    mh_arena_read_stats(arena, &after);
    CHECK_EQUAL(after.mapped_bytes, before.mapped_bytes);
    check_live(1);
}

TEST(neighbours_join_in_every_order_of_freeing)
{
    static const int orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 }, { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    for (int i = 0; i < 6; i++) {
        fresh(0);
        void *blocks[3], *end;
        for (int k = 0; k < 3; k++)
            blocks[k] = mh_malloc(arena, 40960);
        end = mh_malloc(arena, 40960);
        for (int k = 0; k < 3; k++) {
            mh_free(blocks[orders[i][k]]);
            check_live(3 - (uint64_t)k);
        }
        CHECK(mh_malloc(arena, 3 * 40960) == blocks[0]);
        mh_free(end);
    }
}

TEST(owners_are_counted_and_data_is_marked)
{
    mhi_owner_count counts[MHI_OWNER_MASK + 1];
    mhi_block block;
    fresh(0);
    char *mine = mh_malloc(arena, 100), *theirs = mhi_arena_malloc(arena, 50000, 5);
    mhi_arena_malloc(arena, 10, 5 | MHI_BLOCK_DATA);
    mhi_arena_count_owners(arena, counts);
    CHECK_EQUAL(counts[MHI_OWNER_EXPLICIT].blocks, 1);
    CHECK_EQUAL(counts[5].blocks, 2);
    CHECK_EQUAL(counts[5].bytes, 53248 + 16);
    CHECK(mhi_arena_mark_data(arena, mine));
    CHECK(mhi_arena_find_block(arena, (uintptr_t)mine + 99, &block) && block.is_data &&
          block.owner == MHI_OWNER_EXPLICIT);
    mine = mh_realloc(arena, mine, 100000);
    CHECK(mhi_arena_find_block(arena, (uintptr_t)mine + 99999, &block) && block.is_data);
    CHECK(mhi_arena_find_block(arena, (uintptr_t)theirs + 49999, &block) && !block.is_data && block.owner == 5);
    mh_free(theirs);
    CHECK(!mhi_arena_find_block(arena, (uintptr_t)theirs, &block));
    CHECK(!mhi_arena_mark_data(arena, theirs));
}

static void *allocate_and_leave(void *context)
{
    void **kept = context;
    for (int i = 0; i < 100; i++)
        mh_free(mh_malloc(arena, 40));
    *kept = mh_malloc(arena, 40);
    return NULL;
}

TEST(ten_thousand_short_threads_leak_nothing)
{
    static void *kept[10000];
    mh_arena_stats stats;
    fresh(0);
    for (int i = 0; i < 10000; i++) {
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, allocate_and_leave, &kept[i]), 0);
        pthread_join(thread, NULL);
    }
    check_live(10000);
    mh_arena_read_stats(arena, &stats);
    CHECK(stats.mapped_bytes <= 4 << 20);
    for (int i = 0; i < 10000; i++)
        mh_free(kept[i]);
    check_live(0);
}

static pthread_key_t late_key;

/* Comes back in every round of destructors there is, so the last time it runs after the allocator's own. */
static void allocate_late(void *block)
{
    mh_free(block);
    pthread_setspecific(late_key, mh_malloc(arena, 500));
}

static void *leave_with_a_block(void *ignored)
{
    allocate_late(NULL);
    return ignored;
}

static int count_caches(void)
{
    int n = 0;
    for (const mhi_cache *cache = mhi_caches; cache != NULL; cache = cache->next)
        n++;
    return n;
}

TEST(a_thread_may_allocate_after_its_cache_is_gone)
{
    fresh(0);
    mh_free(mh_malloc(arena, 1)); /* so that our own key is older, and its destructor runs first */
    CHECK_EQUAL(pthread_key_create(&late_key, allocate_late), 0);
    int n_caches = count_caches();
    for (int i = 0; i < 20; i++) {
        pthread_t thread;
        CHECK_EQUAL(pthread_create(&thread, NULL, leave_with_a_block, NULL), 0);
        pthread_join(thread, NULL);
    }
    pthread_key_delete(late_key);
    CHECK(count_caches() <= n_caches + 1);
    check_live(20); /* the last block of each */
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
