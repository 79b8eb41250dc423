/* targets.h - the target of a word in this process, and the evidence that the word is a pointer. */
#ifndef MHI_AUDIT_TARGETS_H
#define MHI_AUDIT_TARGETS_H
#include "arch/arch.h"
#include "base/maps.h"
#include "route/modules.h"

enum {
    MHI_TARGET_NONE = 0,
    MHI_TARGET_MODULE = -1,
    MHI_TARGET_PROGRAM = -2 /* one at a fixed address */ /* else MH_TARGET_* */
};

typedef struct {
    int kind;
    uint32_t module;            /* of MHI_TARGET_MODULE and MHI_TARGET_PROGRAM */
    const ElfW(Phdr) * segment; /* likewise: a copy */
    const mhi_mapping *mapping; /* else */
} mhi_target;

/* The criteria are in targets.c. */
typedef enum { MHI_NO_POINTER, MHI_WEAK, MHI_EVIDENT, MHI_CERTAIN } mhi_evidence;

typedef struct {
    mhi_module module;
    ElfW(Phdr) * headers;
    size_t n_headers;
    uint64_t bias;
    int32_t *functions; /* starts of functions, from frames_at; sorted; read at the first use */
    uint32_t n_functions;
    uint64_t frames_at; /* .eh_frame_hdr, or 0 */
} mhi_target_module;

typedef struct {
    mhi_target_module *modules; /* by address */
    uint32_t n_modules;
    mhi_maps maps;
    uint64_t lowest, span_bytes;                   /* all mappings lie in this range */
    uint8_t windows[1 << (MHI_ADDRESS_BITS - 32)]; /* of 4 GiB each: is anything mapped there? */
    int memory_fd;                                 /* /proc/self/mem */
    const mhi_mapping *brk;                        /* "[heap]", or NULL */
    /* one bit per 16 bytes of brk: a pointer may lead there; read at the first use */
    uint64_t *blocks;
    bool brk_was_read;
} mhi_targets;

int mhi_targets_read(mhi_targets *targets, mh_error *err);
void mhi_targets_release(mhi_targets *targets); /* zeroed structs are allowed */

/* False for nearly every number, at the cost of a subtraction and a load. */
static inline bool mhi_targets_may_contain(const mhi_targets *targets, uint64_t word)
{
    return word - targets->lowest < targets->span_bytes && targets->windows[word >> 32];
}

mhi_target mhi_targets_find(const mhi_targets *targets, uint64_t word);
mhi_evidence mhi_targets_weigh(mhi_targets *targets, uint64_t word, const mhi_target *target, bool in_large_block);

#endif
