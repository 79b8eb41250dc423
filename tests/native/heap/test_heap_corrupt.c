/* test_heap_corrupt.c - a heap that lies: mh_check sees every broken invariant, and an adopted page table leads
 * nowhere. */
#include <sys/mman.h>

#include "harness.h"
#include "heap/cache.h"

static mh_error err;

/* ---- mh_check: break one thing, see it named, mend it -------------------------------------------------------------
 * */

static mh_arena *arena;
static char *small, *large, *hole; /* hole: a free span of 12 pages between two large blocks */

static void populate(void)
{
    mh_arena_delete(arena);
    CHECK_OK(mh_arena_new(&arena, 0, &err), err);
    small = mh_malloc(arena, 100);
    large = mh_malloc(arena, 50000);
    hole = mh_malloc(arena, 50000);
    mh_malloc(arena, 50000);
    mh_free(hole);
    mh_free(mh_malloc(arena, 100));
    CHECK_OK(mh_check(arena, &err), err);
}

static uint32_t page_of(const void *block) { return (uint32_t)(((uintptr_t)block - arena->data) / MHI_PAGE); }

static void check_breaks(const char *words)
{
    CHECK_EQUAL(mh_check(arena, &err), MH_ERR_CORRUPT);
    if (strstr(err.detail, words) == NULL) {
        fprintf(stderr, "\"%s\" does not say \"%s\"\n", err.detail, words);
        exit(1);
    }
}

#define BREAK(place, value, words)            \
    do {                                      \
        __typeof__(place) before_ = (place);  \
        (place) = (value);                    \
        check_breaks(words);                  \
        (place) = before_;                    \
        CHECK_OK(mh_check(arena, &err), err); \
    } while (0)

TEST(check_sees_a_page_table_that_does_not_tile)
{
    populate();
    BREAK(arena->table[page_of(large)], mhi_entry(MHI_LARGE, 14), "");
    BREAK(arena->table[page_of(large)], mhi_entry(MHI_LARGE, 0), "no span begins");
    BREAK(arena->table[page_of(large)], mhi_entry(MHI_INSIDE, 1), "no span begins");
    BREAK(arena->table[page_of(large) + 3], mhi_entry(MHI_INSIDE, 2), "does not lead back");
    BREAK(arena->table[page_of(small) + 2], mhi_entry(MHI_SLAB, mhi_slab_value(6, 3)), "");
    BREAK(arena->table[page_of(hole) + 12], mhi_entry(MHI_FREE, 12), "does not end");
    BREAK(arena->n_pages, UINT32_MAX / 2, "");
}

TEST(check_sees_free_spans_that_are_not_joined)
{
    populate();
    uint32_t page = page_of(hole);
    uint32_t entry = arena->table[page];
    arena->table[page] = mhi_entry(MHI_FREE, 6);
    arena->table[page + 5] = mhi_entry(MHI_FREE, 6);
    arena->table[page + 6] = mhi_entry(MHI_FREE, mhi_entry_value(entry) - 6);
    arena->table[page + mhi_entry_value(entry) - 1] = mhi_entry(MHI_FREE, mhi_entry_value(entry) - 6);
    arena->spans[page].dirty_pages = 6;
    check_breaks("not joined");
}

TEST(check_sees_wrong_lists)
{
    populate();
    uint32_t bin = mhi_bin_of(mhi_entry_value(arena->table[page_of(hole)]));
    BREAK(arena->bins[bin], MHI_NO_PAGE, "bit do not agree");
    BREAK(arena->bins[bin], page_of(large), "list is broken");
    BREAK(arena->bins[0], page_of(hole), "bit do not agree");
    BREAK(arena->classes[7].partial, page_of(small), "does not belong");
    BREAK(arena->spans[page_of(hole)].next, page_of(hole), "list is broken");
    BREAK(arena->spans[page_of(hole)].prev, 0, "list is broken");
    BREAK(arena->classes[6].partial, MHI_NO_PAGE, "class 6 counts");
    BREAK(arena->classes[6].n_free, 1, "class 6 counts");
    BREAK(arena->large_blocks, 1, "large blocks are counted");
}

