/* request.h - the request in the launcher's command line. */
#ifndef MHI_REQUEST_H
#define MHI_REQUEST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    bool is_question;             /* only report what would be done */
    const char *kind, *name;      /* MHI_COMMAND_*, and the given name; NULL: the request names the snapshot, below */
    const char *const *arguments; /* the program's own, NULL-terminated */
    const char *snapshot;         /* absolute path */
    uint64_t checksum;            /* its hd_checksum */
    uint64_t blocked;             /* signals, as ar_blocked; valid only if the request names the snapshot */
    const char *module;           /* "-P -m MODULE" goes between interpreter and `rest`; NULL: nothing does */
    /* tail of sys.orig_argv, NULL-terminated. With `snapshot`: all of it; otherwise without argv[0], the interpreter */
    char **rest;
    uint64_t n_skipped; /* arguments of sys.orig_argv before sys.argv */
} mhi_request;

/* command.c: NULL, or the error in the command line, as a text for the user. */
const char *mhi_request_parse(mhi_request *request, int argc, char **argv);

extern const char mhi_usage[];

#endif
