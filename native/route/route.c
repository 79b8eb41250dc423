/* route.c - which modules are routed, and how and when their slots are patched.
 *
 * P1  Every scan happens inside dl_iterate_phdr, whose lock guards the bookkeeping too and keeps dlclose from unmapping
 *     what we patch.
 * P2  A module's slots are found once, from its relocations; every scan compares their values again, and replaces those
 *     that hold the real function, or the linker's resolver that would find it. So the next scan also patches a slot
 *     that the resolver wrote at the same moment, a library that was closed and opened again, and a module that was
 *     half-loaded.
 * P3  A slot that holds anything else is left alone: a library with a malloc or operator new of its own keeps it.
 * P4  Patching may happen while other threads call through the slot, one word at a time in any order: a block from a
 *     patched slot could reach an unpatched free. So all slots are patched, and compared once more, before the first
 *     allocation is routed.
 *
 * Libraries that are loaded later. The caller of dlopen reaches a loaded library through dlsym. So both functions are
 * replaced: the replacements scan first, and then jump to the real function, which sees its true caller (whose RUNPATH
 * and $ORIGIN are looked up by return address). A library whose constructors hand out its functions is used without
 * dlsym. Therefore the allocations after a dlopen also look at the linker's count of modules, until the next dlsym or
 * for RECHECKS allocations. That also finds libraries that libc loads by itself (iconv, nss).
 */
#define _GNU_SOURCE
#include "route/route.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "error.h"
#include "route/allocations.h"
#include "route/calls.h"
#include "route/got.h"
#include "route/modules.h"
#include "route/questions.h"
#include "route/entropy.h"
#include "route/reads.h"
#include "route/streams.h"

/* arbitrary: these cost half a millisecond in all, and the constructors of a large library allocate less often */
enum { RECHECKS = 10000 };

/* OURS is like KEPT, but only the GOT is patched: our data holds the addresses of the real functions, which must
 * stay. */
typedef enum { ALONE, OURS, KEPT, ROUTED } policy;

typedef struct module_entry {
    uint64_t start, end;
    char *path;
    policy policy;
    uint8_t owner; /* owner byte of its blocks, MHI_BLOCK_DATA included */
    mhi_slot *slots;
    size_t n_slots;
    uint64_t scan; /* the last scan that saw it */
} module_entry;

/* Guarded by the lock of dl_iterate_phdr, as P1 says. */
static struct {
    module_entry *modules;
    size_t n_modules;
    uint64_t scan; /* number of the current scan */
    bool scanning;
    unsigned long long adds, subs; /* the linker's counts when the last complete scan was made */
    uint64_t real[MHI_N_CALLS];    /* the real functions; 0: unknown yet */
    uint64_t plt[MHI_N_CALLS];     /* the program's PLT entry that serves as the function's address, or 0 */
    bool is_first[MHI_N_CALLS];    /* a slot that is still lazy will be bound to `real` */
} state;

/* Append-only, read without a lock. */
static char *_Atomic owner_paths[MHI_OWNER_LAST + 1];
static atomic_bool begun;

typedef enum { SCAN_IF_CHANGED /* modules were loaded or unloaded */, SCAN_SLOTS, SCAN_SLOTS_AND_HOOKS } scan_extent;

typedef struct {
    scan_extent extent;
    bool is_complete; /* every module in the list was ready */
    mhi_got_pass pass;
    int status;
    mh_error *err;
} module_scan;

typedef void (*function)(void);

/* MHI_ALLOCATES and MHI_OPERATOR are patched too, for good: there may be arena blocks */
static atomic_bool patches_memory;

static atomic_bool patches_raw; /* MHI_RAW is patched too, for good */

static bool is_watched(mhi_role role) { return role == MHI_OPENS || role == MHI_ASKS || role == MHI_DRAWS; }

static bool is_patched(mhi_role role)
{
    return role == MHI_LINKS || is_watched(role) || atomic_load(role == MHI_RAW ? &patches_raw : &patches_memory);
}

