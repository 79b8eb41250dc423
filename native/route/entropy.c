/* entropy.c - notes which modules draw random bytes from the kernel: generators seeded with them are in the snapshot,
 * and equal in all processes that resume it.
 *
 * As in files.c, there are no locks or allocations. The module is that of the return address. Draws by a CPU
 * instruction, or by a system call inlined into a module, are not seen.
 *
 * E1  Draws marked as insecure (GRND_INSECURE) seed no generator: Rust's standard library draws the keys of its hash
 *     tables so, which stay shared like the interpreter's.
 * E2  Of each draw a digest is kept, never the bytes, so that a seed can be recognised as drawn. Draws longer than
 *     DIGEST_BYTES have none: no generator keeps so long a seed.
 */
#define _GNU_SOURCE
#include "route/entropy.h"

#include <dlfcn.h>
#include <link.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "route/calls.h"
#include "magicheap.h"

enum {
    DRAWERS_MAX = 128,     /* modules; arbitrary */
    PATH_BYTES = 1024,     /* of a module's path; arbitrary */
    DIGESTS_MAX = 1 << 15, /* untouched pages cost nothing; arbitrary */
    DIGEST_BYTES = 64,     /* 512 bits: the longest usual seed */
    DIGEST_BYTES_MIN = 8,  /* shorter ones would be recognised by chance */
    INSECURE = 4,          /* GRND_INSECURE, getrandom(2) */
};

/* ---- the real functions ---- */

/* The C library has arc4random only since 2.36: NULL until a scan has found it, and no slot leads to us before. */
ssize_t (*mhi_real_getrandom)(void *, size_t, unsigned) = getrandom;
int (*mhi_real_getentropy)(void *, size_t) = getentropy;
uint32_t (*mhi_real_arc4random)(void);
uint32_t (*mhi_real_arc4random_uniform)(uint32_t);
void (*mhi_real_arc4random_buf)(void *, size_t);
unsigned long (*mhi_real_getauxval)(unsigned long) = getauxval;
long (*mhi_real_syscall)(long, ...) = syscall;

/* ---- notes ---- */

typedef struct {
    atomic_uintptr_t start; /* of the module; stored last: 0 while a thread is filling the entry */
    atomic_size_t size;     /* bytes of each draw, if all are alike; else 0 */
    char path[PATH_BYTES];  /* "" : the program */
} drawer;

static drawer drawers[DRAWERS_MAX];
static atomic_uint n_drawers;                      /* may exceed DRAWERS_MAX */
static atomic_uint_least64_t digests[DIGESTS_MAX]; /* never 0 */
static atomic_uint n_digests;                      /* may exceed DIGESTS_MAX */
static atomic_bool is_noting;

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint64_t digest_of(const unsigned char *bytes, size_t size)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ bytes[i]) * 1099511628211u;
    return hash | 1;
}

static void note_digest(const void *bytes, size_t size)
{
    if (size < DIGEST_BYTES_MIN || size > DIGEST_BYTES)
        return;
    uint32_t i = atomic_fetch_add(&n_digests, 1);
    if (i < DIGESTS_MAX)
        atomic_store(&digests[i], digest_of(bytes, size));
    else
        atomic_store(&n_digests, DIGESTS_MAX + 1);
}

/* Two threads that add one module at once may both succeed: the module then has two entries. */
static void note_drawer(const void *caller, size_t size)
{
    struct dl_find_object found;
    if (_dl_find_object((void *)caller, &found) != 0)
        return;
    uintptr_t start = (uintptr_t)found.dlfo_map_start;
    uint32_t n = smaller(atomic_load(&n_drawers), DRAWERS_MAX);
    const char *path = found.dlfo_link_map->l_name;
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&drawers[i].start) == start && strncmp(drawers[i].path, path, PATH_BYTES - 1) == 0) {
            if (atomic_load(&drawers[i].size) != size)
                atomic_store(&drawers[i].size, 0);
            return;
        }
    uint32_t i = atomic_fetch_add(&n_drawers, 1);
    if (i >= DRAWERS_MAX) {
        atomic_store(&n_drawers, DRAWERS_MAX + 1);
        return;
    }
    strncpy(drawers[i].path, path, PATH_BYTES - 1);
    atomic_store(&drawers[i].size, size);
    atomic_store(&drawers[i].start, start);
}

