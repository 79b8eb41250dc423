/* dispositions.h - what a process is started with for its signals. */
#ifndef MHI_DISPOSITIONS_H
#define MHI_DISPOSITIONS_H
#include <stdint.h>

/* Signals that are ignored, without those that Python ignores itself, and those that are blocked: bit signal - 1. */
typedef struct { uint64_t ignored, blocked; } mhi_dispositions;

enum { MHI_IGNORED_BY_PYTHON = 1 << (13 - 1) | 1 << (25 - 1) }; /* SIGPIPE, SIGXFSZ */

#endif
