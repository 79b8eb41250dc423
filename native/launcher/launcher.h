/* launcher.h - the static program that resumes process snapshots: how its files work together.
 *
 *     main.c       finds the snapshot, and decides whether it is sound, trusted and fresh; else the program runs cold
 *     command.c    the request in the command line
 *     answer.c     reports what the launcher would do, for `magicheap why`
 *     arguments.c  the arguments and variables of the resumed process
 *     cold.c       executes the program as if there were no snapshot
 *     reopen.c     descriptors
 *     vdso.c       moves the kernel's vdso to its place in the image
 *     resume.c     maps the segments and restores the registers of the committing process
 *     runtime.c    the few functions of a C library that the shared sources use
 *
 * There is no libc: its start alone would cost a third of the time that a resume may take, and its memory could overlap
 * the image. The checks are the library's own sources (native/snapshot, native/resumable), compiled once more. All
 * memory of the launcher lies between MHI_LAUNCHER_START and MHI_LAUNCHER_END, where no image has memory. Only the
 * kernel's stack and vdso lie outside, until resume.c unmaps the one and moves the other. Every failure before the jump
 * ends in executing the program cold: execve gives it a new address space.
 */
#ifndef MHI_LAUNCHER_H
#define MHI_LAUNCHER_H
#include <stdbool.h>

#include "format.h"
#include "launcher/request.h"
#include "resumable/tables.h"
#include "snapshot/image.h"

enum {
    MHI_RANDOM_BYTES = 16, /* getauxval(3) */
};

/* The state that the kernel gave the launcher at its start. */
typedef struct {
    int argc;
    char **argv, **envp;
    uintptr_t stack_start, stack_end; /* of the kernel's stack with a margin; page-aligned */
    uint64_t began_ns;                /* CLOCK_MONOTONIC at the first instruction */
    const char *path;                 /* AT_EXECFN: the path by which the launcher was executed */
    uintptr_t vdso;                   /* AT_SYSINFO_EHDR: address of the vdso's code; 0: none */
    uint64_t auxv[MHI_AUXV_MAX][2];   /* the auxiliary vector: AT_* and values; AT_NULL and zeros behind the last */
    uint8_t random[MHI_RANDOM_BYTES]; /* the bytes at AT_RANDOM */
} mhi_startup;

/* reopen.c: opens the image's files at their descriptor numbers; may move the descriptor of the image itself.
 * MH_ERR_STALE: a file is not the same any more. MH_ERR_BUSY: a number is taken. After a failure none is open. */
int mhi_reopen(struct mh_image *image, mh_error *err);
/* reopen.c: closes them again. */
void mhi_reopen_undo(const struct mh_image *image);

/* answer.c: for a request that is a question: prints the findings, one a line, with tabs between the fields. */
void mhi_answer_link(const char *link, const char *target);
void mhi_answer_variant(const char *path, int rank, const char *reason);
void mhi_answer_taken(const char *path) __attribute__((noreturn));
void mhi_answer_cold(const char *reason) __attribute__((noreturn));

/* arguments.c: copies the command line and the environment, without MHI_COLD_VARIABLE, to the block of the resumed
 * process; NULL: no memory. The first argument is `interpreter`, unless the request has its own. The path of the image
 * stays empty, and the caller fills in the signals. */
mhi_arguments *mhi_arguments_make(const mhi_request *request, const char *interpreter, char *const *envp);

/* cold.c: executes the program: with the interpreter that the launcher in `directory` was installed for, else the one
 * beside it, else that of `image` (may be NULL), else that in PATH. `is_kept`: the snapshot is still good. */
void mhi_go_cold(const mhi_request *request, const mhi_arguments *arguments, const struct mh_image *image,
                 const char *directory, const char *reason, bool is_kept) __attribute__((noreturn));

/* vdso.c: moves the kernel's vdso, whose code is at `vdso`, to its address in the image. */
int mhi_vdso_place(const mhi_file_process *process, uintptr_t vdso, mh_error *err);
/* vdso.c: the address of the code there; 0: the image has no vdso. */
uint64_t mhi_vdso_code(const mhi_file_process *process);

/* resume.c: becomes the process that the image holds, with `arguments`, which must lie in our region. Returns only on
 * failure. */
int mhi_resume(const struct mh_image *image, const mhi_startup *startup, mhi_arguments *arguments, mh_error *err);

#endif
