/* span.c - runs of pages.
 *
 * S1  Spans tile the pages [0, n_pages) exactly; the page table has the kind of each.
 * S2  No two free spans touch: freeing coalesces with both neighbours.
 * S3  A free span is in the list of its size (bin); bin_bits has a one for each list that is not empty.
 * S4  A free span whose dirty_pages is 0 is all zeros, and so is everything beyond n_pages.
 *
 * A request is served from the smallest free span that a bounded search finds, else from beyond the high-water mark.
 */
#include "heap/heap.h"

/* A free span of up to this size keeps its memory for reuse; a larger one gives it back to the kernel. glibc's upper
 * bound for the same decision. */
enum { KEEP_PAGES = (32 << 20) / MHI_PAGE };
/* Spans of one bin that are compared for the best fit. Arbitrary; bins of up to 64 pages hold only equals. */
enum { LOOK = 32 };

/* Bins: one for every size up to 64 pages, then four per doubling. */
uint32_t mhi_bin_of(uint32_t n_pages)
{
    if (n_pages <= 64)
        return n_pages - 1;
    uint32_t top = 31 - (uint32_t)__builtin_clz(n_pages);
    return 64 + (top - 6) * 4 + (n_pages >> (top - 2) & 3);
}

void mhi_list_push(mh_arena *arena, uint32_t *head, uint32_t page)
{
    arena->spans[page].next = *head;
    arena->spans[page].prev = MHI_NO_PAGE;
    if (*head != MHI_NO_PAGE)
        arena->spans[*head].prev = page;
    *head = page;
}

void mhi_list_remove(mh_arena *arena, uint32_t *head, uint32_t page)
{
    mhi_span *span = &arena->spans[page];
    *(span->prev == MHI_NO_PAGE ? head : &arena->spans[span->prev].next) = span->next;
    if (span->next != MHI_NO_PAGE)
        arena->spans[span->next].prev = span->prev;
}

void mhi_span_init(mh_arena *arena)
{
    pthread_mutex_init(&arena->page_lock, NULL);
    for (int i = 0; i < MHI_BINS; i++)
        arena->bins[i] = MHI_NO_PAGE;
}

static void add_free(mh_arena *arena, uint32_t page, uint32_t n_pages, uint32_t dirty_pages)
{
    uint32_t bin = mhi_bin_of(n_pages);
    mhi_store_entry(arena, page, mhi_entry(MHI_FREE, n_pages));
    mhi_store_entry(arena, page + n_pages - 1, mhi_entry(MHI_FREE, n_pages));
    arena->spans[page].dirty_pages = dirty_pages;
    mhi_list_push(arena, &arena->bins[bin], page);
    arena->bin_bits[bin / 64] |= 1ull << bin % 64;
}

/* Takes a free span from its list; returns its number of dirty pages. */
static uint32_t remove_free(mh_arena *arena, uint32_t page, uint32_t n_pages)
{
    uint32_t bin = mhi_bin_of(n_pages);
    mhi_list_remove(arena, &arena->bins[bin], page);
    if (arena->bins[bin] == MHI_NO_PAGE)
        arena->bin_bits[bin / 64] &= ~(1ull << bin % 64);
    return arena->spans[page].dirty_pages;
}

static uint32_t free_pages_at(const mh_arena *arena, uint32_t page)
{
    uint32_t entry = mhi_load_entry(arena, page);
    return mhi_entry_kind(entry) == MHI_FREE ? mhi_entry_value(entry) : 0;
}

static uint32_t best_in_bin(const mh_arena *arena, uint32_t bin, uint64_t n_pages)
{
    uint32_t best = MHI_NO_PAGE, best_pages = UINT32_MAX, page = arena->bins[bin];
    for (int i = 0; i < LOOK && page != MHI_NO_PAGE && best_pages != n_pages; i++, page = arena->spans[page].next) {
        uint32_t found = free_pages_at(arena, page);
        if (found >= n_pages && found < best_pages) {
            best = page;
            best_pages = found;
        }
    }
    return best;
}

