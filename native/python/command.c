/* command.c - spells commands. */
#define _GNU_SOURCE
#include "python/command.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

#include "base/text.h"
#include "error.h"
#include "sys/sys.h"

typedef struct {
    char *text;
    uint64_t size, used; /* used also counts bytes that did not fit */
} spelling;

static void put(spelling *s, char byte)
{
    if (s->used < s->size)
        s->text[s->used] = byte;
    s->used++;
}

static void put_field(spelling *s, const char *label, const char *value)
{
    for (; *label != '\0'; label++)
        put(s, *label);
    for (; *value != '\0'; value++) {
        if (*value == '\n' || *value == '\\')
            put(s, '\\');
        put(s, *value == '\n' ? 'n' : *value);
    }
}

static int put_path(spelling *s, const char *label, const char *path, mh_error *err)
{
    char real[PATH_MAX];
    int result = mhi_sys_realpath(path, real, sizeof real);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot resolve %s", path);
    put_field(s, label, real);
    return MH_OK;
}

static int put_command(spelling *s, const char *directory, const char *kind, const char *name, bool is_here,
                       const char *const *arguments, mh_error *err)
{
    bool is_module = strcmp(kind, MHI_COMMAND_MODULE) == 0;
    int status = MH_OK;
    put_field(s, "", directory);
    if (is_module)
        put_field(s, "\nmodule ", name);
    else if (strcmp(kind, MHI_COMMAND_INSTALLED) == 0)
        put_field(s, "\ninstalled ", name);
    else
        status = put_path(s, "\nscript ", name, err);
    if (arguments != NULL)
        put_field(s, "\narguments", "");
    for (; arguments != NULL && *arguments != NULL; arguments++)
        put_field(s, "\n ", *arguments);
    if (status == MH_OK && (is_module || is_here || arguments != NULL))
        status = put_path(s, "\nin ", ".", err);
    put(s, '\0');
    return status;
}

int mhi_command_spell(char *text, uint64_t size, const char *directory, const char *kind, const char *name,
                      bool is_here, const char *const *arguments, mh_error *err)
{
    spelling s = { .text = text, .size = size < MHI_COMMAND_BYTES ? size : MHI_COMMAND_BYTES };
    int status = put_command(&s, directory, kind, name, is_here, arguments, err);
    if (status == MH_OK && s.used > s.size)
        status = mhi_fail(err, MH_ERR_NOSPACE, 0, "the command takes %" PRIu64 " bytes, there is room for %" PRIu64,
                          s.used, s.size);
    if (status != MH_OK)
        text[0] = '\0';
    return status;
}

static bool is_kind(const char *kind)
{
    return strcmp(kind, MHI_COMMAND_SCRIPT) == 0 || strcmp(kind, MHI_COMMAND_MODULE) == 0 ||
           strcmp(kind, MHI_COMMAND_INSTALLED) == 0;
}

int mh_command_text(char *text, uint64_t size, const char *launcher, const char *kind, const char *name, bool is_here,
                    const char *const *arguments, mh_error *err)
{
    char real[PATH_MAX], directory[PATH_MAX];
    if (size == 0 || launcher == NULL || kind == NULL || name == NULL || !is_kind(kind))
        return mhi_fail(err, MH_ERR_ARGUMENT, 0,
                        "a command is of the kind '" MHI_COMMAND_SCRIPT "', '" MHI_COMMAND_MODULE
                        "' or '" MHI_COMMAND_INSTALLED "', and has a name");
    int result = mhi_sys_realpath(launcher, real, sizeof real);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot resolve the launcher's path %s", launcher);
    mhi_path_directory(real, directory);
    return mhi_command_spell(text, size, directory, kind, name, is_here, arguments, err);
}