/* ---- The real functions ---- */

typedef struct {
    uint64_t real[MHI_N_CALLS];
    bool is_defined[MHI_N_CALLS]; /* by a module before this one */
} resolution;

/* The linker binds an ordinary library to the first definition in the order of loading, be it an LD_PRELOADed one or
 * ASan's. For operator new only libstdc++'s definition counts, since only its delete is known to end in free. */
static int resolve_in_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    resolution *found = context;
    mhi_elf elf;
    if (!mhi_elf_read(&elf, info) || !mhi_elf_is_ready(&elf))
        return 0;
    for (int i = 0; i < MHI_N_CALLS; i++) {
        uint64_t address = mhi_elf_find(&elf, mhi_calls[i].name);
        bool may_be = mhi_calls[i].role != MHI_OPERATOR || mhi_begins(mhi_path_name(elf.path), "libstdc++.so");
        if (address != 0 && found->real[i] == 0 && may_be) {
            found->real[i] = address;
            state.is_first[i] = !found->is_defined[i];
        }
        found->is_defined[i] |= address != 0;
        if (elf.path[0] == '\0' && state.plt[i] == 0)
            state.plt[i] = mhi_elf_find_plt(&elf, mhi_calls[i].name);
    }
    return 0;
}

/* Runs in every scan, since libstdc++ may be loaded late and unloaded. Entries that have not changed are never cleared
 * in between, because mhi_before_dlsym reads them without the lock. */
static void resolve(void)
{
    resolution found = { 0 };
    dl_iterate_phdr(resolve_in_module, &found);
    for (int i = 0; i < MHI_N_CALLS; i++) {
        function real = (function)(state.real[i] = found.real[i]);
        if (mhi_calls[i].real != NULL && real != NULL && *mhi_calls[i].real != real)
            *mhi_calls[i].real = real;
    }
}

/* ---- Modules ---- */

static uint8_t owner_of(const char *path)
{
    uint8_t owner = MHI_OWNER_FIRST;
    for (; owner <= MHI_OWNER_LAST && owner_paths[owner] != NULL; owner++)
        if (strcmp(owner_paths[owner], path) == 0)
            return owner;
    char *copy = owner > MHI_OWNER_LAST ? NULL : mhi_copy_text(path);
    if (copy == NULL)
        return MHI_OWNER_OTHERS;
    owner_paths[owner] = copy;
    return owner;
}

/* numpy keeps its own structures in the interpreter's memory, and uses malloc only for the elements of arrays. */
static bool allocates_data_only(const char *path)
{
    return strstr(path, "/numpy/_core/_multiarray_umath.") != NULL ||
           strstr(path, "/numpy/core/_multiarray_umath.") != NULL;
}

/* Modules are recognised by the symbols that they define: ourselves (libc may allocate arena blocks for us, as strdup
 * does, which our free must recognise); the linker (it frees only its own allocations); an allocator that replaces
 * libc's (its calls are not those of a user); Python. */
static policy policy_of(const mhi_elf *elf)
{
    uint64_t real_malloc = state.real[mhi_call_lookup("malloc")];
    bool is_libc = mhi_begins(mhi_path_name(elf->path), "libc.so");
    if (mhi_elf_contains(elf, (uint64_t)&state))
        return OURS;
    if (mhi_elf_find(elf, "__tls_get_addr") != 0)
        return ALONE;
    if (mhi_elf_contains(elf, real_malloc) && !is_libc)
        return ALONE;
    return mhi_elf_find(elf, "PyMem_RawMalloc") != 0 ? KEPT : ROUTED;
}

