/* environment.h - the values of os.environ, put where those of another process lay. */
#ifndef MHI_ENVIRONMENT_H
#define MHI_ENVIRONMENT_H
#include <stdint.h>

/* Fills envp, NULL-terminated, with variables of those names that mh_keep_variables was given, and values which
 * mh_renew_variables will put in place. Returns how many; 0: there are none, or not as many bytes of strings and
 * entries of envp as they take. */
uint64_t mhi_variables_make_up(char *strings, uint64_t strings_bytes, char **envp, uint64_t n_envp);

#endif
