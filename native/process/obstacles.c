/* obstacles.c - finds what a process snapshot can't carry.
 *
 * Three things make memory impossible to carry: another process may write it, it is a device's, or its kind is one that
 * the launcher can't make. Shared memory that no other process can have is no obstacle; see mhi_is_fresh_shared.
 */
#define _GNU_SOURCE
#include "process/obstacles.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/array.h"
#include "base/identity.h"
#include "base/proc_dirs.h"
#include "base/text.h"
#include "error.h"
#include "format.h"
#include "sys/sys.h"

void mhi_obstacles_add(mhi_obstacles *found, const char *format, ...)
{
    char text[sizeof found->text];
    va_list values;
    va_start(values, format);
    int length = vsnprintf(text, sizeof text, format, values);
    va_end(values);
    size_t left = sizeof found->text - found->used;
    if (length >= 0 && (found->n == 0 || (found->n == found->n_told && (size_t)length + sizeof ", " <= left))) {
        found->used += (size_t)snprintf(found->text + found->used, left, "%s%s", found->n == 0 ? "" : ", ", text);
        found->used = found->used < sizeof found->text ? found->used : sizeof found->text - 1;
        found->n_told++;
    }
    found->n++;
}

int mhi_obstacles_end(const mhi_obstacles *found, const char *remedy, mh_error *err)
{
    if (found->n == 0)
        return MH_OK;
    if (found->n == found->n_told)
        return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "%s: %s", found->text, remedy);
    return mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "%s and %u more: %s", found->text, found->n - found->n_told, remedy);
}

/* ---- /proc/PID/stat ---- */

typedef struct {
    char name[64];
    unsigned flags; /* the kernel's PF_* */
} task;

/* PF_EXITING and PF_FORKNOEXEC of include/linux/sched.h, which have been these since Linux 2.6. */
enum { TASK_IS_EXITING = 0x4, TASK_HAS_NOT_EXECUTED = 0x40 };

static int read_task(const char *path, task *found)
{
    char text[512]; /* the fields needed are at the front */
    int result = mhi_sys_read_text(path, text, sizeof text);
    if (result < 0)
        return result;
    char *name = strchr(text, '('), *end = strrchr(text, ')');
    if (name == NULL || end == NULL || sscanf(end, ") %*c %*d %*d %*d %*d %*d %u", &found->flags) != 1)
        return -ENODATA;
    snprintf(found->name, sizeof found->name, "%.*s", (int)(end - name - 1), name + 1);
    return 0;
}

/* Whether the task has ended, or is about to end and has done all its work. */
static bool is_ending(const task *found) { return found->flags & TASK_IS_EXITING; }

/* ---- children ---- */

static int add_child(mhi_obstacles *found, int child)
{
    char path[48];
    task its;
    snprintf(path, sizeof path, "/proc/%d/stat", child);
    int result = read_task(path, &its);
    if (result == 0 && !is_ending(&its))
        mhi_obstacles_add(found, "child process %d (%s) is running", child, its.name);
    /* the child has ended, and another thread has waited for it */
    return result == -ENOENT || result == -ESRCH ? 0 : result;
}

static int add_children_of_thread(void *context, int reader, int thread)
{
    (void)reader;
    char path[64], text[4 << 10], *rest = text;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", thread);
    int result = mhi_sys_read_text(path, text, sizeof text);
    if (result < 0)
        return result;
    for (long child; result == 0 && (child = strtol(rest, &rest, 10)) > 0;)
        result = add_child(context, (int)child);
    return result;
}

/* Zombies don't count: only their exit status is left, which any fork loses too. */
static int check_children(mh_error *err)
{
    int has = mhi_sys_has_children();
    if (has == 0)
        return MH_OK;
    mhi_obstacles found = { 0 };
    int result = has < 0 ? has : mhi_each_number("/proc/self/task", add_children_of_thread, &found);
    if (result == -ENOENT) { /* a kernel without CONFIG_PROC_CHILDREN */
        mhi_obstacles_add(&found, "there are child processes");
        result = 0;
    }
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot tell whether there are child processes");
    return mhi_obstacles_end(&found, "wait for it in the body, or start it after the with", err);
}

