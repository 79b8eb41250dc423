/* pymalloc.c - wipes copies of secrets from free blocks of Python's allocator, and from the unused rest of blocks in
 * use.
 *
 * Objects of up to 512 bytes come from pools of 16 KiB (Objects/obmalloc.c, CPython 3.10 and later):
 *
 *     | header | block | block | ... never handed out ... |
 *                                ^ nextoffset
 *
 * F1  An address is taken to be in a pool only if the whole header of the pool is consistent: size class, offsets, and
 *     the chain of free blocks, which must stay in the pool, end, and be as long as the count of used blocks leaves. No
 *     other memory looks like that; if another version of Python has another layout, nothing is wiped.
 * F2  The first word of a free block is the link to the next one, and is kept.
 * F3  In a block in use, a copy belongs to a freed object if two things hold. Before it lie length and flags of a str
 *     or bytes of exactly that length, in the layout of CPython 3.11 or later. And that object would not begin at the
 *     start of the block, or its type word is another: neither type has a header before the object, so no such object
 *     is alive there.
 *
 * Texts are searched at multiples of eight, where objects have them: the first eight bytes by a hash table, then the
 * whole text.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <string.h>

#include "python/pymalloc.h"

enum { POOL_BYTES = 1 << 14, BLOCK_ALIGN = 16, BLOCK_MAX = 512, WORD = 8 };

/* struct pool_header. */
typedef struct {
    uint32_t n_used, unused;
    uint64_t free_block;
    uint64_t next_pool, previous_pool;
    uint32_t arena, size_class;
    uint32_t next_offset, max_next_offset;
} pool_header;

static uint64_t word_at(const void *address)
{
    uint64_t word;
    memcpy(&word, address, sizeof word);
    return word;
}

/* Knuth's multiplicative hash: 16 bits */
static uint32_t slot_of(uint64_t word) { return (uint32_t)(word * 0x9e3779b97f4a7c15 >> 48); }

/* ---- the texts ---- */

static void learn(mhi_remnants *remnants, const char *text, size_t size)
{
    if (size < MHI_REMNANTS_LEAST || remnants->n_texts == MHI_REMNANTS_TEXTS ||
        size > MHI_REMNANTS_BYTES - remnants->n_bytes)
        return;
    uint32_t hash = slot_of(word_at(text)), *slot = &remnants->slots[hash];
    remnants->is_taken[hash / 64] |= 1ull << hash % 64;
    remnants->found[remnants->n_texts++] = (mhi_remnant){ word_at(text), remnants->n_bytes, (uint32_t)size, *slot };
    *slot = remnants->n_texts;
    memcpy(remnants->texts + remnants->n_bytes, text, size);
    remnants->n_bytes += (uint32_t)size;
}

void mhi_remnants_begin(mhi_remnants *remnants)
{
    remnants->str_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyUnicode_Type");
    remnants->bytes_type = (uint64_t)dlsym(RTLD_DEFAULT, "PyBytes_Type");
}

void mhi_remnants_learn(mhi_remnants *remnants, const char *text, size_t size_bytes)
{
    for (size_t left = size_bytes; left > 0;) {
        size_t size = strnlen(text, left);
        learn(remnants, text, size);
        size += size < left;
        text += size;
        left -= size;
    }
}

/* ---- pools ---- */

static uint32_t block_bytes(const pool_header *header) { return (header->size_class + 1) * BLOCK_ALIGN; }

/* Whether the offsets in a header fit; what else F1 asks for is left to is_free, as few things get here. */
static bool may_be_pool(const pool_header *header)
{
    if (header->size_class >= BLOCK_MAX / BLOCK_ALIGN)
        return false;
    uint32_t size = block_bytes(header);
    return header->max_next_offset == POOL_BYTES - size && header->next_offset >= sizeof *header + size &&
           header->next_offset <= POOL_BYTES && (header->next_offset - sizeof *header) % size == 0;
}

