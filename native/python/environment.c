/* environment.c - writes the values of os.environ into the objects that held those of the committing process.
 *
 * A resumed process has the environment that it was started with. A dict of new objects would cost two hundred
 * allocations, scattered over the holes of the program's memory, and so nearly as many page faults. But mostly the
 * variables are the same, and their values have the same lengths. The objects that held the committing process's values
 * still exist, wiped, and lie close together, since the interpreter made them at its start.
 *
 * V1  An object is written to only if the dict alone holds it, and the value's length is the same.
 * V2  An object that other code holds, too, is not written to. If the value is unchanged, the object stays; if not, the
 *     caller puts another object into the dict.
 * V3  The names must be the same, in the same order, which is that of the dict.
 */
#include "python/environment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "magicheap.h"

enum { NO_HASH = -1 }; /* of PyBytesObject's ob_shash, the word before its text: none was computed yet */

typedef struct {
    const char *name; /* in `names` */
    uint64_t name_bytes;
    char *text; /* of the bytes object */
    uint64_t text_bytes;
    mh_variable_use use;
} variable;

static variable *variables; /* in the image */
static uint64_t n_variables;
static char *names;

static void forget(void)
{
    free(variables);
    free(names);
    variables = NULL;
    names = NULL;
    n_variables = 0;
}

int mh_keep_variables(const char *const *names_in, const uint64_t *addresses, const uint64_t *sizes_bytes,
                      const uint8_t *uses, uint64_t n, mh_error *err)
{
    uint64_t names_bytes = 0;
    for (uint64_t i = 0; i < n; i++) {
        if (uses[i] > MH_VARIABLE_HELD)
            return mhi_fail(err, MH_ERR_ARGUMENT, 0, "%u is no use of a variable", uses[i]);
        names_bytes += strlen(names_in[i]) + 1;
    }
    forget();
    if (n == 0)
        return MH_OK;
    variables = calloc(n, sizeof *variables);
    names = malloc(names_bytes);
    if (variables == NULL || names == NULL) {
        forget();
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    }
    char *end = names;
    for (uint64_t i = 0; i < n; i++) {
        uint64_t name_bytes = strlen(names_in[i]);
        memcpy(end, names_in[i], name_bytes + 1);
        variables[i] = (variable){ end, name_bytes, (char *)addresses[i], sizes_bytes[i], (mh_variable_use)uses[i] };
        end += name_bytes + 1;
    }
    n_variables = n;
    return MH_OK;
}

static const char *value_of(const variable *its, const char *entry)
{
    return strncmp(entry, its->name, its->name_bytes) == 0 && entry[its->name_bytes] == '='
               ? entry + its->name_bytes + 1
               : NULL;
}

static bool are_the_same(char *const *envp, uint64_t n)
{
    bool are = n == n_variables && n > 0;
    for (uint64_t i = 0; i < n && are; i++)
        are = value_of(&variables[i], envp[i]) != NULL;
    return are;
}

/* Returns whether the object now has the value. */
static bool renew(const variable *its, const char *value)
{
    if (its->use == MH_VARIABLE_OTHER)
        return true;
    if (strlen(value) != its->text_bytes)
        return false;
    if (its->use == MH_VARIABLE_HELD)
        return memcmp(its->text, value, its->text_bytes) == 0;
    int64_t *hash = (int64_t *)its->text - 1;
    if (*hash != NO_HASH)
        *hash = NO_HASH;
    memcpy(its->text, value, its->text_bytes);
    return true;
}

int64_t mh_renew_variables(const mh_resumed *resumed, uint64_t *left)
{
    int64_t n_left = 0;
    if (!are_the_same(resumed->envp, resumed->envc))
        return -1;
    for (uint64_t i = 0; i < resumed->envc; i++)
        if (!renew(&variables[i], value_of(&variables[i], resumed->envp[i])))
            left[n_left++] = i;
    return n_left;
}

uint64_t mhi_variables_make_up(char *strings, uint64_t strings_bytes, char **envp, uint64_t n_envp)
{
    const char *end = strings + strings_bytes;
    if (n_variables >= n_envp)
        return 0;
    for (uint64_t i = 0; i < n_variables; i++) {
        const variable *its = &variables[i];
        uint64_t value_bytes = its->use == MH_VARIABLE_OTHER ? 0 : its->text_bytes;
        if (its->name_bytes + value_bytes + sizeof "=" > (uint64_t)(end - strings))
            return 0;
        envp[i] = strings;
        memcpy(strings, its->name, its->name_bytes);
        strings += its->name_bytes;
        *strings++ = '=';
        if (its->use == MH_VARIABLE_HELD)
            memcpy(strings, its->text, value_bytes);
        else
            memset(strings, 'x', value_bytes);
        strings += value_bytes;
        *strings++ = '\0';
    }
    envp[n_variables] = NULL;
    return n_variables;
}
