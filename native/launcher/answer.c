/* answer.c - says what would be done, for `magicheap why`: the decision itself is the one that every run makes. */
#include "launcher/launcher.h"
#include "launcher/runtime.h"
#include "snapshot/variants.h"

static void print_line(const char *what, const char *path, const char *middle, const char *text)
{
    const char *const parts[] = { what, "\t", path, "\t", middle, "\t", text, "\n" };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        mhi_print(1, parts[i]);
}

void mhi_answer_link(const char *link, const char *target) { print_line("link", link, "leads to", target); }

void mhi_answer_variant(const char *path, int rank, const char *reason)
{
    static const char *const ranks[] = { "absent", "other", "unsound", "stale" };
    if (rank != MHI_ABSENT)
        print_line("variant", path, ranks[rank], reason);
}

void mhi_answer_taken(const char *path)
{
    print_line("resumes", path, "", "");
    mhi_exit(0);
}

void mhi_answer_cold(const char *reason)
{
    print_line("cold", "", "", reason);
    mhi_exit(0);
}
