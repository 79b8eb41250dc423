/* modules.h - the loaded objects of this process, as the dynamic linker maps them.
 *
 * An mhi_elf points into memory that dlclose may unmap. Use it only inside the call of dl_iterate_phdr that it came
 * from, which holds the lock that dlclose needs.
 */
#ifndef MHI_MODULES_H
#define MHI_MODULES_H
#include <elf.h>
#include <link.h>

#include "magicheap.h"

enum { MHI_BUILD_ID_MAX = 32 };

struct dl_phdr_info; /* link.h defines it under _GNU_SOURCE */

typedef struct {
    uint64_t bias;       /* the load bias: runtime address minus address in the file */
    uint64_t start, end; /* of its segments in memory */
    const char *path;    /* "" for the program itself */
    const ElfW(Phdr) * headers;
    size_t n_headers;
    const ElfW(Dyn) * dynamic;
    const ElfW(Sym) * symbols; /* NULL: without dynamic symbols */
    const char *strings;
    const uint32_t *hash;        /* DT_GNU_HASH, or NULL */
    const uint16_t *versions;    /* DT_VERSYM: of each symbol, or NULL */
    const ElfW(Rela) * relas[2]; /* of data, and of the PLT */
    size_t n_relas[2];
} mhi_elf;

/* dl_iterate_phdr, but a fork in another thread waits for its end.
 *
 * The C library's fork does not wait for the lock of dl_iterate_phdr: in a child that is forked while another thread
 * walks, the lock is held for ever. So all our walks go through here, and share a read-write lock that prefers readers.
 * A walk nested in another one must not wait for a fork that waits for the outer walk. A fork in the middle of a walk
 * would wait for ever, so it gives up after a time. */
void mhi_modules_walk(int (*visit)(struct dl_phdr_info *info, size_t size, void *context), void *context);

/* False for objects that do not count as modules: the vdso, and objects without a dynamic section. */
bool mhi_elf_read(mhi_elf *elf, const struct dl_phdr_info *info);
/* Whether the linker has relocated the module and protected its read-only data. Before that, its slots are empty and
 * must not be touched. */
bool mhi_elf_is_ready(const mhi_elf *elf);
/* Address of the symbol of this name that the module itself defines, or 0. */
uint64_t mhi_elf_find(const mhi_elf *elf, const char *name);
/* The PLT entry by which the program knows another module's function, or 0. A program that is not position-independent
 * and takes the address of such a function makes its PLT entry the function's address for everybody: Debian's python
 * does so to malloc. */
uint64_t mhi_elf_find_plt(const mhi_elf *elf, const char *name);
bool mhi_elf_contains(const mhi_elf *elf, uint64_t address);
/* The segment around an address, or NULL. */
const ElfW(Phdr) * mhi_elf_segment(const mhi_elf *elf, uint64_t address);
/* Copies the build-id (at most MHI_BUILD_ID_MAX bytes) and returns its length; 0 without one. */
uint32_t mhi_elf_build_id(const mhi_elf *elf, uint8_t *build_id);
/* Writes the module's path, for the program itself its real path; false if it does not fit. */
bool mhi_elf_path(const mhi_elf *elf, char *path, size_t size);

/* A module, as it is kept or passed to a visitor. */
typedef struct {
    /* as the dynamic linker knows it; the executable's real path for the program itself */
    char *path;
    uint8_t build_id[MHI_BUILD_ID_MAX];
    uint32_t build_id_bytes; /* 0: none */
    uint64_t base;           /* load address in this process */
    uint64_t size_bytes;     /* of its address range */
    uint64_t n_relocations;  /* relocations of an arena that lead into the module; the audit counts them */
} mhi_module;

/* Every module loaded in this process, for the inputs of a snapshot: calls visit with a transient mhi_module; false
 * stops. */
void mhi_modules_each(bool (*visit)(void *context, const mhi_module *module), void *context);

#endif