/* The first bin from `bin` on that is not empty, or MHI_BINS. */
static uint32_t next_bin(const mh_arena *arena, uint32_t bin)
{
    for (uint32_t word = bin / 64; word < sizeof arena->bin_bits / sizeof *arena->bin_bits; word++) {
        uint64_t bits = arena->bin_bits[word] & (word == bin / 64 ? ~0ull << bin % 64 : ~0ull);
        if (bits != 0)
            return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return MHI_BINS;
}

static uint32_t find_fit(const mh_arena *arena, uint32_t n_pages)
{
    uint32_t page = MHI_NO_PAGE;
    for (uint32_t bin = next_bin(arena, mhi_bin_of(n_pages)); bin < MHI_BINS && page == MHI_NO_PAGE;
         bin = next_bin(arena, bin + 1))
        page = best_in_bin(arena, bin, n_pages);
    return page;
}

/* Moves the high-water mark; the new pages belong to no span until the caller makes one. */
static bool extend(mh_arena *arena, uint64_t n_more)
{
    uint64_t n_pages = arena->n_pages + n_more;
    if (!mhi_backing_grow(arena, n_pages * MHI_PAGE))
        return false;
    arena->n_pages = (uint32_t)n_pages;
    return true;
}

/* n_pages at the high-water mark; a free span that ends there is used first. */
static uint32_t take_at_end(mh_arena *arena, uint32_t n_pages, uint32_t *dirty_pages)
{
    uint32_t last = arena->n_pages > 0 ? free_pages_at(arena, arena->n_pages - 1) : 0, page = arena->n_pages - last;
    if (!extend(arena, n_pages - last))
        return MHI_NO_PAGE;
    *dirty_pages = last > 0 ? remove_free(arena, page, last) : 0;
    return page;
}

/* n_pages of free pages, in no list; *dirty_pages is at most n_pages. */
static uint32_t take(mh_arena *arena, uint32_t n_pages, uint32_t *dirty_pages)
{
    uint32_t page = find_fit(arena, n_pages);
    if (page == MHI_NO_PAGE)
        return take_at_end(arena, n_pages, dirty_pages);
    uint32_t found = free_pages_at(arena, page), dirty = remove_free(arena, page, found);
    if (found > n_pages)
        add_free(arena, page + n_pages, found - n_pages, (uint32_t)mhi_min(dirty, found - n_pages));
    *dirty_pages = (uint32_t)mhi_min(dirty, n_pages);
    return page;
}

/* Puts pages that are in no list back, as one span with its free neighbours. */
static void put(mh_arena *arena, uint32_t page, uint32_t n_pages, uint32_t dirty_pages)
{
    uint32_t before = page > 0 ? free_pages_at(arena, page - 1) : 0;
    uint32_t after = page + n_pages < arena->n_pages ? free_pages_at(arena, page + n_pages) : 0;
    if (after > 0)
        dirty_pages += remove_free(arena, page + n_pages, after);
    if (before > 0)
        dirty_pages += remove_free(arena, page - before, before);
    page -= before;
    n_pages += before + after;
    if (dirty_pages >= KEEP_PAGES && mhi_backing_clear(arena, (uint64_t)page * MHI_PAGE, (uint64_t)n_pages * MHI_PAGE))
        dirty_pages = 0;
    add_free(arena, page, n_pages, dirty_pages);
}

static void mark_large(mh_arena *arena, uint32_t page, uint32_t from, uint32_t n_pages)
{
    mhi_store_entry(arena, page, mhi_entry(MHI_LARGE, n_pages));
    for (uint32_t i = from > 0 ? from : 1; i < n_pages; i++)
        mhi_store_entry(arena, page + i, mhi_entry(MHI_INSIDE, i));
}

static void mark_slab(mh_arena *arena, uint32_t page, uint32_t n_pages, uint32_t size_class)
{
    for (uint32_t i = 0; i < n_pages; i++)
        mhi_store_entry(arena, page + i, mhi_entry(MHI_SLAB, mhi_slab_value(size_class, i)));
}

/* Marks n_pages in the middle of the pages [page, page + n_pages + slack) as a span and puts the rest back. Marking
 * comes first: put reads the entries next to its pages, and entries inside a former free span are stale. */
static uint32_t carve(mh_arena *arena, uint32_t page, uint32_t n_pages, uint32_t slack, uint32_t dirty_pages,
                      uint32_t kind, uint32_t size_class)
{
    uint64_t number = arena->data / MHI_PAGE + page;
    uint32_t skip = (uint32_t)(mhi_round_up(number, (uint64_t)slack + 1) - number), start = page + skip;
    if (kind == MHI_SLAB)
        mark_slab(arena, start, n_pages, size_class);
    else
        mark_large(arena, start, 0, n_pages);
    if (skip > 0)
        put(arena, page, skip, (uint32_t)mhi_min(dirty_pages, skip));
    if (slack > skip)
        put(arena, start + n_pages, slack - skip, (uint32_t)mhi_min(dirty_pages, slack - skip));
    return start;
}

uint32_t mhi_span_alloc(mh_arena *arena, uint64_t n_pages, uint64_t align_bytes, uint32_t kind, uint32_t size_class,
                        bool *is_zero)
{
    uint64_t slack = align_bytes > MHI_PAGE ? align_bytes / MHI_PAGE - 1 : 0;
    uint32_t dirty_pages;
    if (n_pages + slack >= MHI_CAPACITY_MAX / MHI_PAGE)
        return MHI_NO_PAGE;
    pthread_mutex_lock(&arena->page_lock);
    uint32_t page = take(arena, (uint32_t)(n_pages + slack), &dirty_pages);
    if (page != MHI_NO_PAGE) {
        page = carve(arena, page, (uint32_t)n_pages, (uint32_t)slack, dirty_pages, kind, size_class);
        *is_zero = dirty_pages == 0;
        arena->large_blocks += kind == MHI_LARGE;
        arena->large_bytes += kind == MHI_LARGE ? n_pages * MHI_PAGE : 0;
    }
    pthread_mutex_unlock(&arena->page_lock);
    return page;
}

void mhi_span_free(mh_arena *arena, uint32_t page, uint32_t n_pages)
{
    pthread_mutex_lock(&arena->page_lock);
    if (mhi_entry_kind(mhi_load_entry(arena, page)) == MHI_LARGE) {
        arena->large_blocks--;
        arena->large_bytes -= (uint64_t)n_pages * MHI_PAGE;
    }
    put(arena, page, n_pages, n_pages);
    pthread_mutex_unlock(&arena->page_lock);
}

/* Takes the n_more pages behind a span, from a free neighbour and from beyond the high-water mark. */
static bool take_behind(mh_arena *arena, uint32_t end, uint32_t n_more)
{
    uint32_t after = end < arena->n_pages ? free_pages_at(arena, end) : 0, dirty_pages = 0;
    if (after < n_more && (end + after < arena->n_pages || !extend(arena, n_more - after)))
        return false;
    if (after > 0)
        dirty_pages = remove_free(arena, end, after);
    if (after > n_more)
        add_free(arena, end + n_more, after - n_more, (uint32_t)mhi_min(dirty_pages, after - n_more));
    return true;
}

bool mhi_span_resize(mh_arena *arena, uint32_t page, uint64_t n_pages)
{
    bool done = true;
    pthread_mutex_lock(&arena->page_lock);
    uint32_t old_pages = mhi_entry_value(mhi_load_entry(arena, page));
    if (n_pages > old_pages)
        done = n_pages <= MHI_CAPACITY_MAX / MHI_PAGE &&
               take_behind(arena, page + old_pages, (uint32_t)n_pages - old_pages);
    if (done) {
        mark_large(arena, page, old_pages, (uint32_t)n_pages);
        arena->large_bytes += (n_pages - old_pages) * MHI_PAGE;
    }
    if (n_pages < old_pages)
        put(arena, page + (uint32_t)n_pages, old_pages - (uint32_t)n_pages, old_pages - (uint32_t)n_pages);
    pthread_mutex_unlock(&arena->page_lock);
    return done;
}

void mhi_span_drop_last(mh_arena *arena)
{
    uint32_t last = arena->n_pages > 0 ? free_pages_at(arena, arena->n_pages - 1) : 0;
    if (last > 0)
        remove_free(arena, arena->n_pages - last, last);
    arena->n_pages -= last;
}
