/* array.h - arrays that grow by one item at a time. */
#ifndef MHI_ARRAY_H
#define MHI_ARRAY_H
#include <stddef.h>
#include <stdlib.h>

enum { MHI_ARRAY_FIRST = 16 /* items; arbitrary */ };

/* Room for one more item: the array, perhaps moved, or NULL for want of memory; then array and capacity are as they
 * were. Not reallocarray: that calls realloc from inside libc, which is routed into the arena. */
static inline void *mhi_array_grow(void *items, size_t n_items, size_t *capacity, size_t item_bytes)
{
    if (n_items < *capacity)
        return items;
    size_t larger = *capacity == 0 ? MHI_ARRAY_FIRST : 2 * *capacity, bytes;
    void *moved = __builtin_mul_overflow(larger, item_bytes, &bytes) ? NULL : realloc(items, bytes);
    *capacity = moved == NULL ? *capacity : larger;
    return moved;
}

#endif
