/* launcher.h - the static program that resumes process snapshots: what its files are to each other.
 *
 *     main.c       which snapshot, is it sound, trusted and not stale; else executes the program cold
 *     command.c    what the command line asks for
 *     answer.c     what would be done, for `magicheap why`
 *     arguments.c  what the resumed process will be told
 *     cold.c       executes the program as if there were no snapshot
 *     reopen.c     descriptors
 *     vdso.c       the kernel's own code, to its place
 *     resume.c     maps the segments and goes where the committing process was
 *     runtime.c    the few functions of a C library that the shared sources use
 *
 * There is no libc: its start alone would cost a third of the time that a resume may take, and its memory would be in
 * the way. The checks are the library's own sources (native/snapshot, native/resumable), compiled once more. All memory
 * of the launcher lies between MHI_LAUNCHER_START and MHI_LAUNCHER_END, where no image has anything; only the kernel's
 * stack and vdso do not, until resume.c has dealt with them. Whatever fails before the jump ends in executing the
 * program cold: execve gives it a new address space.
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

/* What the kernel gave us, as main.c found it. */
typedef struct {
    int argc;
    char **argv, **envp;
    uintptr_t stack_start, stack_end; /* of the kernel's stack, generously; page-aligned */
    uint64_t began_ns;                /* CLOCK_MONOTONIC at the first instruction */
    const char *path;                 /* AT_EXECFN: by which we were executed */
    uintptr_t vdso;                   /* AT_SYSINFO_EHDR: where the code of the vdso is; 0: none */
    uint64_t auxv[MHI_AUXV_MAX][2];   /* the auxiliary vector: AT_* and values; AT_NULL and zeros behind the last */
    uint8_t random[MHI_RANDOM_BYTES]; /* that AT_RANDOM leads to */
} mhi_startup;

/* reopen.c: opens the descriptors of the image at their numbers; may move that of the image itself. MH_ERR_STALE: one
 * cannot be had as it was. MH_ERR_BUSY: its number is taken. Then none is open. */
int mhi_reopen(struct mh_image *image, mh_error *err);
/* reopen.c: closes them again. */
void mhi_reopen_undo(const struct mh_image *image);

/* answer.c: for a request that is a question, what is found, a line for each thing, its fields between tabs. */
void mhi_answer_link(const char *link, const char *target);
void mhi_answer_variant(const char *path, int rank, const char *reason);
void mhi_answer_taken(const char *path) __attribute__((noreturn));
void mhi_answer_cold(const char *reason) __attribute__((noreturn));

/* arguments.c: copies the command line and the environment, without MHI_COLD_VARIABLE, to where they stay; NULL: no
 * memory. The first argument is `interpreter`, unless the request brings its own; the path of the image is left empty,
 * and the signals are the caller's. */
mhi_arguments *mhi_arguments_make(const mhi_request *request, const char *interpreter, char *const *envp);

/* cold.c: executes the program: by the interpreter that the launcher in `directory` was installed for, that beside it,
 * that of `image` (may be NULL), or that in PATH, whichever is first. `is_kept`: the snapshot is as good as it was. */
void mhi_go_cold(const mhi_request *request, const mhi_arguments *arguments, const struct mh_image *image,
                 const char *directory, const char *reason, bool is_kept) __attribute__((noreturn));

/* vdso.c: moves the kernel's vdso, whose code is at `vdso`, to where the image has it. */
int mhi_vdso_place(const mhi_file_process *process, uintptr_t vdso, mh_error *err);
/* vdso.c: the address of that place; 0: the image has none. */
uint64_t mhi_vdso_code(const mhi_file_process *process);

/* resume.c: becomes the process that the image holds, with `arguments`, which must lie in our region. Returns only on
 * failure. */
int mhi_resume(const struct mh_image *image, const mhi_startup *startup, mhi_arguments *arguments, mh_error *err);

#endif
