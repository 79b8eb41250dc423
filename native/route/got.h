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
    uint64_t place;  /* address of the word */
    uint32_t symbol; /* the number that the caller's lookup returned for the name */
    bool in_got;     /* false: in initialised data */
    bool is_lazy;    /* may still lead to the linker's resolver, until the first call binds it */
} mhi_slot;

/* Collects all slots of a module whose symbol `lookup` knows (a number >= 0). The caller frees the array. False for
 * want of memory. */
bool mhi_got_collect(mhi_slot **slots, size_t *n_slots, const mhi_elf *elf, int (*lookup)(const char *name));

/* A pass of writing. Read-only pages (RELRO) are made writable meanwhile, one mapping at a time, and then get their old
 * protection back. Begin with a zeroed struct. */
typedef struct {
    mhi_maps maps;             /* read at the first write */
    const mhi_mapping *opened; /* the mapping made writable, or NULL */
} mhi_got_pass;

/* Replaces `expected` by `value`, atomically, so that other threads may call through the slot meanwhile; a slot with
 * another value is left alone. */
int mhi_got_write(mhi_got_pass *pass, uint64_t place, uint64_t expected, uint64_t value, mh_error *err);
void mhi_got_finish(mhi_got_pass *pass);

#endif
