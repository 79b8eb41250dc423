/* attach.c - maps the segments privately at their addresses and relocates the pointers into modules.
 *
 * The cost must not grow with the heap: two mappings and one madvise, whatever their size, and one store per
 * relocation. Pages come from the page cache when they are first touched, shared with every other process that has the
 * snapshot attached.
 */
#define _GNU_SOURCE
#include "snapshot/attach.h"

#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "error.h"
#include "route/modules.h"
#include "sys/sys.h"

/* Where one recorded module is in this process. */
typedef struct {
    uint64_t base, size_bytes;
    bool is_found, is_same_path;
} loaded;

typedef struct {
    const struct mh_image *image;
    loaded *modules;
} search;

static bool is_same_build(const mhi_file_module *was, const mhi_module *is)
{
    return was->mo_build_id_bytes > 0 && was->mo_build_id_bytes == is->build_id_bytes &&
           memcmp(was->mo_build_id, is->build_id, is->build_id_bytes) == 0;
}

/* Matches by build-id, since the library may lie at another path than at the commit. If two copies are loaded, the one
 * at the recorded path matches. A module without a build-id matches by its path; the inputs have shown that the file
 * there is the same. */
static bool match(void *context, const mhi_module *module)
{
    search *found = context;
    for (uint64_t i = 0; i < found->image->n_modules; i++) {
        const mhi_file_module *was = &found->image->modules[i];
        loaded *is = &found->modules[i];
        bool same_path = strcmp(mhi_image_string(found->image, was->mo_path), module->path) == 0;
        if (was->mo_build_id_bytes > 0 ? !is_same_build(was, module) : !same_path)
            continue;
        if (!is->is_found || (same_path && !is->is_same_path))
            *is = (loaded){ module->base, module->size_bytes, true, same_path };
    }
    return true;
}

static bool is_input(const struct mh_image *image, const char *path)
{
    for (uint64_t i = 0; i < image->n_inputs; i++)
        if (image->inputs[i].in_kind == MH_INPUT_LIBRARY &&
            strcmp(mhi_image_string(image, image->inputs[i].in_name), path) == 0)
            return true;
    return false;
}

/* Loads the modules that are missing and pins those that are loaded: the arena's pointers into them must stay valid,
 * and no dlclose pairs with them. Only a file that is an input, hence unchanged, is loaded. */
static int load_modules(const struct mh_image *image, const loaded *modules, bool *any_loaded, mh_error *err)
{
    for (uint64_t i = 0; i < image->n_modules; i++) {
        const char *path = mhi_image_string(image, image->modules[i].mo_path);
        if (modules[i].is_found) {
            /* fails for the program itself, which is never unloaded */
            dlopen(path, RTLD_NOW | RTLD_NOLOAD | RTLD_NODELETE);
            continue;
        }
        if (*path != '/' || !is_input(image, path))
            return mhi_fail(err, MH_ERR_STALE, 0, "pointers lead into %s, which is not loaded", path);
        if (dlopen(path, RTLD_NOW | RTLD_NODELETE) == NULL)
            return mhi_fail(err, MH_ERR_STALE, 0, "pointers lead into %s, which can't be loaded: %s", path, dlerror());
        *any_loaded = true;
    }
    return MH_OK;
}

static int find_modules(const struct mh_image *image, loaded *modules, mh_error *err)
{
    bool any_loaded = false;
    search found = { image, modules };
    mhi_modules_each(match, &found);
    int status = load_modules(image, modules, &any_loaded, err);
    if (status == MH_OK && any_loaded)
        mhi_modules_each(match, &found);
    for (uint64_t i = 0; i < image->n_modules && status == MH_OK; i++)
        if (!modules[i].is_found || modules[i].size_bytes < image->modules[i].mo_bytes)
            status = mhi_fail(err, MH_ERR_STALE, 0, "pointers lead into %s, of which another build is loaded",
                              mhi_image_string(image, image->modules[i].mo_path));
    return status;
}

/* The whole range in one piece, so that no other mapping can settle between meta and data. */
static int reserve(uint64_t address, uint64_t size, mh_error *err)
{
    void *reserved;
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    int result = mhi_sys_mmap(&reserved, (void *)address, size, PROT_NONE, flags, -1, 0);
    if (result == 0 && (uint64_t)reserved != address) { /* kernels before 4.17 treat the address as a hint */
        mhi_sys_munmap(reserved, size);
        result = -EEXIST;
    }
    if (result == -EEXIST)
        return mhi_fail(err, MH_ERR_BUSY, EEXIST,
                        "something else is mapped between 0x%" PRIx64 " and 0x%" PRIx64 ", where the snapshot belongs",
                        address, address + size);
    return result < 0 ? mhi_fail_sys(err, result, "cannot reserve %" PRIu64 " bytes of address space", size) : MH_OK;
}

