/* entropy.h - which modules draw random bytes from the kernel. */
#ifndef MHI_ROUTE_ENTROPY_H
#define MHI_ROUTE_ENTROPY_H
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Replacements of the functions that draw: the real function, then a note of the caller. */
ssize_t mhi_routed_getrandom(void *buffer, size_t size, unsigned flags);
int mhi_routed_getentropy(void *buffer, size_t size);
uint32_t mhi_routed_arc4random(void);
uint32_t mhi_routed_arc4random_uniform(uint32_t bound);
void mhi_routed_arc4random_buf(void *buffer, size_t size);
unsigned long mhi_routed_getauxval(unsigned long kind);
void mhi_routed_syscall(void); /* jumps on to syscall, except for SYS_getrandom */

extern ssize_t (*mhi_real_getrandom)(void *buffer, size_t size, unsigned flags);
extern int (*mhi_real_getentropy)(void *buffer, size_t size);
extern uint32_t (*mhi_real_arc4random)(void);
extern uint32_t (*mhi_real_arc4random_uniform)(uint32_t bound);
extern void (*mhi_real_arc4random_buf)(void *buffer, size_t size);
extern unsigned long (*mhi_real_getauxval)(unsigned long kind);
extern long (*mhi_real_syscall)(long number, ...);

/* `path` was opened by the code that `caller` returns to. */
void mhi_entropy_opened(const char *path, const void *caller);

/* Takes notes from here on. Notes of earlier transactions stay: their random bytes may still be in use. */
void mhi_entropy_begin(void);
void mhi_entropy_end(void);

#endif
