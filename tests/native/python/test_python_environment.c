/* test_python_environment.c - values of variables are written to the objects that had those of another process, or
 * left.
 */
#include <stdbool.h>
#include <stdint.h>

#include "harness.h"
#include "magicheap.h"
#include "python/environment.h"

enum { N = 4, ROOM = 16 };

/* As CPython's PyBytesObject from its hash on. */
typedef struct {
    int64_t hash;
    char text[ROOM];
} bytes;

static const char *const names[N] = { "HOME", "KEY", "KEYS", "SHARED" };
static const uint8_t uses[N] = { MH_VARIABLE_OTHER, MH_VARIABLE_OWN, MH_VARIABLE_OWN, MH_VARIABLE_HELD };
static bytes objects[N];
static uint64_t left[N];

/* With wiped objects, as in an image. */
static void keep(void)
{
    uint64_t addresses[N], sizes[N] = { 4, 6, 0, 5 };
    memset(objects, 0, sizeof objects);
    for (int i = 0; i < N; i++) {
        objects[i].hash = 7;
        addresses[i] = (uintptr_t)objects[i].text;
    }
    memcpy(objects[0].text, "mine", 4);
    memcpy(objects[3].text, "stays", 5);
    CHECK(mh_keep_variables(names, addresses, sizes, uses, N, NULL) == MH_OK);
}

static int64_t renew_all(char **entries, uint64_t n)
{
    return mh_renew_variables(&(mh_resumed){ .envp = entries, .envc = n }, left);
}

static int64_t renew(char *home, char *key, char *keys, char *shared)
{
    char *entries[N] = { home, key, keys, shared };
    return renew_all(entries, N);
}

TEST(a_value_of_the_same_length_is_written_and_its_hash_forgotten)
{
    keep();
    CHECK(renew("HOME=/", "KEY=sesame", "KEYS=", "SHARED=stays") == 0);
    CHECK(memcmp(objects[1].text, "sesame", 7) == 0 && objects[1].hash == -1);
    CHECK(objects[2].hash == -1 && objects[2].text[0] == '\0');
}

TEST(what_the_program_set_or_holds_is_not_touched)
{
    keep();
    CHECK(renew("HOME=/abc", "KEY=sesame", "KEYS=", "SHARED=other") == 1 && left[0] == 3);
    CHECK(memcmp(objects[0].text, "mine", 5) == 0 && objects[0].hash == 7);
    CHECK(memcmp(objects[3].text, "stays", 6) == 0 && objects[3].hash == 7);
}

TEST(a_value_of_another_length_is_left)
{
    keep();
    CHECK(renew("HOME=/", "KEY=open sesame", "KEYS=1", "SHARED=stay") == 3);
    CHECK(left[0] == 1 && left[1] == 2 && left[2] == 3);
    CHECK(objects[1].text[0] == '\0' && objects[1].hash == 7);
}

TEST(other_names_or_another_order_change_nothing)
{
    keep();
    CHECK(renew("HOME=/", "KEYS=", "KEY=sesame", "SHARED=stays") == -1);
    CHECK(renew("HOME=/", "KEY=sesame", "KEYSTONE=", "SHARED=stays") == -1);
    CHECK(renew("HOME=/", "KEY", "KEYS=", "SHARED=stays") == -1);
    CHECK(renew_all((char *[]){ "HOME=/", "KEY=sesame" }, 2) == -1);
    CHECK(objects[1].text[0] == '\0' && objects[1].hash == 7);
}

TEST(without_variables_nothing_is_renewed)
{
    keep();
    CHECK(mh_keep_variables(NULL, NULL, NULL, NULL, 0, NULL) == MH_OK);
    CHECK(renew_all((char *[]){ NULL }, 0) == -1);
}

TEST(an_unknown_use_is_refused)
{
    keep();
    CHECK(mh_keep_variables(names, left, left, (uint8_t[]){ 0, 1, 2, 3 }, N, NULL) == MH_ERR_ARGUMENT);
    CHECK(renew("HOME=/", "KEY=sesame", "KEYS=", "SHARED=stays") == 0); /* those before are kept */
}

TEST(made_up_variables_can_be_renewed)
{
    char strings[64], *made_up[N + 1];
    keep();
    CHECK(mhi_variables_make_up(strings, sizeof strings, made_up, N + 1) == N);
    CHECK(strcmp(made_up[0], "HOME=") == 0 && strcmp(made_up[1], "KEY=xxxxxx") == 0);
    CHECK(strcmp(made_up[2], "KEYS=") == 0 && strcmp(made_up[3], "SHARED=stays") == 0 && made_up[4] == NULL);
    CHECK(renew_all(made_up, N) == 0);
}

TEST(made_up_variables_stay_in_their_room)
{
    char strings[64], *made_up[N + 1];
    keep();
    CHECK(mhi_variables_make_up(strings, sizeof strings, made_up, N) == 0);
    uint64_t needed = sizeof "HOME=" + sizeof "KEY=xxxxxx" + sizeof "KEYS=" + sizeof "SHARED=stays";
    for (uint64_t n = 0; n < needed; n++) {
        strings[n] = 'z';
        CHECK(mhi_variables_make_up(strings, n, made_up, N + 1) == 0 && strings[n] == 'z');
    }
    CHECK(mhi_variables_make_up(strings, needed, made_up, N + 1) == N);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
