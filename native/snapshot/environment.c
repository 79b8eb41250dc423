/* environment.c - environment variables as inputs.
 *
 * The watched variables affect every load: those of the interpreter, the dynamic linker and the locale, and those by
 * which numerical libraries size their pools and choose their code.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"

static const char *const watched[] = { "PYTHON*",    "LD_*",   "LC_*",     "LANG",   "LANGUAGE",  "OMP_*",
                                       "OPENBLAS_*", "MKL_*",  "NPY_*",    "GOTO_*", "BLIS_*",    "KMP_*",
                                       "GOMP_*",     "DNNL_*", "ONEDNN_*", "ATEN_*", "NUMEXPR_*", "GLIBC_TUNABLES" };

/* Variables that shells, and we, set anew for each command: not an answer for code that loops over all variables. */
static const char *const of_the_shell[] = { "_", "SHLVL", "OLDPWD", "MAGICHEAP_*" };

static bool is_one_of(const char *const *patterns, size_t n_patterns, const char *name, size_t length)
{
    for (size_t i = 0; i < n_patterns; i++) {
        size_t n = strcspn(patterns[i], "*");
        bool is_prefix = patterns[i][n] == '*';
        /* a bare PYTHON is the name of the interpreter in makefiles */
        bool fits = is_prefix ? length > n : length == n;
        if (fits && memcmp(name, patterns[i], n) == 0)
            return true;
    }
    return false;
}

static bool is_watched(const char *name, size_t length)
{
    return is_one_of(watched, sizeof watched / sizeof *watched, name, length);
}

static char lower(char letter) { return letter >= 'A' && letter <= 'Z' ? (char)(letter + 'a' - 'A') : letter; }

static bool is_alike(const char *one, const char *other, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (lower(one[i]) != lower(other[i]))
            return false;
    return true;
}

/* Whether a name matches a pattern of MH_INPUT_VARIABLES. */
static bool fits_walk(const char *pattern, const char *name, size_t length)
{
    size_t n_before = strcspn(pattern, "*"), n_behind = pattern[n_before] == '*' ? strlen(pattern + n_before + 1) : 0;
    return length >= n_before + n_behind && is_alike(name, pattern, n_before) &&
           is_alike(name + length - n_behind, pattern + n_before + 1, n_behind) &&
           !is_one_of(of_the_shell, sizeof of_the_shell / sizeof *of_the_shell, name, length);
}

/* Never 0: a digest of 0 means that the variable is not set. */
static uint64_t digest(const char *value)
{
    uint64_t sum = mhi_checksum(value, strlen(value));
    return sum == 0 ? 1 : sum;
}

const char *mhi_environment_get(char *const *environment, const char *name)
{
    size_t length = strlen(name);
    for (; environment != NULL && *environment != NULL; environment++)
        if (strncmp(*environment, name, length) == 0 && (*environment)[length] == '=')
            return *environment + length + 1;
    return NULL;
}

static uint64_t digest_now(char *const *environment, const char *name)
{
    const char *value = mhi_environment_get(environment, name);
    return value == NULL ? 0 : digest(value);
}

int mhi_environment_read(mhi_inputs *variables, char *const *environment, mh_error *err)
{
    for (char *const *each = environment; each != NULL && *each != NULL; each++) {
        const char *equals = strchr(*each, '=');
        if (equals == NULL)
            continue;
        mhi_file_input entry = { .in_kind = MH_INPUT_ENV, .in_digest = digest(equals + 1) };
        int status = mhi_inputs_add(variables, &entry, *each, NULL, err);
        if (status != MH_OK)
            return status;
        /* values may be secret, and this memory may be committed */
        memset(variables->items[variables->n - 1].name + (equals - *each), 0, strlen(equals));
    }
    return MH_OK;
}

int mhi_environment_add_watched(mhi_inputs *inputs, const mhi_inputs *variables, mh_error *err)
{
    int status = MH_OK;
    for (size_t i = 0; i < variables->n && status == MH_OK; i++) {
        const mhi_input *variable = &variables->items[i];
        if (is_watched(variable->name, strlen(variable->name)))
            status = mhi_inputs_add(inputs, &variable->entry, variable->name, NULL, err);
    }
    return status;
}

int mhi_environment_add(mhi_inputs *inputs, const mhi_inputs *variables, const char *name, mh_error *err)
{
    if (*name == '\0' || strchr(name, '=') != NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "'%s' is not the name of an environment variable", name);
    const mhi_input *variable = mhi_inputs_find(variables, MH_INPUT_ENV, name);
    mhi_file_input unset = { .in_kind = MH_INPUT_ENV };
    return mhi_inputs_add(inputs, variable == NULL ? &unset : &variable->entry, name, NULL, err);
}

int mhi_environment_add_walk(mhi_inputs *inputs, const mhi_inputs *variables, const char *pattern, mh_error *err)
{
    if (strchr(pattern, '*') == NULL)
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "'%s' has no *, which stands for the rest of a name", pattern);
    mhi_file_input walk = { .in_kind = MH_INPUT_VARIABLES };
    int status = mhi_inputs_add(inputs, &walk, pattern, NULL, err);
    for (size_t i = 0; i < variables->n && status == MH_OK; i++) {
        const mhi_input *variable = &variables->items[i];
        if (fits_walk(pattern, variable->name, strlen(variable->name)))
            status = mhi_environment_add(inputs, variables, variable->name, err);
    }
    return status;
}

static bool is_walked(const struct mh_image *image, const char *name, size_t length)
{
    for (uint64_t i = 0; i < image->n_inputs; i++)
        if (image->inputs[i].in_kind == MH_INPUT_VARIABLES &&
            fits_walk(mhi_image_string(image, image->inputs[i].in_name), name, length))
            return true;
    return false;
}

static bool is_recorded(const struct mh_image *image, const char *name, size_t length)
{
    for (uint64_t i = 0; i < image->n_inputs; i++) {
        const char *recorded = mhi_image_string(image, image->inputs[i].in_name);
        if (image->inputs[i].in_kind == MH_INPUT_ENV && strncmp(recorded, name, length) == 0 &&
            recorded[length] == '\0')
            return true;
    }
    return false;
}

static int check_recorded(const struct mh_image *image, char *const *environment, mh_error *err)
{
    for (uint64_t i = 0; i < image->n_inputs; i++) {
        const char *name = mhi_image_string(image, image->inputs[i].in_name);
        if (image->inputs[i].in_kind == MH_INPUT_ENV && digest_now(environment, name) != image->inputs[i].in_digest)
            return mhi_fail(err, MH_ERR_STALE, 0, "environment variable %s has changed", name);
    }
    return MH_OK;
}

int mhi_environment_check(const struct mh_image *image, const char *const *env, char *const *environment, mh_error *err)
{
    int status = check_recorded(image, environment, err);
    for (char *const *each = environment; status == MH_OK && each != NULL && *each != NULL; each++) {
        size_t length = strcspn(*each, "=");
        if ((is_watched(*each, length) || is_walked(image, *each, length)) && !is_recorded(image, *each, length))
            status = mhi_fail(err, MH_ERR_STALE, 0, "environment variable %.*s has changed: it was not set",
                              (int)length, *each);
    }
    for (; status == MH_OK && env != NULL && *env != NULL; env++)
        if (!is_recorded(image, *env, strlen(*env)))
            status = mhi_fail(err, MH_ERR_STALE, 0, "environment variable %s was not recorded with the snapshot", *env);
    return status;
}