TEST(check_sees_memory_that_is_called_zero_and_is_not)
{
    populate();
    hole[5000] = 1;
    BREAK(arena->spans[page_of(hole)].dirty_pages, 0, "called zero");
    BREAK(arena->spans[page_of(hole)].dirty_pages, 1000, "dirty pages");
}

TEST(check_sees_a_block_in_two_states_or_none)
{
    populate();
    uint64_t *bits = mhi_slab_bits(&arena->spans[page_of(small)]);
    uint32_t index = (uint32_t)(((uintptr_t)small - arena->data) / 112);
    mhi_bin *bin = &mhi_thread_cache->bins[6];
    void **cached = &mhi_thread_cache->blocks[bin->first];
    BREAK(bits[index / 64], bits[index / 64] | 1ull << index % 64, "free and live");
    BREAK(arena->live[(uintptr_t)(small - arena->data) / 16], 0, "in no state");
    BREAK(arena->live[(uintptr_t)(small - arena->data) / 16 + 1], 1, "inside a block");
    BREAK(arena->live[(uintptr_t)(hole - arena->data) / 16 + 1], 1, "has live blocks");
    BREAK(arena->live[(uintptr_t)(large - arena->data) / 16], 0, "not the one live block");
    BREAK(arena->spans[page_of(small)].n_free, 1, "and says 1");
    BREAK(bin->n, bin->n - 1, "in no state");
    BREAK(cached[0], small, "in a cache and live");
    BREAK(cached[0], cached[1], "in a cache and in a cache");
    BREAK(cached[0], (char *)cached[0] + 16, "is no block");
    BREAK(cached[0], large, "is cached as one of 112");
    BREAK(cached[0], (void *)8, "is no block");
}

/* ---- Adoption: the pages of a file, hostile -------------------------------------------------------------------------
 * */

enum { DATA_BYTES = 1 << 20, DATA_OFFSET = 2 << 20 };

/* An arena's image at an address, with an arbitrary page table. */
static mhi_arena_layout image_of(mh_arena **source)
{
    mhi_arena_layout layout;
    CHECK_OK(mh_arena_new(source, 64 << 20, &err), err);
    while (mh_malloc(*source, 3000) != NULL && (*source)->n_pages < DATA_BYTES / MHI_PAGE - 8)
        ;
    mh_malloc(*source, 40000);
    CHECK_OK(mhi_arena_seal(*source, &err), err);
    CHECK_OK(mhi_arena_make_private(*source, &err), err);
    mhi_arena_read_layout(*source, &layout);
    return layout;
}

TEST(an_adopted_arena_answers_for_its_blocks_and_frees_nothing)
{
    mh_arena *source, *adopted;
    mhi_block block;
    mhi_arena_layout layout = image_of(&source);
    char *large_block = (char *)source->data;
    while (mh_usable_size(large_block) != 40960)
        large_block += MHI_PAGE;
    CHECK_EQUAL(mhi_arena_adopt(&adopted, &layout, &err), MH_ERR_BUSY);
    mhi_arena_forget(source); /* the memory stays, as if it had been mapped from a file */
    CHECK_OK(mhi_arena_adopt(&adopted, &layout, &err), err);
    CHECK(mh_arena_of(large_block) == adopted && mhi_arena_is_sealed(adopted));
    CHECK_EQUAL(mh_usable_size(large_block), 40960);
    CHECK_EQUAL(mh_usable_size(large_block + 4096), 0);
    CHECK(mhi_arena_find_block(adopted, (uintptr_t)large_block + 40959, &block) &&
          block.address == (uintptr_t)large_block);
    mh_free(large_block);
    CHECK_EQUAL(mh_usable_size(large_block), 40960);
    CHECK(mh_malloc(adopted, 1) == NULL && mh_realloc(adopted, large_block, 100000) == NULL);
    CHECK(!mhi_arena_mark_data(adopted, large_block));
    CHECK_EQUAL(mh_check(adopted, &err), MH_ERR_ARGUMENT);
    mh_arena_stats stats;
    mh_arena_read_stats(adopted, &stats);
    CHECK_EQUAL(stats.live_blocks, layout.live_blocks);
    mh_arena_delete(adopted);
    CHECK(mh_arena_of(large_block) == NULL);
}

