/* transaction.h - a transaction and the states it goes through.
 *
 *     mh_open --> WARM                                      attached: there is nothing to begin or to commit
 *             \-> COLD --> mh_begin --> BEGUN --> mh_commit --> COMMITTED
 *                                  \         \-> mh_commit or mh_abandon --> ENDED
 *                                   \-> REFUSED             no arena: the program runs on the ordinary heap
 *
 * A process transaction is never WARM: it is COLD and may be resumable. BEGUN has no arena, and routes nothing: it only
 * notes which files are opened. native/process commits it.
 */
#ifndef MHI_TRANSACTION_H
#define MHI_TRANSACTION_H
#include <stdatomic.h>

#include "heap/arena.h"
#include "audit/audit.h"
#include "snapshot/inputs.h"
#include "snapshot/variants.h"
#include "snapshot/writer.h"

/* Zero in a process snapshot. */
typedef struct {
    void *address;
    uint64_t size_bytes;
} mhi_scrub;

enum { MHI_COLD, MHI_WARM, MHI_BEGUN, MHI_REFUSED, MHI_COMMITTED, MHI_ENDED };

struct mh_transaction {
    int state;                    /* MHI_COLD ... MHI_ENDED */
    char *path;                   /* of the snapshot, absolute: of the first of its variants */
    mhi_slot slots[MHI_VARIANTS]; /* as mh_open found them */
    int number;                   /* of the variant: which was attached, or may be resumed, or is to be committed */
    mhi_choice choice;            /* BEGUN: what the commit replaces */
    uint64_t capacity_bytes;      /* as in mh_options */
    int audit_mode;               /* MH_AUDIT_* */
    mh_error reason;      /* why the run is cold; status MH_OK and a sentence if there was no snapshot to take */
    mh_error refusal;     /* REFUSED: what mh_begin said */
    mh_arena *arena;      /* NULL until attached or begun; never unmapped */
    uint64_t moved_bytes; /* WARM: as mh_moved_bytes says */
    void *root;           /* of this run; stored at commit */
    bool root_is_outside; /* it is no address in the arena, so that it can't be committed */
    uint64_t *kept;       /* further addresses that a later run will use */
    size_t n_kept, kept_capacity;
    mhi_inputs variables; /* the environment as mh_open found it */
    mhi_inputs inputs;    /* recorded so far */
    mhi_scope scope;
    uint64_t arguments;                           /* digest of the options' arguments */
    char *modules;                                /* of mh_add_names; NULL: none */
    mhi_writer writer;                            /* open while BEGUN */
    int process_id;                               /* of the process that began */
    bool is_routing;                              /* what route.h has begun is ours to end */
    mhi_audit audit;                              /* of the commit */
    atomic_uint_fast64_t done_bytes, total_bytes; /* progress of the commit, for other threads */

    bool is_process;         /* the rest is of process transactions */
    uint64_t resumable;      /* hd_checksum of the snapshot that may be resumed; 0: none */
    char *program, *command; /* as in mh_options; never NULL */
    mhi_scrub *scrubs;
    size_t n_scrubs, scrubs_capacity;
    int *held; /* descriptors that the caller opens again by itself */
    size_t n_held;
    struct mhi_capture *capture; /* shared with the child, while armed */
};

/* The environment that a transaction with these options looks at. */
char *const *mhi_options_environment(const mh_options *options);
/* The run that has these options; `key`: NULL: any. */
mhi_run mhi_options_run(const mh_options *options, const char *key);
/* Whether this process is the one that began, not a forked child of it. */
bool mhi_transaction_is_ours(const mh_transaction *tx);
/* commit.c: makes the snapshot from a sealed arena. Leaves the writer open. */
int mhi_commit(mh_transaction *tx, mh_error *err);

/* commit.c: records what every snapshot depends on: libraries, machine, and files that libraries opened. */
int mhi_commit_inputs(mh_transaction *tx, mh_error *err);
struct mhi_process_tables;
/* commit.c: all that comes after the segments: tables, durability, header, publication. */
int mhi_commit_rest(mh_transaction *tx, mhi_file_header *header, const mhi_file_segment *segments, size_t n_segments,
                    const struct mhi_process_tables *process, mh_error *err);

#endif
