/* targets.c - tells pointers from numbers.
 *
 * The heap has no types, so a word that is the address of mapped memory may still be a number. Taking a number for a
 * pointer is harmful in two ways: relocated, it is corrupted; reported, it refuses a good commit. A pointer that is
 * overlooked makes a later run crash. Few numbers can be addresses: the upper bits of an address are zero
 * (MHI_ADDRESS_BITS), so floats, quantised weights and text hardly ever are (one random word in 65,536 passes, and must
 * then hit a few hundred MB out of 128 TiB). What remains are pairs of small integers, when the upper of the two (say
 * 0x7f12 of 0x7f12'3456789a, or 0x55d0) happens to be the upper half of addresses here; and, in a program that is not
 * position-independent, 64-bit integers of some millions, since its heap and data begin right behind 0x400000.
 *
 * E1  In a small block (below LARGE_BLOCK) such pairs are few, and pointers many: every word into a module's segments
 *     is taken, and every 8-aligned one into other memory. (malloc aligns to 16; an object that keeps unaligned
 *     pointers into ordinary memory keeps aligned ones too, if it keeps several.)
 * E2  Large blocks may be arrays of numbers, where chance has many tries. A word there counts
 *     - as certain: at the first byte of a function, by .eh_frame_hdr;
 *     - as evident: 8-aligned in a module's data (vtables, statics), 8-aligned or behind a NUL byte in its constants
 *       (string literals), 16-aligned in other memory;
 *     - as weak: anything else.
 *     Words of an array of pointers are mostly evident. Numbers are mostly weak: they meet these conditions by chance
 *     in one case of 3 to 16. So the block votes: if evident words outnumber those that are weak or fail E3, all words
 *     count except those that fail E3; else only the certain ones.
 * E3  A word below 4 GiB into [heap] counts, in blocks of any size, only where malloc's own chunk headers say that a
 *     block in use begins, or where a Python object in such a block begins (behind its garbage collector's header) or
 *     has its bytes.
 * E4  A word into a program that is not position-independent needs no judgement: the program always has the same
 *     address, so only the dependency is recorded. Nor does a word between the segments of a module, or behind the last
 *     one in its page, where nothing is.
 *
 * Measured with CPython (not position-independent), numpy and sentencepiece loaded, how many numbers were taken for
 * pointers: of 64 MB each of random int32, int32 below 49,152 and int8, whether in one block or in blocks of 1 KiB, and
 * of fp16 and fp32 in one, none; of int64 below 200 million in one block none, in blocks of 1 KiB one in 10 ** 5 (none
 * in nine processes out of ten, whose [heap] lies higher). Of 2 ** 20 words made of the upper half of a library's
 * address and a random lower half, in one block, one to seven.
 *
 * Memory outside the arena is read through /proc/self/mem, where memory that another thread unmaps meanwhile causes an
 * error, not a signal.
 */
#define _GNU_SOURCE
#include "audit/targets.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "base/pages.h"
#include "error.h"
#include "heap/arena.h"
#include "python/objects.h"
#include "route/modules.h"
#include "sys/sys.h"

enum {
    GUARD_MAX = 64 << 10 /* a thread's stack lies above a guard of about a page, while malloc reserves megabytes */
};

/* ---- Reading ---- */

static bool read_memory(const mhi_targets *targets, void *buffer, uint64_t address, size_t size)
{
    return targets->memory_fd >= 0 && mhi_sys_pread_all(targets->memory_fd, buffer, size, address) == 0;
}

typedef struct {
    mhi_targets *targets;
    size_t capacity;
    bool is_short; /* memory ran out */
} module_reader;

static bool copy_module(mhi_target_module *copy, const mhi_elf *elf)
{
    char path[PATH_MAX];
    if (!mhi_elf_path(elf, path, sizeof path))
        path[0] = '\0';
    *copy = (mhi_target_module){ .module = { .base = elf->start, .size_bytes = elf->end - elf->start },
                                 .n_headers = elf->n_headers,
                                 .bias = elf->bias };
    copy->module.build_id_bytes = mhi_elf_build_id(elf, copy->module.build_id);
    copy->module.path = strdup(path);
    copy->headers = malloc(elf->n_headers * sizeof *copy->headers);
    if (copy->module.path == NULL || copy->headers == NULL)
        return false;
    memcpy(copy->headers, elf->headers, elf->n_headers * sizeof *copy->headers);
    for (size_t i = 0; i < elf->n_headers; i++)
        if (elf->headers[i].p_type == PT_GNU_EH_FRAME)
            copy->frames_at = elf->bias + elf->headers[i].p_vaddr;
    return true;
}

static int read_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    module_reader *reader = context;
    mhi_targets *targets = reader->targets;
    mhi_elf elf;
    if (!mhi_elf_read(&elf, info) || !mhi_elf_is_ready(&elf))
        return 0;
    mhi_target_module *larger = mhi_array_grow(targets->modules, targets->n_modules, &reader->capacity, sizeof *larger);
    if (larger != NULL)
        targets->modules = larger;
    reader->is_short = larger == NULL || !copy_module(&larger[targets->n_modules++], &elf);
    return reader->is_short;
}

