/* maps.c - reads /proc/self/smaps, or only the first line of each mapping from /proc/self/maps.
 *
 *     55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
 *     Size:                132 kB
 *     ...
 *     VmFlags: rd wr mr mw me ac sd
 *
 * The kernel produces the mappings as they are read, so a reader that is slow, or changes mappings meanwhile, still
 * sees each address at most once.
 */
#define _GNU_SOURCE
#include "base/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "base/pages.h"
#include "base/text.h"
#include "error.h"
#include "sys/sys.h"

bool mhi_mapping_is_vdso(const mhi_mapping *mapping)
{
    return mhi_begins(mapping->name, "[vvar") || strcmp(mapping->name, "[vdso]") == 0;
}

/* ---- the first line ---- */

static uint64_t number(char **at, unsigned base)
{
    uint64_t value = 0;
    for (;; ++*at) {
        char c = **at;
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                                : base;
        if (digit >= base)
            return value;
        value = value * base + digit;
    }
}

static bool skip(char **at, char expected)
{
    bool is_there = **at == expected;
    *at += is_there;
    return is_there;
}

/* The kernel writes newlines in a path as \012, and nothing else. */
static void unescape(char *name)
{
    char *to = name;
    for (const char *from = name; *from != '\0'; to++) {
        bool is_newline = strncmp(from, "\\012", 4) == 0;
        *to = is_newline ? '\n' : *from;
        from += is_newline ? 4 : 1;
    }
    *to = '\0';
}

static bool parse_head(char *at, mhi_mapping *mapping)
{
    static const char deleted[] = " (deleted)";
    *mapping = (mhi_mapping){ .start = number(&at, 16) };
    if (!skip(&at, '-'))
        return false;
    mapping->end = number(&at, 16);
    if (!skip(&at, ' ') || strnlen(at, 5) < 5)
        return false;
    mapping->prot = (at[0] == 'r' ? PROT_READ : 0) | (at[1] == 'w' ? PROT_WRITE : 0) | (at[2] == 'x' ? PROT_EXEC : 0);
    mapping->is_shared = at[3] == 's';
    at += 5;
    mapping->offset = number(&at, 16);
    if (!skip(&at, ' '))
        return false;
    unsigned major = (unsigned)number(&at, 16);
    if (!skip(&at, ':'))
        return false;
    mapping->file.device = makedev(major, (unsigned)number(&at, 16));
    if (!skip(&at, ' '))
        return false;
    mapping->file.inode = number(&at, 10);
    at += strspn(at, " ");
    size_t length = strlen(at);
    if (mapping->file.inode != 0 && length > sizeof deleted &&
        strcmp(at + length - (sizeof deleted - 1), deleted) == 0) {
        mapping->is_deleted = true;
        at[length - (sizeof deleted - 1)] = '\0';
    }
    unescape(at);
    mapping->name = at;
    return mapping->start < mapping->end;
}

/* ---- a mapping at a time ---- */

int mhi_mappings_open(mhi_mappings *mappings, bool with_flags)
{
    mappings->used = mappings->size = 0;
    mappings->has_flags = with_flags;
    mappings->fd = mhi_sys_open(with_flags ? "/proc/self/smaps" : "/proc/self/maps", O_RDONLY, 0);
    return mappings->fd < 0 ? mappings->fd : 0;
}

void mhi_mappings_close(mhi_mappings *mappings) { mhi_sys_close(mappings->fd); }

/* The next line, NUL-terminated, of a mapping that was read completely; NULL if it was not. */
static char *next_line(mhi_mappings *mappings)
{
    char *start = mappings->text + mappings->used;
    char *end = memchr(start, '\n', mappings->size - mappings->used);
    if (end == NULL)
        return NULL;
    *end = '\0';
    mappings->used += (size_t)(end - start) + 1;
    return start;
}

static void parse_flags(const char *flags, mhi_mapping *mapping)
{
    const struct {
        char name[3];
        bool *flag;
    } known[] = {
        { "gd", &mapping->grows_down },    { "dp", &mapping->is_droppable }, { "wf", &mapping->is_wiped },
        { "dd", &mapping->is_not_dumped }, { "hg", &mapping->is_huge },      { "ht", &mapping->is_hugetlb },
        { "io", &mapping->is_device },     { "pf", &mapping->is_device },
    };
    for (flags += strspn(flags, " "); *flags != '\0'; flags += strcspn(flags, " "), flags += strspn(flags, " "))
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            if (strncmp(flags, known[i].name, 2) == 0)
                *known[i].flag = true;
}

/* Reads until the buffer holds a mapping from its first line to its last, so that its name can point into the
 * buffer. */
