/* test_transaction.c - open, begin, commit, attach: what a program sees, and what stays of it on the disk. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>

#include "test_snapshot.h"

static mh_transaction *open_at(const char *path)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, path, NULL, &err), err);
    return tx;
}

static mh_transaction *begin_at(const char *path)
{
    mh_transaction *tx = open_at(path);
    mh_error err;
    CHECK(!mh_was_committed(tx));
    CHECK_OK(mh_begin(tx, &err), err);
    return tx;
}

TEST(later_runs_find_what_the_first_one_committed)
{
    const char *path = make_snapshot("round.dat", 7);
    for (int i = 0; i < 3; i++)
        CHECK_WARM(path, 7);
}

TEST(commit_replaces_the_snapshot_there_was)
{
    const char *path = make_snapshot("replaced.dat", 1);
    CHECK_EQUAL(strcmp(make_snapshot("replaced.dat", 2), path), 0);
    CHECK_WARM(path, 2);
}

TEST(first_run_is_cold_and_says_why)
{
    mh_transaction *tx = open_at(scratch("none.dat"));
    CHECK(!mh_was_committed(tx) && mh_root(tx) == NULL && mh_transaction_arena(tx) == NULL);
    CHECK_EQUAL(mh_reason_status(tx), MH_OK);
    CHECK(strstr(mh_reason(tx), "there is no snapshot") != NULL);
    CHECK(strcmp(mh_path(tx), scratch("none.dat")) == 0);
    mh_close(tx);
}

static void leave_nothing(void *context)
{
    const char *path = context;
    mh_transaction *tx = begin_at(path);
    build_list(mh_transaction_arena(tx), 1, 100);
    mh_abandon(tx);
    mh_close(tx);
}

TEST(abandoned_transaction_leaves_no_file)
{
    const char *path = scratch("abandoned.dat");
    IN_CHILD(leave_nothing, (void *)path);
    CHECK(!exists(path) && !exists(scratch("abandoned.dat.lock")) && !exists(scratch("abandoned.dat.uncommitted")));
}

TEST(only_the_snapshot_stays_after_a_commit_and_only_its_owner_may_read_it)
{
    mode_t before = umask(0777);
    const char *path = make_snapshot("mode.dat", 3);
    umask(before);
    struct stat status;
    CHECK(stat(path, &status) == 0 && (status.st_mode & 07777) == 0600);
    CHECK(!exists(scratch("mode.dat.lock")) && !exists(scratch("mode.dat.uncommitted")));
}

static void exec_attach(void *context)
{
    execl("/proc/self/exe", "test_transaction", "--attach", context, (char *)NULL);
}

TEST(pointers_into_modules_follow_them_to_other_addresses)
{
    const char *path = make_snapshot("moved.dat", 8);
    mh_image *image;
    mh_error err;
    mh_image_info info;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    mh_image_read_info(image, &info);
    CHECK(info.n_relocations == 2 && info.n_modules == 2);
    mh_image_close(image);
    for (int i = 0; i < 5; i++)
        IN_CHILD(exec_attach, (void *)path); /* a program of its own, whose modules lie elsewhere */
}

/* ---- several at once ---- */

static void attach_three(void *context)
{
    const char *const *paths = context;
    mh_transaction *tx[3];
    for (int i = 0; i < 3; i++) {
        tx[i] = open_at(paths[i]);
        CHECK(mh_was_committed(tx[i]));
    }
    for (int i = 0; i < 3; i++)
        CHECK(is_list(mh_root(tx[i]), 10 + (uint64_t)i) && mh_arena_of(mh_root(tx[i])) == mh_transaction_arena(tx[i]));
    for (int i = 0; i < 3; i++)
        mh_close(tx[i]);
}

TEST(several_snapshots_are_attached_at_once)
{
    const char *paths[] = { make_snapshot("a.dat", 10), make_snapshot("b.dat", 11), make_snapshot("c.dat", 12) };
    IN_CHILD(attach_three, paths);
}

static void attach_twice(void *context)
{
    mh_transaction *first = open_at(context), *second = open_at(context);
    CHECK(mh_was_committed(first) && !mh_was_committed(second));
    CHECK_EQUAL(mh_reason_status(second), MH_ERR_BUSY);
    CHECK(is_list(mh_root(first), 5));
    mh_close(second);
    CHECK(is_list(mh_root(first), 5));
    mh_close(first);
}

TEST(second_attach_of_the_same_snapshot_is_busy_and_harms_nothing)
{
    IN_CHILD(attach_twice, (void *)make_snapshot("twice.dat", 5));
}