static bool learn_module(module_entry *module, const mhi_elf *elf)
{
    char path[PATH_MAX];
    *module = (module_entry){ .start = elf->start, .end = elf->end, .policy = policy_of(elf) };
    if (!mhi_elf_path(elf, path, sizeof path) || (module->path = mhi_copy_text(path)) == NULL)
        return false;
    if (module->policy == ROUTED)
        module->owner = (uint8_t)(owner_of(path) | (allocates_data_only(path) ? MHI_BLOCK_DATA : 0));
    if (module->policy != ALONE && !mhi_got_collect(&module->slots, &module->n_slots, elf, mhi_call_lookup)) {
        free(module->path);
        return false;
    }
    return true;
}

static void forget_module(module_entry *module)
{
    free(module->slots);
    free(module->path);
    *module = state.modules[--state.n_modules];
}

/* The entry of a module, made if there is none; NULL for want of memory. */
static module_entry *find_module(const mhi_elf *elf)
{
    for (size_t i = 0; i < state.n_modules; i++) {
        module_entry *known = &state.modules[i];
        if (known->start == elf->start && known->end == elf->end &&
            (elf->path[0] == '\0' || strcmp(known->path, elf->path) == 0))
            return known;
    }
    module_entry *larger = reallocarray(state.modules, state.n_modules + 1, sizeof *larger);
    if (larger == NULL)
        return NULL;
    state.modules = larger;
    return learn_module(&larger[state.n_modules], elf) ? &larger[state.n_modules++] : NULL;
}

/* ---- Patching ---- */

/* Whether the slot leads to the real function, or will once it is bound. */
static bool is_real(const mhi_elf *elf, const mhi_slot *slot, uint64_t value)
{
    uint32_t i = slot->symbol;
    if (state.real[i] == 0 || value == 0)
        return false;
    if (value == state.real[i] || value == state.plt[i])
        return true;
    bool is_unbound = slot->is_lazy && mhi_elf_contains(elf, value) && value != mhi_elf_find(elf, mhi_calls[i].name);
    return is_unbound && state.is_first[i];
}

/* The replacement of a call in this module; 0: it is not replaced there. */
static uint64_t replacement(const module_entry *module, uint32_t call)
{
    /* our own questions are not the body's */
    if (!is_patched(mhi_calls[call].role) || (module->policy == OURS && is_watched(mhi_calls[call].role)))
        return 0;
    return module->policy == ROUTED ? mhi_call_stub((int)call, module->owner) : (uint64_t)mhi_calls[call].kept;
}

static void patch(module_scan *scan, const module_entry *module, uint64_t place, uint64_t expected, uint32_t call)
{
    uint64_t value = replacement(module, call);
    /* in our own module, a replacement looks like a slot that is still lazy */
    if (value == 0 || value == expected || scan->status != MH_OK)
        return;
    scan->status = mhi_got_write(&scan->pass, place, expected, value, scan->err);
}

static void patch_slots(module_scan *scan, const module_entry *module, const mhi_elf *elf)
{
    for (size_t i = 0; i < module->n_slots; i++) {
        uint64_t value = __atomic_load_n((uint64_t *)module->slots[i].place, __ATOMIC_RELAXED);
        if (is_real(elf, &module->slots[i], value) && !(module->policy == OURS && !module->slots[i].in_got))
            patch(scan, module, module->slots[i].place, value, module->slots[i].symbol);
    }
}

typedef struct { uint64_t low, high; } range;

/* The range of the hook functions among these addresses: a few kilobytes of libc, or of the program's PLT. */
static range hook_range(const uint64_t *addresses)
{
    range r = { UINT64_MAX, 0 };
    for (int i = 0; i < MHI_N_CALLS; i++) {
        if (mhi_calls[i].role != MHI_ALLOCATES || addresses[i] == 0)
            continue;
        r.low = addresses[i] < r.low ? addresses[i] : r.low;
        r.high = addresses[i] > r.high ? addresses[i] : r.high;
    }
    return r;
}

/* Index of the hook function with this address, or -1. */
static int find_hook(uint64_t value)
{
    for (int i = 0; i < MHI_N_CALLS; i++)
        if (mhi_calls[i].role == MHI_ALLOCATES && (value == state.real[i] || value == state.plt[i]))
            return i;
    return -1;
}

