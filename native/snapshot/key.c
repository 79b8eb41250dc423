/* key.c - compares keys part by part. */
#include "snapshot/key.h"

#include <string.h>

#include "error.h"

enum { SHOWN = 120 }; /* bytes of an item; two of them and their words fit into an mh_error */

/* The words about a part: before this run's item, before the snapshot's, and behind each. */
typedef struct { const char *label, *now, *then, *end; } words;

static const words sentences[] = {
    { "program", "the program is ", "that of the snapshot is ", "" },
    { "interpreter", "run by ", "the snapshot was made by ", "" },
    { "options", "run with the interpreter's option ", "the snapshot was made with ", "" },
    { "directory", "run from ", "the snapshot was made in ", "" },
    { "path", "sys.path has ", "where that of the snapshot has ", "" },
    { MHI_KEY_BROUGHT, "at its with this run has the variable and digest ", "that of the snapshot had ", "" },
    { MHI_KEY_PLACE, "the transaction is reached at ", "that of the snapshot at ", "" },
    { "key", "the key is '", "the snapshot's is '", "'" },
};

static const words *words_of(const char *part)
{
    const size_t n = sizeof sentences / sizeof *sentences;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t length = strlen(sentences[i].label);
        if (strncmp(part, sentences[i].label, length) == 0 && part[length] == '=')
            return &sentences[i];
    }
    return &sentences[n - 1];
}

/* The first byte of the item that holds the first difference of two texts. */
static size_t first_difference(const char *was, const char *is, const char *separators)
{
    size_t item = 0;
    for (size_t i = 0; was[i] == is[i] && is[i] != '\0'; i++)
        if (strchr(separators, is[i]) != NULL)
            item = i + 1;
    return item;
}

static bool is_end(char byte) { return byte == '\t' || byte == '\n' || byte == '\0'; }

static int tell(const words *w, const char *was, const char *is, const char *end, const char *before, mh_error *err)
{
    size_t n_was = strcspn(was, end), n_is = strcspn(is, end);
    const char *no_was = n_was == 0 && *w->end == '\0' ? "nothing" : "",
               *no_is = n_is == 0 && *w->end == '\0' ? "nothing" : "";
    return mhi_fail(err, MH_ERR_STALE, 0, "%s%s%.*s%s%s, %s%s%.*s%s%s", w->now, before,
                    (int)(n_is < SHOWN ? n_is : SHOWN), is, no_is, w->end, w->then, before,
                    (int)(n_was < SHOWN ? n_was : SHOWN), was, no_was, w->end);
}

int mhi_key_check(const char *was, const char *is, mh_error *err)
{
    if (strcmp(was, is) == 0)
        return MH_OK;
    const words *plain = &sentences[sizeof sentences / sizeof *sentences - 1];
    if (*was != '\n' || *is != '\n') {
        size_t word = first_difference(was, is, " ");
        return tell(plain, was + word, is + word, "", word == 0 ? "" : "... ", err);
    }
    size_t part = first_difference(was, is, "\n");
    const words *w = words_of(is + part);
    bool is_same_label = words_of(was + part) == w;
    size_t label = w == plain ? strcspn(is + part, "=\n") : strlen(w->label);
    if (!is_same_label || is[part + label] != '=' || strlen(was + part) <= label)
        return mhi_fail(err, MH_ERR_STALE, 0,
                        "the key is of another form than the snapshot's: another version of magicheap made it");
    const char *x = was + part + label + 1, *y = is + part + label + 1;
    if (w == plain)
        return tell(w, x, y, "\n", "", err);
    size_t item = first_difference(x, y, "\t"), same = 0;
    while (x[same] == y[same] && x[same] != '\0')
        same++;
    if (is_end(x[same]) && is_end(y[same])) /* one text has an item more */
        return tell(w, x + same + (x[same] == '\t'), y + same + (y[same] == '\t'), "\t\n", "", err);
    return tell(w, x + item, y + item, "\t\n", "", err);
}

static bool is_part(const char *text, const char *label)
{
    size_t length = strlen(label);
    return strncmp(text, label, length) == 0 && text[length] == '=';
}

bool mhi_key_is_moved(const char *was, const char *is)
{
    if (*was != '\n' || *is != '\n')
        return false;
    size_t part = first_difference(was, is, "\n");
    const char *x = was + part, *y = is + part;
    return (is_part(x, MHI_KEY_BROUGHT) || is_part(x, MHI_KEY_PLACE)) &&
           (is_part(y, MHI_KEY_BROUGHT) || is_part(y, MHI_KEY_PLACE));
}

/* The text behind the part MHI_KEY_BROUGHT; the whole text if it has no such part. */
static const char *skip_brought(const char *text)
{
    return is_part(text, MHI_KEY_BROUGHT) ? text + strcspn(text, "\n") + 1 : text;
}

bool mhi_key_is_same_place(const char *a, const char *b)
{
    size_t part = first_difference(a, b, "\n");
    return strcmp(a, b) == 0 || (part > 0 && strcmp(skip_brought(a + part), skip_brought(b + part)) == 0);
}
