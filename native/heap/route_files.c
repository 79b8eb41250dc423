/* route_files.c - notes the files that routed libraries open for reading, since a snapshot is stale when one of them changes.
 *
 * open may be called by any thread and by signal handlers, so notes are taken without locks or allocation: absolute paths, under
 * the name that was opened (not where a symbolic link led: the link may be turned elsewhere later). A file that was opened in a way
 * that creates or empties it is output and not noted.
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
#include "sys/sys.h"

enum { FILES_MAX = 4096, TABLE_SIZE = 4 * FILES_MAX, /* never near full, even when many threads pass the maximum at once */
       POOL_BYTES = 1 << 20 /* 256 bytes for each of FILES_MAX paths; untouched pages cost nothing */ };

int (*mhi_real_open)(const char *, int, ...) = open;
int (*mhi_real_openat)(int, const char *, int, ...) = openat;
FILE *(*mhi_real_fopen)(const char *, const char *) = fopen;

static char pool[POOL_BYTES];                 /* the paths, one after the other */
static const char *_Atomic table[TABLE_SIZE]; /* by hash; open addressing */
static const char *_Atomic paths[FILES_MAX];  /* in the order of their first opening */
static atomic_uint pool_used, n_paths, n_lost;

static uint32_t hash_path(const char *path)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (; *path != '\0'; path++)
        hash = (hash ^ (unsigned char)*path) * 16777619u;
    return hash;
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

/* Two threads may copy the same path at once: one of them enters it, the other's copy is wasted. */
static void add_path(const char *path)
{
    const char *copy = NULL, *entry;
    for (uint32_t i = hash_path(path) % TABLE_SIZE;; i = (i + 1) % TABLE_SIZE) {
        if ((entry = atomic_load(&table[i])) == NULL) {
            if (copy == NULL && atomic_load(&n_paths) < FILES_MAX)
                copy = copy_to_pool(path);
            if (copy == NULL)
                break;
            if (atomic_compare_exchange_strong(&table[i], &entry, copy)) {
                uint32_t n = atomic_fetch_add(&n_paths, 1);
                if (n < FILES_MAX) {
                    atomic_store(&paths[n], copy);
                    return;
                }
                break;
            }
        }
        if (strcmp(entry, path) == 0)
            return;
    }
    atomic_fetch_add(&n_lost, 1);
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

static void note(int fd, int directory, const char *path)
{
    int saved_errno = errno;
    struct stat info;
    char absolute[PATH_MAX];
    if (mhi_sys_fstat(fd, &info) == 0 && S_ISREG(info.st_mode)) {
        if (make_absolute(absolute, directory, path))
            add_path(absolute);
        else
            atomic_fetch_add(&n_lost, 1);
    }
    errno = saved_errno;
}

static bool is_noted(void) { return atomic_load_explicit(&mhi_route_target, memory_order_relaxed) != NULL; }
static bool is_input(int flags) { return (flags & O_ACCMODE) != O_WRONLY && !(flags & (O_CREAT | O_TRUNC | O_PATH | O_DIRECTORY)); }

static int noted(int fd, int directory, const char *path, int flags)
{
    if (fd >= 0 && is_noted() && is_input(flags))
        note(fd, directory, path);
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
    if (file != NULL && is_noted() && mode[0] == 'r')
        note(fileno(file), AT_FDCWD, path);
    return file;
}

void mhi_files_reset(void)
{
    memset(table, 0, sizeof table);
    memset(paths, 0, sizeof paths);
    pool_used = n_paths = n_lost = 0;
}

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

uint32_t mhi_route_opened_count(void) { return smaller(n_paths, FILES_MAX); }
const char *mhi_route_opened_path(uint32_t i) { return i < FILES_MAX ? paths[i] : NULL; }
uint32_t mhi_route_opened_lost(void) { return n_lost; }