/* Function pointers that a library has set at run time: words of its writable data that equal the address of malloc or
 * its like. (The interpreter's own pointers lead to its own functions.) Reads all writable data, including the redzones
 * of AddressSanitizer. */
__attribute__((no_sanitize("address"))) static void patch_hooks(module_scan *scan, const module_entry *module,
                                                                const mhi_elf *elf)
{
    range real = hook_range(state.real), plt = hook_range(state.plt);
    for (size_t i = 0; i < elf->n_headers; i++) {
        const ElfW(Phdr) *header = &elf->headers[i];
        if (header->p_type != PT_LOAD || !(header->p_flags & PF_W))
            continue;
        uint64_t *word = (uint64_t *)((elf->bias + header->p_vaddr + 7) & ~7ull);
        const uint64_t *end = (const uint64_t *)((elf->bias + header->p_vaddr + header->p_memsz) & ~7ull);
        for (; word < end; word++) {
            uint64_t value = __atomic_load_n(word, __ATOMIC_RELAXED);
            bool may_be = (value >= real.low && value <= real.high) || (value >= plt.low && value <= plt.high);
            int hook = may_be ? find_hook(value) : -1;
            if (hook >= 0)
                patch(scan, module, (uint64_t)word, value, (uint32_t)hook);
        }
    }
}

/* ---- Scans ---- */

static int scan_module(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    module_scan *scan = context;
    mhi_elf elf;
    if (!mhi_elf_read(&elf, info))
        return 0;
    if (!mhi_elf_is_ready(&elf)) {
        scan->is_complete = false;
        return 0;
    }
    size_t n_known = state.n_modules;
    module_entry *module = find_module(&elf);
    if (module == NULL) {
        scan->status = mhi_fail(scan->err, MH_ERR_SYSTEM, ENOMEM, "no memory to route %s", elf.path);
        return 1;
    }
    module->scan = state.scan;
    if (module->policy == ALONE)
        return 0;
    patch_slots(scan, module, &elf);
    bool is_due = scan->extent == SCAN_SLOTS_AND_HOOKS || state.n_modules > n_known;
    if (module->policy == ROUTED && is_due && atomic_load(&patches_memory))
        patch_hooks(scan, module, &elf);
    return scan->status != MH_OK;
}

/* Called by the outer dl_iterate_phdr for its first module only: the walk over all modules is nested in it, so that P1
 * holds for the whole scan. `scanning` stops the recursion through an allocator below us that calls dlsym. */
static int scan_locked(struct dl_phdr_info *info, size_t size, void *context)
{
    (void)size;
    module_scan *scan = context;
    if (state.scanning ||
        (scan->extent == SCAN_IF_CHANGED && info->dlpi_adds == state.adds && info->dlpi_subs == state.subs))
        return 1;
    state.scanning = true;
    state.scan++;
    resolve();
    dl_iterate_phdr(scan_module, scan);
    mhi_got_finish(&scan->pass);
    if (scan->status == MH_OK && scan->is_complete) {
        for (size_t i = state.n_modules; i-- > 0;)
            if (state.modules[i].scan != state.scan)
                forget_module(&state.modules[i]);
        state.adds = info->dlpi_adds;
        state.subs = info->dlpi_subs;
    }
    state.scanning = false;
    return 1;
}

static int scan_all(scan_extent extent, mh_error *err)
{
    module_scan scan = { .extent = extent, .is_complete = true, .err = err };
    mhi_modules_walk(scan_locked, &scan);
    return scan.status;
}

void mhi_route_recheck(void)
{
    int saved_errno = errno;
    atomic_fetch_sub_explicit(&mhi_route_rechecks, 1, memory_order_relaxed);
    scan_all(SCAN_IF_CHANGED, NULL);
    errno = saved_errno;
}

/* Nothing is routed or noted, and there are no arena blocks: new libraries may stay unpatched. */
static bool is_idle(void) { return !atomic_load(&begun) && !atomic_load(&patches_memory); }

