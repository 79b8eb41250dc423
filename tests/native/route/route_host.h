/* route_host.h - what the tests of routing and audit share: loading the guests, asking about blocks. The test program
 * is not routed itself: it contains the library, whose own allocations stay ordinary. */
#ifndef ROUTE_HOST_H
#define ROUTE_HOST_H
#include <dlfcn.h>
#include <limits.h>
#include <unistd.h>

#include "harness.h"
#include "route/route.h"
#include "route_guest.h"

/* Path of a guest library, which stands beside the test program. */
static inline const char *guest_path(const char *name)
{
    static char path[PATH_MAX];
    char program[PATH_MAX / 2];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    CHECK(n > 0);
    program[n] = '\0';
    *strrchr(program, '/') = '\0';
    snprintf(path, sizeof path, "%s/lib%s.so", program, name);
    return path;
}

static inline const guest *load_guest(void)
{
    static const guest *loaded;
    if (loaded == NULL) {
        void *handle = dlopen(guest_path("route_guest"), RTLD_NOW | RTLD_GLOBAL);
        if (handle == NULL)
            harness_fail(__FILE__, __LINE__, dlerror());
        loaded = dlsym(handle, "the_guest");
        CHECK(loaded != NULL);
        loaded->set_hooks(); /* while nothing is patched yet */
    }
    return loaded;
}

static inline mh_arena *begin_routing(void)
{
    mh_error err;
    mh_arena *arena;
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    CHECK_OK(mhi_route_begin(arena, &err), err);
    return arena;
}

static inline void end_routing(mh_arena *arena)
{
    mh_error err;
    mhi_route_end();
    CHECK_OK(mh_check(arena, &err), err);
}

static inline const char *owner_path(mh_arena *arena, const void *address)
{
    mhi_block block;
    return mhi_arena_find_block(arena, (uint64_t)address, &block) ? mhi_route_owner_path(block.owner)
                                                                  : "no block of the arena";
}

static inline bool is_data(mh_arena *arena, const void *address)
{
    mhi_block block;
    return mhi_arena_find_block(arena, (uint64_t)address, &block) && block.is_data;
}

#define CHECK_OWNER(arena, address, library) CHECK(strstr(owner_path(arena, address), library) != NULL)

#endif
