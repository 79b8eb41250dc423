/* runtime.h - what there is instead of a C library, besides the functions of its headers. */
#ifndef MHI_RUNTIME_H
#define MHI_RUNTIME_H
#include <stddef.h>

/* Zeroed pages in our region, which stay mapped; NULL when the kernel gives none. */
void *mhi_memory(size_t size);
/* All of it, to a descriptor; what can't be written is lost. */
void mhi_print(int fd, const char *text);
void mhi_exit(int status) __attribute__((noreturn));

#endif