void mhi_before_dlopen(void)
{
    if (is_idle())
        return;
    scan_all(SCAN_IF_CHANGED, NULL);
    atomic_store_explicit(&mhi_route_rechecks, RECHECKS, memory_order_relaxed);
}

void *mhi_before_dlsym(void *handle, const char *name)
{
    if (is_idle())
        return NULL;
    scan_all(SCAN_IF_CHANGED, NULL);
    atomic_store_explicit(&mhi_route_rechecks, 0, memory_order_relaxed);
    int call = handle == RTLD_NEXT ? -1 : mhi_call_lookup(name);
    mhi_role role = call < 0 ? MHI_LINKS : mhi_calls[call].role;
    if ((role != MHI_ALLOCATES && !is_watched(role)) || !is_patched(role))
        return NULL;
    uint64_t found = (uint64_t)mhi_real_dlsym(handle, name);
    bool is_replaced = found != 0 && (found == state.real[call] || found == state.plt[call]);
    return is_replaced ? (void *)mhi_call_stub(call, MHI_OWNER_OTHERS) : NULL;
}

/* ---- Begin and end ---- */

/* Pins this library: slots lead into it from here on, so it must not be unloaded. (If we are linked into the program
 * itself, dlopen finds no file, or does no harm.) */
static void stay_loaded(void)
{
    Dl_info info;
    if (dladdr(&state, &info) != 0 && info.dli_fname != NULL)
        mhi_real_dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

int mhi_route_guard(mh_error *err)
{
    stay_loaded();
    atomic_store(&patches_memory, true);
    int status = scan_all(SCAN_SLOTS_AND_HOOKS, err);
    bool has_interpreter = state.real[mhi_call_lookup("PyMem_RawMalloc")] != 0;
    if (status == MH_OK && has_interpreter && !atomic_load(&patches_raw) && mhi_raw_is_plain()) {
        atomic_store(&patches_raw, true);
        status = scan_all(SCAN_SLOTS, err);
    }
    return status == MH_OK ? scan_all(SCAN_SLOTS, err) : status; /* P4 */
}

static int watch(mh_error *err)
{
    stay_loaded();
    return scan_all(SCAN_SLOTS, err);
}

static atomic_bool is_standing; /* begun by mhi_route_stand, and by no transaction yet */

static int begin(int (*patch_all)(mh_error *), mh_error *err)
{
    bool goes_on = atomic_exchange(&begun, true);
    if (goes_on && !atomic_exchange(&is_standing, false))
        return mhi_fail(err, MH_ERR_BUSY, 0, "another transaction is active in this process");
    int status = patch_all(err);
    if (status == MH_OK) {
        mhi_questions_begin();
        mhi_entropy_begin();
        if (!goes_on) {
            mhi_streams_begin();
            mhi_reads_begin(false);
        }
    } else {
        atomic_store(&begun, false);
    }
    return status;
}

int mhi_route_watch(mh_error *err) { return begin(watch, err); }

int mhi_route_stand(mh_error *err)
{
    int status = begin(watch, err);
    atomic_store(&is_standing, status == MH_OK);
    return status;
}

void mhi_route_stand_down(void)
{
    if (atomic_exchange(&is_standing, false))
        mhi_route_end();
}

int mhi_route_begin(mh_arena *arena, mh_error *err)
{
    int status = begin(mhi_route_guard, err);
    if (status == MH_OK)
        atomic_store_explicit(&mhi_route_target, arena, memory_order_release);
    return status;
}

void mhi_route_end(void)
{
    atomic_store(&mhi_route_target, NULL);
    mhi_questions_end();
    mhi_entropy_end();
    atomic_store(&begun, false);
}

const char *mhi_route_owner_path(uint8_t owner)
{
    owner &= MHI_OWNER_MASK;
    const char *path = owner <= MHI_OWNER_LAST ? owner_paths[owner] : "other libraries";
    return path == NULL ? "" : path;
}
