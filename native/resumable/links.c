/* links.c - publishes the links by which the launcher finds the snapshots of commands. */
#define _GNU_SOURCE
#include "resumable/links.h"

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
    mhi_sys_unlinkat(fd, temporary); /* left by a process of this id that died here */
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
        status = mhi_trust_directories(link, err); /* otherwise the launcher would not follow the link */
    return status == MH_OK ? publish(link, path, err) : status;
}
