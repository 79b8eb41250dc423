/* answers.h - what the world says here and now to the questions that are neither about a file nor about a variable:
 * asked by the run that commits, and again by every run that would resume.
 */
#ifndef MHI_ANSWERS_H
#define MHI_ANSWERS_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* The working directory, as a real path; -errno. */
int mhi_answer_place(char *path, size_t size);
/* As MH_INPUT_SIZE has it. */
uint64_t mhi_answer_terminal_size(int fd);
/* Of what uname tells, all or all but the name of the host. */
int mhi_answer_host(bool with_name, uint64_t *digest);
uint64_t mhi_answer_user(void);
/* Of all groups; they may be in any order. */
uint64_t mhi_answer_groups(void);
/* R_OK, W_OK and X_OK, as far as each is granted. */
uint64_t mhi_answer_rights(const char *path);
/* `arguments`: NULL-terminated; NULL: none. */
uint64_t mhi_answer_arguments(const char *const *arguments);
/* Digest of the names in a directory, in any order; `which`: MH_LISTING_*; `modules`: as NAMES in format.h, NULL: none.
 * -errno. */
int mhi_answer_listing(const char *path, uint64_t which, const char *modules, uint64_t *digest);
/* Digest of where a symbolic link leads; -errno. */
int mhi_answer_target(const char *path, uint64_t *digest);

#endif