static int compare_modules(const void *a, const void *b)
{
    uint64_t x = ((const mhi_target_module *)a)->module.base, y = ((const mhi_target_module *)b)->module.base;
    return x < y ? -1 : x > y;
}

static void read_windows(mhi_targets *targets)
{
    uint64_t highest = 0;
    targets->lowest = UINT64_MAX;
    for (size_t i = 0; i < targets->maps.n_items; i++) {
        const mhi_mapping *mapping = &targets->maps.items[i];
        if (mapping->start >> MHI_ADDRESS_BITS != 0 || mapping->prot == PROT_NONE)
            continue;
        if (strcmp(mapping->name, "[heap]") == 0)
            targets->brk = mapping;
        targets->lowest = mapping->start < targets->lowest ? mapping->start : targets->lowest;
        highest = mapping->end;
        for (uint64_t window = mapping->start >> 32; window <= (mapping->end - 1) >> 32; window++)
            targets->windows[window] = 1;
    }
    targets->span_bytes = highest - targets->lowest;
}

int mhi_targets_read(mhi_targets *targets, mh_error *err)
{
    *targets = (mhi_targets){ .memory_fd = -1 };
    module_reader reader = { .targets = targets };
    mhi_modules_walk(read_module, &reader);
    if (reader.is_short) {
        mhi_targets_release(targets);
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for the list of modules");
    }
    qsort(targets->modules, targets->n_modules, sizeof *targets->modules, compare_modules);
    int status = mhi_maps_read(&targets->maps, err);
    if (status != MH_OK) {
        mhi_targets_release(targets);
        return status;
    }
    read_windows(targets);
    /* if refused, no word is evident that needs its target to be read */
    targets->memory_fd = mhi_sys_open("/proc/self/mem", O_RDONLY, 0);
    return MH_OK;
}

void mhi_targets_release(mhi_targets *targets)
{
    for (uint32_t i = 0; i < targets->n_modules; i++) {
        free(targets->modules[i].module.path);
        free(targets->modules[i].headers);
        free(targets->modules[i].functions);
    }
    free(targets->modules);
    free(targets->blocks);
    mhi_maps_release(&targets->maps);
    if (targets->memory_fd >= 0)
        mhi_sys_close(targets->memory_fd);
    *targets = (mhi_targets){ .memory_fd = -1 };
}

/* ---- Finding ---- */

static const ElfW(Phdr) * find_segment(const mhi_target_module *module, uint64_t word)
{
    for (size_t i = 0; i < module->n_headers; i++)
        if (module->headers[i].p_type == PT_LOAD &&
            word - module->bias - module->headers[i].p_vaddr < module->headers[i].p_memsz)
            return &module->headers[i];
    return NULL;
}

static bool find_in_modules(const mhi_targets *targets, uint64_t word, mhi_target *target)
{
    uint32_t low = 0, high = targets->n_modules; /* the last module that begins at or before the word */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (targets->modules[middle].module.base <= word)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return false;
    const mhi_target_module *module = &targets->modules[low - 1];
    uint64_t end = mhi_page_end(module->module.base + module->module.size_bytes);
    target->segment = find_segment(module, word);
    target->module = low - 1;
    target->kind = target->segment == NULL ? MHI_TARGET_NONE
                   : module->bias == 0     ? MHI_TARGET_PROGRAM
                                           : MHI_TARGET_MODULE;
    return word < end;
}

static bool is_stack(const mhi_targets *targets, const mhi_mapping *mapping)
{
    const mhi_mapping *guard = mapping - 1;
    if (strcmp(mapping->name, "[stack]") == 0)
        return true;
    return mapping > targets->maps.items && mapping->name[0] == '\0' && guard->prot == PROT_NONE &&
           guard->end == mapping->start && guard->end - guard->start <= GUARD_MAX;
}

mhi_target mhi_targets_find(const mhi_targets *targets, uint64_t word)
{
    mhi_target target = { .kind = MHI_TARGET_NONE };
    if (find_in_modules(targets, word, &target))
        return target;
    const mhi_mapping *mapping = mhi_maps_find(&targets->maps, word);
    if (mapping == NULL || mapping->prot == PROT_NONE)
        return target;
    target.mapping = mapping;
    bool is_anonymous = mapping->file.inode == 0 && mapping->name[0] == '\0' && mapping->prot & PROT_WRITE;
    if (mhi_in_region((const void *)word))
        target.kind = MH_TARGET_ARENA;
    else if (is_stack(targets, mapping))
        target.kind = MH_TARGET_STACK;
    else
        target.kind = is_anonymous || mapping == targets->brk ? MH_TARGET_HEAP : MH_TARGET_MAPPING;
    return target;
}

/* ---- Weighing ---- */

/* .eh_frame_hdr: version 1, three encodings, pointer, count, then a sorted table of {function, description}, here
 * always 32-bit and relative to the header (DW_EH_PE_datarel | DW_EH_PE_sdata4), with a 32-bit count (DW_EH_PE_udata4):
 * what all linkers write. */
