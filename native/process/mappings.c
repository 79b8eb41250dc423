/* mappings.c - reads /proc/self/smaps.
 *
 *     55d0c0000000-55d0c0021000 rw-p 00000000 00:00 0                          [heap]
 *     Size:                132 kB
 *     ...
 *     VmFlags: rd wr mr mw me ac sd
 *
 * The kernel writes the mappings as it is asked for them, so a reader that is slow, or changes mappings meanwhile,
 * still sees each address at most once.
 */
#define _GNU_SOURCE
#include "process/mappings.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysmacros.h>

#include "sys/sys.h"

int mhi_mappings_open(mhi_mappings *mappings)
{
    mappings->used = mappings->size = 0;
    mappings->fd = mhi_sys_open("/proc/self/smaps", O_RDONLY, 0);
    return mappings->fd < 0 ? mappings->fd : 0;
}

void mhi_mappings_close(mhi_mappings *mappings) { mhi_sys_close(mappings->fd); }

/* The next line, NUL-terminated, of a mapping that is wholly there; NULL if it is not. */
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
    mapping->device = makedev(major, (unsigned)number(&at, 16));
    if (!skip(&at, ' '))
        return false;
    mapping->inode = number(&at, 10);
    at += strspn(at, " ");
    size_t length = strlen(at);
    if (mapping->inode != 0 && length > sizeof deleted && strcmp(at + length - (sizeof deleted - 1), deleted) == 0) {
        mapping->is_deleted = true;
        at[length - (sizeof deleted - 1)] = '\0';
    }
    unescape(at);
    mapping->name = at;
    return mapping->start < mapping->end;
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

/* Reads until a mapping is in the text from its first line to its last, so that its name can stay where it was read. */
static int make_whole(mhi_mappings *mappings)
{
    static const char last[] = "VmFlags:";
    for (;;) {
        char *start = mappings->text + mappings->used;
        size_t left = mappings->size - mappings->used;
        char *flags = memmem(start, left, last, sizeof last - 1);
        if (left > 0 && flags != NULL && memchr(flags, '\n', left - (size_t)(flags - start)) != NULL)
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
    do {
        if ((line = next_line(mappings)) == NULL)
            return -EINVAL;
    } while (strncmp(line, "VmFlags:", 8) != 0);
    parse_flags(line + 8, mapping);
    return 1;
}
