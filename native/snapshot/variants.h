/* variants.h - the few snapshots of one path: which one a run takes, and which one a commit replaces.
 *
 *     PATH                     the path that the user named, or that follows from the cache directory; the first commit
 *                              goes there
 *     PATH.v1 ... PATH.v7      for runs that differ from its own in an answer: locale, interpreter, terminal,
 *                              directory, ...
 *     PATH.seen                digests of the inputs of cold runs that did not commit (below)
 *
 * A run takes the first snapshot whose inputs are unchanged. A snapshot that differs in an input of the run itself
 * (is_variant of mhi_inputs_check) belongs to other runs, and is still good for them. A snapshot that differs in a file
 * is stale: it was this run's own, or no run will take it.
 *
 * A commit chooses its place under the lock of PATH, one lock for all variants, before the body runs:
 *     1. the snapshot that this run would take if it were not stale;
 *     2. PATH, if nothing is there;
 *     3. a snapshot that no run will take any more: damaged, or made of files that have changed;
 *     4. a name at which nothing is;
 *     5. the snapshot that was not taken for the longest time.
 * A file that is no snapshot is never chosen behind the first name.
 *
 * The access time of a snapshot tells when a run took it (mhi_image_stamp); a commit sets it to 0: never. These times
 * show when a commit is not worth its price. Then the run stays cold without a commit, and leaves the digest of its
 * inputs in PATH.seen; the next run with the same digest commits. Two cases:
 *     - No run took the last two snapshots at the place that was chosen: the source is being edited, again and again.
 *     - All places belong to other runs (5): every run is another variant.
 * So a first run commits, and so does the first run after a snapshot in use has gone stale. hd_n_wasted counts.
 */
#ifndef MHI_VARIANTS_H
#define MHI_VARIANTS_H
#include <limits.h>
#include <sys/stat.h>

#include "magicheap.h"

/* both arbitrary: a handful of locales times interpreters; one wasted snapshot may be chance */
enum { MHI_VARIANTS = 8, MHI_WASTED_MAX = 2 };

/* Path of number i; false if it is longer than a path may be, so that nothing is there. */
bool mhi_variant_path(char path[PATH_MAX], const char *first, int i);
/* Whether `path` is `first` or the name of one of its variants. */
bool mhi_is_variant_path(const char *path, const char *first);

/* The state of a search. The reason that is reported belongs to the variant that came furthest, of several to the one
 * used last. */
enum { MHI_ABSENT, MHI_OTHER_VARIANT, MHI_UNSOUND, MHI_GONE_STALE };
typedef struct {
    int rank;
    int64_t used_s;
    mh_error err;
} mhi_nearest;

int mhi_variant_rank(int number, const mh_error *err, bool is_variant);
void mhi_nearest_add(mhi_nearest *nearest, int rank, int64_t used_s, const mh_error *err);
/* The reason why a run takes none of the snapshots of `path`: its status; MH_ERR_SYSTEM and ENOENT if there is no
 * snapshot. */
int mhi_nearest_tell(const mhi_nearest *nearest, const char *path, mh_error *err);

/* When a run took a snapshot, or else when it was made. */
static inline int64_t mhi_used_s(const struct stat *status)
{
    return status->st_atim.tv_sec != 0 ? status->st_atim.tv_sec : status->st_mtim.tv_sec;
}

/* ---- slots.c: of the library alone ---- */

/* The file that mh_open found at one of the paths. */
typedef struct {
    int verdict;       /* MHI_SLOT_* */
    struct stat found; /* the file that was judged; st_ino 0: none */
} mhi_slot;

enum { MHI_SLOT_UNJUDGED, MHI_SLOT_OWN, MHI_SLOT_OTHER };

/* The place that a commit takes. */
typedef struct {
    int number;
    uint64_t n_wasted; /* for hd_n_wasted */
    bool is_doubtful;  /* the commit waits until two runs have had the same inputs */
} mhi_choice;

/* Under the lock of `path`. MH_ERR_BUSY: another run has committed since `slots` were judged. */
int mhi_slots_choose(mhi_choice *choice, const char *path, const mhi_slot slots[MHI_VARIANTS], mh_error *err);
/* Under the lock of `path`: whether PATH.seen has this digest; if not, adds it. True also if it can't be added. */
bool mhi_slots_saw(const char *path, uint64_t digest);

#endif