static mh_transaction *open_again(const char *path)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, path, &(mh_options){ .is_movable = true }, &err), err);
    return tx;
}

static uint64_t *moved(const mh_transaction *tx, const uint64_t *address)
{
    return (uint64_t *)((uint64_t)address + mh_moved_bytes(tx));
}

static void attach_elsewhere(void *context)
{
    mh_transaction *first = open_again(context);
    CHECK(mh_was_committed(first) && mh_moved_bytes(first) == 0);
    uint64_t *root = mh_root(first), was = *root;
    *root = 77;
    for (int i = 0; i < 3; i++) {
        mh_transaction *again = open_again(context);
        CHECK(mh_was_committed(again) && mh_moved_bytes(again) != 0);
        CHECK(mh_root(again) == moved(again, root) && *moved(again, root) == was);
        CHECK(mh_arena_of(mh_root(again)) == mh_transaction_arena(again) &&
              mh_usable_size(mh_root(again)) == mh_usable_size(root));
        *moved(again, root) = 78;
        mh_arena *arena = mh_transaction_arena(again);
        mh_close(again);
        if (i != 1)
            mh_arena_delete(arena);
    }
    CHECK_EQUAL(*root, 77);
    mh_close(first);
}

TEST(snapshot_that_is_attached_is_attached_again_elsewhere_as_the_file_has_it)
{
    IN_CHILD(attach_elsewhere, (void *)make_snapshot("again.dat", 5));
}

static void attach_newer(void *context)
{
    mh_transaction *first = open_again(context);
    CHECK(mh_was_committed(first) && rename(scratch("newer.dat"), context) == 0);
    mh_transaction *newer = open_again(context);
    CHECK(!mh_was_committed(newer));
    CHECK_EQUAL(mh_reason_status(newer), MH_ERR_BUSY);
    mh_close(newer);
    mh_close(first);
}

TEST(newer_snapshot_at_the_address_of_one_that_is_attached_is_not_taken)
{
    const char *path = make_snapshot("replaced_later.dat", 6);
    CHECK(rename(path, scratch("newer.dat")) == 0);
    make_snapshot("replaced_later.dat", 5);
    IN_CHILD(attach_newer, (void *)path);
}

static void attach_once_more(void *context)
{
    mh_transaction *tx = open_again(context);
    CHECK(mh_was_committed(tx) && mh_moved_bytes(tx) != 0);
    mh_close(tx);
}

static void *attach_in_a_thread(void *context)
{
    for (int i = 0; i < 20; i++) {
        mh_transaction *tx = open_again(context);
        CHECK(mh_was_committed(tx));
        if (mh_moved_bytes(tx) != 0)
            mh_arena_delete(mh_transaction_arena(tx));
        mh_close(tx);
        if (i % 5 == 0)
            IN_CHILD(attach_once_more, context);
    }
    return NULL;
}

static void attach_in_threads(void *context)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_create(&threads[i], NULL, attach_in_a_thread, context), 0);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
}

TEST(threads_and_children_attach_one_snapshot_at_the_same_time)
{
    IN_CHILD(attach_in_threads, (void *)make_snapshot("threads.dat", 5));
}

static void begin_second(void *context)
{
    (void)context;
    mh_error err;
    mh_transaction *first = begin_at(scratch("one.dat")), *second = open_at(scratch("two.dat"));
    CHECK_EQUAL(mh_begin(second, &err), MH_ERR_BUSY);
    CHECK(mh_transaction_arena(second) == NULL);
    CHECK_EQUAL(mh_commit(second, &err), MH_ERR_BUSY);
    CHECK(!exists(scratch("two.dat.lock")));
    CHECK_OK(mh_set_root(first, build_list(mh_transaction_arena(first), 1, 10), &err), err);
    CHECK_OK(mh_commit(first, &err), err);
    mh_close(second);
    mh_close(first);
}

TEST(second_transaction_of_a_process_is_refused)
{
    scratch("");
    IN_CHILD(begin_second, NULL);
    CHECK_WARM(scratch("one.dat"), 1);
}

static void meet_a_writer(void *context)
{
    mh_error err;
    mh_transaction *tx = open_at(context);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_BUSY);
    CHECK(strstr(err.detail, "another run") != NULL);
    static int plain;
    CHECK_OK(mh_set_root(tx, &plain, &err), err); /* the program goes on, with an ordinary heap */
    CHECK(mh_root(tx) == &plain);
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_BUSY);
    mh_close(tx);
}

