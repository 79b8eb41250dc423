/* test_routing_late.c - libraries that arrive within a transaction, leave, or come in great numbers. */
#define _GNU_SOURCE
#include "route_host.h"

#include <fcntl.h>

TEST(a_library_loaded_inside_is_routed_once_its_function_is_found)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    void *handle = g->dlopen(guest_path("route_late"));
    CHECK(handle != NULL);
    void *(*late_malloc)(size_t) = g->dlsym(handle, "late_malloc");
    CHECK_OWNER(arena, late_malloc(100), "libroute_late.so");
    end_routing(arena);
    dlclose(handle);
}

TEST(a_library_that_hands_out_its_functions_itself_is_routed)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    g->clear_registered();
    void *handle = g->dlopen(guest_path("route_late"));
    CHECK(handle != NULL && g->registered() != NULL);
    g->free(g->malloc(1)); /* somebody allocates */
    CHECK_OWNER(arena, g->registered()(100), "libroute_late.so");
    end_routing(arena);
    dlclose(handle);
}

TEST(a_library_closed_and_opened_again_is_routed_again)
{
    const guest *g = load_guest();
    mh_arena *arena = begin_routing();
    for (int i = 0; i < 3; i++) {
        void *handle = g->dlopen(guest_path("route_late"));
        CHECK(handle != NULL);
        void *(*late_malloc)(size_t) = g->dlsym(handle, "late_malloc");
        CHECK_OWNER(arena, late_malloc(100), "libroute_late.so");
        CHECK_EQUAL(dlclose(handle), 0);
    }
    end_routing(arena);
}

TEST(a_name_is_looked_for_where_its_caller_says)
{
    const guest *g = load_guest();
    void *before = g->dlopen("libroute_late.so"); /* stands in the guest's own RUNPATH and nowhere else */
    if (before != NULL)
        dlclose(before);
    CHECK(dlopen("libroute_late.so", RTLD_NOW) == NULL);
    mh_arena *arena = begin_routing();
    void *inside = g->dlopen("libroute_late.so");
    CHECK_EQUAL(inside != NULL, before != NULL);
    if (inside != NULL)
        dlclose(inside);
    end_routing(arena);
#ifndef __SANITIZE_ADDRESS__ /* whose own dlopen loses the caller */
    CHECK(before != NULL);
#endif
}

#ifndef __SANITIZE_ADDRESS__ /* which refuses RTLD_DEEPBIND */
TEST(a_library_with_a_malloc_of_its_own_keeps_it)
{
    void *handle = dlopen(guest_path("route_private"), RTLD_NOW | RTLD_DEEPBIND);
    CHECK(handle != NULL);
    void *(*private_malloc)(size_t) = dlsym(handle, "private_malloc");
    int (*private_owns)(const void *) = dlsym(handle, "private_owns");
    mh_arena *arena = begin_routing();
    CHECK(private_owns(private_malloc(100)));
    end_routing(arena);
}
#endif

static void copy_file(const char *from, const char *to)
{
    static char buffer[1 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    CHECK(in != NULL && out != NULL);
    size_t n = fread(buffer, 1, sizeof buffer, in);
    CHECK(n > 0 && n < sizeof buffer && fwrite(buffer, 1, n, out) == n);
    fclose(in);
    CHECK_EQUAL(fclose(out), 0);
}

TEST(libraries_past_the_last_owner_number_share_one)
{
    enum { N_LIBRARIES = 130 };
    const guest *g = load_guest();
    char directory[] = "/tmp/magicheap-route-XXXXXX", path[PATH_MAX];
    CHECK(mkdtemp(directory) != NULL);
    mh_arena *arena = begin_routing();
    for (int i = 0; i < N_LIBRARIES; i++) {
        snprintf(path, sizeof path, "%s/lib%d.so", directory, i);
        copy_file(guest_path("route_late"), path);
        void *handle = g->dlopen(path);
        CHECK(handle != NULL);
        void *(*late_malloc)(size_t) = g->dlsym(handle, "late_malloc");
        void *block = late_malloc(100);
        CHECK(mh_arena_of(block) == arena);
        if (i == 0)
            CHECK_OWNER(arena, block, "lib0.so");
        if (i == N_LIBRARIES - 1)
            CHECK_OWNER(arena, block, "other libraries");
        CHECK_EQUAL(unlink(path), 0);
    }
    CHECK_EQUAL(rmdir(directory), 0);
    mh_owner owners[8];
    CHECK(mh_read_owners(arena, owners, 8) > 100);
    CHECK(owners[0].bytes >= owners[1].bytes && owners[0].blocks > 0);
    end_routing(arena);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
