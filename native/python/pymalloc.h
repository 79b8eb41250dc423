/* pymalloc.h - copies of secrets without an owner, in the blocks of Python's allocator.
 *
 * Memory that a caller names is zeroed in place. But Python makes copies: os.environ["KEY"] is a new str each time, and
 * os.environ.copy() and subprocess make many. A freed object keeps its text until its block is used again; and even
 * longer if the next object does not fill the block, such as a table of attributes with spare room. These copies are
 * found by their text.
 */
#ifndef MHI_PYMALLOC_H
#define MHI_PYMALLOC_H
#include <stddef.h>
#include <stdint.h>

enum {
    MHI_REMNANTS_TEXTS = 1 << 12, /* arbitrary: an environment has some hundred */
    MHI_REMNANTS_BYTES = 1 << 20, /* arbitrary: of all texts together */
    MHI_REMNANTS_LEAST = 8,       /* bytes of a text; shorter texts occur too often with another meaning */
    MHI_REMNANTS_SLOTS = 1 << 16, /* of the table of hashes; as bits they stay in the first-level cache */
};

typedef struct {
    uint64_t first;        /* its first eight bytes */
    uint32_t offset, size; /* in texts */
    uint32_t next;         /* index + 1 of the next one with that slot; 0: none */
} mhi_remnant;

typedef struct {
    uint32_t n_texts, n_bytes;
    mhi_remnant found[MHI_REMNANTS_TEXTS];
    uint64_t is_taken[MHI_REMNANTS_SLOTS / 64]; /* a bit for each slot */
    uint32_t slots[MHI_REMNANTS_SLOTS];         /* index + 1 of the first one; 0: none */
    char texts[MHI_REMNANTS_BYTES];
    uint64_t str_type, bytes_type; /* addresses of Python's types; 0: this is no Python */
} mhi_remnants;

/* Notes where Python's types are: in the parent, since it may allocate. */
void mhi_remnants_begin(mhi_remnants *remnants);

/* Copies a text, or a block of several, each NUL-terminated, which must not have been zeroed yet. `remnants` is zero at
 * first. Texts that do not fit are left out. */
void mhi_remnants_learn(mhi_remnants *remnants, const char *text, size_t size_bytes);
/* Zeroes copies of it in [start, end), anonymous memory that is readable and writable, where they lie in a free block
 * of Python's allocator, or are what is left of a str or bytes that was freed. Any other copy in a block in use belongs
 * to a living object, and stays. */
void mhi_remnants_wipe(const mhi_remnants *remnants, uint64_t start, uint64_t end);

#endif
