/* process.h - the commit of a process: how the files of this layer work together.
 *
 *     kind.c        a transaction of a process until its commit, and the replacement of this process by a snapshot
 *     fork.c        the commit is a fork: our fork handlers, and the state of a resumed process
 *     capture.c     in the child: stores the pages that the process had written, and lists its address space
 *     rehearsal.c   in the child, after the capture: finds the pages that every resumed process writes to
 *     commit.c      in the parent: turns the capture into a published snapshot
 *     descriptors.c, obstacles.c    the files that are opened again, and what can't be carried
 *     threads.c     the other threads: stopped before a copy of the process is written, revived in a resumed one
 *     state.c       the kernel's state of the process besides its memory, at the start and now
 *
 * Parent and child share one area of memory, the capture. It lies in the launcher's region, so no image contains it.
 */
#ifndef MHI_PROCESS_H
#define MHI_PROCESS_H
#include "base/maps.h"
#include "format.h"
#include "magicheap.h"
#include "process/descriptors.h"
#include "process/obstacles.h"
#include "python/pymalloc.h"
#include "snapshot/transaction.h"

enum {
    /* four times the kernel's default limit of mappings; unused ones take no memory */
    MHI_CAPTURE_SEGMENTS = 1 << 18,
    MHI_CAPTURE_NAMES = 8 << 20, /* bytes; paths of mapped files, each once in a row */
    MHI_CAPTURE_SIGNALS = 64,
    /* bytes written and checksummed at once: the page cache then keeps them as one huge page */
    MHI_CAPTURE_PIECE = MHI_HUGE_BYTES,
    MHI_CAPTURE_PAGES = 1 << 16,   /* entries of pagemap read at once: for 256 MiB; arbitrary */
    MHI_CAPTURE_TOUCHED = 1 << 14, /* ranges of touched pages; a Python with numpy has 250 */
};

/* A range of memory that is zeroed in the snapshot. */
typedef struct {
    void *address;
    uint64_t size_bytes;
} mhi_scrub;

/* Made by the parent, filled by the child, read by the parent. sg_input of a FILE segment is an offset into
 * names: the inputs are not known yet. */
typedef struct mhi_capture {
    int fd;                  /* the file to write to */
    const mhi_scrub *scrubs; /* zeroed before the capture */
    uint64_t n_scrubs;
    bool is_forked;        /* the fork is over, so no thread is armed with this capture */
    bool has_threads;      /* the image carries the other threads, which stand still */
    bool has_rehearsed;    /* the rehearsal has come to its end */
    int refusal;           /* found by the prepare handler; MH_OK: none */
    mh_error late_refusal; /* found by the parent handler */
    mhi_known_threads known;
    int status; /* MH_ERR_SYSTEM until the child has finished */
    mh_error error;
    uint64_t file_end; /* where the last segment ends */
    mhi_file_process process;
    uint64_t n_signals;
    mhi_file_signal signals[MHI_CAPTURE_SIGNALS];
    uint64_t n_segments, names_bytes;
    mhi_file_segment segments[MHI_CAPTURE_SEGMENTS];
    char names[MHI_CAPTURE_NAMES];
    bool is_rehearsed; /* the child goes on as a resumed process, until mh_rehearsed */
    uint64_t n_touched;
    mhi_file_touched touched[MHI_CAPTURE_TOUCHED];
    mhi_descriptors descriptors; /* of the parent */
    mhi_remnants remnants;       /* zeroed at first */
    /* the child's working memory: on its stack it would be in the image */
    mhi_mappings mappings, mappings_again;
    uint64_t pagemap[MHI_CAPTURE_PAGES];
    uint8_t piece[MHI_CAPTURE_PIECE]; /* a copy of the child's own stack, which is written */
} mhi_capture;

/* The kind's data of a transaction. */
typedef struct {
    uint64_t resumable;      /* hd_checksum of the snapshot that may be resumed; 0: none */
    char *program, *command; /* as in mh_options; never NULL */
    mhi_scrub *scrubs;
    size_t n_scrubs, scrubs_capacity;
    int *held; /* descriptors that the caller itself opens again */
    size_t n_held;
    mhi_capture *capture; /* shared with the child, while armed */
} mhi_process;

/* kind.c */
extern const mhi_kind mhi_kind_process;
/* kind.c: the data of a transaction; NULL: the transaction is of another kind. */
mhi_process *mhi_process_of(const mh_transaction *tx);
/* kind.c: MH_OK if the transaction is of this kind, and this process has begun it. */
int mhi_process_check_begun(const mh_transaction *tx, mh_error *err);
/* commit.c: undoes mh_arm; a transaction that is not armed is allowed. */
void mhi_process_disarm(mhi_process *own);

/* capture.c: in the child of the fork, which has one thread. Changes no memory of the image, and allocates nothing. */
int mhi_capture_write(mhi_capture *capture);

/* rehearsal.c: begins the rehearsal, and returns made-up arguments in place of the launcher's; NULL: no rehearsal, the
 * child must exit. */
mhi_arguments *mhi_rehearsal_begin(mhi_capture *capture);
/* rehearsal.c: whether this process is in its rehearsal. */
bool mhi_rehearsal_is_on(void);
/* rehearsal.c: the result of mh_descriptor_kind for a standard stream before the rehearsal; 0 for any other
 * descriptor. */
uint64_t mhi_rehearsal_kind(int fd);

#endif
