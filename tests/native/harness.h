/* harness.h - cases, checks and seeded randomness for the C tests.
 *
 *     TEST(free_leaves_a_foreign_pointer_alone) { CHECK(...); CHECK_EQUAL(found, expected); CHECK_OK(mh_call(&err),
 *     err); } int main(int argc, char **argv) { return harness_main(argc, argv); }
 *
 * The first check that fails names itself, its case and the seed, and ends the program with 1. Arguments choose cases
 * by a part of their name. MAGICHEAP_TEST_SEED replaces the fixed seed.
 */
#ifndef HARNESS_H
#define HARNESS_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct harness_case {
    const char *name;
    void (*run)(void);
    struct harness_case *next;
} harness_case;

static harness_case *harness_first, **harness_last = &harness_first, *harness_current;

static inline void harness_add(harness_case *added)
{
    *harness_last = added;
    harness_last = &added->next;
}

/* Constructors of one file run in the order of its text, and so do the cases. */
#define TEST(name_)                                                    \
    static void name_(void);                                           \
    __attribute__((constructor)) static void harness_add_##name_(void) \
    {                                                                  \
        static harness_case added = { .name = #name_, .run = name_ };  \
        harness_add(&added);                                           \
    }                                                                  \
    static void name_(void)

static inline uint64_t harness_seed(void)
{
    const char *given = getenv("MAGICHEAP_TEST_SEED");
    return given != NULL ? strtoull(given, NULL, 0) : 20250711; /* arbitrary */
}

/* splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators) */
static inline uint64_t harness_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static inline uint64_t harness_below(uint64_t *state, uint64_t bound) { return harness_random(state) % bound; }

__attribute__((noreturn)) static inline void harness_fail(const char *file, int line, const char *what)
{
    fprintf(stderr, "%s:%d: %s: %s (seed %llu)\n", file, line, harness_current != NULL ? harness_current->name : "main",
            what, (unsigned long long)harness_seed());
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : harness_fail(__FILE__, __LINE__, #condition))

#define CHECK_EQUAL(found, expected)                                                                               \
    do {                                                                                                           \
        unsigned long long found_ = (unsigned long long)(found), expected_ = (unsigned long long)(expected);       \
        if (found_ != expected_) {                                                                                 \
            char text_[256];                                                                                       \
            snprintf(text_, sizeof text_, "%s is %lld (0x%llx), not %s, %lld (0x%llx)", #found, (long long)found_, \
                     found_, #expected, (long long)expected_, expected_);                                          \
            harness_fail(__FILE__, __LINE__, text_);                                                               \
        }                                                                                                          \
    } while (0)

/* call must return 0 (MH_OK); otherwise the mh_error it filled is shown. */
#define CHECK_OK(call, err)                                                                    \
    do {                                                                                       \
        int status_ = (call);                                                                  \
        if (status_ != 0) {                                                                    \
            char text_[700];                                                                   \
            snprintf(text_, sizeof text_, "%s returned %d: %s", #call, status_, (err).detail); \
            harness_fail(__FILE__, __LINE__, text_);                                           \
        }                                                                                      \
    } while (0)

static inline int harness_main(int argc, char **argv)
{
    int n_run = 0;
    for (harness_case *c = harness_first; c != NULL; c = c->next) {
        int chosen = argc < 2;
        for (int i = 1; i < argc; i++)
            chosen |= strstr(c->name, argv[i]) != NULL;
        if (!chosen)
            continue;
        harness_current = c;
        c->run();
        n_run++;
    }
    printf("%d cases hold\n", n_run);
    return n_run > 0 ? 0 : 1;
}

#endif
