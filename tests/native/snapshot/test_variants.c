/* test_variants.c - the snapshots of one path: what their keys say, which one a commit replaces, and when none is made.
 * */
#define _GNU_SOURCE
#include <sys/file.h>
#include <time.h>

#include "format.h"
#include "snapshot/image.h"
#include "snapshot/key.h"
#include "snapshot/variants.h"
#include "test_snapshot.h"

/* ---- keys ---- */

#define KEY(path, author, place) "\ninterpreter=/bin\t3.11\npath=" path "\nkey=" author "\nplace=" place

static const char *said(const char *was, const char *is)
{
    static mh_error err;
    err = (mh_error){ 0 };
    CHECK_EQUAL(mhi_key_check(was, is, &err), strcmp(was, is) == 0 ? MH_OK : MH_ERR_STALE);
    return err.detail;
}

#define CHECK_SAID(was, is, expected)                        \
    do {                                                     \
        if (strcmp(said(was, is), (expected)) != 0)          \
            harness_fail(__FILE__, __LINE__, said(was, is)); \
    } while (0)

TEST(what_differs_in_a_key_is_told_by_its_name_and_item_by_item)
{
    CHECK_SAID("", "", "");
    CHECK_SAID(KEY("a\tb", "k", "x"), KEY("a\tb", "k", "x"), "");
    CHECK_SAID("\ndirectory=/home", "\ndirectory=/tmp", "run from /tmp, the snapshot was made in /home");
    CHECK_SAID(KEY("a\tb\tc", "k", "x"), KEY("a\td\tc", "k", "x"), "sys.path has d, where that of the snapshot has b");
    CHECK_SAID(KEY("a\tb", "k", "x"), KEY("a\tbb", "k", "x"), "sys.path has bb, where that of the snapshot has b");
    CHECK_SAID(KEY("a", "k", "x"), KEY("a\tb", "k", "x"), "sys.path has b, where that of the snapshot has nothing");
    CHECK_SAID(KEY("a\tb", "k", "x"), KEY("a", "k", "x"), "sys.path has nothing, where that of the snapshot has b");
    CHECK_SAID(KEY("a", "my key", "x"), KEY("a", "my word", "x"), "the key is 'my word', the snapshot's is 'my key'");
    CHECK_SAID(KEY("a", "k", "x\ty"), KEY("a", "k", "x\tz"),
               "the transaction is reached at z, that of the snapshot at y");
    CHECK_SAID("layers=12", "layers=24", "the key is 'layers=24', the snapshot's is 'layers=12'");
    CHECK_SAID("one two", "one three", "the key is '... three', the snapshot's is '... two'");
}

TEST(keys_of_any_other_form_are_told_apart_without_words_for_it)
{
    const char *forms[] = { "",           "\n",        "\n\n", "\nkey",         "\nkey=",
                            "\nkey=\t\t", "\nplace=x", "\n=",  "\nx=y\nplace=", KEY("a", "k", "x"),
                            "plain",      "\nkey=\n" };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        for (size_t j = 0; j < sizeof forms / sizeof *forms; j++)
            CHECK(i == j ? *said(forms[i], forms[j]) == '\0' : *said(forms[i], forms[j]) != '\0');
}

TEST(only_the_place_moves_when_a_source_is_edited)
{
    CHECK(mhi_key_is_moved(KEY("a", "k", "x"), KEY("a", "k", "y")));
    CHECK(!mhi_key_is_moved(KEY("a", "k", "x"), KEY("a", "l", "y")) &&
          !mhi_key_is_moved(KEY("a", "k", "x"), KEY("b", "k", "x")));
    CHECK(!mhi_key_is_moved("x", "y") && !mhi_key_is_moved("", KEY("a", "k", "x")));
}

/* ---- which place ---- */

typedef struct {
    const char *path, *key, *file;
    uint64_t seed;
    bool is_wanted; /* what mh_wants_commit is to say */
    bool is_refused;
} cold;

static void run_cold(void *context)
{
    const cold *given = context;
    mh_transaction *tx;
    mh_error err;
    bool is_wanted;
    CHECK_OK(mh_open(&tx, given->path, &(mh_options){ .key = given->key }, &err), err);
    CHECK(!mh_was_committed(tx));
    if (given->is_refused) {
        CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_BUSY);
        mh_close(tx);
        return;
    }
    CHECK_OK(mh_begin(tx, &err), err);
    if (given->file != NULL)
        CHECK_OK(mh_add_file(tx, given->file, &err), err);
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), given->seed, 20), &err), err);
    err = (mh_error){ 0 };
    CHECK_OK(mh_wants_commit(tx, &is_wanted, &err), err);
    CHECK_EQUAL(is_wanted, given->is_wanted);
    CHECK(is_wanted ? *err.detail == '\0' : strstr(err.detail, "the next run that finds the same commits") != NULL);
    if (is_wanted)
        CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

