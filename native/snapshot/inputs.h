/* inputs.h - what a snapshot depends on. The run that loads records the inputs, and every run that would attach
 * compares them.
 *
 * A run compares at mh_open, before the body. So the recorded environment is the one at mh_open, not the one that the
 * body left.
 */
#ifndef MHI_INPUTS_H
#define MHI_INPUTS_H
#include <sys/stat.h>

#include "base/dispositions.h"
#include "format.h"
#include "magicheap.h"

typedef struct {
    mhi_file_input entry; /* in_name and in_text are set when the tables are made */
    char *name, *text;    /* never NULL */
} mhi_input;

typedef struct {
    mhi_input *items; /* in the order of recording; of two with the same kind and name the first counts */
    size_t n, capacity;
} mhi_inputs;

void mhi_inputs_release(mhi_inputs *inputs);
/* Adds a copy of an input; `name` and `text` may be NULL. Fails for want of memory. */
int mhi_inputs_add(mhi_inputs *inputs, const mhi_file_input *entry, const char *name, const char *text, mh_error *err);
void mhi_inputs_drop(mhi_inputs *inputs, size_t i);
const mhi_input *mhi_inputs_find(const mhi_inputs *inputs, int kind, const char *name);

/* Adds the file in its present state. MH_ERR_SYSTEM if there is none. MH_OK without an input for a path in /proc and
 * /sys, and for anything but a regular file or a directory. */
int mhi_inputs_add_file(mhi_inputs *inputs, const char *path, mh_error *err);
/* Every module of this process that is a file, the executable included. */
int mhi_inputs_add_libraries(mhi_inputs *inputs, mh_error *err);
/* The CPU, the C library and the page size. */
int mhi_inputs_add_machine(mhi_inputs *inputs, mh_error *err);

/* The context in which the questions of one transaction are judged. */
typedef struct {
    char *standard_library; /* as in mh_options; NULL: none */
    char *place;            /* the working directory at mh_open; "": unknown */
    char *snapshot;         /* paths with this prefix are the snapshot's own files */
    char *left_out;         /* paths that are no input, each followed by a newline; NULL: none */
} mhi_scope;

/* record.c: adds the questions that were asked (route/questions.h). MH_ERR_UNSUPPORTED if some questions were lost. */
int mhi_record_questions(mhi_inputs *inputs, const mhi_inputs *variables, const mhi_scope *scope, mh_error *err);
/* record.c: adds a directory by its present names; `which`: MH_LISTING_*; `modules`: as NAMES in format.h. */
int mhi_record_listing(mhi_inputs *inputs, const char *path, uint64_t which, const char *modules, mh_error *err);
int mhi_record_place(mhi_inputs *inputs, const char *place, mh_error *err);
/* record.c: computes the digests of all files, as the last step. A file that can't be read, or has changed since it was
 * recorded, gets none. */
void mhi_record_contents(mhi_inputs *inputs);
/* record.c: drops inputs that follow from others. */
void mhi_record_thin(mhi_inputs *inputs);
/* record.c: whether the kernel makes the file up (/proc, /sys, /dev), so that it has no identity to compare. */
bool mhi_is_made_up(const char *path);

/* environment.c: the value of a variable of an environ, or NULL. */
const char *mhi_environment_get(char *const *environment, const char *name);
/* environment.c: every variable of an environ, as an input of kind ENV. */
int mhi_environment_read(mhi_inputs *variables, char *const *environment, mh_error *err);
/* environment.c: adds the variables that every load depends on. */
int mhi_environment_add_watched(mhi_inputs *inputs, const mhi_inputs *variables, mh_error *err);
/* environment.c: adds a variable that the caller names, set or not. */
int mhi_environment_add(mhi_inputs *inputs, const mhi_inputs *variables, const char *name, mh_error *err);
/* environment.c: adds all variables whose names match, and the fact that there are no others. */
int mhi_environment_add_walk(mhi_inputs *inputs, const mhi_inputs *variables, const char *pattern, mh_error *err);

/* Names of the inputs of kind SYSTEM. */
#define MHI_SYSTEM_LIBC "glibc"
#define MHI_SYSTEM_PAGE "page size"
#define MHI_SYSTEM_WATCHED "watched" /* bytes = 1: watched from the first instruction of the program */

/* build_id.c: 1 if it has this build-id, 0 if not, -errno. */
int mhi_open_file_has_build_id(int fd, const uint8_t *build_id, uint32_t build_id_bytes);
int mhi_file_has_build_id(const char *path, const uint8_t *build_id, uint32_t build_id_bytes);

struct mh_image;
/* The run that would take a snapshot. */
typedef struct {
    const char *key;                      /* NULL: not compared */
    const char *const *env;               /* as in mh_options */
    char *const *environment;             /* an environ */
    const char *const *arguments;         /* as in mh_options */
    bool is_watched;                      /* as in mh_options */
    int streams;                          /* those that were open at the start, a bit for each; -1: not compared */
    const mhi_dispositions *dispositions; /* NULL: not compared */
    bool is_any; /* any run of the command: directory, user, arguments and the like are not compared */
} mhi_run;

/* stale.c: MH_OK, or MH_ERR_STALE naming the first input whose answer has changed. *is_variant then tells whether runs
 * of one command differ in this input (arguments, environment, place, terminal ...): the snapshot is another variant,
 * and still good for its own runs. These inputs are compared first. */
int mhi_inputs_check(const struct mh_image *image, const mhi_run *run, bool *is_variant, mh_error *err);
/* stale.c: whether no run will take the snapshot any more, since a file has changed. False while this can't be
 * decided. */
bool mhi_inputs_are_gone(const struct mh_image *image);
/* environment.c: its part of mhi_inputs_check. */
int mhi_environment_check(const struct mh_image *image, const char *const *env, char *const *environment,
                          mh_error *err);

#endif
