/* inputs.c - records files, libraries and the machine as inputs. */
#define _GNU_SOURCE
#include "snapshot/inputs.h"

#include <errno.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/text.h"
#include "error.h"
#include "route/modules.h"
#include "arch/arch.h"
#include "snapshot/identity.h"
#include "sys/sys.h"

void mhi_inputs_release(mhi_inputs *inputs)
{
    for (size_t i = 0; i < inputs->n; i++) {
        free(inputs->items[i].name);
        free(inputs->items[i].text);
    }
    free(inputs->items);
    *inputs = (mhi_inputs){ 0 };
}

int mhi_inputs_add(mhi_inputs *inputs, const mhi_file_input *entry, const char *name, const char *text, mh_error *err)
{
    mhi_input added = { .entry = *entry, .name = mhi_copy_text(name), .text = mhi_copy_text(text) };
    mhi_input *items = mhi_array_grow(inputs->items, inputs->n, &inputs->capacity, sizeof *items);
    inputs->items = items == NULL ? inputs->items : items;
    if (added.name == NULL || added.text == NULL || items == NULL) {
        free(added.name);
        free(added.text);
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    }
    inputs->items[inputs->n++] = added;
    return MH_OK;
}

void mhi_inputs_drop(mhi_inputs *inputs, size_t i)
{
    free(inputs->items[i].name);
    free(inputs->items[i].text);
    memmove(&inputs->items[i], &inputs->items[i + 1], (--inputs->n - i) * sizeof *inputs->items);
}

const mhi_input *mhi_inputs_find(const mhi_inputs *inputs, int kind, const char *name)
{
    for (size_t i = 0; i < inputs->n; i++)
        if (inputs->items[i].entry.in_kind == (uint32_t)kind && strcmp(inputs->items[i].name, name) == 0)
            return &inputs->items[i];
    return NULL;
}

static int absolute(char path[PATH_MAX], const char *given, mh_error *err)
{
    size_t used = 0;
    if (*given != '/') {
        int result = mhi_sys_realpath(".", path, PATH_MAX);
        if (result < 0)
            return mhi_fail_sys(err, result, "cannot tell the working directory");
        used = strlen(path);
        path[used++] = '/';
    }
    if (used + strlen(given) >= PATH_MAX)
        return mhi_fail(err, MH_ERR_ARGUMENT, ENAMETOOLONG, "the path '%.100s...' is too long", given);
    strcpy(path + used, given);
    return MH_OK;
}

int mhi_inputs_add_file(mhi_inputs *inputs, const char *given, mh_error *err)
{
    char path[PATH_MAX];
    int status = absolute(path, given, err);
    if (status != MH_OK || mhi_is_made_up(path))
        return status;
    struct stat found;
    int result = mhi_sys_stat(path, &found);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot record %s as an input", path);
    if (!S_ISREG(found.st_mode) && !S_ISDIR(found.st_mode))
        return MH_OK;
    mhi_file_input entry = mhi_file_identity(MH_INPUT_FILE, &found);
    return mhi_inputs_add(inputs, &entry, path, NULL, err);
}

typedef struct {
    mhi_inputs *inputs;
    mh_error *err;
    int status;
} library_visit;

/* 1 if the file at a module's path is the one that was loaded, 0 if that file was removed or exchanged since, or
 * -errno. */
static int is_still_there(const mhi_module *module, struct stat *found)
{
    int result = mhi_sys_stat(module->path, found);
    if (result < 0)
        return result == -ENOENT ? 0 : result;
    if (module->build_id_bytes == 0)
        return 1;
    result = mhi_file_has_build_id(module->path, module->build_id, module->build_id_bytes);
    return result == -EACCES ? 1 : result; /* a program may be executable without being readable */
}

static bool add_library(void *context, const mhi_module *module)
{
    library_visit *visit = context;
    if (module->path[0] != '/') /* the vdso, which is the kernel's */
        return true;
    struct stat found = { 0 };
    int result = is_still_there(module, &found);
    if (result < 0) {
        visit->status = mhi_fail_sys(visit->err, result, "cannot record %s as an input", module->path);
        return false;
    }
    mhi_file_input entry = mhi_file_identity(MH_INPUT_LIBRARY, &found);
    if (result == 0)
        entry.in_mtime_ns = MHI_MTIME_UNKNOWN;
    entry.in_build_id_bytes = module->build_id_bytes;
    memcpy(entry.in_build_id, module->build_id, module->build_id_bytes);
    visit->status = mhi_inputs_add(visit->inputs, &entry, module->path, NULL, visit->err);
    return visit->status == MH_OK;
}

int mhi_inputs_add_libraries(mhi_inputs *inputs, mh_error *err)
{
    _Static_assert((int)MHI_BUILD_ID_MAX == (int)MHI_FILE_BUILD_ID_MAX, "a build-id fits its place in the file");
    library_visit visit = { .inputs = inputs, .err = err, .status = MH_OK };
    mhi_modules_each(add_library, &visit);
    return visit.status;
}

int mhi_inputs_add_machine(mhi_inputs *inputs, mh_error *err)
{
    char features[MHI_CPU_TEXT_BYTES];
    mhi_file_input cpu = { .in_kind = MH_INPUT_CPU, .in_bytes = mhi_cpu_features(features) };
    mhi_file_input libc = { .in_kind = MH_INPUT_SYSTEM };
    mhi_file_input page = { .in_kind = MH_INPUT_SYSTEM, .in_bytes = (uint64_t)mhi_sys_page_size() };
    int status = mhi_inputs_add(inputs, &cpu, NULL, features, err);
    if (status == MH_OK)
        status = mhi_inputs_add(inputs, &libc, MHI_SYSTEM_LIBC, gnu_get_libc_version(), err);
    if (status == MH_OK)
        status = mhi_inputs_add(inputs, &page, MHI_SYSTEM_PAGE, NULL, err);
    return status;
}