#define COMMIT(path_, key_, seed_) \
    IN_CHILD(run_cold, (&(cold){ .path = (path_), .key = (key_), .seed = (seed_), .is_wanted = true }))

static void use(const char *path, const char *key, uint64_t seed)
{
    IN_CHILD(attach_run, (&(run){ .path = path, .seed = seed, .options = { .key = key } }));
}

/* Good for the next 15 calls. */
static const char *variant(const char *path, int i)
{
    static char paths[16][PATH_MAX];
    static unsigned next;
    char *made = paths[next++ % 16];
    CHECK(mhi_variant_path(made, path, i));
    return made;
}

static void set_times(const char *path, time_t accessed)
{
    const struct timespec times[] = { { accessed, 0 }, { 1000, 0 } };
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

static int64_t accessed(const char *path)
{
    struct stat found;
    CHECK(stat(path, &found) == 0);
    return found.st_atim.tv_sec;
}

TEST(each_key_has_a_place_of_its_own_and_the_first_commit_goes_to_the_path)
{
    const char *path = scratch("keys.dat");
    char key[2] = "a";
    for (int i = 0; i < MHI_VARIANTS; i++, key[0]++) {
        CHECK(!exists(variant(path, i)));
        COMMIT(path, key, 10 + (uint64_t)i);
        CHECK(exists(variant(path, i)));
    }
    for (int i = MHI_VARIANTS - 1; i >= 0; i--)
        use(path, (char[]){ (char)('a' + i), '\0' }, 10 + (uint64_t)i);
    CHECK(!exists(variant(path, MHI_VARIANTS)));
}

TEST(when_all_places_are_taken_the_one_not_used_for_longest_goes_to_a_run_seen_twice)
{
    const char *path = scratch("keys.dat");
    for (int i = 0; i < MHI_VARIANTS; i++)
        set_times(variant(path, i), i == 3 ? 2000 : 3000 + i);
    cold another = { .path = path, .key = "x", .seed = 30 }, third = { .path = path, .key = "y", .seed = 31 };
    IN_CHILD(run_cold, &another);
    IN_CHILD(run_cold, &third);
    another.is_wanted = true;
    IN_CHILD(run_cold, &another);
    use(path, "x", 30);
    expected gone = { path, MH_ERR_STALE, "no variant of ", { .key = "d" } };
    IN_CHILD(cold_run, &gone);
    use(path, "c", 12);
}

TEST(what_a_run_would_take_if_it_were_not_stale_is_replaced_first_and_the_useless_before_a_new_name)
{
    const char *path = scratch("useless.dat"), *file = scratch("input.txt");
    write_file(file, "1", 1);
    cold given = { .path = path, .key = "a", .file = file, .seed = 1, .is_wanted = true };
    IN_CHILD(run_cold, &given);
    given.key = "b";
    IN_CHILD(run_cold, &given);
    use(path, "a", 1);
    use(path, "b", 1);
    write_file(file, "12", 2);
    given.seed = 2;
    IN_CHILD(run_cold, &given); /* b, at its own place, though the first is as useless */
    CHECK(!exists(variant(path, 2)));
    use(path, "b", 2);
    given.key = "c";
    given.seed = 3;
    IN_CHILD(run_cold, &given); /* c, at the place of a */
    CHECK(!exists(variant(path, 2)));
    use(path, "c", 3);
    use(path, "b", 2);
}

TEST(damaged_variant_is_replaced_and_a_foreign_file_is_not)
{
    const char *path = scratch("foreign.dat");
    COMMIT(path, "a", 1);
    write_file(variant(path, 1), "notes", 5);
    CHECK(symlink("/etc/passwd", variant(path, 2)) == 0 && mkdir(variant(path, 3), 0700) == 0);
    COMMIT(path, "b", 2);
    CHECK(exists(variant(path, 4)) && truncate(variant(path, 4), 10000) == 0);
    COMMIT(path, "b", 3);
    use(path, "b", 3);
    use(path, "a", 1);
    CHECK(!exists(variant(path, 5)));
    size_t size;
    char *notes = read_file(variant(path, 1), &size);
    CHECK(size == 5 && memcmp(notes, "notes", 5) == 0);
    free(notes);
}

static void open_and_come_late(void *context)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, context, NULL, &err), err);
    CHECK(!mh_was_committed(tx));
    COMMIT(context, "", 1);
    CHECK_EQUAL(mh_begin(tx, &err), MH_ERR_BUSY);
    CHECK(strstr(err.detail, "another run has committed") != NULL);
    mh_close(tx);
}

TEST(run_that_was_overtaken_by_a_commit_makes_no_second_one)
{
    const char *path = scratch("late.dat");
    IN_CHILD(open_and_come_late, (void *)path);
    use(path, "", 1);
    CHECK(!exists(variant(path, 1)) && !exists(scratch("late.dat.lock")));
}