/* Whether what may be a pool is one (F1), and if so, whether its block at `block` is free. */
static bool read_block(uint64_t pool, uint32_t block, bool *is_free)
{
    const pool_header *header = (const pool_header *)pool;
    uint32_t size = block_bytes(header), n_blocks = (header->next_offset - (uint32_t)sizeof *header) / size, n_free = 0;
    *is_free = block >= header->next_offset;
    for (uint64_t at = header->free_block; at != 0; at = word_at((const void *)at), n_free++) {
        if (at < pool + sizeof *header || at >= pool + header->next_offset ||
            (at - pool - sizeof *header) % size != 0 || n_free == n_blocks)
            return false;
        *is_free |= at == pool + block;
    }
    return n_free + header->n_used == n_blocks;
}

/* Words before the text, by their distance from it. */
typedef struct {
    uint32_t length, state, zero; /* 0: it has none */
    uint32_t header;              /* where the object begins; its second word is the type */
} layout;

/* Whether the words mark this as the text of such an object, living or freed. */
static bool fits(const layout *its, uint64_t address, uint32_t text_bytes)
{
    const uint64_t ascii = 0x64, kinds = 0x7c; /* of PyASCIIObject's state: one byte a character, compact, ASCII */
    const char *text = (const char *)address;
    return word_at(text - its->length) == text_bytes &&
           (its->state == 0 || (word_at(text - its->state) & kinds) == ascii) &&
           (its->zero == 0 || word_at(text - its->zero) == 0);
}

static bool is_alive(const layout *its, uint64_t type, uint64_t block, uint64_t address)
{
    return address - its->header == block && word_at((const char *)block + WORD) == type;
}

static bool is_left(const mhi_remnants *remnants, uint64_t block, uint64_t address, uint32_t text_bytes)
{
    const struct {
        layout its;
        uint64_t type;
    } kinds[] = {
        { { .length = 16, .header = 32 }, remnants->bytes_type },
        { { .length = 24, .state = 8, .header = 40 }, remnants->str_type },
        { { .length = 32, .state = 16, .zero = 8, .header = 48 }, remnants->str_type }, /* CPython 3.11 */
    };
    bool is_text = false, lives = false;
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        is_text |= kinds[i].type != 0 && fits(&kinds[i].its, address, text_bytes);
        /* of either kind: the flags of one may look like the length of the other */
        lives |= is_alive(&kinds[i].its, kinds[i].type, block, address);
    }
    return is_text && !lives;
}

static void wipe(const mhi_remnants *remnants, uint64_t pool, uint64_t address, uint32_t text_bytes)
{
    uint32_t offset = (uint32_t)(address - pool);
    uint32_t block = offset - (offset - (uint32_t)sizeof(pool_header)) % block_bytes((const pool_header *)pool);
    bool is_free;
    if (!read_block(pool, block, &is_free) || (!is_free && !is_left(remnants, pool + block, address, text_bytes)))
        return;
    uint64_t from = is_free ? pool + block + WORD : address; /* F2 */
    from = address < from ? from : address;
    if (from < address + text_bytes)
        memset((void *)from, 0, address + text_bytes - from);
}

static void wipe_pool(const mhi_remnants *remnants, uint64_t pool)
{
    uint64_t end = pool + POOL_BYTES;
    for (uint64_t at = pool + sizeof(pool_header); at < end; at += WORD) {
        uint64_t word = word_at((const void *)at);
        uint32_t hash = slot_of(word);
        uint32_t next = remnants->is_taken[hash / 64] >> hash % 64 & 1 ? remnants->slots[hash] : 0;
        for (const mhi_remnant *text; next != 0; next = text->next) {
            text = &remnants->found[next - 1];
            if (text->first == word && text->size <= end - at &&
                memcmp((const void *)at, remnants->texts + text->offset, text->size) == 0)
                wipe(remnants, pool, at, text->size);
        }
    }
}

void mhi_remnants_wipe(const mhi_remnants *remnants, uint64_t start, uint64_t end)
{
    uint64_t pool = (start + POOL_BYTES - 1) & ~(uint64_t)(POOL_BYTES - 1);
    for (; pool < end && end - pool >= POOL_BYTES; pool += POOL_BYTES)
        if (may_be_pool((const pool_header *)pool))
            wipe_pool(remnants, pool);
}
