/* route_private.c - a library with a malloc of its own, as some carry one; opened with RTLD_DEEPBIND it uses that. */
#include <stddef.h>

static _Alignas(16) char pool[4096];
static size_t used;

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    void *block = pool + used;
    used += (size + 15) & ~(size_t)15;
    return block;
}

__attribute__((visibility("default"))) void free(void *block) { (void)block; }

__attribute__((visibility("default"))) void *private_malloc(size_t size) { return malloc(size); }

__attribute__((visibility("default"))) int private_owns(const void *block)
{
    return (const char *)block >= pool && (const char *)block < pool + sizeof pool;
}
