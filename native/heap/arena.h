/* arena.h - the interface of an arena for the layers above.
 *
 * In the address space, at a fixed address (see MHI_REGION_*), lies
 *
 *     address        + meta_bytes        + data_offset                          + capacity_bytes
 *     | control page | page table ...    | data: slabs and large spans -->      |
 *     '--- anonymous memory, private ---''--- the file that will be the snapshot, or anonymous ---'
 *
 * control: the allocator's state; page table: one entry per data page, by which the block around any address is found.
 * Beside the arena, in this process only, lies the *live map*: one byte per 16 bytes of data, 0 or, where a live block
 * begins, its owner. It answers "is this the start of a live block" for free(), and "who made it" for the audit; it is
 * never stored.
 */
#ifndef MHI_ARENA_H
#define MHI_ARENA_H
#include <stdatomic.h>

#include "magicheap.h"

/* A region that PIE, mmap, brk, sanitizers and other runtimes leave alone: 16 TiB in the middle of the lower half.
 * MHI_REGION_START is 4 << 44, so one shift tells whether an address may be ours. */
#define MHI_REGION_START 0x400000000000ull
#define MHI_REGION_END 0x500000000000ull
#define MHI_SLOT_BYTES (1ull << 30) /* arenas begin at multiples of this: 16,384 slots, arbitrary but plenty */
#define MHI_DEFAULT_CAPACITY (256ull << 30)

static inline bool mhi_in_region(const void *address) { return (uintptr_t)address >> 44 == MHI_REGION_START >> 44; }

/* Owners are numbers of routed libraries; 0 in the live map means "no live block begins here". */
enum {
    MHI_OWNER_EXPLICIT = 1,
    MHI_OWNER_FIRST = 2,
    MHI_OWNER_LAST = 126,
    MHI_OWNER_OTHERS = 127,
    MHI_OWNER_MASK = 127,
    MHI_BLOCK_DATA = 128 /* the block holds no pointers */
};

typedef struct {
    /* where to look first: reduced modulo the number of slots; the next free slot is taken */
    uint64_t first_slot;
    uint64_t capacity_bytes; /* 0: MHI_DEFAULT_CAPACITY */
    int fd;                  /* file that backs the data, already open read-write and empty there; -1: anonymous */
    uint64_t file_offset;    /* of data in the file, a multiple of 2 MiB so that large folios can be mapped as such */
} mhi_arena_config;

typedef struct {
    uint64_t address;
    uint64_t capacity_bytes;
    uint64_t meta_bytes;  /* control page and the used part of the page table, whole pages */
    uint64_t data_offset; /* of data from address */
    uint64_t data_bytes;  /* up to the high-water mark, whole pages */
    uint64_t live_blocks;
    uint64_t moved_bytes; /* how far address is from where it was when the arena was sealed (wrapping) */
} mhi_arena_layout;

typedef struct {
    uint64_t address;
    uint64_t size_bytes; /* usable */
    uint8_t owner;       /* MHI_OWNER_* */
    bool is_data;
} mhi_block;

/* MH_ERR_BUSY: no slot is free; MH_ERR_SYSTEM: the kernel refuses the address space; MH_ERR_ARGUMENT: capacity. The fd
 * stays the caller's. */
int mhi_arena_create(mh_arena **arena, const mhi_arena_config *config, mh_error *err);

/* Allocation with an owner; the public mh_malloc family is this with MHI_OWNER_EXPLICIT. `owner` may carry
 * MHI_BLOCK_DATA. */
void *mhi_arena_malloc(mh_arena *arena, size_t size_bytes, uint8_t owner);
void *mhi_arena_calloc(mh_arena *arena, size_t size_bytes, uint8_t owner); /* zero zeroed up to the usable size */
void *mhi_arena_memalign(mh_arena *arena, size_t align_bytes, size_t size_bytes, uint8_t owner);
void *mhi_arena_realloc(mh_arena *arena, void *block, size_t size_bytes, uint8_t owner);

/* Stops allocation for good: afterwards the malloc family returns NULL and free does nothing, in every thread, and no
 * thread is inside either (asymmetric Dekker with membarrier; the argument stands in cache.c). Thread caches are
 * drained. Idempotent. */
int mhi_arena_seal(mh_arena *arena, mh_error *err);
bool mhi_arena_is_sealed(const mh_arena *arena);

/* For a sealed arena that this process filled. */
/* also before sealing; false: `address` is in no live block */
bool mhi_arena_mark_data(mh_arena *arena, const void *address);
/* the live block around an address; also before sealing */
bool mhi_arena_find_block(const mh_arena *arena, uint64_t address, mhi_block *block);
/* by address; false stops */
void mhi_arena_each_block(const mh_arena *arena, bool (*visit)(void *context, const mhi_block *block), void *context);

typedef struct { uint64_t blocks, bytes; } mhi_owner_count;
/* Live blocks by owner, the number in the live map; also before sealing: threads wait while it counts. */
void mhi_arena_count_owners(mh_arena *arena, mhi_owner_count counts[MHI_OWNER_MASK + 1]);

/* Zeroes every byte of data that no live block uses, whole free pages by giving them back (holes in the file). */
int mhi_arena_wipe_free(mh_arena *arena, mh_error *err);
void mhi_arena_read_layout(const mh_arena *arena, mhi_arena_layout *layout);
/* 0, or the reason why the file does not hold all the data, so that it can't be committed in place: the errno of the
 * failed growth of the file, or ECHILD after a fork, since parent and child must not share the file. */
int mhi_arena_backing_error(const mh_arena *arena);
/* Replaces the shared mapping of the file by a private one of the same bytes, and unmaps the unused address space. */
int mhi_arena_make_private(mh_arena *arena, mh_error *err);

/* Takes over an arena that the snapshot layer has mapped from a file at layout->address, sealed. Checks that the
 * control page agrees with `layout`; MH_ERR_CORRUPT if not. On such an arena only usable_size, mh_arena_of and free
 * (which does nothing) work. */
int mhi_arena_adopt(mh_arena **arena, const mhi_arena_layout *layout, mh_error *err);
/* Sets the snapshot from which the arena was attached, or that it has become: hd_checksum; 0: none. */
void mhi_arena_set_identity(mh_arena *arena, uint64_t identity);
/* Whether an arena of that identity begins at this address. */
bool mhi_arena_is_at(uint64_t address, uint64_t identity);
/* Finds free address space for an arena that is to be adopted, and reserves it, inaccessible. MH_ERR_BUSY or
 * MH_ERR_SYSTEM. */
int mhi_arena_reserve(uint64_t *address, uint64_t first_slot, uint64_t capacity_bytes, mh_error *err);
/* Only one thread is between these two calls: it attaches, from the look at an address until the arena is registered
 * there. A fork waits for that thread. */
int mhi_arena_begin_adopting(mh_error *err);
void mhi_arena_end_adopting(void);

/* Forgets an adopted or created arena without unmapping it (mh_arena_delete unmaps). */
void mhi_arena_forget(mh_arena *arena);

#endif
