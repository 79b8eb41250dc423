/* environment.h - writes the values of os.environ into existing objects. */
#ifndef MHI_ENVIRONMENT_H
#define MHI_ENVIRONMENT_H
#include <stdint.h>

/* Fills envp, NULL-terminated, with variables of those names that mh_keep_variables was given, and values which
 * mh_renew_variables will put in place. Returns how many; 0: there are none, or strings or envp are too small for
 * them. */
uint64_t mhi_variables_make_up(char *strings, uint64_t strings_bytes, char **envp, uint64_t n_envp);

#endif
