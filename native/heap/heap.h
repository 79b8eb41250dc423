/* heap.h - what the files of the allocator share: the state of an arena, and the part of each file.
 *
 *   malloc.c   the malloc family: fast paths                       | cache  a thread's stock of free blocks, per class
 *   cache.c    thread caches, pausing and sealing, fork            | class  a block size; blocks up to MHI_SMALL_MAX
 *              have one
 *   slab.c     classes and slabs: small blocks                     | slab   a span that holds blocks of one class
 *   span.c     runs of pages: large blocks and slabs               | span   a run of pages with one purpose, or free
 *   backing.c  memory for pages: file or anonymous                 | large  a block that is a span of its own
 *   region.c   address space: slots, mh_arena_of                   | live map, page table: see arena.h
 *   arena.c    create, adopt, delete                               |
 *   blocks.c   finding, visiting and wiping blocks; check.c mh_check
 *
 * Where things lie. In the arena, so that a snapshot has it: the page table and, from the seal on, the control page. In
 * this process only (one mapping, "side"): struct mh_arena, the live map, one mhi_span per page. Nothing of ours lies
 * in user blocks or between them, so a stray write of the user can't break the allocator, and a page of free blocks
 * need not be touched.
 *
 * Locks, in the order they are taken: adoption (arena.c) > registry (cache.c) > one class > pages. A thread that holds
 * a class or the pages lock is always inside its cache (busy), so a paused arena has none of them held.
 */
#ifndef MHI_HEAP_H
#define MHI_HEAP_H
#include <pthread.h>

#include "base/pages.h"
#include "heap/arena.h"
#include "sys/sys.h"

enum {
    MHI_GRAIN = 16,          /* bytes; size and alignment of blocks are multiples: the alignment of max_align_t */
    MHI_SMALL_MAX = 32768,   /* largest block in a slab */
    MHI_CLASSES = 40,        /* 16, 32, ... 128, then four per doubling: at most 20 % of a block is waste */
    MHI_BINS = 160,          /* of free spans, see span.c */
    MHI_CACHE_BLOCKS = 4388, /* in all bins of one thread cache, see slab.c */
};
#define MHI_GROWTH_STEP (2ull << 20) /* a huge page */
#define MHI_NO_PAGE UINT32_MAX
#define MHI_CAPACITY_MAX (1ull << 42) /* page table entries hold 30 bits of a page number */

/* Entry of the page table: two bits of kind, 30 of value. Entries inside a free span are stale. They are never used:
 * every look-up either checks the live map byte first, or starts from the entry of a span's first page. */
enum { MHI_FREE, MHI_SLAB, MHI_LARGE, MHI_INSIDE };
static inline uint32_t mhi_entry(uint32_t kind, uint32_t value) { return value << 2 | kind; }
static inline uint32_t mhi_entry_kind(uint32_t entry) { return entry & 3; }
/* FREE, LARGE: pages of the span, in its first entry, and for FREE also in its last. INSIDE: pages back to the first of
 * a large block. */
static inline uint32_t mhi_entry_value(uint32_t entry) { return entry >> 2; }
/* SLAB, in every entry of one: class, and pages back to its first. */
static inline uint32_t mhi_slab_value(uint32_t size_class, uint32_t index) { return size_class << 8 | index; }
static inline uint32_t mhi_entry_class(uint32_t entry) { return entry >> 10; }
static inline uint32_t mhi_entry_index(uint32_t entry) { return entry >> 2 & 255; }

/* One per page; valid where a free span or a slab begins. */
typedef struct {
    uint32_t next, prev;   /* page numbers of the neighbours in the span's list; MHI_NO_PAGE ends the list */
    uint32_t n_free;       /* slab: blocks that are free and in no cache, as many as free_bits has ones */
    uint32_t dirty_pages;  /* free span: upper bound on the pages that are not all zeros */
    uint64_t free_bits[6]; /* slab: bit i is block i; continues in the mhi_spans of the slab's further pages */
} mhi_span;
_Static_assert(sizeof(mhi_span) == 64, "free_bits of 16-byte blocks need 32 bytes per page and must stay in one line");

typedef struct {
    uint32_t block_bytes;
    uint32_t n_pages;  /* of a slab */
    uint32_t n_blocks; /* in a slab */
    /* ceil(2^31 / grains of a block): grains from the slab's start * reciprocal >> 31 is the block's index */
    uint32_t reciprocal;
    uint32_t cache_blocks; /* most that a cache keeps */
    uint32_t cache_first;  /* of its bin, in mhi_cache.blocks */
} mhi_class;
extern mhi_class mhi_classes[MHI_CLASSES];

