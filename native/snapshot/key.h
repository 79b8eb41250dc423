/* key.h - what a caller ties a snapshot to, as a text.
 *
 * A key that begins with a newline is made of parts, each "\n<label>=<item>\t<item>...", in one order; so that what
 * differs can be told by name, and item by item. Newline, tab and backslash of an item are \n, \t and \\. Any other key
 * is one text.
 */
#ifndef MHI_KEY_H
#define MHI_KEY_H
#include <stdbool.h>

#include "magicheap.h"

/* Where in the program a transaction is: it moves when its source is edited. Always the last part. */
#define MHI_KEY_PLACE "place"

/* What the program brings to the place, directly before it: for a run that comes there by itself. */
#define MHI_KEY_BROUGHT "brought"

/* MH_OK, or MH_ERR_STALE saying in a user's words what is another than in the snapshot's key, `was`. */
int mhi_key_check(const char *was, const char *is, mh_error *err);
/* Whether two keys are of the same run of, perhaps, another state of the source: they differ in the place, and what is
 * brought there, and in nothing else. */
bool mhi_key_is_moved(const char *was, const char *is);
/* Whether two keys differ at most in what is brought: the questions that were asked on the way there tell which is
 * meant. */
bool mhi_key_is_same_place(const char *a, const char *b);

#endif