/* ---- other threads ---- */

typedef struct {
    const mhi_known_threads *known;
    mhi_obstacles found;
    int own;
} thread_search;

int mhi_own_number(void)
{
    char target[64]; /* PID/task/NUMBER */
    const char *slash = mhi_sys_readlink("/proc/thread-self", target, sizeof target) < 0 ? NULL : strrchr(target, '/');
    return slash == NULL ? mhi_sys_thread_id() : (int)strtol(slash + 1, NULL, 10);
}

const char *mhi_known_text(const mhi_known_threads *known, int thread)
{
    for (size_t i = 0; i < known->n; i++)
        if (known->items[i].thread == thread)
            return known->items[i].text;
    return "";
}

static int add_thread(void *context, int reader, int thread)
{
    (void)reader;
    thread_search *search = context;
    char path[48];
    task its;
    if (thread == search->own)
        return 0;
    snprintf(path, sizeof path, "/proc/self/task/%d/stat", thread);
    int result = read_task(path, &its);
    const char *text = mhi_known_text(search->known, thread);
    /* pthread_join returns a little before the thread leaves /proc */
    if (result == 0 && !is_ending(&its))
        mhi_obstacles_add(&search->found, "thread %d (%s) is running", thread, *text != '\0' ? text : its.name);
    return result == -ENOENT || result == -ESRCH ? 0 : result;
}

int mhi_threads_check(const mhi_known_threads *known, mh_error *err)
{
    thread_search search = { .known = known, .own = mhi_own_number() };
    int result = mhi_each_number("/proc/self/task", add_thread, &search);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot tell whether other threads are running");
    return mhi_obstacles_end(&search.found, "a later run would lose it; end it in the body, or start it after the with",
                             err);
}

/* ---- memory ---- */

bool mhi_is_fresh_shared(const mhi_mapping *mapping)
{
    return mapping->is_shared && mapping->is_deleted && !mapping->is_hugetlb && !mapping->is_device &&
           (strcmp(mapping->name, "/dev/zero") == 0 || mhi_begins(mapping->name, "/dev/shm/sem."));
}

/* Whether this process is forked without an execve: then its parent has the same shared memory. */
static int read_is_forked(bool *is_forked)
{
    task self;
    int result = read_task("/proc/self/stat", &self);
    *is_forked = result == 0 && self.flags & TASK_HAS_NOT_EXECUTED;
    return result;
}

/* The C library makes a semaphore under a temporary name, which /proc shows ever after, and links it to its own name.
 * So only the directory tells whether it still has a name, by which another process may open it. */
static int read_is_named(mhi_file_id file, bool *is_named)
{
    _Alignas(struct dirent64) char entries[4 << 10];
    int reader = mhi_sys_open("/dev/shm", O_RDONLY | O_DIRECTORY, 0);
    ssize_t size = reader < 0 ? reader : 1;
    *is_named = false;
    while (size > 0 && (size = mhi_sys_read_directory(reader, entries, sizeof entries)) > 0)
        for (ssize_t at = 0; at < size; at += ((const struct dirent64 *)(entries + at))->d_reclen)
            *is_named |= mhi_may_be_entry(file, ((const struct dirent64 *)(entries + at))->d_ino);
    if (reader >= 0)
        mhi_sys_close(reader);
    return size < 0 ? (int)size : 0;
}

