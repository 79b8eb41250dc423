/* error.c - statuses as sentences. */
#define _GNU_SOURCE
#include "error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "sys/sys.h"

const char *mh_version(void) { return MH_VERSION; }

const char *mh_strerror(int status)
{
    switch (status) {
    case MH_OK: return "no error";
    case MH_ERR_SYSTEM: return "the operating system refused";
    case MH_ERR_FORMAT: return "not a snapshot of this format";
    case MH_ERR_CORRUPT: return "the snapshot is damaged";
    case MH_ERR_STALE: return "an input of the snapshot has changed";
    case MH_ERR_BUSY: return "the address range or the lock is taken";
    case MH_ERR_NOSPACE: return "no space left";
    case MH_ERR_ARGUMENT: return "invalid argument or call out of order";
    case MH_ERR_DANGLING: return "pointers leave the snapshot";
    case MH_ERR_UNTRUSTED: return "the snapshot's owner or mode cannot be trusted";
    case MH_ERR_UNSUPPORTED: return "this machine cannot do it";
    default: return "unknown status";
    }
}

static int fill(mh_error *err, int status, int sys_errno, const char *format, va_list values)
{
    if (err != NULL) {
        err->status = status;
        err->sys_errno = sys_errno;
        vsnprintf(err->detail, sizeof err->detail, format, values);
    }
    return status;
}

int mhi_fail(mh_error *err, int status, int sys_errno, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    fill(err, status, sys_errno, format, values);
    va_end(values);
    return status;
}

int mhi_fail_sys(mh_error *err, int result, const char *format, ...)
{
    int code = -result;
    int status = code == ENOSPC || code == EDQUOT || code == EFBIG ? MH_ERR_NOSPACE : MH_ERR_SYSTEM;
    va_list values;
    va_start(values, format);
    fill(err, status, code, format, values);
    va_end(values);
    if (err != NULL) {
        size_t used = strlen(err->detail);
        snprintf(err->detail + used, sizeof err->detail - used, ": %s", mhi_sys_error_text(code));
    }
    return status;
}

int mhi_fail_unsupported(mh_error *err, int result, const char *what)
{
    return mhi_fail(err, MH_ERR_UNSUPPORTED, -result, "%s: %s", what, mhi_sys_error_text(-result));
}
