/* test_python_pymalloc.c - copies of secrets are wiped from free blocks of Python's allocator, and from nowhere else.
 * */
#include <stdbool.h>

#include "harness.h"
#include "python/pymalloc.h"

enum { POOL = 1 << 14, HEADER = 48, BLOCK = 96, N_BLOCKS = (POOL - HEADER) / BLOCK, N_HANDED_OUT = 20, AT = 48 };

/* As CPython's struct pool_header. */
typedef struct {
    uint32_t n_used, unused;
    char *free_block;
    void *next_pool, *previous_pool;
    uint32_t arena, size_class, next_offset, max_next_offset;
} header;

static const char secret[] = "sesame, open the door";
static _Alignas(POOL) char memory[3 * POOL]; /* the pool is the second of three */
static char *const pool = memory + POOL;
static mhi_remnants remnants;

static char *block(int i) { return pool + HEADER + i * BLOCK; }
static header *head(void) { return (header *)pool; }
static bool is_kept(const char *text) { return memcmp(text, secret, sizeof secret) == 0; }
static void wipe_all(void) { mhi_remnants_wipe(&remnants, (uint64_t)memory, (uint64_t)memory + sizeof memory); }

/* A pool with a copy of the secret in each block, of which 3, 7 and 5 are free, and all from the 20th. */
static void make_pool(void)
{
    memset(memory, 0x5a, sizeof memory);
    for (int i = 0; i < N_BLOCKS; i++)
        memcpy(block(i) + AT, secret, sizeof secret);
    *head() = (header){ .n_used = N_HANDED_OUT - 3,
                        .free_block = block(3),
                        .size_class = BLOCK / 16 - 1,
                        .next_offset = HEADER + N_HANDED_OUT * BLOCK,
                        .max_next_offset = POOL - BLOCK };
    *(char **)block(3) = block(7);
    *(char **)block(7) = block(5);
    *(char **)block(5) = NULL;
    memset(&remnants, 0, sizeof remnants);
    mhi_remnants_learn(&remnants, secret, sizeof secret - 1);
}

static int n_kept(void)
{
    int n = 0;
    for (int i = 0; i < N_BLOCKS; i++)
        n += is_kept(block(i) + AT);
    return n;
}

TEST(copies_in_free_blocks_are_wiped_and_others_stay)
{
    make_pool();
    wipe_all();
    for (int i = 0; i < N_BLOCKS; i++)
        CHECK_EQUAL(is_kept(block(i) + AT), i < N_HANDED_OUT && i != 3 && i != 7 && i != 5);
    CHECK(*(char **)block(3) == block(7) && *(char **)block(7) == block(5) && *(char **)block(5) == NULL);
    CHECK_EQUAL(memory[0], 0x5a);
    CHECK_EQUAL(memory[2 * POOL], 0x5a);
}

TEST(the_link_of_a_free_block_is_kept)
{
    make_pool();
    char copy[25];
    memcpy(copy, block(3), 24);
    memset(&remnants, 0, sizeof remnants);
    char *link = *(char **)block(3);
    /* by hand: a text with the NUL bytes of an address in it */
    mhi_remnant *found = &remnants.found[remnants.n_texts++];
    memcpy(&found->first, copy, sizeof found->first);
    found->size = 24;
    memcpy(remnants.texts, copy, 24);
    memset(remnants.is_taken, 0xff, sizeof remnants.is_taken);
    for (size_t i = 0; i < MHI_REMNANTS_SLOTS; i++)
        remnants.slots[i] = 1;
    wipe_all();
    CHECK(*(char **)block(3) == link);
    for (int i = 8; i < 24; i++)
        CHECK_EQUAL(block(3)[i], 0);
}

TEST(an_unused_pool_is_wiped_whole)
{
    make_pool();
    head()->n_used = 0;
    head()->next_offset = HEADER + BLOCK;
    head()->free_block = block(0);
    *(char **)block(0) = NULL;
    wipe_all();
    CHECK_EQUAL(n_kept(), 0);
}

TEST(what_only_resembles_a_pool_is_left_alone)
{
    for (int wrong = 0; wrong < 9; wrong++) {
        make_pool();
        switch (wrong) {
        case 0: head()->n_used++; break;
        case 1: head()->free_block = block(3) + 16; break;
        case 2: head()->free_block = memory; break;
        case 3: *(char **)block(5) = block(3); break; /* a ring */
        case 4: *(char **)block(5) = block(N_HANDED_OUT); break;
        case 5: head()->size_class = 32; break;
        case 6: head()->max_next_offset -= 16; break;
        case 7: head()->next_offset += 16; break;
        case 8: memset(pool, 0, HEADER); break;
        }
        wipe_all();
        CHECK_EQUAL(n_kept(), N_BLOCKS);
    }
}

/* What is left of objects in blocks that are in use, as a table of attributes that is not filled leaves them. */
enum { TYPE_OF_STR = 0x1000, TYPE_OF_BYTES = 0x2000, OTHER_TYPE = 0x3000, LENGTH = sizeof secret - 1, ASCII = 0x64 };