static void begin_while_locked(void *context)
{
    cold given = { .path = context, .key = "another", .is_refused = true };
    run_cold(&given);
}

TEST(one_lock_serves_all_variants)
{
    const char *path = scratch("lock.dat");
    COMMIT(path, "a", 1);
    int lock = open(scratch("lock.dat.lock"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK(lock >= 0 && flock(lock, LOCK_EX | LOCK_NB) == 0);
    IN_CHILD(begin_while_locked, (void *)path);
    close(lock);
    COMMIT(path, "b", 2);
    CHECK(!exists(variant(path, 2)));
}

/* ---- use, and commits that are not worth their price ---- */

TEST(commit_says_that_no_run_has_taken_it_and_an_attach_that_one_has)
{
    const char *path = make_snapshot("used.dat", 1);
    CHECK_EQUAL(accessed(path), 0);
    CHECK_WARM(path, 1);
    CHECK(accessed(path) >= time(NULL) - 60);
}

static void check_image(void *context)
{
    mh_image *image;
    mh_error err;
    CHECK_OK(mh_image_open(&image, context, &err), err);
    CHECK_OK(mh_image_verify(image, &err), err);
    mh_image_close(image);
}

TEST(looking_at_a_snapshot_is_no_use)
{
    const char *path = make_snapshot("looked.dat", 1);
    IN_CHILD(check_image, (void *)path);
    CHECK_EQUAL(accessed(path), 0);
    CHECK_WARM(path, 1);
    CHECK(accessed(path) > 1000);
    set_times(path, time(NULL) - 30);
    CHECK_WARM(path, 1);
    CHECK(accessed(path) <= time(NULL) - 30); /* to the minute */
}

TEST(source_that_changes_before_every_run_is_committed_only_when_two_runs_have_found_the_same)
{
    const char *path = scratch("edited.dat"), *file = scratch("source.txt");
    cold given = { .path = path, .key = "", .file = file, .seed = 1 };
    const bool is_wanted[] = { true, true, false, false, false };
    char text[16] = "";
    for (size_t i = 0; i < sizeof is_wanted; i++) {
        strcat(text, "x");
        write_file(file, text, strlen(text));
        given.is_wanted = is_wanted[i];
        IN_CHILD(run_cold, &given);
    }
    given.is_wanted = true;
    IN_CHILD(run_cold, &given);
    use(path, "", 1);
    write_file(file, "0123456789", 10);
    IN_CHILD(run_cold, &given); /* what it replaces was used */
    struct stat notes;
    CHECK(stat(scratch("edited.dat.seen"), &notes) == 0 && notes.st_size == 8 + 16 * 8);
}

TEST(notes_keep_the_latest_and_never_touch_a_file_of_another_kind)
{
    const char *path = scratch("noted.dat");
    for (uint64_t digest = 1; digest <= 40; digest++)
        CHECK(!mhi_slots_saw(path, digest));
    CHECK(mhi_slots_saw(path, 40) && mhi_slots_saw(path, 25) && !mhi_slots_saw(path, 24 - 16) &&
          mhi_slots_saw(path, 40));
    struct stat notes;
    CHECK(stat(scratch("noted.dat.seen"), &notes) == 0 && notes.st_size == 8 + 16 * 8);
    write_file(scratch("mine.dat.seen"), "my own notes", 12);
    CHECK(mhi_slots_saw(scratch("mine.dat"), 1)); /* as if it had: then a commit is made */
    CHECK(stat(scratch("mine.dat.seen"), &notes) == 0 && notes.st_size == 12);
    CHECK(symlink("mine.dat.seen", scratch("link.dat.seen")) == 0 && mhi_slots_saw(scratch("link.dat"), 1));
    CHECK(mhi_slots_saw(scratch("no/such/directory"), 1));
}

TEST(names_of_variants_are_known_as_the_snapshots_own)
{
    CHECK(mhi_is_variant_path("/a/x", "/a/x") && mhi_is_variant_path("/a/x.v1", "/a/x") &&
          mhi_is_variant_path("/a/x.v7", "/a/x"));
    CHECK(!mhi_is_variant_path("/a/x.v0", "/a/x") && !mhi_is_variant_path("/a/x.v8", "/a/x") &&
          !mhi_is_variant_path("/a/x.v1a", "/a/x"));
    CHECK(!mhi_is_variant_path("/a/x.", "/a/x") && !mhi_is_variant_path("/a/", "/a/x") &&
          !mhi_is_variant_path("/a/x1", "/a/x"));
    char path[PATH_MAX], *longest = malloc(PATH_MAX);
    memset(longest, 'x', PATH_MAX - 1);
    longest[PATH_MAX - 1] = '\0';
    CHECK(mhi_variant_path(path, longest, 0) && !mhi_variant_path(path, longest, 1));
    free(longest);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