static int map_segments(const struct mh_image *image, uint64_t moved_bytes, mh_error *err)
{
    for (uint64_t i = 0; i < image->n_segments; i++) {
        const mhi_file_segment *segment = &image->segments[i];
        void *mapped, *address = (void *)(segment->sg_address + moved_bytes);
        int flags = MAP_PRIVATE | MAP_NORESERVE | MAP_FIXED;
        int result = segment->sg_bytes == 0 ? 0
                                            : mhi_sys_mmap(&mapped, address, segment->sg_bytes, (int)segment->sg_prot,
                                                           flags, image->fd, segment->sg_offset);
        if (result < 0)
            return mhi_fail_sys(err, result, "cannot map %" PRIu64 " bytes of %s", segment->sg_bytes, image->path);
        /* pages evicted from the page cache are read back as huge pages, where kernel and file system can */
        if (segment->sg_kind == MH_SEGMENT_ARENA)
            mhi_sys_madvise(address, segment->sg_bytes, MADV_HUGEPAGE);
    }
    return MH_OK;
}

static void relocate(const struct mh_image *image, uint64_t moved_bytes, const loaded *modules)
{
    for (uint64_t i = 0; i < image->n_relocations; i++) {
        const mhi_file_relocation *relocation = &image->relocations[i];
        uint64_t *word = (uint64_t *)(image->header.hd_address + moved_bytes + relocation->rl_place);
        *word = modules[relocation->rl_module].base + relocation->rl_target;
    }
}

/* Finds the snapshot's own address or, if this process has attached this very snapshot there, another address. Why is
 * the attached arena not handed out again? The program and its libraries may have written to that memory, or may do so
 * later, and two loads of a plain run never share their results. A second private mapping of the file holds the
 * committed bytes, and costs neither a copy nor a comparison of gigabytes. But pointers inside do not survive the move:
 * the caller must know that none matters. If anything else lies at the address, or a newer snapshot of the same name is
 * attached there, the address is busy. */
static int find_place(uint64_t *moved_bytes, const struct mh_image *image, uint64_t size, bool is_movable,
                      mh_error *err)
{
    const mhi_file_header *header = &image->header;
    uint64_t address, home = header->hd_address;
    *moved_bytes = 0;
    int status = reserve(home, size, err);
    if (status != MH_ERR_BUSY || !is_movable || !mhi_arena_is_at(home, header->hd_checksum))
        return status;
    status = mhi_arena_reserve(&address, (home - MHI_REGION_START) / MHI_SLOT_BYTES, size, err);
    *moved_bytes = address - home;
    return status;
}

static int map_arena(mh_arena **arena, uint64_t *moved_bytes, const struct mh_image *image, const loaded *modules,
                     bool is_movable, mh_error *err)
{
    const mhi_file_header *header = &image->header;
    uint64_t size = header->hd_data_offset + header->hd_data_bytes;
    int status = find_place(moved_bytes, image, size, is_movable, err);
    if (status != MH_OK)
        return status;
    mhi_arena_layout layout = {
        .address = header->hd_address + *moved_bytes,
        .capacity_bytes = header->hd_capacity_bytes,
        .meta_bytes = header->hd_meta_bytes,
        .data_offset = header->hd_data_offset,
        .data_bytes = header->hd_data_bytes,
        .live_blocks = header->hd_live_blocks,
        .moved_bytes = *moved_bytes,
    };
    status = map_segments(image, *moved_bytes, err);
    if (status == MH_OK) {
        relocate(image, *moved_bytes, modules);
        status = mhi_arena_adopt(arena, &layout, err);
    }
    if (status == MH_OK)
        mhi_arena_set_identity(*arena, header->hd_checksum);
    else
        mhi_sys_munmap((void *)layout.address, size);
    return status;
}

int mhi_attach(mh_arena **arena, uint64_t *moved_bytes, const struct mh_image *image, bool is_movable, mh_error *err)
{
    *arena = NULL;
    *moved_bytes = 0;
    loaded *modules = calloc(image->n_modules + 1, sizeof *modules);
    if (modules == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    int status = find_modules(image, modules, err);
    if (status == MH_OK)
        status = mhi_arena_begin_adopting(err); /* another thread may be attaching the same snapshot */
    if (status == MH_OK) {
        status = map_arena(arena, moved_bytes, image, modules, is_movable, err);
        mhi_arena_end_adopting();
    }
    free(modules);
    return status;
}