/* Writes an object whose text is at `text`: the words before that, the first of which is its count of references. */
static void put(char *text, int n_words, const uint64_t words[])
{
    memcpy(text - n_words * 8, words, (size_t)n_words * 8);
    memcpy(text, secret, sizeof secret);
}

#define STR(type, length, state) \
    5, (const uint64_t[]) { 1, type, length, ~0ull, state }
#define STR_3_11(type, length, state, wide) \
    6, (const uint64_t[]) { 1, type, length, ~0ull, state, wide }
#define BYTES(type, length) 4, (const uint64_t[]){ 1, type, length, ~0ull }

static bool is_kept_at(int block_index, int offset, int n_words, const uint64_t words[])
{
    make_pool();
    remnants.str_type = TYPE_OF_STR, remnants.bytes_type = TYPE_OF_BYTES;
    memset(block(block_index), 0x5a, BLOCK);
    put(block(block_index) + offset, n_words, words);
    wipe_all();
    return is_kept(block(block_index) + offset);
}

TEST(what_is_left_of_a_freed_text_in_a_block_in_use_is_wiped)
{
    CHECK(!is_kept_at(10, 40, STR(OTHER_TYPE, LENGTH, ASCII))); /* its type was overwritten: 00 01 02 03 of a table */
    CHECK(!is_kept_at(10, 40, STR(0x03020100, LENGTH, ASCII | 1)));
    CHECK(!is_kept_at(10, 48, STR(TYPE_OF_STR, LENGTH, ASCII))); /* it does not begin where the block does */
    CHECK(!is_kept_at(10, 88, STR(TYPE_OF_STR, LENGTH, ASCII))); /* and ends in the next */
    CHECK(!is_kept_at(10, 48, STR_3_11(OTHER_TYPE, LENGTH, ASCII | 0x80, 0)));
    CHECK(!is_kept_at(10, 56, STR_3_11(TYPE_OF_STR, LENGTH, ASCII | 0x80, 0)));
    CHECK(!is_kept_at(10, 32, BYTES(OTHER_TYPE, LENGTH)));
    CHECK(!is_kept_at(10, 16, BYTES(TYPE_OF_BYTES, LENGTH))); /* it began in the block before */
}

TEST(a_living_text_and_what_is_no_remains_stays)
{
    CHECK(is_kept_at(10, 40, STR(TYPE_OF_STR, LENGTH, ASCII)));
    CHECK(is_kept_at(10, 48, STR_3_11(TYPE_OF_STR, LENGTH, ASCII | 0x80, 0)));
    CHECK(is_kept_at(10, 32, BYTES(TYPE_OF_BYTES, LENGTH)));
    CHECK(is_kept_at(10, 48, STR_3_11(TYPE_OF_STR, LENGTH, LENGTH, 0))); /* flags that would be the length of bytes */
    CHECK(is_kept_at(10, 56, STR(TYPE_OF_STR, LENGTH + 1, ASCII)));      /* part of a longer one, or of data */
    CHECK(is_kept_at(10, 56, STR(TYPE_OF_STR, LENGTH, 0x24)));
    CHECK(is_kept_at(10, 56, STR_3_11(TYPE_OF_STR, LENGTH, ASCII, 8)));
    CHECK(is_kept_at(10, 48, BYTES(TYPE_OF_BYTES, LENGTH - 1)));
    make_pool();
    put(block(10) + 56, STR(OTHER_TYPE, LENGTH, ASCII)); /* where Python's types are not known */
    wipe_all();
    CHECK(is_kept(block(10) + 56));
}

TEST(a_pool_that_is_not_all_there_is_left_alone)
{
    make_pool();
    mhi_remnants_wipe(&remnants, (uint64_t)pool + 4096, (uint64_t)memory + sizeof memory);
    mhi_remnants_wipe(&remnants, (uint64_t)memory, (uint64_t)pool + POOL - 4096);
    CHECK_EQUAL(n_kept(), N_BLOCKS);
}

TEST(each_string_of_a_block_is_learnt)
{
    make_pool();
    static const char several[] = "short\0first of them\0\0sesame, open the door"; /* without a NUL at the end */
    memset(&remnants, 0, sizeof remnants);
    mhi_remnants_learn(&remnants, several, sizeof several - 1);
    CHECK_EQUAL(remnants.n_texts, 2);
    wipe_all();
    CHECK_EQUAL(n_kept(), N_HANDED_OUT - 3);
}

TEST(what_does_not_fit_is_left_out)
{
    memset(&remnants, 0, sizeof remnants);
    static char text[MHI_REMNANTS_BYTES + 1];
    memset(text, 'x', sizeof text);
    mhi_remnants_learn(&remnants, text, sizeof text);
    CHECK_EQUAL(remnants.n_texts, 0);
    for (int i = 0; i < MHI_REMNANTS_TEXTS + 1; i++)
        mhi_remnants_learn(&remnants, text, 8);
    CHECK_EQUAL(remnants.n_texts, MHI_REMNANTS_TEXTS);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
