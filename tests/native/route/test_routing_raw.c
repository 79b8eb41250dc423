/* test_routing_raw.c - libraries that allocate by the interpreter's names for malloc and its like. */
#define _GNU_SOURCE
#include "route_host.h"

#include "route_python.h"

static const python_raw *extension, *interpreter;
static void (*set_debugging)(void *context);

static void *load(const char *library, const char *name)
{
    void *handle = dlopen(guest_path(library), RTLD_NOW | RTLD_GLOBAL);
    if (handle == NULL)
        harness_fail(__FILE__, __LINE__, dlerror());
    void *found = dlsym(handle, name);
    CHECK(found != NULL);
    return found;
}

static void load_both(void)
{
    interpreter = load("route_python", "python_itself");
    set_debugging = (void (*)(void *))load("route_python", "python_set_debugging");
    extension = load("route_extension", "the_extension");
}

/* First of all: once replaced, the functions stay so. */
TEST(debugging_allocator_is_left_alone)
{
    load_both();
    set_debugging(&extension);
    mh_arena *arena = begin_routing();
    void *block = extension->malloc(100);
    CHECK(mh_arena_of(block) == NULL);
    interpreter->free(block);
    end_routing(arena);
    set_debugging(NULL);
}

TEST(what_an_extension_allocates_lands_in_the_arena_and_what_the_interpreter_does_not)
{
    load_both();
    mh_arena *arena = begin_routing();
    void *blocks[] = { extension->malloc(100), extension->calloc(10, 10), extension->realloc(NULL, 100),
                       extension->malloc(0),   extension->calloc(0, 8),   extension->calloc(1000, 1000) };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        CHECK(mh_arena_of(blocks[i]) == arena);
        CHECK_OWNER(arena, blocks[i], "libroute_extension.so");
    }
    for (size_t i = 0; i < 1000000; i++)
        CHECK_EQUAL(((char *)blocks[5])[i], 0);
    void *own = interpreter->malloc(100);
    CHECK(mh_arena_of(own) == NULL);
    extension->free(own);
    CHECK(extension->calloc(SIZE_MAX / 2, 4) == NULL);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        extension->free(blocks[i]);
    extension->free(NULL);
    mh_arena_stats stats;
    mh_arena_read_stats(arena, &stats);
    CHECK_EQUAL(stats.live_blocks, 0);
    end_routing(arena);
}

static char *filled(const python_raw *by, size_t size) { return memset(by->malloc(size), 0x5a, size); }

static void check_filled(const char *block, size_t size)
{
    for (size_t i = 0; i < size; i++)
        CHECK_EQUAL(block[i], 0x5a);
}

TEST(blocks_cross_between_extension_and_interpreter_before_inside_and_after)
{
    load_both();
    char *before = filled(extension, 5000), *given = filled(interpreter, 200);
    mh_arena *arena = begin_routing();
    before = extension->realloc(before, 9000);
    CHECK(mh_arena_of(before) == arena);
    check_filled(before, 5000);
    given = extension->realloc(given, 300);
    CHECK(mh_arena_of(given) == arena);
    check_filled(given, 200);
    extension->free(filled(interpreter, 100));
    interpreter->free(filled(extension, 100));
    char *taken = interpreter->realloc(filled(extension, 100), 70000);
    CHECK(mh_arena_of(taken) == NULL);
    check_filled(taken, 100);
    char *small = extension->realloc(filled(extension, 100), 0);
    CHECK(small != NULL && mh_arena_of(small) == arena);
    mhi_route_end();
    before = extension->realloc(before, 20000);
    CHECK(mh_arena_of(before) == NULL);
    check_filled(before, 5000);
    small = interpreter->realloc(small, 0);
    CHECK(small != NULL && mh_arena_of(small) == NULL);
    interpreter->free(given);
    interpreter->free(before);
    extension->free(taken);
    extension->free(small);
    mh_error err;
    CHECK_OK(mh_check(arena, &err), err);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