static void commit_beside_another(void *context)
{
    mh_error err;
    mh_transaction *tx = begin_at(context);
    IN_CHILD(meet_a_writer, context); /* forked inside a transaction, and begins one of its own on the same path */
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 9, 50), &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

TEST(two_writers_at_once_commit_once)
{
    const char *path = scratch("once.dat");
    IN_CHILD(commit_beside_another, (void *)path);
    CHECK_WARM(path, 9);
}

TEST(lock_left_by_a_dead_writer_and_its_file_are_no_hindrance)
{
    static const char lock[] = "magicheap: a run is making the snapshot beside this file\n";
    static const char *const rests[] = { "\x89MH\r\n\x1a\n", "\0\0\0\0\0\0\0\0", "" };
    for (size_t i = 0; i < sizeof rests / sizeof *rests; i++) {
        write_file(scratch("dead.dat.lock"), lock, sizeof lock - 1);
        write_file(scratch("dead.dat.uncommitted"), rests[i], i == 2 ? 0 : 8);
        CHECK_WARM(make_snapshot("dead.dat", 4 + i), 4 + i);
        CHECK(!exists(scratch("dead.dat.lock")) && !exists(scratch("dead.dat.uncommitted")));
    }
}

/* ---- nobody's writes reach the file ---- */

static void write_after_commit(void *context)
{
    mh_error err;
    mh_transaction *tx = begin_at(context);
    list *root = build_list(mh_transaction_arena(tx), 6, 300);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    for (node *each = root->first; each != NULL; each = each->next)
        memset(each->text, 0xee, each->text_bytes);
    mh_close(tx);
}

static void write_after_attach(void *context)
{
    mh_transaction *tx = open_at(context);
    list *root = mh_root(tx);
    CHECK(mh_was_committed(tx) && is_list(root, 6));
    for (node *each = root->first; each != NULL; each = each->next)
        memset(each->text, 0xdd, each->text_bytes);
    mh_close(tx);
}

TEST(writes_of_writer_and_readers_leave_the_file_unchanged_S3)
{
    const char *path = scratch("unchanged.dat");
    IN_CHILD(write_after_commit, (void *)path);
    size_t size, size_after;
    char *bytes = read_file(path, &size);
    IN_CHILD(write_after_attach, (void *)path);
    char *after = read_file(path, &size_after);
    CHECK(size == size_after && memcmp(bytes, after, size) == 0);
    CHECK_WARM(path, 6);
    free(bytes);
    free(after);
}

static void free_attached(void *context)
{
    mh_transaction *tx = open_at(context);
    list *root = mh_root(tx);
    void (*volatile plain_free)(void *) = free; /* called directly, the compiler would rightly warn of what follows */
    void *(*volatile plain_realloc)(void *, size_t) = realloc;
    char *text = root->first->text, *moved = plain_realloc(text, 10000);
    CHECK(moved != NULL && moved != text && moved[0] == text[0]);
    plain_free(moved);
    plain_free(text);
    plain_free(root);
    mh_free(root);
    CHECK(is_list(root, 17));
    mh_close(tx);
}

TEST(ordinary_free_and_realloc_know_the_blocks_of_an_attached_arena)
{
    IN_CHILD(free_attached, (void *)make_snapshot("owned.dat", 17));
}

static void read_while_replaced(void *context)
{
    mh_transaction *tx = open_at(context);
    CHECK(mh_was_committed(tx));
    run other = { .path = context, .seed = 22, .n_nodes = 100 };
    IN_CHILD(commit_run, &other);
    CHECK(is_list(mh_root(tx), 21)); /* its pages are touched only now */
    mh_close(tx);
}

TEST(reader_keeps_what_it_attached_when_the_snapshot_is_replaced_S3)
{
    const char *path = make_snapshot("kept.dat", 21);
    IN_CHILD(read_while_replaced, (void *)path);
    CHECK_WARM(path, 22);
}

static void leave_the_transaction(void *context)
{
    mh_error err;
    mh_transaction *tx = context;
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_ARGUMENT);
    CHECK(strstr(err.detail, "forked") != NULL);
    list *root = mh_root(tx);
    memset(root->first->text, 0xcc, root->first->text_bytes);
    mh_close(tx);
}

static void fork_inside(void *context)
{
    mh_error err;
    mh_transaction *tx = begin_at(context);
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 13, 50), &err), err);
    IN_CHILD(leave_the_transaction, tx);
    CHECK(exists(scratch("forked.dat.lock")));
    CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

TEST(child_forked_in_a_transaction_neither_commits_nor_disturbs_it)
{
    const char *path = scratch("forked.dat");
    IN_CHILD(fork_inside, (void *)path);
    CHECK_WARM(path, 13);
}

