/* modules.c - reads the loaded objects: segments, symbols, relocations, build-id. */
#define _GNU_SOURCE
#include "route/modules.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

#include "sys/sys.h"

enum { WALKS_S = 2 }; /* arbitrary: far more than a walk takes */

static void read_segments(mhi_elf *elf)
{
    elf->start = UINT64_MAX;
    for (size_t i = 0; i < elf->n_headers; i++) {
        const ElfW(Phdr) *header = &elf->headers[i];
        uint64_t address = elf->bias + header->p_vaddr;
        if (header->p_type == PT_DYNAMIC)
            elf->dynamic = (const ElfW(Dyn) *)address;
        if (header->p_type != PT_LOAD)
            continue;
        if (address < elf->start)
            elf->start = address;
        if (address + header->p_memsz > elf->end)
            elf->end = address + header->p_memsz;
    }
}

/* The linker has relocated most of these pointers already; a read-only dynamic section still has the file's values. */
static const void *dynamic_pointer(const mhi_elf *elf, const ElfW(Dyn) * entry)
{
    uint64_t value = entry->d_un.d_ptr;
    return (const void *)(value < elf->bias ? value + elf->bias : value);
}

static void read_dynamic(mhi_elf *elf)
{
    size_t n_relative = 0; /* relocations without a symbol, which come first: usually nearly all */
    for (const ElfW(Dyn) *entry = elf->dynamic; entry->d_tag != DT_NULL; entry++) {
        switch (entry->d_tag) {
        case DT_SYMTAB: elf->symbols = dynamic_pointer(elf, entry); break;
        case DT_STRTAB: elf->strings = dynamic_pointer(elf, entry); break;
        case DT_GNU_HASH: elf->hash = dynamic_pointer(elf, entry); break;
        case DT_VERSYM: elf->versions = dynamic_pointer(elf, entry); break;
        case DT_RELA: elf->relas[0] = dynamic_pointer(elf, entry); break;
        case DT_RELASZ: elf->n_relas[0] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        case DT_JMPREL: elf->relas[1] = dynamic_pointer(elf, entry); break;
        case DT_PLTRELSZ: elf->n_relas[1] = entry->d_un.d_val / sizeof(ElfW(Rela)); break;
        case DT_RELACOUNT: n_relative = entry->d_un.d_val; break;
        default: break;
        }
    }
    if (elf->relas[0] != NULL && n_relative <= elf->n_relas[0]) {
        elf->relas[0] += n_relative;
        elf->n_relas[0] -= n_relative;
    }
}

bool mhi_elf_read(mhi_elf *elf, const struct dl_phdr_info *info)
{
    *elf = (mhi_elf){
        .bias = info->dlpi_addr, .path = info->dlpi_name, .headers = info->dlpi_phdr, .n_headers = info->dlpi_phnum
    };
    read_segments(elf);
    if (elf->dynamic == NULL || elf->start == getauxval(AT_SYSINFO_EHDR))
        return false;
    read_dynamic(elf);
    return true;
}

/* The linker enters a module into this lookup as the last step before its constructors run, and takes it out before
 * unmapping it: unlike the list that dl_iterate_phdr walks, it never shows half-loaded modules. */
bool mhi_elf_is_ready(const mhi_elf *elf)
{
    struct dl_find_object found;
    return _dl_find_object((void *)elf->dynamic, &found) == 0;
}

enum { VERSION_HIDDEN = 0x8000 }; /* marks a version for programs that were linked long ago */

/* DT_GNU_HASH: header {n_buckets, first_symbol, n_bloom, bloom_shift}, Bloom words, buckets, one hash per symbol from
 * first_symbol on; a chain ends with a hash whose lowest bit is set. Finds the version of a name that is not hidden. */
static const ElfW(Sym) * find_symbol(const mhi_elf *elf, const char *name)
{
    if (elf->hash == NULL || elf->symbols == NULL || elf->strings == NULL)
        return NULL;
    uint32_t hash = 5381;
    for (const unsigned char *c = (const unsigned char *)name; *c != '\0'; c++)
        hash = hash * 33 + *c;
    uint32_t n_buckets = elf->hash[0], first = elf->hash[1], n_bloom = elf->hash[2];
    const uint32_t *buckets = elf->hash + 4 + n_bloom * (sizeof(ElfW(Addr)) / 4), *chain = buckets + n_buckets;
    uint32_t i = n_buckets == 0 ? 0 : buckets[hash % n_buckets];
    const ElfW(Sym) *hidden = NULL;
    if (i < first)
        return NULL;
    for (;; i++) {
        uint32_t entry = chain[i - first];
        const ElfW(Sym) *symbol = &elf->symbols[i];
        if ((entry | 1) == (hash | 1) && strcmp(elf->strings + symbol->st_name, name) == 0) {
            if (elf->versions == NULL || !(elf->versions[i] & VERSION_HIDDEN))
                return symbol;
            hidden = symbol;
        }
        if (entry & 1)
            return hidden;
    }
}

