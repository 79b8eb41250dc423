/* inputs.h - what a snapshot depends on: recorded by the run that loads, compared by every run that would attach.
 *
 * A run compares at mh_open, before the body. So the environment is remembered as mh_open found it, not as the body
 * left it.
 */
#ifndef MHI_INPUTS_H
#define MHI_INPUTS_H
#include <sys/stat.h>

#include "format.h"
#include "magicheap.h"

typedef struct {
    mhi_file_input entry; /* in_name and in_text are set when the tables are made */
    char *name, *text;    /* never NULL */
} mhi_input;

typedef struct {
    mhi_input *items; /* in the order recorded; of two with the same kind and name the first counts */
    size_t n, capacity;
} mhi_inputs;

void mhi_inputs_release(mhi_inputs *inputs);
/* Adds a copy; `name` and `text` may be NULL. Fails for want of memory. */
int mhi_inputs_add(mhi_inputs *inputs, const mhi_file_input *entry, const char *name, const char *text, mh_error *err);
void mhi_inputs_drop(mhi_inputs *inputs, size_t i);
const mhi_input *mhi_inputs_find(const mhi_inputs *inputs, int kind, const char *name);

/* The file as it is at this moment. MH_ERR_SYSTEM if there is none. What lies in /proc and /sys, and what is neither a
 * regular file nor a directory, is no input: MH_OK. */
int mhi_inputs_add_file(mhi_inputs *inputs, const char *path, mh_error *err);
/* Every module of this process that is a file, the executable included. */
int mhi_inputs_add_libraries(mhi_inputs *inputs, mh_error *err);
/* The CPU, the C library and the page size. */
int mhi_inputs_add_machine(mhi_inputs *inputs, mh_error *err);

/* What the answers of one transaction are seen from. */
typedef struct {
    char *standard_library; /* as in mh_options; NULL: none */
    char *place;            /* the working directory at mh_open; "": it could not be told */
    char *snapshot;         /* what begins like this is the snapshot's own */
    char *left_out;         /* paths that are no input, each with a newline behind it; NULL: none */
} mhi_scope;

/* record.c: what was asked (route/questions.h), as inputs. MH_ERR_UNSUPPORTED if some questions were lost. */
int mhi_record_questions(mhi_inputs *inputs, const mhi_inputs *variables, const mhi_scope *scope, mh_error *err);
/* record.c: a directory, by what is in it now; `which`: MH_LISTING_*; `modules`: as NAMES in format.h. */
int mhi_record_listing(mhi_inputs *inputs, const char *path, uint64_t which, const char *modules, mh_error *err);
int mhi_record_place(mhi_inputs *inputs, const char *place, mh_error *err);
/* record.c: the digests of all files, last of all. What can't be read, or has changed since it was recorded, gets none.
 * */
void mhi_record_contents(mhi_inputs *inputs);
/* record.c: leaves out what follows from others. */
void mhi_record_thin(mhi_inputs *inputs);
/* record.c: what the kernel makes up has no identity to compare. */
bool mhi_is_made_up(const char *path);

/* environment.c: the value of a variable of an environ, or NULL. */
const char *mhi_environment_get(char *const *environment, const char *name);
/* environment.c: every variable of an environ, as an input of kind ENV. */
int mhi_environment_read(mhi_inputs *variables, char *const *environment, mh_error *err);
/* environment.c: takes those over that every load depends on. */
int mhi_environment_add_watched(mhi_inputs *inputs, const mhi_inputs *variables, mh_error *err);
/* environment.c: takes one over that the caller names, set or not. */
int mhi_environment_add(mhi_inputs *inputs, const mhi_inputs *variables, const char *name, mh_error *err);
/* All whose names fit, and that there are no others. */
int mhi_environment_add_walk(mhi_inputs *inputs, const mhi_inputs *variables, const char *pattern, mh_error *err);

/* Names of the inputs of kind SYSTEM. */
#define MHI_SYSTEM_LIBC "glibc"
#define MHI_SYSTEM_PAGE "page size"
#define MHI_SYSTEM_WATCHED "watched" /* bytes = 1: from the first instruction of the program */

/* build_id.c: 1 if it has this build-id, 0 if not, -errno. */
int mhi_open_file_has_build_id(int fd, const uint8_t *build_id, uint32_t build_id_bytes);
int mhi_file_has_build_id(const char *path, const uint8_t *build_id, uint32_t build_id_bytes);

struct mh_image;
/* Of the run that asks. */
typedef struct {
    const char *key;              /* NULL: not compared */
    const char *const *env;       /* as in mh_options */
    char *const *environment;     /* an environ */
    const char *const *arguments; /* as in mh_options */
    bool is_watched;              /* as in mh_options */
    bool is_any;                  /* any run of the command: where, by whom and with what it is run is not compared */
} mhi_run;

/* stale.c: MH_OK, or MH_ERR_STALE naming the first input that is not what it was. *is_variant then tells whether it is
 * one by which runs of a command differ (arguments, environment, place, terminal ...): the snapshot is another variant,
 * and as good as ever for its own runs. These are asked first. */
int mhi_inputs_check(const struct mh_image *image, const mhi_run *run, bool *is_variant, mh_error *err);
/* stale.c: no run will take it any more, since a file is not what it was; not where that can't be told at this moment.
 * */
bool mhi_inputs_are_gone(const struct mh_image *image);
/* environment.c: its part of that. */
int mhi_environment_check(const struct mh_image *image, const char *const *env, char *const *environment,
                          mh_error *err);

#endif