static void read_functions(const mhi_targets *targets, mhi_target_module *module)
{
    struct {
        uint8_t version, pointer_encoding, count_encoding, table_encoding;
        int32_t pointer;
        uint32_t count;
    } head;
    uint64_t at = module->frames_at;
    module->frames_at = 0;
    if (!read_memory(targets, &head, at, sizeof head) || head.version != 1 || head.count_encoding != 0x03 ||
        head.table_encoding != 0x3b)
        return;
    int32_t *table = reallocarray(NULL, head.count, 8);
    if (table == NULL || !read_memory(targets, table, at + sizeof head, (size_t)head.count * 8)) {
        free(table);
        return;
    }
    module->functions = table;
    module->n_functions = head.count;
    for (uint32_t i = 0; i < head.count; i++)
        table[i] = table[2 * i] + (int32_t)(at - module->bias);
}

static bool is_function(const mhi_targets *targets, mhi_target_module *module, uint64_t word)
{
    if (module->frames_at != 0)
        read_functions(targets, module);
    int32_t wanted = (int32_t)(word - module->bias);
    uint32_t low = 0, high = module->n_functions;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (module->functions[middle] < wanted)
            low = middle + 1;
        else
            high = middle;
    }
    return low < module->n_functions && module->functions[low] == wanted;
}

static mhi_evidence weigh_in_module(mhi_targets *targets, uint64_t word, const mhi_target *target)
{
    char before;
    if (target->segment->p_flags & PF_X)
        return is_function(targets, &targets->modules[target->module], word) ? MHI_CERTAIN : MHI_WEAK;
    if (word % 8 == 0)
        return MHI_EVIDENT;
    if (target->segment->p_flags & PF_W)
        return MHI_WEAK;
    return read_memory(targets, &before, word - 1, 1) && before == '\0' ? MHI_EVIDENT : MHI_WEAK;
}

static void set_bit(uint64_t *bits, uint64_t i) { bits[i / 64] |= 1ull << (i % 64); }

static bool looks_like_object(const mhi_targets *targets, const uint64_t *words)
{
    uint64_t type = mhi_object_type(words);
    return type != 0 && mhi_targets_may_contain(targets, type) &&
           mhi_targets_find(targets, type).kind != MHI_TARGET_NONE;
}

/* Where in the block at `at` a pointer may lead, as bits. */
static void add_block(mhi_targets *targets, const uint64_t *heap, uint64_t at, uint64_t size)
{
    set_bit(targets->blocks, at / 16);
    if (size < 64)
        return;
    if (looks_like_object(targets, heap + at / 8)) {
        set_bit(targets->blocks, (at + MHI_OBJECT_BYTES) / 16);
        set_bit(targets->blocks, (at + MHI_OBJECT_TEXT) / 16);
    }
    if (looks_like_object(targets, heap + (at + MHI_OBJECT_COLLECTED) / 8))
        set_bit(targets->blocks, (at + MHI_OBJECT_COLLECTED) / 16);
}

/* Walks glibc's chunks: {size of the one before, own size with three flags, block}, each beginning where the last one
 * ends; the lowest flag says that the one before is in use. If another allocator uses the heap, the first sizes make no
 * sense, and nothing is learnt. */
static void read_blocks(mhi_targets *targets)
{
    uint64_t start = targets->brk->start, size = targets->brk->end - start;
    targets->brk_was_read = true;
    uint64_t *heap = malloc(size);
    targets->blocks = calloc(size / 16 / 64 + 1, sizeof *targets->blocks);
    if (heap == NULL || targets->blocks == NULL || !read_memory(targets, heap, start, size))
        size = 0;
    for (uint64_t at = 0; at + 32 <= size;) {
        uint64_t chunk_size = heap[at / 8 + 1] & ~7ull, next = at + chunk_size;
        if (chunk_size < 32 || chunk_size % 16 != 0 || chunk_size > size - at || next + 16 > size)
            break;
        if (heap[next / 8 + 1] & 1)
            add_block(targets, heap, at + 16, chunk_size - 16);
        at = next;
    }
    free(heap);
}

static bool is_in_low_block(mhi_targets *targets, uint64_t word)
{
    uint64_t i = (word - targets->brk->start) / 16;
    if (!targets->brk_was_read)
        read_blocks(targets);
    return targets->blocks != NULL && word % 16 == 0 && targets->blocks[i / 64] >> (i % 64) & 1;
}

mhi_evidence mhi_targets_weigh(mhi_targets *targets, uint64_t word, const mhi_target *target, bool in_large_block)
{
    if (target->kind == MHI_TARGET_MODULE)
        return in_large_block ? weigh_in_module(targets, word, target) : MHI_CERTAIN;          /* E1, E2 */
    if (target->mapping == targets->brk && word >> 32 == 0 && !is_in_low_block(targets, word)) /* E3 */
        return MHI_NO_POINTER;
    if (!in_large_block)
        return word % 8 == 0 ? MHI_CERTAIN : MHI_NO_POINTER;
    return word % 16 == 0 ? MHI_EVIDENT : MHI_WEAK;
}
