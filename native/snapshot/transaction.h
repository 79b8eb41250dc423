/* transaction.h - a transaction and the states it goes through.
 *
 *     mh_open --> WARM                                      attached: there is nothing to begin or to commit
 *             \-> COLD --> mh_begin --> BEGUN --> mh_commit --> COMMITTED
 *                                  \         \-> mh_commit or mh_abandon --> ENDED
 *                                   \-> REFUSED             no arena: the program runs on the ordinary heap
 */
#ifndef MHI_TRANSACTION_H
#define MHI_TRANSACTION_H
#include <stdatomic.h>

#include "heap/arena.h"
#include "heap/audit.h"
#include "snapshot/inputs.h"
#include "snapshot/writer.h"

enum { MHI_COLD, MHI_WARM, MHI_BEGUN, MHI_REFUSED, MHI_COMMITTED, MHI_ENDED };

struct mh_transaction {
    int state;                 /* MHI_COLD ... MHI_ENDED */
    char *path;                /* of the snapshot, absolute */
    uint64_t capacity_bytes;   /* as in mh_options */
    int audit_mode;            /* MH_AUDIT_* */
    mh_error reason;           /* why the run is cold; status MH_OK and a sentence if there was no snapshot to take */
    mh_error refusal;          /* REFUSED: what mh_begin said */
    mh_arena *arena;           /* NULL until attached or begun; never unmapped */
    void *root;                /* of this run; stored at commit */
    bool root_is_outside;      /* it is no address in the arena, so that it can't be committed */
    uint64_t *kept;            /* further addresses that a later run will use */
    size_t n_kept, kept_capacity;
    mhi_inputs variables;      /* the environment as mh_open found it */
    mhi_inputs inputs;         /* recorded so far */
    mhi_writer writer;         /* open while BEGUN */
    int process_id;            /* of the process that began */
    int64_t begun_ns;          /* coarse wall clock: file times after it may be of changes that came later */
    mhi_audit audit;           /* of the commit */
    atomic_uint_fast64_t done_bytes, total_bytes; /* progress of the commit, for other threads */
};

/* commit.c: makes the snapshot from a sealed arena. Leaves the writer open. */
int mhi_commit(mh_transaction *tx, mh_error *err);

#endif
