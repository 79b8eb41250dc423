/* variants.h - the few snapshots of one path: which one a run takes, and which one a commit replaces.
 *
 *     PATH                     what the user named, or the cache directory chose; the first commit goes there
 *     PATH.v1 ... PATH.v7      for runs that differ from its own in an answer: locale, interpreter, terminal,
 *                              directory, ...
 *     PATH.seen                digests of what cold runs found that did not commit (below)
 *
 * A run takes the first of them whose inputs are as they were. A snapshot that differs in an input by which runs differ
 * (mhi_inputs_check's is_variant) is another run's, and as good as ever; one that differs in a file is this run's own,
 * gone stale, or else nobody's.
 *
 * A commit chooses under the lock of PATH, of which there is one for all of them, before the body runs:
 *     1. what this run itself would take, if it were not stale;
 *     2. PATH, if there is nothing;
 *     3. one that no run will take any more: damaged, or made of files that have changed;
 *     4. a name at which there is nothing;
 *     5. that which was not taken for the longest time.
 * A file that is no snapshot is never chosen behind the first name.
 *
 * The access time of a snapshot tells when a run took it (mhi_image_stamp); a commit sets it to 0: never. From that
 * follows when a commit is not worth its price: the run is cold as a plain one, leaves what it found in PATH.seen, and
 * the next one that finds the same commits.
 *     - No run took the last two snapshots at the place that was chosen: the source is being edited, again and again.
 *     - All places are other runs' (5): every run is another variant.
 * So a first run commits, as does the first one behind a change of what was used. hd_n_wasted counts.
 */
#ifndef MHI_VARIANTS_H
#define MHI_VARIANTS_H
#include <limits.h>
#include <sys/stat.h>

#include "magicheap.h"

/* arbitrary: a handful of locales times interpreters; and as often as it may be chance */
enum { MHI_VARIANTS = 8, MHI_WASTED_MAX = 2 };

/* Path of number i; false if it is longer than a path may be, so that nothing is there. */
bool mhi_variant_path(char path[PATH_MAX], const char *first, int i);
/* Whether `path` is `first` or the name of one of its variants. */
bool mhi_is_variant_path(const char *path, const char *first);

/* What became of a search so far: what is told is of that which came furthest, of several variants of that which was
 * used last. */
enum { MHI_ABSENT, MHI_OTHER_VARIANT, MHI_UNSOUND, MHI_GONE_STALE };
typedef struct {
    int rank;
    int64_t used_s;
    mh_error err;
} mhi_nearest;

int mhi_variant_rank(int number, const mh_error *err, bool is_variant);
void mhi_nearest_add(mhi_nearest *nearest, int rank, int64_t used_s, const mh_error *err);
/* The reason why a run takes none of the snapshots of `path`: its status; MH_ERR_SYSTEM and ENOENT where there is none.
 * */
int mhi_nearest_tell(const mhi_nearest *nearest, const char *path, mh_error *err);

/* When a run took a snapshot, or else when it was made. */
static inline int64_t mhi_used_s(const struct stat *status)
{
    return status->st_atim.tv_sec != 0 ? status->st_atim.tv_sec : status->st_mtim.tv_sec;
}

/* ---- slots.c: of the library alone ---- */

/* What a run found at one of the paths as it opened. */
typedef struct {
    int verdict;       /* MHI_SLOT_* */
    struct stat found; /* what was judged; st_ino 0: nothing */
} mhi_slot;

enum { MHI_SLOT_UNJUDGED, MHI_SLOT_OWN, MHI_SLOT_OTHER };

/* What is to be replaced. */
typedef struct {
    int number;
    uint64_t n_wasted; /* for hd_n_wasted */
    bool is_doubtful;  /* the commit is to wait until two runs have found the same */
} mhi_choice;

/* Under the lock of `path`. MH_ERR_BUSY: another run has committed since `slots` were judged. */
int mhi_slots_choose(mhi_choice *choice, const char *path, const mhi_slot slots[MHI_VARIANTS], mh_error *err);
/* Under the lock of `path`: whether a run that found this was here before; else notes that one was. True also where
 * that can't be noted. */
bool mhi_slots_saw(const char *path, uint64_t digest);

#endif
