/* command.h - how the command line of a Python program is spelled, by which it finds its snapshot (resumable/links.h).
 *
 * There are three spellings: the
 * general one, for programs whose snapshot serves any arguments; that of one place, if the snapshot's path is relative;
 * and the exact one:
 *
 *     <directory of the launcher>     <directory of the launcher>     <directory of the launcher>
 *     script <path>                   script <path>                   module <name>, or installed <name>
 *                                     in <working directory>          arguments
 *                                                                      <each, behind a space>
 *                                                                     in <working directory>
 *
 * "in" is always there for a module, which is looked for in the working directory first; not for an installed one,
 * which is not. Paths are real ones. In the parts between <>, a newline is \n and a backslash is \\, so that no two
 * commands share a text.
 */
#ifndef MHI_COMMAND_H
#define MHI_COMMAND_H
#include <stdint.h>

#include "magicheap.h"

enum { MHI_COMMAND_BYTES = 128 << 10 }; /* a command with a longer text is found by no link; arbitrary */

#define MHI_COMMAND_SCRIPT "script"
#define MHI_COMMAND_MODULE "module"       /* python -m */
#define MHI_COMMAND_INSTALLED "installed" /* python -P -m: without the working directory in sys.path */

/* mh_command_text for a launcher in `directory`, a real path. */
int mhi_command_spell(char *text, uint64_t size, const char *directory, const char *kind, const char *name,
                      bool is_here, const char *const *arguments, mh_error *err);

#endif
