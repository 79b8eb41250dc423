/* key.h - the text that a caller ties a snapshot to.
 *
 * A key that begins with a newline is made of parts, each "\n<label>=<item>\t<item>...", in one order; so that a
 * message can name the part that differs, and its item. Newline, tab and backslash of an item are \n, \t and \\. Any
 * other key is one text.
 */
#ifndef MHI_KEY_H
#define MHI_KEY_H
#include <stdbool.h>

#include "magicheap.h"

/* Where in the program a transaction is: this part changes when the source is edited. Always the last part. */
#define MHI_KEY_PLACE "place"

/* What the program brings to the place (its variables), in the part directly before it: for a run that reaches the
 * place by itself. */
#define MHI_KEY_BROUGHT "brought"

/* MH_OK, or MH_ERR_STALE with a sentence for users about the first difference from the snapshot's key, `was`. */
int mhi_key_check(const char *was, const char *is, mh_error *err);
/* Whether two keys are of the same run, perhaps of another state of the source: they differ at most in the place and in
 * what is brought there. */
bool mhi_key_is_moved(const char *was, const char *is);
/* Whether two keys differ at most in what is brought: the questions that were asked on the way to the place tell the
 * snapshots apart. */
bool mhi_key_is_same_place(const char *a, const char *b);

#endif