/* Number of the block that an offset into a slab lies in, without a division: exact, as slabs have far fewer than 2^31
 * / 2048 grains. */
static inline uint64_t mhi_block_index(const mhi_class *size_class, uint64_t offset_in_slab)
{
    return offset_in_slab / MHI_GRAIN * size_class->reciprocal >> 31;
}

/* Class of a size of at most MHI_SMALL_MAX; 0 counts as 1. The top three bits of size - 1 determine the class; below
 * 128, all bits but the low four. */
static inline uint32_t mhi_class_of(size_t size_bytes)
{
    uint32_t last = (uint32_t)(size_bytes - (size_bytes != 0));
    uint32_t top = 31 - (uint32_t)__builtin_clz(last | 64);
    return (top - 6) * 4 + (last >> (top - 2));
}

typedef struct {
    pthread_mutex_t lock;
    uint32_t partial; /* list of the slabs that have free blocks */
    uint32_t n_slabs;
    uint64_t n_free; /* blocks in them */
} __attribute__((aligned(64))) mhi_class_state;

enum {
    MHI_GATE_PAUSED = 1,
    MHI_GATE_SEALED = 2,
    MHI_GATE_FENCED = 4 /* open to a thread that executes a fence first: see cache.c */
};

struct mh_arena {
    /* members that every call reads */
    uintptr_t data;        /* address of page 0 */
    _Atomic uint8_t *live; /* NULL in an adopted arena, which has only the page table */
    _Atomic uint32_t *table;
    mhi_span *spans;
    _Atomic uint64_t limit_bytes; /* of data that is accessible, with its part of the tables */
    _Atomic uint32_t gate;        /* 0: open */

    uint64_t address, capacity_bytes, data_offset;
    uint64_t side_bytes; /* of the mapping that begins with this struct */
    uint64_t identity;   /* of the snapshot that the arena came from or has become, or 0; registry lock */
    mh_arena *next;      /* registry */

    /* backing: pages lock */
    int fd; /* -1: anonymous */
    uint64_t file_offset;
    uint64_t file_bytes; /* of data, from its start, that are mapped from the file; the rest is anonymous */
    bool is_private;     /* the file's part is mapped privately */
    _Atomic int backing_error;

    /* pages */
    pthread_mutex_t page_lock __attribute__((aligned(64)));
    uint32_t n_pages;                        /* up to the high-water mark: spans tile exactly these */
    uint32_t bins[MHI_BINS];                 /* lists of free spans */
    uint64_t bin_bits[(MHI_BINS + 63) / 64]; /* which lists are not empty */
    uint64_t large_blocks, large_bytes;

    mhi_class_state classes[MHI_CLASSES];
};

/* First page of an arena; written when it is sealed, read back as hostile bytes when it is adopted. */
typedef struct {
    uint64_t magic;
    uint32_t version; /* of page table and classes: every change to the meaning of an entry changes it */
    uint32_t classes;
    uint64_t address, data_offset, data_bytes, live_blocks;
} mhi_control;

static inline uint32_t mhi_load_entry(const mh_arena *arena, uint64_t page)
{
    return atomic_load_explicit(&arena->table[page], memory_order_relaxed);
}
static inline void mhi_store_entry(mh_arena *arena, uint64_t page, uint32_t entry)
{
    atomic_store_explicit(&arena->table[page], entry, memory_order_relaxed);
}
/* The live map byte of an offset into data. Relaxed: a thread that hands a block to another one synchronises with it
 * anyway. */
