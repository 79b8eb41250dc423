/* trace.h - a sequence of allocator calls, made once by a model of real behaviour and replayed against every allocator.
 * */
#ifndef TRACE_H
#define TRACE_H
#include <stddef.h>
#include <stdint.h>

typedef enum { OP_ALLOCATE, OP_FREE, OP_RESIZE, OP_REPLACE /* free, then allocate */ } op_kind;

typedef struct {
    op_kind kind;
    uint32_t slot, size_bytes;
} op;

typedef struct {
    const char *name;
    op *ops;
    size_t n_ops, n_slots; /* n_slots is the same for every seed */
    int n_passes;          /* how often it is replayed; what it leaves in the slots is found there by the next pass */
} trace;

/* The same for the same name and seed, on every machine. Exits for want of memory: this is a benchmark. */
trace trace_make(const char *name, uint64_t seed);
void trace_release(trace *t);

#endif
