/* process.h - the commit of a process: what the files of this layer are to each other.
 *
 *     kind.c        a transaction of a process until its commit, and the exchange of this process for a snapshot
 *     fork.c        the commit is a fork: our fork handlers, and what a resumed process finds
 *     capture.c     in the child: writes what the process had written, and lists its address space
 *     rehearsal.c   in the child, when all is written: which pages every resumed process writes to
 *     commit.c      in the parent: from what the child left to a published snapshot
 *     descriptors.c, obstacles.c    what is opened again, and what can't be carried
 *     state.c       what the kernel keeps for the process besides its memory, as it was at first
 *
 * Parent and child share one area of memory, the capture. It lies in the launcher's region, so that it is in no image.
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
    /* four times the kernel's default limit of mappings; they take memory as they are used */
    MHI_CAPTURE_SEGMENTS = 1 << 18,
    MHI_CAPTURE_NAMES = 8 << 20, /* bytes; paths of mapped files, each once in a row */
    MHI_CAPTURE_SIGNALS = 64,
    /* bytes written at once, and checksummed: what the page cache is to keep as one */
    MHI_CAPTURE_PIECE = MHI_HUGE_BYTES,
    MHI_CAPTURE_PAGES = 1 << 16,   /* entries of pagemap read at once: for 256 MiB; arbitrary */
    MHI_CAPTURE_TOUCHED = 1 << 14, /* ranges of touched pages; a Python with numpy has 250 */
};

/* Zero in the snapshot. */
typedef struct {
    void *address;
    uint64_t size_bytes;
} mhi_scrub;

/* Made by the parent, filled by the child, read by the parent. sg_input of a FILE segment is an offset into
 * names: the inputs are not known yet. */
typedef struct mhi_capture {
    int fd;                  /* the file to write to */
    const mhi_scrub *scrubs; /* zero these first */
    uint64_t n_scrubs;
    uint64_t inherited_mask; /* signals that whoever started the process had blocked */
    bool is_forked;          /* nobody is armed with it any more */
    int refusal;             /* found as fork began; MH_OK: none */
    mh_error late_refusal;   /* found by the parent when it had forked */
    mhi_known_threads known;
    int status; /* MH_ERR_SYSTEM until the child has done its work */
    mh_error error;
    uint64_t file_end; /* where the last segment ends */
    mhi_file_process process;
    uint64_t n_signals;
    mhi_file_signal signals[MHI_CAPTURE_SIGNALS];
    uint64_t n_segments, names_bytes;
    mhi_file_segment segments[MHI_CAPTURE_SEGMENTS];
    char names[MHI_CAPTURE_NAMES];
    bool is_rehearsed; /* the child is to go on as a resumed process, as far as mh_rehearsed */
    uint64_t n_touched;
    mhi_file_touched touched[MHI_CAPTURE_TOUCHED];
    mhi_descriptors descriptors; /* the parent's: what is open */
    mhi_remnants remnants;       /* zero at first */
    mhi_mappings mappings;       /* the child's working memory: on its stack it would be in the image */
    uint64_t pagemap[MHI_CAPTURE_PAGES];
    uint8_t piece[MHI_CAPTURE_PIECE]; /* of the child's own stack, as it is written */
} mhi_capture;

/* What the kind keeps of a transaction. */
typedef struct {
    uint64_t resumable;      /* hd_checksum of the snapshot that may be resumed; 0: none */
    char *program, *command; /* as in mh_options; never NULL */
    mhi_scrub *scrubs;
    size_t n_scrubs, scrubs_capacity;
    int *held; /* descriptors that the caller opens again by itself */
    size_t n_held;
    mhi_capture *capture; /* shared with the child, while armed */
} mhi_process;

/* kind.c */
extern const mhi_kind mhi_kind_process;
/* kind.c: what is kept of a transaction; NULL: it is of another kind. */
mhi_process *mhi_process_of(const mh_transaction *tx);
/* kind.c: MH_OK if it is of this kind, and this process has begun it. */
int mhi_process_check_begun(const mh_transaction *tx, mh_error *err);
/* commit.c: takes mh_arm back; what was not armed is allowed. */
void mhi_process_disarm(mhi_process *own);

/* capture.c: in the child of the fork, which has one thread. Changes nothing of the process that shows, and allocates
 * nothing. */
int mhi_capture_write(mhi_capture *capture);

/* rehearsal.c: returns what the child goes on with, in place of a launcher's arguments; NULL: it had better end. */
mhi_arguments *mhi_rehearsal_begin(mhi_capture *capture);
/* rehearsal.c: whether this process is in its rehearsal, */
bool mhi_rehearsal_is_on(void);
/* rehearsal.c: and what mh_descriptor_kind said of a standard stream before it; 0: of another descriptor. */
uint64_t mhi_rehearsal_kind(int fd);

#endif
