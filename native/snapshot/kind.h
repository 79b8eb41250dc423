/* kind.h - what differs between the kinds of snapshots: each fills this in, and nothing else here asks which it is.
 *
 * The heap's is in this room, the process's in native/resumable and native/process; native/kinds.c, which stands above
 * them all, has the list.
 */
#ifndef MHI_KIND_H
#define MHI_KIND_H
#include <stdbool.h>

#include "format.h"
#include "magicheap.h"

/* What is in the files of a kind, for library and launcher. The checks return NULL, or what is wrong as the end of a
 * sentence. */
typedef struct mhi_file_kind {
    uint32_t number;   /* MH_KIND_* */
    const char *name;  /* what it is a snapshot of */
    uint32_t n_tables; /* those that every kind has, and its own behind them */
    /* of what is this kind's in the header */
    const char *(*check_header)(const mhi_file_header *header);
    /* inputs and strings hold: of its own tables, as much as tells whether a run could take it; NULL: nothing */
    const char *(*check_front)(const struct mh_image *image);
    /* all tables are there: of segments, modules, relocations and its own, everything */
    const char *(*check_tables)(const struct mh_image *image);
} mhi_file_kind;

/* What a transaction of a kind does in its states (transaction.h). What the kind keeps for that hangs behind tx->own,
 * and is its own to free. */
typedef struct mhi_kind {
    const mhi_file_kind *file; /* of its snapshots */
    /* a run without a key is of any: only the program itself can tell its own */
    bool may_lack_key;
    /* keeps what the options say to this kind alone; on failure close is called all the same */
    int (*open)(mh_transaction *tx, const mh_options *options, mh_error *err);
    /* COLD: takes a snapshot of this kind that is sound and not stale; on failure the run stays cold */
    int (*take)(mh_transaction *tx, const struct mh_image *image, mh_error *err);
    /* COLD: with the writer open, does what the body needs; on failure nothing is begun */
    int (*begin)(mh_transaction *tx, mh_error *err);
    /* BEGUN: what mh_commit does; ends by mhi_transaction_settle if it has tried */
    int (*commit)(mh_transaction *tx, mh_error *err);
    /* BEGUN, in the process that began: gives up what was begun, but for the writer */
    void (*abandon)(mh_transaction *tx);
    /* frees what the kind keeps, also after an open that failed */
    void (*close)(mh_transaction *tx);
} mhi_kind;

extern const mhi_file_kind mhi_file_kind_heap; /* check.c */
extern const mhi_kind mhi_kind_heap;           /* heap.c */

/* native/kinds.c: all kinds of files; */
enum { MHI_N_KINDS = 2 };
extern const mhi_file_kind *const mhi_file_kinds[MHI_N_KINDS];
/* native/kinds.c: and what these options ask for. */
const mhi_kind *mhi_kind_of(const mh_options *options);

#endif
