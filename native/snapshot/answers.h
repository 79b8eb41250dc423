/* answers.h - the current answers to all questions that are neither about a file nor about a variable. The committing
 * run asks them, and so does every run that would resume. */
#ifndef MHI_ANSWERS_H
#define MHI_ANSWERS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The working directory, as a real path; -errno. */
int mhi_answer_place(char *path, size_t size);
/* Columns and rows, as in_bytes of MH_INPUT_SIZE. */
uint64_t mhi_answer_terminal_size(int fd);
/* Digest of the result of uname, with or without the name of the host. */
int mhi_answer_host(bool with_name, uint64_t *digest);
uint64_t mhi_answer_user(void);
/* Digest of the ids of all groups, independent of their order. */
uint64_t mhi_answer_groups(void);
/* Those of R_OK, W_OK and X_OK that are granted. */
uint64_t mhi_answer_rights(const char *path);
/* `arguments`: NULL-terminated; NULL: none. */
uint64_t mhi_answer_arguments(const char *const *arguments);
/* Digest of the names in a directory, in any order; `which`: MH_LISTING_*; `modules`: as NAMES in format.h, NULL: none.
 * -errno. */
int mhi_answer_listing(const char *path, uint64_t which, const char *modules, uint64_t *digest);
/* Digest of a symbolic link's target; -errno. */
int mhi_answer_target(const char *path, uint64_t *digest);

#endif
