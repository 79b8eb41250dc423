/* request.h - what the launcher's command line asks for. */
#ifndef MHI_REQUEST_H
#define MHI_REQUEST_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    bool is_question;             /* only to tell what would be done */
    const char *kind, *name;      /* MHI_COMMAND_*, and as given; NULL: the snapshot itself is named, below */
    const char *const *arguments; /* the program's own, NULL-terminated */
    const char *snapshot;         /* absolute path */
    uint64_t checksum;            /* its hd_checksum */
    uint64_t blocked;             /* signals, as ar_blocked; of no meaning unless the snapshot is named */
    const char *module;           /* -P -m and this stand between interpreter and `rest`; NULL: nothing */
    /* NULL-terminated: of sys.orig_argv, all of it if the snapshot is named, else all but the interpreter */
    char **rest;
    uint64_t n_skipped; /* of sys.orig_argv, before sys.argv */
} mhi_request;

/* command.c: NULL, or what is wrong with the command line: a text for the user. */
const char *mhi_request_parse(mhi_request *request, int argc, char **argv);

extern const char mhi_usage[];

#endif
