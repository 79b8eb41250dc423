/* test_routing.c - blocks of libraries that know nothing of arenas: where they land, and their way across the boundary.
 * */
#define _GNU_SOURCE
#include "route_host.h"

#include <errno.h>
#include <sys/mman.h>

#include "base/maps.h"

TEST(every_entry_point_of_a_library_lands_in_the_arena)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    void *aligned = NULL;
    CHECK_EQUAL(g->posix_memalign(&aligned, 64, 100), 0);
    void *blocks[] = { g->malloc(100),
                       g->calloc(10, 10),
                       g->realloc(NULL, 100),
                       g->reallocarray(NULL, 10, 10),
                       g->memalign(256, 100),
                       g->aligned_alloc(256, 256),
                       g->valloc(100),
                       g->pvalloc(100),
                       aligned };
    size_t n_blocks = sizeof blocks / sizeof *blocks;
    for (size_t i = 0; i < n_blocks; i++) {
        CHECK(mh_arena_of(blocks[i]) == arena);
        CHECK_OWNER(arena, blocks[i], "libroute_guest.so");
        CHECK(g->malloc_usable_size(blocks[i]) >= 100);
        memset(blocks[i], 0x55, 100);
    }
    CHECK_EQUAL((uintptr_t)blocks[4] % 256 | (uintptr_t)blocks[5] % 256 | (uintptr_t)blocks[6] % 4096 |
                    (uintptr_t)aligned % 64,
                0);
    CHECK(g->malloc_usable_size(blocks[7]) >= 4096);
    for (size_t i = 0; i < n_blocks; i++)
        g->free(blocks[i]);
    mh_arena_stats stats;
    mh_arena_read_stats(arena, &stats);
    CHECK_EQUAL(stats.live_blocks, 0);
    end_routing(arena);
}

TEST(what_libc_allocates_for_a_library_lands_in_the_arena)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    char *copy = g->strdup("some text"), *formatted = g->format("some text"), *line = g->read_line("/proc/self/maps");
#ifndef __SANITIZE_ADDRESS__ /* which has a strdup of its own */
    CHECK_OWNER(arena, copy, "libc.so");
#endif
    CHECK_OWNER(arena, formatted, "libc.so");
    CHECK_OWNER(arena, line, "libc.so");
    CHECK(strcmp(copy, "some text") == 0 && strcmp(formatted, "<some text>") == 0);
    g->free(copy);
    g->free(formatted);
    g->free(line);
    end_routing(arena);
}

TEST(outside_of_a_transaction_blocks_are_ordinary)
{
    const guest *g = load_guest();
    end_routing(begin_routing());
    void *block = g->malloc(100);
    CHECK(mh_arena_of(block) == NULL);
    g->free(block);
}

TEST(arena_blocks_may_be_freed_and_resized_after_the_transaction)
{
    const guest *g = load_guest();
    mh_error err;
    mh_arena *arena = begin_routing();
    char *freed = g->malloc(100), *resized = g->malloc(100), *emptied = g->malloc(100);
    memset(resized, 0x5a, 100);
    mhi_route_end();
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    g->free(freed);
    resized = g->realloc(resized, 100000);
    CHECK(mh_arena_of(resized) == NULL);
    for (int i = 0; i < 100; i++)
        CHECK_EQUAL(resized[i], 0x5a);
    resized = g->realloc(resized, 10);
    CHECK_EQUAL(resized[9], 0x5a);
    g->free(resized);
    CHECK(g->realloc(emptied, 0) == NULL);
}

TEST(ordinary_blocks_resized_in_a_transaction_move_into_the_arena)
{
    const guest *g = load_guest();
    char *grown = g->malloc(100), *shrunk = g->malloc(100), *freed = g->malloc(100);
    memset(grown, 0x5a, 100);
    memset(shrunk, 0x5b, 100);
    mh_arena *arena = begin_routing();
    grown = g->realloc(grown, 100000);
    shrunk = g->reallocarray(shrunk, 5, 2);
    CHECK_OWNER(arena, grown, "libroute_guest.so");
    CHECK_OWNER(arena, shrunk, "libroute_guest.so");
    CHECK_EQUAL(grown[99], 0x5a);
    CHECK_EQUAL(shrunk[9], 0x5b);
    CHECK(g->malloc_usable_size(freed) >= 100);
    g->free(freed);
    g->free(grown);
    end_routing(arena);
    g->free(shrunk);
}

TEST(blocks_of_an_earlier_transaction_move_into_the_next)
{
    const guest *g = load_guest();
    mh_error err;
    mh_arena *first = begin_routing();
    char *block = g->malloc(100);
    memset(block, 0x5a, 100);
    mhi_route_end();
    CHECK_OK(mhi_arena_seal(first, &err), err);
    mh_arena *second = begin_routing();
    block = g->realloc(block, 200);
    CHECK(mh_arena_of(block) == second);
    CHECK_EQUAL(block[99], 0x5a);
    end_routing(second);
}

/* AddressSanitizer would end the program otherwise. */
__attribute__((visibility("default"))) const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}

