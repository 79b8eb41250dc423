/* proc_dirs.c - reads directories with the system call itself: opendir would allocate. */
#define _GNU_SOURCE
#include "base/proc_dirs.h"

#include <dirent.h>
#include <fcntl.h>

#include "sys/sys.h"

/* -1 for "." and "..". */
static int parse(const char *name)
{
    int number = 0;
    for (; *name >= '0' && *name <= '9'; name++)
        number = number * 10 + (*name - '0');
    return *name == '\0' ? number : -1;
}

int mhi_each_number(const char *directory, int (*take)(void *context, int reader, int number), void *context)
{
    _Alignas(struct dirent64) char entries[4 << 10]; /* about 170 descriptors at a time; arbitrary */
    int reader = mhi_sys_open(directory, O_RDONLY | O_DIRECTORY, 0);
    if (reader < 0)
        return reader;
    ssize_t size;
    int result = 0;
    while (result == 0 && (size = mhi_sys_read_directory(reader, entries, sizeof entries)) != 0) {
        result = size < 0 ? (int)size : 0;
        for (ssize_t at = 0; at < size && result == 0;) {
            /* glibc's is the kernel's struct linux_dirent64 */
            const struct dirent64 *entry = (const void *)(entries + at);
            at += entry->d_reclen;
            int number = parse(entry->d_name);
            result = number < 0 ? 0 : take(context, reader, number);
        }
    }
    mhi_sys_close(reader);
    return result;
}
