/* questions.h - what the process asked of the world between begin and end, each question once, with what matters of its
 * first answer.
 *
 * Asked through the functions that files.c and asks.c stand in for, by any thread and by signal handlers,
 * so notes are taken without locks or allocation. What becomes of a question at the commit, snapshot/inputs.c says.
 */
#ifndef MHI_QUESTIONS_H
#define MHI_QUESTIONS_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

typedef enum {
    MHI_ASKED_PATH,     /* what is there: opened, stat, access */
    MHI_ASKED_LINK,     /* where a symbolic link leads */
    MHI_ASKED_LISTING,  /* the names in a directory */
    MHI_ASKED_METADATA, /* those in it that tell of installed packages */
    MHI_ASKED_VARIABLE, /* of the environment */
    MHI_ASKED_PLACE,    /* the working directory: also by any relative path */
    MHI_ASKED_TERMINAL, /* whether standard input, output or error is one; name: its number */
    MHI_ASKED_SIZE,     /* of that terminal */
    MHI_ASKED_HOST,     /* uname, gethostname */
    MHI_ASKED_KERNEL,   /* of what uname tells all but the host's name */
    MHI_ASKED_USER,     /* getuid and its like, and the groups */
    MHI_ASKED_RIGHTS,   /* whether a file may be read, written, executed */
} mhi_asked;

/* How a file was opened, besides for reading. */
enum {
    MHI_FILE_OUTPUT = 1,  /* at first: it was created, emptied, or only written */
    MHI_FILE_CHANGED = 2, /* at first or later: it could be written */
};

typedef struct {
    mhi_asked kind;
    const char *name;  /* an absolute path, a variable's name, or "" */
    struct stat found; /* PATH, LISTING: at the first question; st_mode 0: nothing was there */
    atomic_uint uses;  /* MHI_FILE_* */
    /* LISTING: of the names, where they were known at the first question; else 0. RIGHTS: those granted */
    uint64_t digest;
} mhi_question;

/* Forgets what was asked, and takes notes from here on; nothing happens where notes are taken already. */
void mhi_questions_begin(void);
/* What the interpreter asks about this path, by this very text, is not noted: the program's own file, which its command
 * names. NULL: none. */
void mhi_questions_leave_out(const char *path);
void mhi_questions_end(void);

bool mhi_questions_are_noted(void);
/* While it is paused, what the calling thread asks is not noted; pauses nest. */
void mhi_questions_pause(bool is_paused);
bool mhi_question_is_asked(mhi_asked kind, const char *name);
/* Leaves errno alone. `found`: NULL for kinds that have none; its st_mode is 0 where nothing is. */
void mhi_question_note(mhi_asked kind, const char *name, const struct stat *found, unsigned uses);
void mhi_question_note_listing(mhi_asked kind, const char *path, const struct stat *found, uint64_t digest);
/* The same for a path as seen from a directory descriptor or AT_FDCWD. */
void mhi_question_note_path(mhi_asked kind, int directory, const char *path, const struct stat *found, unsigned uses);

/* Of a path, too. */
void mhi_question_note_rights(int directory, const char *path, uint64_t granted);

/* In the order of their first asking. Valid until the next begin; NULL: a thread is just entering it. */
uint32_t mhi_questions_count(void);
const mhi_question *mhi_question_at(uint32_t i);
/* How many were not kept, because there were too many (24,576) or memory ran out. */
uint32_t mhi_questions_lost(void);
/* The file is output, by whatever name it was opened. */
void mhi_questions_mark_output(const struct stat *found);

#endif
