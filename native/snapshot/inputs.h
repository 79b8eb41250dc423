/* inputs.h - what a snapshot depends on: recorded by the run that loads, compared by every run that would attach.
 *
 * A run compares at mh_open, before the body. So the environment is remembered as mh_open found it, not as the body left it.
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
const mhi_input *mhi_inputs_find(const mhi_inputs *inputs, int kind, const char *name);

/* The file as it is at this moment. MH_ERR_SYSTEM if there is none. What lies in /proc and /sys, and what is neither a regular
 * file nor a directory, is no input: MH_OK. */
int mhi_inputs_add_file(mhi_inputs *inputs, const char *path, mh_error *err);
/* The files that libraries opened for reading, as they were then; not those that the body wrote itself, or that are gone, since they were
 * temporary. MH_ERR_UNSUPPORTED if some were lost. */
int mhi_inputs_add_opened(mhi_inputs *inputs, mh_error *err);
/* Every module of this process that is a file, the executable included. */
int mhi_inputs_add_libraries(mhi_inputs *inputs, mh_error *err);
/* The CPU, the C library and the page size. */
int mhi_inputs_add_machine(mhi_inputs *inputs, mh_error *err);

/* environment.c: the value of a variable of an environ, or NULL. */
const char *mhi_environment_get(char *const *environment, const char *name);
/* environment.c: every variable of an environ, as an input of kind ENV. */
int mhi_environment_read(mhi_inputs *variables, char *const *environment, mh_error *err);
/* environment.c: takes those over that every load depends on. */
int mhi_environment_add_watched(mhi_inputs *inputs, const mhi_inputs *variables, mh_error *err);
/* environment.c: takes one over that the caller names, set or not. */
int mhi_environment_add(mhi_inputs *inputs, const mhi_inputs *variables, const char *name, mh_error *err);

/* Names of the inputs of kind SYSTEM. */
#define MHI_SYSTEM_LIBC "glibc"
#define MHI_SYSTEM_PAGE "page size"

/* build_id.c: 1 if it has this build-id, 0 if not, -errno. */
int mhi_file_has_build_id(const char *path, const uint8_t *build_id, uint32_t build_id_bytes);

/* stale.c: all that identifies a file. */
mhi_file_input mhi_file_identity(int kind, const struct stat *found);

struct mh_image;
/* stale.c: MH_OK, or MH_ERR_STALE naming the first input that is not what it was. `key` and `env` as in
 * mh_options, but a `key` of NULL is not compared; `environment` is an environ. *is_variant: the input is one by which runs differ (key,
 * environment), so that the snapshot may be as good as ever for others; these are compared first. */
int mhi_inputs_check(const struct mh_image *image, const char *key, const char *const *env, char *const *environment, bool *is_variant,
                     mh_error *err);
/* stale.c: no run will take it any more, since a file is not what it was; not where that can't be told at this moment. */
bool mhi_inputs_are_gone(const struct mh_image *image);
/* environment.c: its part of that. */
int mhi_environment_check(const struct mh_image *image, const char *const *env, char *const *environment, mh_error *err);

#endif
