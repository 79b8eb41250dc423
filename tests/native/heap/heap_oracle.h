/* heap_oracle.h - a dumb table of what should be live, and random traffic that is compared with it.
 *
 * Every block is filled with bytes that its record tells; a block that overlaps another, moves or loses content is seen
 * when it is next looked at. One oracle is for one thread; blocks may be handed from one to another by their records.
 */
#ifndef HEAP_ORACLE_H
#define HEAP_ORACLE_H
#include "harness.h"
#include "heap/arena.h"

enum { ORACLE_BLOCKS = 1024 };

typedef struct {
    unsigned char *address; /* NULL: no block */
    size_t size_bytes;
    uint64_t seed; /* of its content */
} oracle_block;

typedef struct {
    mh_arena *arena;
    uint64_t random;
    uint32_t n_blocks; /* slots in use of blocks: fewer make more reuse */
    oracle_block blocks[ORACLE_BLOCKS];
} oracle;

/* Content is compared whole in small blocks, at both ends and at a stride in large ones. */
static inline size_t oracle_stride(size_t size_bytes) { return size_bytes <= 4096 ? 1 : size_bytes / 509; }

static inline void oracle_fill(const oracle_block *block)
{
    for (size_t i = 0; i < block->size_bytes; i += oracle_stride(block->size_bytes))
        block->address[i] = (unsigned char)(block->seed + i * 7);
    if (block->size_bytes > 0)
        block->address[block->size_bytes - 1] = (unsigned char)(block->seed >> 8);
}

/* The first `size_bytes` bytes, as they were when the block was filled. */
static inline void oracle_compare(const oracle_block *block, const unsigned char *address, size_t size_bytes)
{
    for (size_t i = 0; i < size_bytes; i += oracle_stride(block->size_bytes))
        if (i != block->size_bytes - 1)
            CHECK_EQUAL(address[i], (unsigned char)(block->seed + i * 7));
    if (size_bytes > 0 && size_bytes == block->size_bytes)
        CHECK_EQUAL(address[size_bytes - 1], (unsigned char)(block->seed >> 8));
}

/* Mostly small, some of every magnitude up to 1 MiB, now and then the sizes at which a path changes. */
static inline size_t oracle_size(uint64_t *random)
{
    static const size_t edges[] = { 0,    1,    15,    16,    17,    128,   129,   4095,
                                    4096, 4097, 32767, 32768, 32769, 36864, 36865, 1 << 20 };
    uint64_t kind = harness_below(random, 16);
    if (kind == 0)
        return edges[harness_below(random, sizeof edges / sizeof *edges)];
    return harness_below(random, 1ull << (kind < 12 ? 9 : kind < 15 ? 14 : 20));
}

static inline void oracle_record(oracle *o, oracle_block *block, void *address, size_t size_bytes)
{
    mhi_block found;
    *block = (oracle_block){ address, size_bytes, harness_random(&o->random) };
    CHECK(address != NULL);
    CHECK_EQUAL((uintptr_t)address % 16, 0);
    CHECK(mh_usable_size(address) >= size_bytes);
    CHECK(mh_arena_of(address) == o->arena);
    CHECK(mhi_arena_find_block(o->arena, (uintptr_t)address + size_bytes / 2, &found) &&
          found.address == (uintptr_t)address);
    CHECK_EQUAL(found.size_bytes, mh_usable_size(address));
    oracle_fill(block);
}

static inline void oracle_free(oracle_block *block)
{
    oracle_compare(block, block->address, block->size_bytes);
    if (block->size_bytes > 16)
        mh_free(block->address + 16); /* no block begins there: left alone */
    mh_free(block->address);
    block->address = NULL;
}

static inline void oracle_allocate(oracle *o, oracle_block *block)
{
    size_t size_bytes = oracle_size(&o->random), align_bytes = 16;
    unsigned char *address;
    switch (harness_below(&o->random, 4)) {
    case 0:
        address = mh_calloc(o->arena, 1, size_bytes);
        for (size_t i = 0; i < size_bytes; i += oracle_stride(size_bytes))
            CHECK_EQUAL(address[i], 0);
        break;
    case 1:
        align_bytes = 1ull << harness_below(&o->random, 17);
        address = mh_aligned_alloc(o->arena, align_bytes, size_bytes);
        break;
    default: address = mh_malloc(o->arena, size_bytes);
    }
    CHECK_EQUAL((uintptr_t)address % align_bytes, 0);
    oracle_record(o, block, address, size_bytes);
}

static inline void oracle_reallocate(oracle *o, oracle_block *block)
{
    size_t size_bytes = oracle_size(&o->random) + 1;
    unsigned char *address = mh_realloc(o->arena, block->address, size_bytes);
    CHECK(address != NULL);
    oracle_compare(block, address, size_bytes < block->size_bytes ? size_bytes : block->size_bytes);
    oracle_record(o, block, address, size_bytes);
}

/* One random operation on one random slot. */
static inline void oracle_step(oracle *o)
{
    oracle_block *block = &o->blocks[harness_below(&o->random, o->n_blocks)];
    if (block->address == NULL)
        oracle_allocate(o, block);
    else if (harness_below(&o->random, 3) == 0)
        oracle_reallocate(o, block);
    else
        oracle_free(block);
}

static inline uint64_t oracle_live(const oracle *o)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < o->n_blocks; i++)
        n += o->blocks[i].address != NULL;
    return n;
}

static inline void oracle_free_all(oracle *o)
{
    for (uint32_t i = 0; i < o->n_blocks; i++)
        if (o->blocks[i].address != NULL)
            oracle_free(&o->blocks[i]);
}

static inline uint64_t live_blocks(mh_arena *arena)
{
    mh_arena_stats stats;
    mh_arena_read_stats(arena, &stats);
    return stats.live_blocks;
}

#endif
