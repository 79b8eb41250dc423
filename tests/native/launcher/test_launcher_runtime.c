/* test_launcher_runtime.c - the launcher's own functions of a C library, against those of the real one. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "format.h"
#include "harness.h"

/* Compiled once more under other names, so that both are here. */
#define malloc runtime_malloc
#define calloc runtime_calloc
#define free runtime_free
#define memcpy runtime_memcpy
#define memset runtime_memset
#define memcmp runtime_memcmp
#define strlen runtime_strlen
#define strncmp runtime_strncmp
#define strcmp runtime_strcmp
#define strcpy runtime_strcpy
#define strcat runtime_strcat
#define memchr runtime_memchr
#define strchr runtime_strchr
#define strrchr runtime_strrchr
#define strcspn runtime_strcspn
#define vsnprintf runtime_vsnprintf
#define snprintf runtime_snprintf
#include "bytes.c"
#include "launcher/runtime.c"
#undef malloc
#undef calloc
#undef free
#undef memcpy
#undef memset
#undef memcmp
#undef strlen
#undef strncmp
#undef strcmp
#undef strcpy
#undef strcat
#undef memchr
#undef strchr
#undef strrchr
#undef strcspn
#undef vsnprintf
#undef snprintf

#define SAME_TEXT(size, ...)                                                                               \
    do {                                                                                                   \
        char ours_[256], theirs_[256];                                                                     \
        memset(ours_, '#', sizeof ours_);                                                                  \
        memset(theirs_, '#', sizeof theirs_);                                                              \
        CHECK_EQUAL(runtime_snprintf(ours_, (size), __VA_ARGS__), snprintf(theirs_, (size), __VA_ARGS__)); \
        CHECK(memcmp(ours_, theirs_, sizeof ours_) == 0);                                                  \
    } while (0)

#pragma GCC diagnostic ignored "-Wformat-truncation"

TEST(formatted_text_is_what_the_c_library_makes)
{
    SAME_TEXT(256, "plain, 100%%");
    SAME_TEXT(256, "%s|%.3s|%.*s|%8s|%c", "text", "text", 2, "text", "text", 'x');
    SAME_TEXT(256, "%s%.200s", "", "\xff\n");
    SAME_TEXT(256, "%d|%d|%d|%5d|%05d|%05d", 0, INT32_MAX, INT32_MIN, -7, -7, 7);
    SAME_TEXT(256, "%u|%x|%o|%04o|%02x", UINT32_MAX, 0xbeefu, 0755u, 07u, 5u);
    SAME_TEXT(256, "%ld|%lu|%lx|%zu", INT64_MIN, UINT64_MAX, UINT64_MAX, SIZE_MAX);
    SAME_TEXT(256, "%" PRIu64 "|%016" PRIx64 "|%" PRIu32, UINT64_MAX, UINT64_C(0xabc), UINT32_MAX);
    SAME_TEXT(256, "%20u|%1u|%03d", 12u, 123u, -1234);
}

TEST(text_that_does_not_fit_is_cut_and_ended)
{
    for (size_t size = 0; size < 14; size++) {
        SAME_TEXT(size, "%s and %d", "four", 1234);
        SAME_TEXT(size, "%s", "");
    }
}

static int sign(int value) { return (value > 0) - (value < 0); }

TEST(bytes_and_strings_are_treated_as_the_c_library_does)
{
    static const char *const texts[] = { "", "a", "/", "/a/b", "a/b/", "abc", "abd", "ab", "\xff", "a\xff", " x=y" };
    enum { N = sizeof texts / sizeof *texts };
    for (int i = 0; i < N; i++) {
        const char *a = texts[i];
        CHECK_EQUAL(runtime_strlen(a), strlen(a));
        CHECK(runtime_strchr(a, '/') == strchr(a, '/') && runtime_strchr(a, '\0') == strchr(a, '\0'));
        CHECK(runtime_strrchr(a, '/') == strrchr(a, '/') && runtime_strrchr(a, '\0') == strrchr(a, '\0'));
        for (int j = 0; j < N; j++) {
            const char *b = texts[j];
            CHECK_EQUAL(sign(runtime_strcmp(a, b)), sign(strcmp(a, b)));
            CHECK_EQUAL(runtime_strcspn(a, b), strcspn(a, b));
            for (size_t n = 0; n < 4; n++)
                CHECK_EQUAL(sign(runtime_strncmp(a, b, n)), sign(strncmp(a, b, n)));
            if (strlen(a) == strlen(b))
                CHECK_EQUAL(sign(runtime_memcmp(a, b, strlen(a) + 1)), sign(memcmp(a, b, strlen(a) + 1)));
        }
        char copy[16], filled[16];
        CHECK(runtime_strcpy(copy, a) == copy && strcmp(copy, a) == 0);
        CHECK(runtime_strcat(copy, "/x") == copy && strncmp(copy, a, strlen(a)) == 0 &&
              strcmp(copy + strlen(a), "/x") == 0);
        CHECK(runtime_memchr(copy, 'x', sizeof "/x" + strlen(a)) == memchr(copy, 'x', sizeof "/x" + strlen(a)));
        CHECK(runtime_memchr(copy, '\0', strlen(copy)) == NULL &&
              runtime_memchr(copy, 0x100, strlen(copy) + 1) == copy + strlen(copy));
        CHECK(runtime_memset(filled, 0x1ff, 3) == filled && filled[0] == -1 && filled[2] == -1);
        CHECK(runtime_memcpy(copy, filled, 3) == copy && copy[2] == -1);
    }
}

TEST(memory_is_aligned_zero_and_in_our_region)
{
    uint64_t random = harness_seed();
    for (int i = 0; i < 2000; i++) {
        size_t size = harness_below(&random, i % 50 == 0 ? 100000 : 100);
        char *block = i % 2 == 0 ? runtime_malloc(size) : runtime_calloc(size, 1);
        CHECK(block != NULL && (uintptr_t)block % 16 == 0);
        for (size_t at = 0; at < size; at++)
            CHECK(block[at] == 0);
        memset(block, 0xff, size);
        runtime_free(block);
    }
    uint64_t page = (uint64_t)mhi_memory(1);
    CHECK(page >= MHI_LAUNCHER_START && page < MHI_LAUNCHER_END && page % 4096 == 0);
}

TEST(memory_that_cannot_be_had_is_null)
{
    CHECK(runtime_malloc(SIZE_MAX) == NULL && runtime_malloc(SIZE_MAX - 20) == NULL &&
          runtime_malloc(1ull << 50) == NULL);
    CHECK(runtime_calloc(1ull << 33, 1ull << 33) == NULL && mhi_memory(SIZE_MAX) == NULL);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
