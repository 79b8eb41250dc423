/* pages.h - arithmetic with the page size. */
#ifndef MHI_PAGES_H
#define MHI_PAGES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "arch/arch.h" /* MHI_PAGE */

static inline uint64_t mhi_round_up(uint64_t n, uint64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* Up and down to whole pages; up: what does not fit in 64 bits wraps. */
static inline uint64_t mhi_page_end(uint64_t n) { return (n + MHI_PAGE - 1) & ~(uint64_t)(MHI_PAGE - 1); }
static inline uint64_t mhi_page_start(uint64_t n) { return n & ~(uint64_t)(MHI_PAGE - 1); }
static inline bool mhi_is_paged(uint64_t n) { return n % MHI_PAGE == 0; }

#endif
