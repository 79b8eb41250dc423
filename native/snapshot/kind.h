/* kind.h - what differs between the kinds of snapshots: each kind fills these structs in, and no other code in this
 * directory asks for the kind.
 *
 * The heap's structs are in this directory, those of the process in native/resumable and native/process.
 * native/kinds.c, above them all, has the list.
 */
#ifndef MHI_KIND_H
#define MHI_KIND_H
#include <stdbool.h>

#include "format.h"
#include "magicheap.h"

/* The content of a kind's files, for library and launcher. The checks return NULL, or the defect as the end of a
 * sentence. */
typedef struct mhi_file_kind {
    uint32_t number;   /* MH_KIND_* */
    const char *name;  /* what is kept: the word in messages */
    uint32_t n_tables; /* the tables that every kind has, and the kind's own behind them */
    /* the fields of the header that only this kind uses */
    const char *(*check_header)(const mhi_file_header *header);
    /* inputs and strings are checked: checks the kind's own tables, as far as a run needs them to decide; NULL: none */
    const char *(*check_front)(const struct mh_image *image);
    /* all tables are read: checks segments, modules, relocations and the kind's own tables completely */
    const char *(*check_tables)(const struct mh_image *image);
} mhi_file_kind;

/* The steps of a kind's transactions in their states (transaction.h). The kind keeps its data behind tx->own, and frees
 * it. */
typedef struct mhi_kind {
    const mhi_file_kind *file; /* of its snapshots */
    /* a run without a key matches any key: only the program itself knows its own */
    bool may_lack_key;
    /* keeps the options of this kind alone; close is called even if this fails */
    int (*open)(mh_transaction *tx, const mh_options *options, mh_error *err);
    /* COLD: takes a snapshot of this kind, which is sound and not stale; on failure the run stays cold */
    int (*take)(mh_transaction *tx, const struct mh_image *image, mh_error *err);
    /* COLD: with the writer open, prepares for the body; on failure nothing is begun */
    int (*begin)(mh_transaction *tx, mh_error *err);
    /* BEGUN: the work of mh_commit; ends with mhi_transaction_settle once a commit was tried */
    int (*commit)(mh_transaction *tx, mh_error *err);
    /* BEGUN, in the process that began: gives the transaction up, except for the writer */
    void (*abandon)(mh_transaction *tx);
    /* frees the kind's data, also after an open that failed */
    void (*close)(mh_transaction *tx);
} mhi_kind;

extern const mhi_file_kind mhi_file_kind_heap; /* check.c */
extern const mhi_kind mhi_kind_heap;           /* heap.c */

/* native/kinds.c: all kinds of files. */
enum { MHI_N_KINDS = 2 };
extern const mhi_file_kind *const mhi_file_kinds[MHI_N_KINDS];
/* native/kinds.c: the kind that these options ask for. */
const mhi_kind *mhi_kind_of(const mh_options *options);

#endif
