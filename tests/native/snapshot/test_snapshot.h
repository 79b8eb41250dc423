/* test_snapshot.h - what the tests of snapshot files share: a scratch directory, children, and a heap that can be
 * recognised.
 *
 * A process that committed or attached a snapshot has its address range taken for good. So commits and attaches happen
 * in forked children, which answer by their exit status: a child that a signal killed fails the test.
 */
#ifndef TEST_SNAPSHOT_H
#define TEST_SNAPSHOT_H
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "heap/arena.h"

/* ---- scratch: a directory of this run, removed when its process ends ---- */

static char scratch_directory[PATH_MAX];
static pid_t scratch_owner;

static inline int scratch_remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
    (void)status, (void)type, (void)walk;
    return remove(path);
}

static inline void scratch_remove(void)
{
    if (getpid() == scratch_owner)
        nftw(scratch_directory, scratch_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* A path in it; good for the next 63 calls. */
static inline const char *scratch(const char *name)
{
    static char paths[64][PATH_MAX];
    static unsigned next;
    if (scratch_owner == 0) {
        const char *parent = getenv("TMPDIR");
        char made[PATH_MAX - 64];
        snprintf(made, sizeof made, "%s/magicheap-test-XXXXXX", parent == NULL ? "/tmp" : parent);
        CHECK(mkdtemp(made) != NULL && realpath(made, scratch_directory) != NULL);
        scratch_owner = getpid();
        atexit(scratch_remove);
    }
    char *path = paths[next++ % 64];
    CHECK(snprintf(path, PATH_MAX, "%s/%s", scratch_directory, name) < PATH_MAX);
    return path;
}

static inline void write_file(const char *path, const void *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && write(fd, bytes, size) == (ssize_t)size && close(fd) == 0);
}

/* The bytes of a whole file, allocated. */
static inline char *read_file(const char *path, size_t *size)
{
    struct stat status;
    int fd = open(path, O_RDONLY);
    CHECK(fd >= 0 && fstat(fd, &status) == 0);
    char *bytes = malloc((size_t)status.st_size + 1);
    CHECK(bytes != NULL);
    for (*size = 0; *size < (size_t)status.st_size;) {
        ssize_t n = read(fd, bytes + *size, (size_t)status.st_size - *size);
        CHECK(n > 0);
        *size += (size_t)n;
    }
    close(fd);
    return bytes;
}

static inline bool exists(const char *path)
{
    struct stat status;
    return lstat(path, &status) == 0;
}

/* ---- children ---- */

/* Runs `run` in a forked child and returns its wait status. A failing CHECK there makes it 1. */
static inline int wait_for_child(void (*run)(void *context), void *context)
{
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        run(context);
        fflush(NULL);
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

#define IN_CHILD(run, context) CHECK_EQUAL(wait_for_child(run, context), 0)

/* ---- a heap that can be recognised: a list whose nodes and texts follow from its seed, with pointers into two modules
 * ---- */

typedef struct node {
    struct node *next;
    char *text;
    uint64_t value;
    size_t text_bytes;
} node;

typedef struct {
    uint64_t seed, n_nodes;
    node *first;
    size_t (*measure)(const char *); /* into libc */
    const char *label;               /* into the program */
} list;

static const char list_label[] = "a list";

/* NULL if the arena gave no memory. */
static inline list *build_list(mh_arena *arena, uint64_t seed, uint64_t n_nodes)
{
    list *built = mh_malloc(arena, sizeof *built);
    if (built == NULL)
        return NULL;
    *built = (list){ .seed = seed, .n_nodes = n_nodes, .measure = strlen, .label = list_label };
    uint64_t state = seed;
    node **last = &built->first;
    for (uint64_t i = 0; i < n_nodes; i++) {
        node *made = mh_calloc(arena, 1, sizeof *made);
        if (made == NULL)
            return NULL;
        made->value = harness_random(&state);
        made->text_bytes = 1 + made->value % 700;
        made->text = mhi_arena_malloc(arena, made->text_bytes, MHI_OWNER_EXPLICIT | MHI_BLOCK_DATA);
        if (made->text == NULL)
            return NULL;
        memset(made->text, (int)(made->value >> 32), made->text_bytes);
        *last = made;
        last = &made->next;
    }
    return built;
}

/* Whether the list is, to the last byte, what build_list made. */
static inline bool is_list(const list *found, uint64_t seed)
{
    if (found == NULL || found->seed != seed || found->label != list_label ||
        found->measure(found->label) != sizeof list_label - 1)
        return false;
    uint64_t state = seed, n = 0;
    for (const node *each = found->first; each != NULL; each = each->next, n++) {
        if (n >= found->n_nodes || each->value != harness_random(&state) || each->text_bytes != 1 + each->value % 700)
            return false;
        for (size_t i = 0; i < each->text_bytes; i++)
            if (each->text[i] != (char)(each->value >> 32))
                return false;
    }
    return n == found->n_nodes;
}

/* ---- whole runs ---- */

typedef struct {
    const char *path;
    uint64_t seed, n_nodes;
    mh_options options;
} run;

/* A cold run that commits; for IN_CHILD. */
static inline void commit_run(void *context)
{
    const run *given = context;
    mh_options options = given->options;
    mh_transaction *tx;
    mh_error err;
    options.ignore_snapshot = true;
    CHECK_OK(mh_open(&tx, given->path, &options, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    list *root = build_list(mh_transaction_arena(tx), given->seed, given->n_nodes);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    CHECK(is_list(mh_root(tx), given->seed));
    mh_close(tx);
}

/* A warm run that finds the list; for IN_CHILD. */
static inline void attach_run(void *context)
{
    const run *given = context;
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, given->path, &given->options, &err), err);
    if (!mh_was_committed(tx))
        harness_fail(__FILE__, __LINE__, mh_reason(tx));
    CHECK(is_list(mh_root(tx), given->seed));
    mh_close(tx);
}

/* A snapshot of a list; returns its path. */
static inline const char *make_snapshot(const char *name, uint64_t seed)
{
    run made = { .path = scratch(name), .seed = seed, .n_nodes = 200 };
    IN_CHILD(commit_run, &made);
    return made.path;
}

/* What a run with these options says to the file, in a child: a cold run with this status and this in its reason. */
typedef struct {
    const char *path;
    int status;
    const char *reason;
    mh_options options;
} expected;

static inline void cold_run(void *context)
{
    const expected *given = context;
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, given->path, &given->options, &err), err);
    CHECK(!mh_was_committed(tx) && mh_root(tx) == NULL);
    if (mh_reason_status(tx) != given->status || strstr(mh_reason(tx), given->reason) == NULL)
        harness_fail(__FILE__, __LINE__, mh_reason(tx));
    mh_close(tx);
}

#define CHECK_COLD(path_, status_, reason_) \
    IN_CHILD(cold_run, (&(expected){ .path = (path_), .status = (status_), .reason = (reason_) }))
#define CHECK_WARM(path_, seed_) IN_CHILD(attach_run, (&(run){ .path = (path_), .seed = (seed_) }))

#endif
