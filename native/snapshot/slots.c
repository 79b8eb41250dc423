/* slots.c - chooses which snapshot a commit replaces, and whether the commit is worth its price: the rules of
 * variants.h.
 *
 * Other runs may have changed the files since this run judged them: under the lock, each file is examined again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/identity.h"
#include "error.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "snapshot/variants.h"
#include "sys/sys.h"

/* In the order of preference. */
enum { OWN, EMPTY_FIRST, USELESS, EMPTY, OTHER, FOREIGN };

typedef struct {
    int is;
    int64_t used_s;
    uint64_t n_wasted; /* hd_n_wasted of a snapshot that replaces it */
} place;

static bool is_same(const struct stat *was, const struct stat *is)
{
    mhi_file_state before = mhi_file_state_of(was), now = mhi_file_state_of(is);
    return mhi_is_unwritten(&before, &now);
}

/* True also for a file that can't be read at this moment. */
static bool may_be_snapshot(const char *path)
{
    uint8_t magic[sizeof MHI_MAGIC] = { 0 };
    int fd = mhi_image_look(path);
    int result = fd < 0 ? fd : mhi_sys_pread_all(fd, magic, sizeof magic, 0);
    if (fd >= 0)
        mhi_sys_close(fd);
    return result == 0 ? memcmp(magic, MHI_MAGIC, sizeof magic) == 0 : result != -ENODATA && result != -ELOOP;
}

/* Judges a snapshot by its inputs, and reads how often it was wasted; one that can't be read counts as never wasted. */
static void judge_snapshot(place *p, const char *path, int verdict)
{
    struct mh_image *image;
    mh_error err;
    int status = mhi_image_open(&image, path, true, &err);
    bool is_useless = status == MH_OK ? mhi_inputs_are_gone(image) : status != MH_ERR_SYSTEM;
    p->is = verdict == MHI_SLOT_OWN ? OWN : is_useless ? USELESS : OTHER;
    p->n_wasted = 0;
    if (status == MH_OK && image->status.st_atim.tv_sec == 0)
        p->n_wasted = image->header.hd_n_wasted + 1 == 0 ? 1 : image->header.hd_n_wasted + 1;
    mh_image_close(image);
}

/* False: another run has changed the file since. */
static bool look(place *p, int number, const char *path, const mhi_slot *slot)
{
    struct stat found;
    int result = mhi_sys_lstat(path, &found);
    *p = (place){ .is = number == 0 ? EMPTY_FIRST : EMPTY };
    if (result < 0) {
        /* a file that can't be examined counts as foreign; if none can, the attempt to write will fail with the
         * reason */
        p->is = result == -ENOENT ? p->is : FOREIGN;
        return true;
    }
    bool is_ours = S_ISREG(found.st_mode) && may_be_snapshot(path);
    if (!is_ours) {
        p->is = number == 0 ? USELESS : FOREIGN;
        return true;
    }
    if (!is_same(&slot->found, &found))
        return false;
    p->used_s = mhi_used_s(&found);
    judge_snapshot(p, path, slot->verdict);
    return true;
}

static bool is_better(const place *a, const place *b)
{
    return a->is != b->is ? a->is < b->is : a->is == OTHER && a->used_s < b->used_s;
}

int mhi_slots_choose(mhi_choice *choice, const char *path, const mhi_slot slots[MHI_VARIANTS], mh_error *err)
{
    char each[PATH_MAX];
    place best = { .is = FOREIGN };
    *choice = (mhi_choice){ 0 };
    for (int i = 0; i < MHI_VARIANTS; i++) {
        place p;
        if (!mhi_variant_path(each, path, i))
            continue;
        if (!look(&p, i, each, &slots[i]))
            return mhi_fail(err, MH_ERR_BUSY, 0, "another run has committed %s since this one began", each);
        if (is_better(&p, &best)) {
            best = p;
            choice->number = i;
        }
    }
    choice->n_wasted = best.n_wasted;
    choice->is_doubtful = best.is == OTHER || best.n_wasted >= MHI_WASTED_MAX;
    return MH_OK;
}

/* ---- digests of cold runs ---- */

enum { SEEN_MAX = 16 }; /* arbitrary: two rounds of variants */

/* The content of PATH.seen. */
typedef struct {
    uint8_t magic[8];
    uint64_t digests[SEEN_MAX]; /* the latest first; 0: none */
} notes;

static const uint8_t notes_magic[8] = "\x89MHseen";

static int read_notes(notes *n, int fd)
{
    struct stat found;
    int result = mhi_sys_fstat(fd, &found);
    *n = (notes){ 0 };
    if (result < 0 || !S_ISREG(found.st_mode))
        return result < 0 ? result : -EINVAL;
    if (found.st_size != 0)
        result = (size_t)found.st_size != sizeof *n ? -EINVAL : mhi_sys_pread_all(fd, n, sizeof *n, 0);
    if (result == 0 && found.st_size != 0 && memcmp(n->magic, notes_magic, sizeof n->magic) != 0)
        return -EINVAL; /* a foreign file */
    memcpy(n->magic, notes_magic, sizeof n->magic);
    return result;
}

bool mhi_slots_saw(const char *path, uint64_t digest)
{
    char name[PATH_MAX];
    size_t length = strlen(path);
    if (length + sizeof ".seen" > sizeof name)
        return true;
    strcat(strcpy(name, path), ".seen");
    int fd = mhi_sys_open(name, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK, 0600);
    notes n;
    if (fd < 0 || read_notes(&n, fd) < 0) {
        if (fd >= 0)
            mhi_sys_close(fd);
        return true;
    }
    size_t at = 0;
    while (at < SEEN_MAX - 1 && n.digests[at] != digest)
        at++;
    bool is_seen = n.digests[at] == digest;
    memmove(n.digests + 1, n.digests, at * sizeof *n.digests);
    n.digests[0] = digest;
    int result = mhi_sys_pwrite_all(fd, &n, sizeof n, 0);
    mhi_sys_close(fd);
    return is_seen || result < 0;
}
