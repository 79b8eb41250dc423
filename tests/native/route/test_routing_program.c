/* test_routing_program.c - a plain C program with libmagicheap.so: what it allocates itself is routed too. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <unistd.h>

#include "harness.h"
#include "magicheap.h"

static mh_arena *begin(mh_transaction **tx, const char *directory)
{
    char path[256];
    mh_error err;
    snprintf(path, sizeof path, "%s/x.magic", directory);
    CHECK_OK(mh_open(tx, path, NULL, &err), err);
    CHECK_OK(mh_begin(*tx, &err), err);
    return mh_transaction_arena(*tx);
}

TEST(the_program_itself_is_routed_and_named)
{
    char directory[] = "/tmp/magicheap-route-XXXXXX", command[256];
    mh_transaction *tx;
    mh_owner owners[8];
    mh_error err;
    CHECK(mkdtemp(directory) != NULL);
    char *volatile before = malloc(100);
    mh_arena *arena = begin(&tx, directory);
    char *volatile inside = malloc(100), *formatted;
    CHECK_EQUAL(asprintf(&formatted, "%d", 12), 2);
    CHECK(mh_arena_of(inside) == arena && mh_arena_of(formatted) == arena);
    before = realloc(before, 200);
    CHECK(mh_arena_of(before) == arena);
    int n_owners = mh_read_owners(arena, owners, 8);
    CHECK_EQUAL(n_owners, 2);
    CHECK(strstr(owners[0].name, "test_routing_program") != NULL && strstr(owners[1].name, "libc.so") != NULL);
    CHECK_EQUAL(owners[0].blocks, 2);
    CHECK_OK(mh_set_root(tx, inside, &err), err);
    mh_abandon(tx);
    mh_close(tx);
    char *volatile after = malloc(100);
    CHECK(mh_arena_of(after) == NULL);
    inside = realloc(inside, 1000);
    CHECK(mh_arena_of(inside) == NULL);
    free(inside);
    free(before);
    free(formatted);
    free(after);
    snprintf(command, sizeof command, "rm -r %s", directory);
    CHECK_EQUAL(system(command), 0);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
