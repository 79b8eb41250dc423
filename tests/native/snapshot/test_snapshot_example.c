/* test_snapshot_example.c - the C example, as a program of its own linked to the shared library: cold, warm, and cold
 * again when its text has changed. WORDS is where it was built.
 */
#define _GNU_SOURCE
#include "test_snapshot.h"

/* What the example answers, and what it says on the side. */
static void ask(const char *text, const char *word, const char *answer, const char *remark)
{
    char command[3 * PATH_MAX];
    size_t size;
    const char *out = scratch("out"), *side = scratch("side");
    CHECK(getenv("WORDS") != NULL);
    snprintf(command, sizeof command, "'%s' '%s' %s >'%s' 2>'%s'", getenv("WORDS"), text, word, out, side);
    CHECK_EQUAL(system(command), 0);
    char *found = read_file(out, &size), *said = read_file(side, &size);
    said[size] = '\0';
    if (strncmp(found, answer, strlen(answer)) != 0 || (*remark == '\0') != (size == 0) || strstr(said, remark) == NULL)
        harness_fail(__FILE__, __LINE__, said);
    free(found);
    free(said);
}

TEST(example_reads_its_text_once_and_again_when_it_has_changed)
{
    const char *text = scratch("text"), *other = scratch("other text");
    write_file(text, "A heap is a heap is a heap.", 27);
    write_file(other, "A rose is a rose.", 17);
    usleep(20000); /* past the granule of file times: a file must not seem to have changed while it was read */
    ask(text, "heap", "heap 3\n", "there is no snapshot");
    ask(text, "heap", "heap 3\n", "");
    ask(text, "rose", "rose 0\n", "");
    ask(other, "rose", "rose 2\n", "there is no snapshot");
    ask(other, "rose", "rose 2\n", "");

    write_file(text, "A heap is a rose.", 17);
    usleep(20000);
    ask(text, "heap", "heap 1\n", "has changed");
    ask(text, "heap", "heap 1\n", "");
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
