/* maps.c - parsing /proc/self/maps. */
#define _GNU_SOURCE
#include "route/maps.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/pages.h"
#include "error.h"
#include "sys/sys.h"

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

/* "start-end rwxp offset device inode   name"; false for a line of another shape. */
static bool parse_line(mhi_mapping *mapping, char *line)
{
    char prot[5];
    int name_at = 0;
    if (sscanf(line, "%" SCNx64 "-%" SCNx64 " %4s %*x %*s %" SCNu64 " %n", &mapping->start, &mapping->end, prot,
               &mapping->inode, &name_at) != 4 ||
        name_at == 0)
        return false;
    mapping->prot =
        (prot[0] == 'r' ? PROT_READ : 0) | (prot[1] == 'w' ? PROT_WRITE : 0) | (prot[2] == 'x' ? PROT_EXEC : 0);
    mapping->name = line + name_at;
    return true;
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
        if (maps->n_items < n_lines && parse_line(&maps->items[maps->n_items], line))
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
