/* questions.h - the questions that the process asked of the world between begin and end, each once, with the relevant
 * part of its first answer.
 *
 * The functions that files.c and asks.c replace are called by any thread and by signal handlers, so questions are noted
 * without locks or allocation. At the commit, snapshot/record.c turns questions into inputs.
 */
#ifndef MHI_QUESTIONS_H
#define MHI_QUESTIONS_H
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

typedef enum {
    MHI_ASKED_PATH,     /* the file at a path: opened, stat, access */
    MHI_ASKED_LINK,     /* the target of a symbolic link */
    MHI_ASKED_LISTING,  /* the names in a directory */
    MHI_ASKED_METADATA, /* the names in it that belong to metadata of installed packages */
    MHI_ASKED_VARIABLE, /* a variable of the environment */
    MHI_ASKED_PLACE,    /* the working directory; any relative path asks for it */
    MHI_ASKED_TERMINAL, /* whether standard input, output or error is one; name: its number */
    MHI_ASKED_SIZE,     /* the size of that terminal */
    MHI_ASKED_STREAM,   /* what standard input, output or error is: a pipe, a file, closed; name: its number */
    MHI_ASKED_POSITION, /* the position in it */
    MHI_ASKED_LENGTH,   /* the size of the file that it is */
    MHI_ASKED_HOST,     /* uname, gethostname */
    MHI_ASKED_KERNEL,   /* the result of uname without the host's name */
    MHI_ASKED_USER,     /* getuid and the like, and the groups */
    MHI_ASKED_RIGHTS,   /* whether a file may be read, written, executed */
    MHI_SET_VARIABLE,   /* no question: a variable that was set or removed; name "": all were removed */
} mhi_asked;

/* How a file was opened, besides for reading. */
enum {
    MHI_FILE_OUTPUT = 1,  /* at the first open: it was created, emptied, or only written */
    MHI_FILE_CHANGED = 2, /* at any open: it could be written */
};

typedef struct {
    mhi_asked kind;
    const char *name;  /* an absolute path, a variable's name, or "" */
    struct stat found; /* PATH, LISTING: at the first question; st_mode 0: the path was missing */
    atomic_uint uses;  /* MHI_FILE_* */
    /* LISTING: of the names, if they were read at the first question; else 0. RIGHTS: the granted ones */
    uint64_t digest;
} mhi_question;

/* Drops all questions, and takes notes from here on; no effect if notes are already being taken. */
void mhi_questions_begin(void);
/* Questions about exactly this path are not noted: the program's own file, as its command names it. NULL: none. */
void mhi_questions_leave_out(const char *path);
void mhi_questions_end(void);

bool mhi_questions_are_noted(void);
/* While paused, questions of the calling thread are not noted; pauses nest. */
void mhi_questions_pause(bool is_paused);
bool mhi_question_is_asked(mhi_asked kind, const char *name);
/* Notes a question; leaves errno alone. `found`: NULL for kinds without a stat; st_mode is 0 for a missing path. */
void mhi_question_note(mhi_asked kind, const char *name, const struct stat *found, unsigned uses);
void mhi_question_note_listing(mhi_asked kind, const char *path, const struct stat *found, uint64_t digest);
/* The same for a path relative to a directory descriptor or AT_FDCWD. */
void mhi_question_note_path(mhi_asked kind, int directory, const char *path, const struct stat *found, unsigned uses);

/* The same for MHI_ASKED_RIGHTS. */
void mhi_question_note_rights(int directory, const char *path, uint64_t granted);

/* The questions in the order of their first asking. Valid until the next begin; NULL: a thread is still filling the
 * record. */
uint32_t mhi_questions_count(void);
const mhi_question *mhi_question_at(uint32_t i);
/* How many questions were lost, because there were too many (24,576) or memory ran out. */
uint32_t mhi_questions_lost(void);
/* Marks a file as output, by whatever name it was opened. */
void mhi_questions_mark_output(const struct stat *found);

#endif
