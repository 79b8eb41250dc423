/* answer.c - reports what the launcher would do, for `magicheap why`. The decision itself is the one of every run. */
#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "snapshot/variants.h"

static void print_line(const char *const parts[], size_t n)
{
    for (size_t i = 0; i < n; i++)
        mhi_print(1, parts[i]);
    mhi_print(1, "\n");
}

#define PRINT_LINE(...)                              \
    print_line((const char *const[]){ __VA_ARGS__ }, \
               sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(const char *))

void mhi_answer_link(const char *link, const char *target) { PRINT_LINE(link, " leads to ", target); }

void mhi_answer_variant(const char *path, int rank, const char *reason)
{
    static const char *const ranks[] = { "", "another variant: ", "not sound: ", "stale: " };
    if (rank != MHI_ABSENT)
        PRINT_LINE("passes over ", path, ": ", ranks[rank], reason);
}

void mhi_answer_taken(const char *path)
{
    PRINT_LINE("resumes ", path);
    mhi_exit(0);
}

void mhi_answer_cold(const char *reason)
{
    PRINT_LINE("runs cold: ", reason);
    mhi_exit(0);
}
