/* memory.h - what string.h lacks. */
#ifndef MHI_MEMORY_H
#define MHI_MEMORY_H
#include <stdbool.h>
#include <string.h>

static inline bool mhi_is_zero(const void *memory, size_t bytes)
{
    const char *first = memory;
    return bytes == 0 || (first[0] == 0 && memcmp(first, first + 1, bytes - 1) == 0);
}

#endif