uint64_t mhi_elf_find(const mhi_elf *elf, const char *name)
{
    const ElfW(Sym) *symbol = find_symbol(elf, name);
    return symbol != NULL && symbol->st_shndx != SHN_UNDEF ? elf->bias + symbol->st_value : 0;
}

uint64_t mhi_elf_find_plt(const mhi_elf *elf, const char *name)
{
    const ElfW(Sym) *symbol = find_symbol(elf, name);
    return symbol != NULL && symbol->st_shndx == SHN_UNDEF && symbol->st_value != 0 ? elf->bias + symbol->st_value : 0;
}

bool mhi_elf_contains(const mhi_elf *elf, uint64_t address) { return address >= elf->start && address < elf->end; }

const ElfW(Phdr) * mhi_elf_segment(const mhi_elf *elf, uint64_t address)
{
    for (size_t i = 0; i < elf->n_headers; i++)
        if (elf->headers[i].p_type == PT_LOAD &&
            address - elf->bias - elf->headers[i].p_vaddr < elf->headers[i].p_memsz)
            return &elf->headers[i];
    return NULL;
}

static uint32_t padded(uint32_t size) { return (size + 3) & ~3u; }

uint32_t mhi_elf_build_id(const mhi_elf *elf, uint8_t *build_id)
{
    for (size_t i = 0; i < elf->n_headers; i++) {
        const ElfW(Phdr) *header = &elf->headers[i];
        if (header->p_type != PT_NOTE)
            continue;
        const char *note = (const char *)(elf->bias + header->p_vaddr), *end = note + header->p_memsz;
        while (note + sizeof(ElfW(Nhdr)) <= end) {
            const ElfW(Nhdr) *head = (const void *)note;
            const char *name = note + sizeof *head, *body = name + padded(head->n_namesz);
            if (head->n_type == NT_GNU_BUILD_ID && head->n_namesz == 4 && memcmp(name, "GNU", 4) == 0) {
                uint32_t size = head->n_descsz < MHI_BUILD_ID_MAX ? head->n_descsz : MHI_BUILD_ID_MAX;
                memcpy(build_id, body, size);
                return size;
            }
            note = body + padded(head->n_descsz);
        }
    }
    return 0;
}

/* The executable has no name in the linker's list. /proc/self/exe has it, but leads to the launcher in a resumed
 * process: so the link is read when the library is loaded. */
static char executable[PATH_MAX];

__attribute__((constructor)) static void remember_executable(void)
{
    if (mhi_sys_readlink("/proc/self/exe", executable, sizeof executable) < 0)
        executable[0] = '\0';
}

bool mhi_elf_path(const mhi_elf *elf, char *path, size_t size)
{
    if (elf->path[0] == '\0')
        return executable[0] != '\0' && (size_t)snprintf(path, size, "%s", executable) < size;
    return (size_t)snprintf(path, size, "%s", elf->path) < size;
}

typedef struct {
    bool (*visit)(void *context, const mhi_module *module);
    void *context;
} visitor;

static int visit_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    const visitor *to = context;
    char path[PATH_MAX];
    mhi_elf elf;
    if (!mhi_elf_read(&elf, info) || !mhi_elf_path(&elf, path, sizeof path))
        return 0;
    mhi_module module = { .path = path, .base = elf.start, .size_bytes = elf.end - elf.start };
    module.build_id_bytes = mhi_elf_build_id(&elf, module.build_id);
    return !to->visit(to->context, &module);
}

/* A walk takes this lock for reading, and the lock prefers readers. */
static pthread_rwlock_t walks = PTHREAD_RWLOCK_INITIALIZER;
/* This thread's fork holds `walks`. */
static _Thread_local bool has_walks __attribute__((tls_model("initial-exec")));

static void before_fork(void)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WALKS_S;
    has_walks = pthread_rwlock_timedwrlock(&walks, &until) == 0;
}

static void after_fork_in_parent(void)
{
    if (has_walks)
        pthread_rwlock_unlock(&walks);
}

static void after_fork_in_child(void)
{
    walks = (pthread_rwlock_t)PTHREAD_RWLOCK_INITIALIZER; /* its holder was the parent's thread, of another id */
}

static void watch_forks(void) { pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child); }

void mhi_modules_walk(int (*visit)(struct dl_phdr_info *info, size_t size, void *context), void *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    pthread_rwlock_rdlock(&walks);
    dl_iterate_phdr(visit, context);
    pthread_rwlock_unlock(&walks);
}

void mhi_modules_each(bool (*visit)(void *context, const mhi_module *module), void *context)
{
    mhi_modules_walk(visit_module, &(visitor){ visit, context });
}