/* ---- calls out of order, and roots ---- */

static void misuse(void *context)
{
    mh_error err;
    mh_transaction *tx = open_at(context);
    int outside;
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_ARGUMENT);
    CHECK_OK(mh_begin(tx, &err), err);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_keep(tx, &outside, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_mark_data(tx, &outside, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_add_env(tx, "A=B", &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_add_file(tx, scratch("no such file"), &err), MH_ERR_SYSTEM);
    CHECK_EQUAL(err.sys_errno, ENOENT);
    CHECK_EQUAL(mh_set_root(tx, &outside, &err), MH_ERR_ARGUMENT);
    CHECK(mh_root(tx) == &outside);
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_ARGUMENT);
    mh_close(tx);
    mh_close(NULL);
}

TEST(calls_out_of_order_are_refused_and_commit_nothing)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_EQUAL(mh_open(&tx, NULL, NULL, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_open(&tx, "/", NULL, &err), MH_ERR_ARGUMENT);
    CHECK_EQUAL(mh_open(&tx, "x", &(mh_options){ .audit = 7 }, NULL), MH_ERR_ARGUMENT);
    CHECK(tx == NULL);
    const char *path = scratch("misused.dat");
    IN_CHILD(misuse, (void *)path);
    CHECK(!exists(path));
}

static void commit_freed_root(void *context)
{
    mh_error err;
    mh_transaction *tx = begin_at(context);
    void *root = mh_malloc(mh_transaction_arena(tx), 5000);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    mh_free(root);
    CHECK_EQUAL(mh_commit(tx, &err), MH_ERR_ARGUMENT);
    CHECK(strstr(err.detail, "live block") != NULL);
    mh_close(tx);
}

TEST(root_that_was_freed_is_not_committed)
{
    const char *path = scratch("freed.dat");
    IN_CHILD(commit_freed_root, (void *)path);
    CHECK(!exists(path));
}

static void commit_dangling(void *context)
{
    mh_error err;
    mh_finding finding;
    mh_audit_summary summary;
    run *given = context;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, given->path, &given->options, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    void **root = mh_calloc(mh_transaction_arena(tx), 4, sizeof *root);
    root[2] = malloc(1000);
    CHECK_OK(mh_set_root(tx, root, &err), err);
    int status = mh_commit(tx, &err);
    CHECK_EQUAL(status, given->options.audit == MH_AUDIT_WARN ? MH_OK : MH_ERR_DANGLING);
    mh_read_audit(tx, &summary);
    CHECK_EQUAL(summary.findings, 1);
    CHECK_EQUAL(mh_read_finding(tx, 0, &finding), MH_OK);
    CHECK(finding.offset == 16 && finding.value == (uint64_t)root[2]);
    CHECK_EQUAL(mh_read_finding(tx, 1, &finding), MH_ERR_ARGUMENT);
    free(root[2]);
    mh_close(tx);
}

TEST(pointer_into_the_ordinary_heap_prevents_the_commit_unless_asked_to_warn)
{
    run refused = { .path = scratch("dangling.dat") };
    IN_CHILD(commit_dangling, &refused);
    CHECK(!exists(refused.path));
    refused.options.audit = MH_AUDIT_WARN;
    IN_CHILD(commit_dangling, &refused);
    CHECK(exists(refused.path));
}

static atomic_bool stop_watching;

static void *watch(void *context)
{
    uint64_t done, total, last = 0;
    while (!stop_watching) {
        mh_commit_progress(context, &done, &total);
        CHECK(done >= last && (total == 0 || done <= total));
        last = done;
    }
    return NULL;
}

static void commit_watched(void *context)
{
    mh_error err;
    pthread_t watcher;
    uint64_t done, total;
    mh_transaction *tx = begin_at(context);
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 1, 100000), &err), err);
    CHECK(pthread_create(&watcher, NULL, watch, tx) == 0);
    CHECK_OK(mh_commit(tx, &err), err);
    stop_watching = true;
    pthread_join(watcher, NULL);
    mh_commit_progress(tx, &done, &total);
    struct stat status;
    CHECK(stat(context, &status) == 0 && done == total && total == (uint64_t)status.st_size);
    mh_close(tx);
}

TEST(progress_moves_up_to_the_size_of_the_file) { IN_CHILD(commit_watched, (void *)scratch("watched.dat")); }

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--attach") == 0) {
        attach_run(&(run){ .path = argv[2], .seed = 8 });
        return 0;
    }
    return harness_main(argc, argv);
}
