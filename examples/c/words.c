/* words.c - counts words of a text. The first run reads the text; later runs resume with the counts in memory.
 *
 *     words TEXT WORD...
 *
 * load() is ordinary C: it knows nothing of magicheap, and neither does the C library that allocates for it. The
 * snapshot lies beside the text. After a change of the text, the next run reads it anew: each file that load() opens is
 * an input of the snapshot.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <magicheap.h>

enum { BUCKETS = 1 << 16 }; /* enough for a book; arbitrary */

struct word {
    struct word *next;
    char *text;
    unsigned long count;
};

struct words {
    unsigned long n_words;
    struct word *buckets[BUCKETS];
};

static struct word **find(struct words *words, const char *text)
{
    unsigned hash = 5381; /* Bernstein's */
    for (const char *c = text; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    struct word **place = &words->buckets[hash % BUCKETS];
    while (*place != NULL && strcmp((*place)->text, text) != 0)
        place = &(*place)->next;
    return place;
}

static void count(struct words *words, const char *text)
{
    struct word **place = find(words, text);
    if (*place == NULL) {
        size_t size = strlen(text) + 1;
        *place = calloc(1, sizeof **place);
        (*place)->text = memcpy(malloc(size), text, size);
        words->n_words++;
    }
    (*place)->count++;
}

static struct words *load(const char *path)
{
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return NULL;
    struct words *words = calloc(1, sizeof *words);
    char text[256];
    size_t length = 0;
    for (int c; (c = getc(file)) != EOF || length > 0;) {
        if (c != EOF && isalnum(c) && length + 1 < sizeof text) {
            text[length++] = (char)tolower(c);
        } else if (length > 0) {
            text[length] = '\0';
            count(words, text);
            length = 0;
        }
    }
    fclose(file);
    return words;
}

int main(int argc, char **argv)
{
    char path[4096];
    mh_transaction *tx;
    mh_error err;
    if (argc < 2) {
        fprintf(stderr, "usage: words TEXT WORD...\n");
        return 2;
    }
    snprintf(path, sizeof path, "%s.magic", argv[1]);

    if (mh_open(&tx, path, NULL, &err) != MH_OK) {
        fprintf(stderr, "words: %s\n", err.detail);
        return 1;
    }
    if (!mh_was_committed(tx)) {
        fprintf(stderr, "words: reading %s: %s\n", argv[1], mh_reason(tx));
        mh_begin(tx, NULL); /* if it fails the program runs on the ordinary heap, and mh_commit says why */
        mh_set_root(tx, load(argv[1]), NULL);
        if (mh_root(tx) != NULL && mh_commit(tx, &err) != MH_OK)
            fprintf(stderr, "words: not kept for later runs: %s\n", err.detail);
    }

    struct words *words = mh_root(tx);
    if (words == NULL) {
        perror(argv[1]);
        return 1;
    }
    for (int i = 2; i < argc; i++) {
        struct word *word = *find(words, argv[i]);
        printf("%s %lu\n", argv[i], word == NULL ? 0 : word->count);
    }
    mh_close(tx);
    return 0;
}
