/* runtime.h - the launcher's own functions in place of a C library, besides those of the standard headers. */
#ifndef MHI_RUNTIME_H
#define MHI_RUNTIME_H
#include <stddef.h>

/* Zeroed pages in our region, which stay mapped; NULL if the kernel refuses. */
void *mhi_memory(size_t size);
/* Writes a text to a descriptor; errors are ignored. */
void mhi_print(int fd, const char *text);
void mhi_exit(int status) __attribute__((noreturn));

#endif