static const char *memory_kind(const mhi_mapping *mapping, bool is_forked)
{
    const char *name = mapping->name;
    bool is_ring = strstr(name, "[io_uring]") != NULL;
    bool is_gpu = mhi_begins(name, "/dev/nvidia") || mhi_begins(name, "/dev/dri/") || mhi_begins(name, "/dev/kfd");
    if (mapping->is_hugetlb)
        return "memory in huge pages (MAP_HUGETLB)";
    if (is_ring || is_gpu)
        return is_ring ? "an io_uring" : "a GPU's memory";
    if (mapping->is_device && name[0] != '[') /* [vvar] */
        return "a device's memory";
    if (!mapping->is_shared || !(mapping->prot & PROT_WRITE) || (mhi_is_fresh_shared(mapping) && !is_forked))
        return NULL;
    return mhi_begins(name, "/SYSV")       ? "System V shared memory"
           : mhi_begins(name, "/memfd:")   ? "shared memory"
           : mhi_begins(name, "/dev/shm/") ? "POSIX shared memory"
           : mhi_begins(name, "/dev/zero") ? "shared memory of a forked process"
           : mhi_ends(name, "-shm")        ? "an open SQLite connection's index"
                                           : "a file mapped shared and writable";
}

/* Detects two mappings of the same shared memory: they would become two memories. */
typedef struct {
    mhi_file_id file;
    uint64_t offset, end;
} view;

typedef struct {
    view *items;
    size_t n_items, capacity;
} views;

static int add_view(views *seen, const mhi_mapping *mapping, bool *is_second)
{
    view added = { mapping->file, mapping->offset, mapping->offset + (mapping->end - mapping->start) };
    *is_second = false;
    for (size_t i = 0; i < seen->n_items; i++) {
        const view *other = &seen->items[i];
        *is_second |=
            mhi_is_same_file(other->file, added.file) && other->offset < added.end && added.offset < other->end;
    }
    view *items = mhi_array_grow(seen->items, seen->n_items, &seen->capacity, sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    seen->items = items;
    seen->items[seen->n_items++] = added;
    return 0;
}

static int add_mapping(mhi_obstacles *found, views *seen, const mhi_mapping *mapping, bool is_forked)
{
    bool is_second = false, is_named = false;
    const char *kind = memory_kind(mapping, is_forked);
    if (kind == NULL && mhi_is_fresh_shared(mapping)) {
        int result = add_view(seen, mapping, &is_second);
        if (result == 0 && mhi_begins(mapping->name, "/dev/shm/"))
            result = read_is_named(mapping->file, &is_named);
        if (result < 0)
            return result;
        kind = is_second ? "shared memory mapped twice" : is_named ? "a semaphore with a name" : NULL;
    }
    if (kind != NULL)
        mhi_obstacles_add(found, "%s is in use (%.160s at 0x%llx)", kind, mapping->name,
                          (unsigned long long)mapping->start);
    return 0;
}

bool mhi_is_of_launcher(const mhi_mapping *mapping)
{
    return mapping->start >= MHI_LAUNCHER_START && mapping->end <= MHI_LAUNCHER_END;
}

static int add_mappings(mhi_obstacles *found, bool is_forked)
{
    mhi_mappings mappings;
    mhi_mapping mapping;
    views seen = { 0 };
    int result = mhi_mappings_open(&mappings, true);
    if (result < 0)
        return result;
    while (result >= 0 && (result = mhi_mappings_next(&mappings, &mapping)) == 1)
        if (!mhi_is_of_launcher(&mapping))
            result = add_mapping(found, &seen, &mapping, is_forked);
    mhi_mappings_close(&mappings);
    free(seen.items);
    return result;
}

static int check_memory(mh_error *err)
{
    mhi_obstacles found = { 0 };
    bool is_forked;
    int result = read_is_forked(&is_forked);
    if (result == 0)
        result = add_mappings(&found, is_forked);
    if (result < 0)
        return mhi_fail_sys(err, result,
                            "cannot read /proc/self/stat and /proc/self/smaps, which tell what memory is shared");
    return mhi_obstacles_end(&found, "unmap it, or close what did, in the body, or map it after the with", err);
}

/* ---- all ---- */

int mhi_obstacles_check(mh_error *err)
{
    int (*const checks[])(mh_error *err) = { mhi_machine_check, check_children, check_memory };
    int status = MH_OK;
    for (size_t i = 0; i < sizeof checks / sizeof *checks && status == MH_OK; i++)
        status = checks[i](err);
    return status;
}