TEST(impossible_requests_fail_as_they_always_did)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    volatile size_t huge = SIZE_MAX / 2;
    void *block = g->malloc(10), *out = block;
    errno = 0;
    CHECK(g->reallocarray(block, huge, 4) == NULL && errno == ENOMEM);
    CHECK_EQUAL(g->posix_memalign(&out, 3, 100), EINVAL);
    CHECK(out == block);
    CHECK(g->malloc(huge) == NULL && g->calloc(huge, 4) == NULL && g->pvalloc(SIZE_MAX) == NULL);
    CHECK_EQUAL(g->posix_memalign(&out, 64, huge), ENOMEM);
    g->free(block);
    end_routing(arena);
}

TEST(a_full_arena_leaves_the_library_on_the_ordinary_heap)
{
    const guest *g = load_guest();
    mh_error err;
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 4 << 20, &err), err);
    CHECK_OK(mhi_route_begin(arena, &err), err);
    char *small = g->malloc(100), *large = g->malloc(64 << 20);
    memset(small, 0x5a, 100);
    CHECK(mh_arena_of(small) == arena && large != NULL && mh_arena_of(large) == NULL);
    small = g->realloc(small, 64 << 20);
    CHECK(mh_arena_of(small) == NULL);
    CHECK_EQUAL(small[99], 0x5a);
    g->free(small);
    g->free(large);
    end_routing(arena);
}

TEST(large_aligned_buffers_hold_no_pointers_and_others_may)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    void *vectors = NULL;
    CHECK_EQUAL(g->posix_memalign(&vectors, 64, 1 << 20), 0);
    CHECK(is_data(arena, vectors) && is_data(arena, g->aligned_alloc(32, 4096)) &&
          is_data(arena, g->memalign(4096, 4096)));
    CHECK(!is_data(arena, g->aligned_alloc(64, 2048)));    /* small: perhaps a structure */
    CHECK(!is_data(arena, g->aligned_alloc(16, 1 << 20))); /* malloc's own alignment */
    CHECK(!is_data(arena, g->memalign(4 << 20, 4 << 20))); /* a slab of an allocator */
    CHECK(!is_data(arena, g->malloc(1 << 20)));
    end_routing(arena);
}

TEST(function_pointers_set_at_run_time_are_routed)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    void *block = g->hooked_malloc(100);
    CHECK_OWNER(arena, block, "libroute_guest.so");
    mhi_route_end();
    g->hooked_free(block);
    end_routing(arena);
}

TEST(functions_found_by_name_are_routed)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    void *(*found_malloc)(size_t) = g->dlsym(RTLD_DEFAULT, "malloc");
    void (*found_free)(void *) = g->dlsym(RTLD_DEFAULT, "free");
    void *block = found_malloc(100);
    CHECK(mh_arena_of(block) == arena);
    found_free(block);
    CHECK_EQUAL(mh_usable_size(block), 0);
    CHECK(g->dlsym(RTLD_DEFAULT, "no_such_function") == NULL && g->dlsym(RTLD_DEFAULT, "strlen") != NULL);
    end_routing(arena);
}

TEST(only_one_transaction_at_a_time)
{
    mh_error err = { 0 };
    mh_arena *arena = begin_routing();
    CHECK_EQUAL(mhi_route_begin(arena, &err), MH_ERR_BUSY);
    CHECK(strstr(err.detail, "another transaction") != NULL);
    end_routing(arena);
    CHECK_OK(mhi_route_begin(arena, &err), err);
    end_routing(arena);
}

TEST(a_guard_protects_without_routing)
{
    const guest *g = load_guest();
    mh_error err;
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    CHECK_OK(mhi_route_guard(&err), err);
    void *ordinary = g->malloc(100), *explicit = mh_malloc(arena, 100);
    CHECK(mh_arena_of(ordinary) == NULL);
    g->free(explicit);
    g->free(ordinary);
    CHECK_EQUAL(mh_usable_size(explicit), 0);
}

/* What /proc/self/maps says of the pages of a library, one line per mapping. */
static void read_protections(char *text, size_t size, const char *library)
{
    mhi_maps maps;
    mh_error err;
    CHECK_OK(mhi_maps_read(&maps, &err), err);
    text[0] = '\0';
    for (size_t i = 0; i < maps.n_items; i++)
        if (strstr(maps.items[i].name, library) != NULL)
            snprintf(text + strlen(text), size - strlen(text), "%llx-%llx %d\n",
                     (unsigned long long)maps.items[i].start, (unsigned long long)maps.items[i].end,
                     maps.items[i].prot);
    mhi_maps_release(&maps);
}

TEST(read_only_pages_are_read_only_again_after_patching)
{
    char before[4096], after[4096];
    void *handle = dlopen(guest_path("route_late"), RTLD_NOW); /* linked with -z now: its slots are read-only */
    CHECK(handle != NULL);
    read_protections(before, sizeof before, "libroute_late.so"); /* dlsym will patch it */
    void *(*late_malloc)(size_t) = dlsym(handle, "late_malloc");
    mh_arena *arena = begin_routing();
    CHECK_OWNER(arena, late_malloc(100), "libroute_late.so");
    read_protections(after, sizeof after, "libroute_late.so");
    CHECK(before[0] != '\0' && strcmp(before, after) == 0);
    end_routing(arena);
    dlclose(handle);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
