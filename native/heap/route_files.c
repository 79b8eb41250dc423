/* route_files.c - notes the files that libraries open, since a snapshot is stale when one of those that were read changes.
 *
 * open may be called by any thread and by signal handlers, so notes are taken without locks or allocation: absolute paths, under
 * the name that was opened (not where a symbolic link led: the link may be turned elsewhere later), and what the file was when it was
 * first opened, so that a change that comes while it is still being loaded is not missed.
 *
 * Files that were created, emptied or only written are noted too: what is output stays output when it is read afterwards.
 * Whether a file that was read is one that the body has changed, or somebody else, its later openings tell.
 */
#define _GNU_SOURCE
#include "heap/route_files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>

#include "heap/route.h"
#include "heap/route_calls.h"
#include "heap/route_entropy.h"
#include "sys/sys.h"

enum { FILES_MAX = 4096, OUTPUTS_MAX = FILES_MAX / 2, /* no file that is output takes a place behind this: they must not crowd out what is read */
       POOL_BYTES = 1 << 20 /* 256 bytes for each of FILES_MAX paths; untouched pages cost nothing */ };

int (*mhi_real_open)(const char *, int, ...) = open;
int (*mhi_real_openat)(int, const char *, int, ...) = openat;
FILE *(*mhi_real_fopen)(const char *, const char *) = fopen;

static char pool[POOL_BYTES];          /* the paths, one after the other */
static mhi_opened files[FILES_MAX];    /* in the order of their first opening */
static atomic_uint hashes[FILES_MAX];  /* of their paths, never 0; stored last: 0 is a file that a thread is just entering */
static atomic_uint n_files, pool_used, n_lost; /* n_files may run past FILES_MAX */
static atomic_bool is_noting;

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t hash_path(const char *path)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *path != '\0'; path++)
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    return hash | 1;
}

static const char *copy_to_pool(const char *path)
{
    uint32_t size = (uint32_t)strlen(path) + 1; /* at most PATH_MAX */
    uint32_t used = atomic_load(&pool_used);
    do
        if (POOL_BYTES - used < size)
            return NULL;
    while (!atomic_compare_exchange_weak(&pool_used, &used, used + size));
    return memcpy(pool + used, path, size);
}

/* Two threads that open the same path at once may both enter it: it then counts twice, as two paths of one file do. */
static void add_path(const char *path, const struct stat *found, unsigned uses)
{
    uint32_t hash = hash_path(path), n = smaller(atomic_load(&n_files), FILES_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&hashes[i]) == hash && strcmp(files[i].path, path) == 0) {
            if (uses != 0)
                atomic_fetch_or(&files[i].uses, MHI_FILE_CHANGED);
            return;
        }
    bool is_output = uses & MHI_FILE_OUTPUT;
    const char *copy = n < (is_output ? OUTPUTS_MAX : FILES_MAX) ? copy_to_pool(path) : NULL;
    uint32_t i = copy == NULL ? FILES_MAX : atomic_fetch_add(&n_files, 1);
    if (i < FILES_MAX) {
        files[i].path = copy;
        files[i].found = *found;
        atomic_store(&files[i].uses, uses);
        atomic_store(&hashes[i], hash);
    } else if (!is_output) {
        atomic_fetch_add(&n_lost, 1);
    }
}

/* `path` as seen from a directory descriptor or AT_FDCWD; false if it can't be told. */
static bool make_absolute(char *absolute, int directory, const char *path)
{
    char link[64] = "/proc/self/cwd", base[PATH_MAX] = "";
    if (directory != AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    if (path[0] != '/' && mhi_sys_readlink(link, base, sizeof base) < 0)
        return false;
    return snprintf(absolute, PATH_MAX, path[0] == '/' ? "%s%s" : "%s/%s", base, path) < PATH_MAX;
}

static void note(int fd, int directory, const char *path, unsigned uses)
{
    int saved_errno = errno;
    struct stat found;
    char absolute[PATH_MAX];
    if (mhi_sys_fstat(fd, &found) == 0 && S_ISREG(found.st_mode)) {
        if (make_absolute(absolute, directory, path))
            add_path(absolute, &found, uses);
        else
            atomic_fetch_add(&n_lost, 1);
    }
    errno = saved_errno;
}

static bool is_noted(void) { return atomic_load_explicit(&is_noting, memory_order_relaxed); }

static unsigned uses_of(int flags)
{
    if (flags & (O_CREAT | O_TRUNC) || (flags & O_ACCMODE) == O_WRONLY)
        return MHI_FILE_OUTPUT;
    return (flags & O_ACCMODE) == O_RDWR ? MHI_FILE_CHANGED : 0;
}

/* Inlined, so that the return address is that of the replacement. */
static inline __attribute__((always_inline)) int noted(int fd, int directory, const char *path, int flags)
{
    if (fd >= 0)
        mhi_entropy_opened(path, __builtin_return_address(0));
    if (fd >= 0 && is_noted() && !(flags & (O_PATH | O_DIRECTORY)))
        note(fd, directory, path, uses_of(flags));
    return fd;
}

#define MODE_ARGUMENT(mode, flags)                                          \
    mode_t mode = 0;                                                        \
    if ((flags) & O_CREAT || ((flags) & O_TMPFILE) == O_TMPFILE) {          \
        va_list arguments;                                                  \
        va_start(arguments, flags);                                         \
        mode = va_arg(arguments, mode_t);                                   \
        va_end(arguments);                                                  \
    }

int mhi_routed_open(const char *path, int flags, ...)
{
    MODE_ARGUMENT(mode, flags)
    return noted(mhi_real_open(path, flags, mode), AT_FDCWD, path, flags);
}

int mhi_routed_openat(int directory, const char *path, int flags, ...)
{
    MODE_ARGUMENT(mode, flags)
    return noted(mhi_real_openat(directory, path, flags, mode), directory, path, flags);
}

int mhi_routed_open_2(const char *path, int flags) { return noted(mhi_real_open(path, flags), AT_FDCWD, path, flags); }

int mhi_routed_openat_2(int directory, const char *path, int flags)
{
    return noted(mhi_real_openat(directory, path, flags), directory, path, flags);
}

FILE *mhi_routed_fopen(const char *path, const char *mode)
{
    FILE *file = mhi_real_fopen(path, mode);
    if (file != NULL)
        mhi_entropy_opened(path, __builtin_return_address(0));
    if (file != NULL && is_noted())
        note(fileno(file), AT_FDCWD, path, mode[0] != 'r' ? MHI_FILE_OUTPUT : strchr(mode, '+') != NULL ? MHI_FILE_CHANGED : 0);
    return file;
}

void mhi_files_begin(void)
{
    memset(hashes, 0, smaller(n_files, FILES_MAX) * sizeof *hashes); /* not all of them: untouched pages stay untouched */
    n_files = pool_used = n_lost = 0;
    atomic_store(&is_noting, true);
}

void mhi_files_end(void) { atomic_store(&is_noting, false); }

void mhi_route_mark_output(const struct stat *found)
{
    for (uint32_t i = 0; i < mhi_route_opened_count(); i++)
        if (mhi_route_opened(i) != NULL && files[i].found.st_ino == found->st_ino && files[i].found.st_dev == found->st_dev)
            atomic_fetch_or(&files[i].uses, MHI_FILE_OUTPUT);
}

uint32_t mhi_route_opened_count(void) { return smaller(n_files, FILES_MAX); }
const mhi_opened *mhi_route_opened(uint32_t i) { return i < FILES_MAX && atomic_load(&hashes[i]) != 0 ? &files[i] : NULL; }
uint32_t mhi_route_opened_lost(void) { return n_lost; }
