/* alloc.h - aligned arrays from the C library's heap. */
#ifndef MK_ALLOC_H
#define MK_ALLOC_H
#include <stddef.h>

enum { MKI_ALIGN = 64 }; /* bytes: a cache line, and the widest vector there is */

/* n elements of size_bytes, uninitialised, for free(); NULL when out of memory or when the product overflows. */
void *mki_alloc(size_t n, size_t size_bytes);
#endif
