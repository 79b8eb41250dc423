/* answers.c - see answers.h. */
#define _GNU_SOURCE
#include "snapshot/answers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "magicheap.h"
#include "snapshot/checksum.h"
#include "sys/sys.h"

#define N_GROUPS 256 /* groups that are told apart; more than any user is in. Arbitrary */

int mhi_answer_place(char *path, size_t size) { return mhi_sys_realpath(".", path, size); }

uint64_t mhi_answer_terminal_size(int fd)
{
    uint32_t columns, rows;
    return mhi_sys_terminal_size(fd, &columns, &rows) < 0 ? 0 : (uint64_t)columns << 16 | rows;
}

int mhi_answer_host(bool with_name, uint64_t *digest)
{
    char name[MHI_SYS_HOST_BYTES];
    int result = mhi_sys_host(name);
    if (!with_name)
        memset(name + MHI_SYS_HOST_BYTES / 5, 0, MHI_SYS_HOST_BYTES / 5); /* the second of the five */
    *digest = result < 0 ? 0 : mhi_checksum(name, sizeof name);
    return result;
}

uint64_t mhi_answer_user(void) { return mhi_sys_uid() | (uint64_t)mhi_sys_euid() << 32; }

uint64_t mhi_answer_groups(void)
{
    gid_t groups[N_GROUPS + 2];
    int n = mhi_sys_groups(groups, N_GROUPS + 2);
    uint64_t digest = n < 0 ? 0 : mhi_checksum((const char *)groups, 2 * sizeof *groups);
    for (int i = 2; i < n; i++)
        digest += mhi_checksum((const char *)&groups[i], sizeof *groups);
    return digest;
}

uint64_t mhi_answer_rights(const char *path)
{
    static const int rights[] = { R_OK, W_OK, X_OK };
    uint64_t granted = 0;
    for (size_t i = 0; i < sizeof rights / sizeof *rights; i++)
        granted |= mhi_sys_access(path, rights[i]) == 0 ? (uint64_t)rights[i] : 0;
    return granted;
}

uint64_t mhi_answer_arguments(const char *const *arguments)
{
    uint64_t digest = 1;
    for (; arguments != NULL && *arguments != NULL; arguments++)
        /* the digest depends on the order */
        digest = (digest << 7 | digest >> 57) * 0x9e3779b97f4a7c15 + mhi_checksum(*arguments, strlen(*arguments));
    return digest;
}

/* ---- listings ---- */

typedef enum { UNKNOWN, FOUND, IN_VAIN } sought;

/* `modules` is a text of names, each followed by a slash, or by ?/ if the search failed. */
static sought how_sought(const char *modules, const char *stem, size_t length)
{
    for (const char *at = modules; *at != '\0';) {
        size_t n = strcspn(at, "/");
        bool is_in_vain = n > 0 && at[n - 1] == '?';
        if (n - is_in_vain == length && memcmp(at, stem, length) == 0)
            return is_in_vain ? IN_VAIN : FOUND;
        at += n + (at[n] == '/');
    }
    return UNKNOWN;
}

static bool is_package(const char *directory, const char *name)
{
    char path[PATH_MAX];
    struct stat found;
    return snprintf(path, sizeof path, "%s/%s/__init__.py", directory, name) < (int)sizeof path &&
           mhi_sys_stat(path, &found) == 0;
}

/* Whether a directory entry can affect an import of one of these modules: a source, bytecode or extension module; a
 * package, or any directory if the search for the module failed; a .pth file. */
static bool is_importable(const char *directory, const char *name, const char *modules)
{
    size_t stem = strcspn(name, ".");
    bool is_bare = name[stem] == '\0',
         may_be = is_bare || mhi_ends(name, ".py") || mhi_ends(name, ".pyc") || mhi_ends(name, ".so");
    sought how = may_be ? how_sought(modules, name, stem) : UNKNOWN;
    return mhi_ends(name, ".pth") || how == IN_VAIN || (how == FOUND && (!is_bare || is_package(directory, name)));
}

static bool is_self(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strcmp(name, "__pycache__") == 0;
}

static bool is_metadata(const char *name)
{
    return mhi_ends(name, ".dist-info") || mhi_ends(name, ".egg-info") || mhi_ends(name, ".egg") ||
           mhi_ends(name, ".egg-link");
}

static bool is_wanted(const char *directory, const char *name, uint64_t which, const char *modules)
{
    if (which == MH_LISTING_METADATA)
        return is_metadata(name);
    return !is_self(name) &&
           (which == MH_LISTING_ALL || is_importable(directory, name, modules == NULL ? "" : modules));
}

int mhi_answer_listing(const char *path, uint64_t which, const char *modules, uint64_t *digest)
{
    _Alignas(struct dirent64) char entries[8192];
    int fd = mhi_sys_open(path, O_RDONLY | O_DIRECTORY, 0);
    ssize_t size = fd < 0 ? fd : 1;
    *digest = 1;
    while (size > 0 && (size = mhi_sys_read_directory(fd, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < size; at += ((const struct dirent64 *)(entries + at))->d_reclen) {
            const char *name = ((const struct dirent64 *)(entries + at))->d_name;
            if (is_wanted(path, name, which, modules))
                /* a sum, so that the order of the entries does not count */
                *digest += mhi_checksum(name, strlen(name));
        }
    if (fd >= 0)
        mhi_sys_close(fd);
    return size < 0 ? (int)size : 0;
}

int mhi_answer_target(const char *path, uint64_t *digest)
{
    char target[PATH_MAX];
    ssize_t length = mhi_sys_readlink(path, target, sizeof target);
    *digest = length < 0 ? 0 : mhi_checksum(target, (size_t)length);
    return length < 0 ? (int)length : 0;
}