static inline uint8_t mhi_load_live(const mh_arena *arena, uint64_t offset)
{
    return atomic_load_explicit(&arena->live[offset / MHI_GRAIN], memory_order_relaxed);
}
static inline void mhi_store_live(mh_arena *arena, uint64_t offset, uint8_t owner)
{
    atomic_store_explicit(&arena->live[offset / MHI_GRAIN], owner, memory_order_relaxed);
}
static inline uint64_t mhi_limit(const mh_arena *arena)
{
    return atomic_load_explicit(&arena->limit_bytes, memory_order_relaxed);
}
static inline bool mhi_is_sealed(const mh_arena *arena)
{
    return (atomic_load_explicit(&arena->gate, memory_order_acquire) & MHI_GATE_SEALED) != 0;
}
static inline uint64_t mhi_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t mhi_max(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* region.c */
enum { MHI_GRANULES = (MHI_REGION_END - MHI_REGION_START) / MHI_SLOT_BYTES };
extern _Atomic(mh_arena *) mhi_granules[MHI_GRANULES];
static inline mh_arena *mhi_arena_around(const void *address)
{
    if (!mhi_in_region(address))
        return NULL;
    return atomic_load_explicit(&mhi_granules[((uintptr_t)address - MHI_REGION_START) / MHI_SLOT_BYTES],
                                memory_order_acquire);
}
extern pthread_mutex_t mhi_registry_lock; /* arenas, granules and caches */
extern pthread_mutex_t mhi_adoption_lock; /* one thread adopts at a time */
extern mh_arena *mhi_arenas;              /* list */
/* Only reserves inaccessible address space; MH_ERR_BUSY or MH_ERR_SYSTEM. */
int mhi_region_reserve(uint64_t *address, uint64_t first_slot, uint64_t capacity_bytes, mh_error *err);
/* Registry lock. From add to remove, mh_arena_of finds the arena. False: another arena is there. */
bool mhi_region_add(mh_arena *arena);
void mhi_region_remove(mh_arena *arena);
/* Registry lock. From here on only the first kept_bytes belong to the arena. */
void mhi_region_trim(mh_arena *arena, uint64_t kept_bytes);

/* backing.c; pages lock unless sealed */
/* Makes data accessible up to `bytes` or further; false: no memory or no address space. */
bool mhi_backing_grow(mh_arena *arena, uint64_t bytes);
/* Gives memory back, which then reads as zero, but keeps address space and disk blocks; false: nothing happened. */
bool mhi_backing_clear(mh_arena *arena, uint64_t offset, uint64_t bytes);
/* The same, but gives the disk blocks back, too. Falls back to writing zeros. */
void mhi_backing_punch(mh_arena *arena, uint64_t offset, uint64_t bytes);
int mhi_backing_make_private(mh_arena *arena); /* 0 or -errno; nothing to do is 0 */
/* Before a fork: from here on the data is private memory, and backing_error is ECHILD. */
void mhi_backing_leave_file(mh_arena *arena);

/* span.c; takes the pages lock itself */
void mhi_span_init(mh_arena *arena);
/* First page of a span; MHI_NO_PAGE: no memory. kind: MHI_LARGE, or MHI_SLAB with its class. *is_zero: known to be all
 * zeros. */
uint32_t mhi_span_alloc(mh_arena *arena, uint64_t n_pages, uint64_t align_bytes, uint32_t kind, uint32_t size_class,
                        bool *is_zero);
void mhi_span_free(mh_arena *arena, uint32_t page, uint32_t n_pages);
/* Resizes a large block in place; false: not possible. */
bool mhi_span_resize(mh_arena *arena, uint32_t page, uint64_t n_pages);
/* Lowers the high-water mark by the free span at the end. Paused arena: nothing is allocated any more. */
void mhi_span_drop_last(mh_arena *arena);
uint32_t mhi_bin_of(uint32_t n_pages);
void mhi_list_push(mh_arena *arena, uint32_t *head, uint32_t page);
void mhi_list_remove(mh_arena *arena, uint32_t *head, uint32_t page);
static inline uint64_t *mhi_slab_bits(mhi_span *slab)
{
    return (uint64_t *)((char *)slab + offsetof(mhi_span, free_bits));
}

/* slab.c; takes the lock of the class itself */
void mhi_slab_init(mh_arena *arena);
void mhi_slab_init_classes(void); /* once per process */
/* Takes up to n blocks of a class; 0 only for want of memory. */
uint32_t mhi_slab_take(mh_arena *arena, uint32_t size_class, void **blocks, uint32_t n);
void mhi_slab_give(mh_arena *arena, uint32_t size_class, void *const *blocks, uint32_t n);

/* blocks.c */
/* Pages of the span that begins at this page; one must begin there. */
uint32_t mhi_span_pages(const mh_arena *arena, uint32_t page);
/* Offset and usable size of the block around an offset below the limit, live or not; false: a free span, or hostile
 * bytes. */
bool mhi_block_around(const mh_arena *arena, uint64_t offset, uint64_t *start, uint64_t *size_bytes);
/* As mhi_arena_each_block, for an arena that is paused or sealed. */
void mhi_blocks_each(const mh_arena *arena, bool (*visit)(void *context, const mhi_block *block), void *context);

#endif
