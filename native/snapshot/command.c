/* command.c - spells commands, and publishes the links by which the launcher finds their snapshots. */
#define _GNU_SOURCE
#include "snapshot/command.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"
#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/places.h"
#include "snapshot/trust.h"
#include "sys/sys.h"

/* ---- the text ---- */

typedef struct {
    char *text;
    uint64_t size, used; /* used counts what did not fit, too */
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

/* ---- the link ---- */

int mhi_command_link(char *path, const char *command, char *const *environment, mh_error *err)
{
    char directory[PATH_MAX];
    int status = mhi_cache_directory(directory, environment, err);
    if (status != MH_OK)
        return status;
    uint64_t sum = mhi_checksum(command, strlen(command));
    int length = snprintf(path, PATH_MAX, "%s/commands/%016" PRIx64, directory, sum);
    return length < PATH_MAX
               ? MH_OK
               : mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the path of the user's cache directory is too long");
}

static int publish(const char *link, const char *path, mh_error *err)
{
    char directory[PATH_MAX], temporary[64];
    mhi_path_directory(link, directory);
    int fd = mhi_sys_open(directory, O_PATH | O_DIRECTORY, 0);
    if (fd < 0)
        return mhi_fail_sys(err, fd, "cannot open %s", directory);
    snprintf(temporary, sizeof temporary, "%s.%d", mhi_path_name(link), mhi_sys_process_id());
    mhi_sys_unlinkat(fd, temporary); /* of a process that had this number and died here */
    int result = mhi_sys_symlinkat(path, fd, temporary);
    if (result == 0)
        result = mhi_sys_renameat(fd, temporary, mhi_path_name(link));
    if (result < 0)
        mhi_sys_unlinkat(fd, temporary);
    mhi_sys_close(fd);
    return result < 0 ? mhi_fail_sys(err, result, "cannot make the link %s", link) : MH_OK;
}

int mh_link_command(const char *command, const char *path, mh_error *err)
{
    char link[PATH_MAX];
    if (command == NULL || path == NULL || *path != '/')
        return mhi_fail(err, MH_ERR_ARGUMENT, 0, "a command is linked to the absolute path of its snapshot");
    int status = mhi_command_link(link, command, environ, err);
    if (status == MH_OK)
        status = mhi_make_cache_directory("/commands", err);
    if (status == MH_OK)
        status = mhi_trust_directories(link, err); /* the launcher would not follow it */
    return status == MH_OK ? publish(link, path, err) : status;
}