static bool is_noted(void) { return atomic_load_explicit(&is_noting, memory_order_relaxed); }

static void note(const void *caller, const void *bytes, ssize_t size)
{
    if (size <= 0 || !is_noted())
        return;
    note_drawer(caller, (size_t)size);
    note_digest(bytes, (size_t)size);
}

void mhi_entropy_opened(const char *path, const void *caller)
{
    if (is_noted() && (strcmp(path, "/dev/urandom") == 0 || strcmp(path, "/dev/random") == 0))
        note_drawer(caller, 0);
}

/* ---- the replacements ---- */

ssize_t mhi_routed_getrandom(void *buffer, size_t size, unsigned flags)
{
    ssize_t got = mhi_real_getrandom(buffer, size, flags);
    if (!(flags & INSECURE))
        note(__builtin_return_address(0), buffer, got);
    return got;
}

int mhi_routed_getentropy(void *buffer, size_t size)
{
    int result = mhi_real_getentropy(buffer, size);
    if (result == 0)
        note(__builtin_return_address(0), buffer, (ssize_t)size);
    return result;
}

uint32_t mhi_routed_arc4random(void)
{
    uint32_t value = mhi_real_arc4random();
    note(__builtin_return_address(0), &value, sizeof value);
    return value;
}

uint32_t mhi_routed_arc4random_uniform(uint32_t bound)
{
    uint32_t value = mhi_real_arc4random_uniform(bound);
    note(__builtin_return_address(0), &value, sizeof value);
    return value;
}

void mhi_routed_arc4random_buf(void *buffer, size_t size)
{
    mhi_real_arc4random_buf(buffer, size);
    note(__builtin_return_address(0), buffer, (ssize_t)size);
}

unsigned long mhi_routed_getauxval(unsigned long kind)
{
    if (kind == AT_RANDOM && is_noted())
        note_drawer(__builtin_return_address(0), 0);
    return mhi_real_getauxval(kind);
}

long mhi_drawn_by_syscall(long number, void *buffer, size_t size, unsigned flags);

/* Reached by a jump, with the arguments of syscall; returns to the caller of syscall. */
__attribute__((used)) long mhi_drawn_by_syscall(long number, void *buffer, size_t size, unsigned flags)
{
    long got = mhi_real_syscall(number, buffer, size, flags);
    if (!(flags & INSECURE))
        note(__builtin_return_address(0), buffer, got);
    return got;
}

/* ---- begin, end, and what was found ---- */

void mhi_entropy_begin(void) { atomic_store(&is_noting, true); }
void mhi_entropy_end(void) { atomic_store(&is_noting, false); }

uint32_t mh_drawer_count(void) { return smaller(atomic_load(&n_drawers), DRAWERS_MAX); }

const char *mh_drawer_path(uint32_t i)
{
    return i < DRAWERS_MAX && atomic_load(&drawers[i].start) != 0 ? drawers[i].path : NULL;
}

uint64_t mh_drawer_size(uint32_t i) { return i < DRAWERS_MAX ? atomic_load(&drawers[i].size) : 0; }

bool mh_drawers_are_complete(void) { return atomic_load(&n_drawers) <= DRAWERS_MAX; }

int mh_was_drawn(const void *bytes, uint64_t size_bytes)
{
    if (size_bytes < DIGEST_BYTES_MIN || size_bytes > DIGEST_BYTES)
        return 0;
    uint64_t digest = digest_of(bytes, size_bytes);
    uint32_t n = smaller(atomic_load(&n_digests), DIGESTS_MAX);
    for (uint32_t i = 0; i < n; i++)
        if (atomic_load(&digests[i]) == digest)
            return 1;
    return atomic_load(&n_digests) > DIGESTS_MAX ? -1 : 0;
}
