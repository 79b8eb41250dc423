/* got.h - the slots through which a module calls functions of other modules, and how to write them.
 *
 * A slot is a word of a module's data that its relocations fill with a function's address: a PLT entry's word,
 * a word of the GOT, or any function pointer of initialised data (MHI_RELOCATION_PLT, _GOT, _WORD).
 */
#ifndef MHI_GOT_H
#define MHI_GOT_H
#include "base/maps.h"
#include "route/modules.h"

typedef struct {
    uint64_t place;  /* of the word */
    uint32_t symbol; /* what the caller's lookup made of the name */
    bool in_got;     /* not initialised data */
    bool is_lazy;    /* may still lead to the linker's resolver: bound at the first call */
} mhi_slot;

/* All slots of a module whose symbol `lookup` knows (a number >= 0). The array is the caller's to free; false for want
 * of memory. */
bool mhi_got_collect(mhi_slot **slots, size_t *n_slots, const mhi_elf *elf, int (*lookup)(const char *name));

/* A pass of writing. Pages that are read-only (RELRO) are made writable for the while, one mapping at a time, then
 * given back the very protection that they had. Begin with a zeroed struct. */
typedef struct {
    mhi_maps maps;             /* read at the first write */
    const mhi_mapping *opened; /* the mapping made writable, or NULL */
} mhi_got_pass;

/* Replaces `expected` by `value`, atomically, so that other threads may call through the slot meanwhile; a slot that
 * has another value is left alone. */
int mhi_got_write(mhi_got_pass *pass, uint64_t place, uint64_t expected, uint64_t value, mh_error *err);
void mhi_got_finish(mhi_got_pass *pass);

#endif