static void check_refused(mhi_arena_layout layout)
{
    mh_arena *adopted;
    CHECK_EQUAL(mhi_arena_adopt(&adopted, &layout, &err), MH_ERR_CORRUPT);
    CHECK(adopted == NULL);
}

TEST(adoption_refuses_a_layout_that_the_control_page_denies)
{
    mh_arena *source;
    mhi_arena_layout layout = image_of(&source), wrong;
    mhi_arena_forget(source);
    uint64_t values[] = { 0, 1, 4096, 1ull << 44, UINT64_MAX, UINT64_MAX - 4095, MHI_REGION_START, MHI_REGION_END };
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        wrong = layout, wrong.address = values[i];
        if (values[i] != layout.address)
            check_refused(wrong);
        wrong = layout, wrong.data_offset = values[i], check_refused(wrong);
        wrong = layout, wrong.data_bytes = values[i], check_refused(wrong);
        wrong = layout, wrong.live_blocks = values[i], check_refused(wrong);
    }
    wrong = layout, wrong.meta_bytes = 4096, check_refused(wrong);
    wrong = layout, wrong.meta_bytes = layout.data_offset + 4096, check_refused(wrong);
    mhi_control *agreeing = (mhi_control *)layout.address, before = *agreeing; /* it lies as the layout does */
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        wrong = layout, wrong.data_offset = agreeing->data_offset = values[i];
        if (values[i] != layout.data_offset)
            check_refused(wrong);
        *agreeing = before;
        wrong = layout, wrong.data_bytes = agreeing->data_bytes = values[i];
        if (values[i] > layout.data_bytes)
            check_refused(wrong);
        *agreeing = before;
    }
    unsigned char *control = (unsigned char *)layout.address;
    for (size_t i = 0; i < sizeof(mhi_control); i++) {
        control[i] ^= 1;
        check_refused(layout);
        control[i] ^= 1;
    }
    munmap((void *)layout.address, layout.data_offset + layout.data_bytes);
}

static void look_everywhere(const mh_arena *adopted, const mhi_arena_layout *layout)
{
    uint64_t from = layout->address + layout->data_offset, to = from + layout->data_bytes;
    /* 31 grains: comes by every place of a page in time */
    for (uint64_t address = from; address < to; address += 496) {
        mhi_block block;
        size_t size = mh_usable_size((void *)address);
        CHECK(size <= to - address);
        mh_free((void *)address);
        if (mhi_arena_find_block(adopted, address, &block))
            CHECK(block.address >= from && block.address <= address && address - block.address < block.size_bytes &&
                  block.size_bytes <= to - block.address);
    }
}

/* Any number, or one near those that are possible. */
static uint32_t hostile_entry(uint64_t *random, int kind)
{
    uint32_t value = (uint32_t)harness_random(random);
    if (kind == 0)
        return value;
    if (kind == 1)
        return mhi_entry(value & 3, value >> 2 & 0x1ff);
    return mhi_entry(MHI_SLAB, mhi_slab_value((value & 0xffff) % (MHI_CLASSES + 2), (value >> 16) % 20));
}

TEST(a_hostile_page_table_leads_nowhere)
{
    uint64_t random = harness_seed();
    mh_arena *source, *adopted;
    mhi_arena_layout layout = image_of(&source);
    mhi_arena_forget(source);
    uint64_t n_entries = layout.data_bytes / MHI_PAGE;
    /* Nothing lies before the image and behind it: one step too far is a signal. */
    CHECK(layout.data_offset + layout.data_bytes < MHI_SLOT_BYTES);
    uint32_t *table = (uint32_t *)(layout.address + MHI_PAGE);
    CHECK_OK(mhi_arena_adopt(&adopted, &layout, &err), err);
    for (int round = 0; round < 2000; round++) {
        for (uint64_t i = 0; i < n_entries; i++)
            table[i] = hostile_entry(&random, round % 3);
        look_everywhere(adopted, &layout);
    }
    mh_arena_delete(adopted);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
