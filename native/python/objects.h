/* objects.h - recognises a Python object by its memory alone, for CPython 3.11 and later. */
#ifndef MHI_OBJECTS_H
#define MHI_OBJECTS_H
#include <stdint.h>

enum {
    MHI_OBJECT_COLLECTED = 16, /* bytes of the garbage collector's header, behind which an object may begin */
    MHI_OBJECT_BYTES = 32,     /* where PyBytes keeps its bytes */
    MHI_OBJECT_TEXT = 48,      /* where PyUnicode keeps its text, and cffi its data */
};

/* The address of the type of an object that begins here; 0 if no object can begin here. An object begins with a
 * reference count and the address of its type. */
static inline uint64_t mhi_object_type(const uint64_t *words)
{
    return words[0] > 0 && words[0] >> 32 == 0 && words[1] % 8 == 0 ? words[1] : 0;
}

#endif