static int make_whole(mhi_mappings *mappings)
{
    static const char last[] = "VmFlags:";
    for (;;) {
        char *start = mappings->text + mappings->used;
        size_t left = mappings->size - mappings->used;
        char *line = mappings->has_flags ? memmem(start, left, last, sizeof last - 1) : start;
        if (left > 0 && line != NULL && memchr(line, '\n', left - (size_t)(line - start)) != NULL)
            return 1;
        if (left == sizeof mappings->text)
            return -EINVAL;
        memmove(mappings->text, start, left);
        ssize_t size = mhi_sys_read(mappings->fd, mappings->text + left, sizeof mappings->text - left);
        if (size <= 0)
            return size < 0 ? (int)size : left == 0 ? 0 : -EINVAL;
        mappings->used = 0;
        mappings->size = left + (size_t)size;
    }
}

int mhi_mappings_next(mhi_mappings *mappings, mhi_mapping *mapping)
{
    int result = make_whole(mappings);
    if (result <= 0)
        return result;
    char *line = next_line(mappings);
    if (!parse_head(line, mapping))
        return -EINVAL;
    if (!mappings->has_flags)
        return 1;
    do {
        if ((line = next_line(mappings)) == NULL)
            return -EINVAL;
    } while (strncmp(line, "VmFlags:", 8) != 0);
    parse_flags(line + 8, mapping);
    return 1;
}

int mhi_mapping_of_path(mhi_file_id *file, const char *path, void *page, mhi_mappings *mappings)
{
    mhi_mapping mapping = { 0 };
    int fd = mhi_sys_open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    int result = fd < 0 ? fd : mhi_sys_mmap(&page, page, MHI_PAGE, PROT_NONE, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, 0);
    if (fd >= 0)
        mhi_sys_close(fd);
    if (result < 0)
        return result;
    if ((result = mhi_mappings_open(mappings, false)) == 0) {
        while ((result = mhi_mappings_next(mappings, &mapping)) == 1 && mapping.start != (uintptr_t)page)
            continue;
        mhi_mappings_close(mappings);
    }
    mhi_sys_munmap(page, MHI_PAGE);
    *file = mapping.file;
    return result == 1 ? 0 : result < 0 ? result : -ENOENT;
}

/* ---- all at once ---- */

/* The whole file, NUL-terminated; a few reads, since a read returns at most a page of lines. */
static int read_text(char **text, size_t *size_bytes)
{
    size_t capacity = 1 << 16, used = 0; /* enough for some 500 mappings, a usual process; grows */
    char *buffer = malloc(capacity);
    int fd = mhi_sys_open("/proc/self/maps", O_RDONLY, 0);
    ssize_t n = fd < 0 ? fd : buffer == NULL ? -ENOMEM : 1;
    while (n > 0) {
        if (capacity - used < 2 * MHI_PAGE) {
            char *larger = realloc(buffer, capacity *= 2);
            if (larger == NULL) {
                n = -ENOMEM;
                break;
            }
            buffer = larger;
        }
        n = mhi_sys_read(fd, buffer + used, capacity - used - 1);
        used += n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0)
        mhi_sys_close(fd);
    if (n < 0) {
        free(buffer);
        return (int)n;
    }
    buffer[used] = '\0';
    *text = buffer;
    *size_bytes = used;
    return 0;
}

int mhi_maps_read(mhi_maps *maps, mh_error *err)
{
    *maps = (mhi_maps){ 0 };
    size_t size_bytes = 0, n_lines = 0;
    int result = read_text(&maps->text, &size_bytes);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot read /proc/self/maps");
    for (size_t i = 0; i < size_bytes; i++)
        n_lines += maps->text[i] == '\n';
    maps->items = calloc(n_lines + 1, sizeof *maps->items);
    if (maps->items == NULL) {
        mhi_maps_release(maps);
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for the list of mappings");
    }
    char *rest = maps->text;
    for (char *line; (line = strsep(&rest, "\n")) != NULL;)
        if (maps->n_items < n_lines && parse_head(line, &maps->items[maps->n_items]))
            maps->n_items++;
    return MH_OK;
}

void mhi_maps_release(mhi_maps *maps)
{
    free(maps->items);
    free(maps->text);
    *maps = (mhi_maps){ 0 };
}

const mhi_mapping *mhi_maps_find(const mhi_maps *maps, uint64_t address)
{
    size_t low = 0, high = maps->n_items;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (address >= maps->items[middle].end)
            low = middle + 1;
        else
            high = middle;
    }
    return low < maps->n_items && address >= maps->items[low].start ? &maps->items[low] : NULL;
}
