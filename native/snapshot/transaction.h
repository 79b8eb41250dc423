/* transaction.h - a transaction and the states it goes through.
 *
 *     mh_open --> WARM                                      attached: nothing to begin or to commit
 *             \-> COLD --> mh_begin --> BEGUN --> mh_commit --> COMMITTED
 *                                  \         \-> mh_commit or mh_abandon --> ENDED
 *                                   \-> REFUSED             no arena: the program runs on the ordinary heap
 *
 * The kind defines the work in each state (kind.h): a heap snapshot is attached, and has an arena from mh_begin on.
 */
#ifndef MHI_TRANSACTION_H
#define MHI_TRANSACTION_H
#include <stdatomic.h>

#include "audit/audit.h"
#include "heap/arena.h"
#include "snapshot/inputs.h"
#include "snapshot/kind.h"
#include "snapshot/tables.h"
#include "snapshot/variants.h"
#include "snapshot/writer.h"

enum { MHI_COLD, MHI_WARM, MHI_BEGUN, MHI_REFUSED, MHI_COMMITTED, MHI_ENDED };

/* The progress of a commit, for other threads. */
typedef struct {
    bool counts_writing; /* each byte counts twice: when it was written, and when it is durable */
    atomic_uint_fast64_t done_bytes, total_bytes;
} mhi_progress;

struct mh_transaction {
    const mhi_kind *kind;
    void *own;                    /* the kind's; NULL: it keeps nothing */
    int state;                    /* MHI_COLD ... MHI_ENDED */
    char *path;                   /* of the snapshot, absolute: that of the first variant */
    mhi_slot slots[MHI_VARIANTS]; /* the variants as mh_open found them */
    int number;                   /* of the variant that was taken, or is to be committed */
    mhi_choice choice;            /* BEGUN: what the commit replaces */
    mh_error reason;      /* why the run is cold; status MH_OK and a sentence if there was no snapshot to take */
    mh_error refusal;     /* REFUSED: the error of mh_begin */
    mhi_inputs variables; /* the environment as mh_open found it */
    mhi_inputs inputs;    /* recorded so far */
    mhi_scope scope;
    uint64_t arguments; /* digest of the options' arguments */
    char *modules;      /* of mh_add_names; NULL: none */
    mhi_writer writer;  /* open while BEGUN */
    int process_id;     /* of the process that began */
    bool is_routing;    /* this transaction began routing or watching, and must end it */
    mhi_progress progress;

    void *root;              /* of this run; stored at commit. The members from here on belong to the heap's kind */
    uint64_t capacity_bytes; /* as in mh_options */
    int audit_mode;          /* MH_AUDIT_* */
    bool is_movable;         /* as in mh_options */
    mh_arena *arena;         /* NULL until attached or begun; never unmapped */
    uint64_t moved_bytes;    /* WARM: as mh_moved_bytes says */
    bool root_is_outside;    /* the root is no address in the arena, so it can't be committed */
    uint64_t *kept;          /* addresses of mh_keep */
    size_t n_kept, kept_capacity;
    mhi_audit audit; /* of the commit */
};

/* The environment that a transaction with these options records. */
char *const *mhi_options_environment(const mh_options *options);
/* The run that has these options; `key`: NULL: any. */
mhi_run mhi_options_run(const mh_options *options, const char *key);
/* Replaces a kept text, or NULL, by a copy of `text`; a NULL `text` counts as "". */
int mhi_keep_text(char **kept, const char *text, mh_error *err);
/* Whether this process is the one that began, not a forked child of it. */
bool mhi_transaction_is_ours(const mh_transaction *tx);
/* For the begin of a kind that routes no memory: questions are noted from here to mh_end. */
int mhi_transaction_watch(mh_error *err);
/* The commit was tried: closes the writer and returns the status. */
int mhi_transaction_settle(mh_transaction *tx, int status);

/* ---- commit.c ---- */

/* Records the inputs of every snapshot, besides those that the caller has added: libraries, machine, questions, and the
 * files that segments are mapped from. */
int mhi_commit_inputs(mhi_inputs *inputs, const mhi_inputs *variables, const mhi_scope *scope, const mhi_names *mapped,
                      mh_error *err);
/* A header without the kind's own fields, and without those that mhi_commit_file fills in. */
mhi_file_header mhi_commit_header(const mhi_file_kind *kind, const mhi_choice *choice);
/* The error where the kernel refused to write the new file. */
int mhi_commit_cannot_write(int result, const mhi_writer *writer, mh_error *err);
/* After the segments are written: writes the tables, makes the file durable, writes the header, publishes. Leaves the
 * writer open. */
int mhi_commit_file(mhi_writer *writer, mhi_progress *progress, mhi_file_header *header, const mhi_tables_source *from,
                    mh_error *err);

#endif
