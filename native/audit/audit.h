/* audit.h - finds every pointer that leaves an arena, before a commit makes it permanent.
 *
 * Starting from the root and the kept addresses it follows, conservatively, every aligned word of every live block that
 * may hold pointers. A word that points into a loaded module becomes a relocation; one that points into the ordinary
 * heap, a stack or any other mapping of this process is a finding: a later run could not follow it. Live blocks that no
 * pointer leads to are litter: counted and saved, but not judged, since a later run can't reach them.
 */
#ifndef MHI_AUDIT_H
#define MHI_AUDIT_H
#include "heap/arena.h"
#include "route/modules.h"

enum { MHI_FINDINGS_MAX = 64 };

typedef struct {
    uint64_t place;  /* of the word: offset from the arena's address */
    uint64_t target; /* offset from the module's base */
    uint32_t module; /* index */
} mhi_relocation;

typedef struct {
    mh_audit_summary summary;
    /* only modules that pointers lead into; a program at a fixed address has no relocations here */
    mhi_module *modules;
    uint32_t n_modules;
    mhi_relocation *relocations; /* by place */
    uint64_t n_relocations;
    mh_finding *findings; /* the first MHI_FINDINGS_MAX */
    uint32_t n_findings;
} mhi_audit;

/* Audits a sealed arena. `roots` are addresses in it. Fails only for want of memory or of /proc/self/maps; findings are
 * no failure. */
int mhi_audit_run(mhi_audit *audit, const mh_arena *arena, const uint64_t *roots, size_t n_roots, mh_error *err);
void mhi_audit_release(mhi_audit *audit); /* zeroed structs are allowed */

#endif
