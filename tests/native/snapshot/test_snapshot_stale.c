/* test_snapshot_stale.c - each thing that a snapshot depends on changes: the run goes cold and says what it was. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <link.h>
#include <time.h>

#include "format.h"
#include "snapshot/checksum.h"
#include "snapshot/identity.h"
#include "test_snapshot.h"

typedef struct {
    const char *path, *file, *env;
    mh_options options;
} dependent;

/* A cold run that depends on what is not NULL. */
static void commit_dependent(void *context)
{
    const dependent *given = context;
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, given->path, &given->options, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    if (given->file != NULL)
        CHECK_OK(mh_add_file(tx, given->file, &err), err);
    if (given->env != NULL)
        CHECK_OK(mh_add_env(tx, given->env, &err), err);
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 1, 10), &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

static dependent made_with(const char *name, const char *file, const char *env)
{
    dependent made = { .path = scratch(name), .file = file, .env = env, .options = { .ignore_snapshot = true } };
    IN_CHILD(commit_dependent, &made);
    CHECK_WARM(made.path, 1);
    return made;
}

static void set_mtime(const char *path, time_t seconds, long nanoseconds)
{
    const struct timespec times[] = { { seconds, nanoseconds }, { seconds, nanoseconds } };
    CHECK(utimensat(AT_FDCWD, path, times, 0) == 0);
}

TEST(changed_file_is_named_with_what_changed)
{
    const char *file = scratch("model.bin");
    write_file(file, "12345678", 8);
    set_mtime(file, 1000000, 5);
    dependent made = made_with("file.dat", file, NULL);
    write_file(file, "123456789", 9);
    set_mtime(file, 1000000, 5);
    CHECK_COLD(made.path, MH_ERR_STALE, "model.bin has changed (size: 9 bytes, it was 8)");
    write_file(scratch("other.bin"), "87654321", 8);
    set_mtime(scratch("other.bin"), 1000000, 5);
    CHECK(rename(scratch("other.bin"), file) == 0);
    CHECK_COLD(made.path, MH_ERR_STALE, "model.bin has changed (content)");
    CHECK(unlink(file) == 0);
    CHECK_COLD(made.path, MH_ERR_STALE, "model.bin no longer exists");
}

TEST(a_file_of_equal_content_is_the_same_whatever_its_times_and_inode)
{
    const char *file = scratch("equal.bin");
    write_file(file, "12345678", 8);
    set_mtime(file, 1000000, 5);
    dependent made = made_with("equal.dat", file, NULL);
    set_mtime(file, 1000000, 6);
    CHECK_WARM(made.path, 1);
    set_mtime(file, 1000000, 0);
    CHECK_WARM(made.path, 1);
    write_file(scratch("copy.bin"), "12345678", 8);
    CHECK(rename(scratch("copy.bin"), file) == 0);
    CHECK_WARM(made.path, 1);
}

TEST(content_that_changed_under_equal_size_and_mtime_is_noticed)
{
    const char *file = scratch("forged.bin");
    write_file(file, "12345678", 8);
    set_mtime(file, 1000000, 5);
    dependent made = made_with("forged.dat", file, NULL);
    int fd = open(file, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, "X", 1, 3) == 1 && close(fd) == 0);
    set_mtime(file, 1000000, 5);
    CHECK_COLD(made.path, MH_ERR_STALE, "forged.bin has changed (content)");
}

static void change_between(void *context)
{
    dependent *given = context;
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, given->path, NULL, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    CHECK_OK(mh_add_file(tx, given->file, &err), err);
    write_file(given->file, "longer than it was", 18);
    CHECK_OK(mh_add_file(tx, given->file, &err), err); /* the first time counts */
    CHECK_OK(mh_set_root(tx, build_list(mh_transaction_arena(tx), 1, 10), &err), err);
    CHECK_OK(mh_commit(tx, &err), err);
    mh_close(tx);
}

TEST(file_changed_between_being_read_and_the_commit_makes_it_stale)
{
    dependent given = { .path = scratch("between.dat"), .file = scratch("between.bin") };
    write_file(given.file, "short", 5);
    IN_CHILD(change_between, &given);
    CHECK_COLD(given.path, MH_ERR_STALE, "between.bin has changed (size: 18 bytes, it was 5)");
}

TEST(what_the_kernel_makes_up_is_no_input)
{
    mh_transaction *tx;
    mh_error err;
    CHECK_OK(mh_open(&tx, scratch("proc.dat"), NULL, &err), err);
    CHECK_OK(mh_add_file(tx, "/proc/self/maps", &err), err);
    CHECK_OK(mh_add_file(tx, "/proc/no/such/file", &err), err);
    CHECK_OK(mh_add_file(tx, "/dev/null", &err), err);
    CHECK_OK(mh_add_file(tx, scratch("proc.dat"), &err), err); /* nor is the snapshot itself */
    mh_close(tx);
}

TEST(watched_environment_that_changes_appears_or_goes_is_named)
{
    setenv("OMP_NUM_THREADS", "2", 1);
    dependent made = made_with("env.dat", NULL, NULL);
    setenv("OMP_NUM_THREADS", "3", 1);
    CHECK_COLD(made.path, MH_ERR_STALE, "environment variable OMP_NUM_THREADS has changed");
    unsetenv("OMP_NUM_THREADS");
    CHECK_COLD(made.path, MH_ERR_STALE, "environment variable OMP_NUM_THREADS has changed");
    setenv("OMP_NUM_THREADS", "2", 1);
    CHECK_WARM(made.path, 1);
    const char *const watched[] = { "PYTHONHASHSEED", "LD_BIND_NOW",       "LC_ALL",
                                    "LANGUAGE",       "OPENBLAS_CORETYPE", "MKL_DEBUG_CPU_TYPE" };
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++) {
        char *was = getenv(watched[i]) == NULL ? NULL : strdup(getenv(watched[i]));
        setenv(watched[i], "something else", 1);
        CHECK_COLD(made.path, MH_ERR_STALE, watched[i]);
        if (was == NULL)
            unsetenv(watched[i]);
        else
            setenv(watched[i], was, 1);
        free(was);
    }
    setenv("LANGUAGES_I_SPEAK", "2", 1); /* LANGUAGE is watched as a whole name */
    setenv("PYTHON", "python3", 1);      /* and a prefix stands for longer names */
    CHECK_WARM(made.path, 1);
    unsetenv("PYTHON");
    unsetenv("OMP_NUM_THREADS");
}

TEST(named_environment_counts_as_it_was_at_open_set_or_not)
{
    unsetenv("MY_MODE");
    dependent made = made_with("named.dat", NULL, "MY_MODE");
    setenv("MY_MODE", "fast", 1);
    CHECK_COLD(made.path, MH_ERR_STALE, "environment variable MY_MODE has changed");
    unsetenv("MY_MODE");
    CHECK_WARM(made.path, 1);
    const char *const names[] = { "MY_OTHER_MODE", NULL };
    expected cold = { made.path, MH_ERR_STALE, "MY_OTHER_MODE was not recorded", { .env = names } };
    IN_CHILD(cold_run, &cold);
}

TEST(value_of_a_variable_is_not_in_the_file)
{
    const char *secret = "a secret that nobody may find";
    setenv("MY_TOKEN", secret, 1);
    setenv("PYTHONSECRET", secret, 1);
    dependent made = made_with("secret.dat", NULL, "MY_TOKEN");
    unsetenv("PYTHONSECRET");
    size_t size;
    char *bytes = read_file(made.path, &size);
    CHECK(memmem(bytes, size, "MY_TOKEN", 8) != NULL && memmem(bytes, size, secret, strlen(secret)) == NULL);
    free(bytes);
}

TEST(other_key_is_stale)
{
    dependent made = { .path = scratch("key.dat"), .options = { .key = "layers=12" } };
    IN_CHILD(commit_dependent, &made);
    expected cold = {
        made.path, MH_ERR_STALE, "the key is 'layers=24', the snapshot's is 'layers=12'", { .key = "layers=24" }
    };
    IN_CHILD(cold_run, &cold);
    CHECK_COLD(made.path, MH_ERR_STALE, "the key is ''");
    run warm = { .path = made.path, .seed = 1, .options = made.options };
    IN_CHILD(attach_run, &warm);
}

/* ---- what a test can't change is changed in the file, checksums repaired ---- */

static void forge(const char *path, int kind, const char *name, void (*change)(mhi_file_input *input, char *strings))
{
    size_t size;
    char *bytes = read_file(path, &size);
    mhi_file_header *header = (mhi_file_header *)bytes;
    mhi_file_table *inputs = &header->hd_tables[MHI_TABLE_INPUTS - 1],
                   *strings = &header->hd_tables[MHI_TABLE_STRINGS - 1];
    mhi_file_input *found = NULL;
    for (uint64_t i = 0; i < inputs->tb_count; i++) {
        mhi_file_input *each = (mhi_file_input *)(bytes + inputs->tb_offset) + i;
        if (each->in_kind == (uint32_t)kind && strstr(bytes + strings->tb_offset + each->in_name, name) != NULL)
            found = each;
    }
    CHECK(found != NULL);
    change(found, bytes + strings->tb_offset);
    inputs->tb_checksum = mhi_checksum(bytes + inputs->tb_offset, inputs->tb_bytes);
    strings->tb_checksum = mhi_checksum(bytes + strings->tb_offset, strings->tb_bytes);
    header->hd_checksum = mhi_checksum(header, offsetof(mhi_file_header, hd_checksum));
    write_file(path, bytes, size);
    free(bytes);
}

static void name_a_feature(mhi_file_input *input, char *strings) { memcpy(strings + input->in_text, "xyz", 3); }
static void widen_xsave(mhi_file_input *input, char *strings) { (void)strings, input->in_bytes += 64; }
static void age_libc(mhi_file_input *input, char *strings) { strings[input->in_text] = '9'; }
static void grow_pages(mhi_file_input *input, char *strings) { (void)strings, input->in_bytes = 65536; }
static void touch_library(mhi_file_input *input, char *strings) { (void)strings, input->in_mtime_ns++; }
static void rebuild_library(mhi_file_input *input, char *strings)
{
    (void)strings, input->in_mtime_ns++, input->in_build_id[0] ^= 1;
}

TEST(other_machine_is_named)
{
    forge(make_snapshot("cpu.dat", 1), MH_INPUT_CPU, "", name_a_feature);
    CHECK_COLD(scratch("cpu.dat"), MH_ERR_STALE, "this CPU lacks xyz");
    forge(make_snapshot("xsave.dat", 1), MH_INPUT_CPU, "", widen_xsave);
    CHECK_COLD(scratch("xsave.dat"), MH_ERR_STALE, "XSAVE area");
    forge(make_snapshot("libc.dat", 1), MH_INPUT_SYSTEM, "glibc", age_libc);
    CHECK_COLD(scratch("libc.dat"), MH_ERR_STALE, "the C library is glibc");
    forge(make_snapshot("page.dat", 1), MH_INPUT_SYSTEM, "page", grow_pages);
    CHECK_COLD(scratch("page.dat"), MH_ERR_STALE, "the snapshot was made with 65536");
}

TEST(changed_library_and_program_are_named)
{
    forge(make_snapshot("library.dat", 1), MH_INPUT_LIBRARY, "libc.so.6", rebuild_library);
    CHECK_COLD(scratch("library.dat"), MH_ERR_STALE, "libc.so.6 has changed (content)");
    forge(make_snapshot("program.dat", 1), MH_INPUT_LIBRARY, "test_snapshot_stale", rebuild_library);
    CHECK_COLD(scratch("program.dat"), MH_ERR_STALE, "test_snapshot_stale has changed (content)");
    /* the build-id tells that it is the same */
    forge(make_snapshot("touched.dat", 1), MH_INPUT_LIBRARY, "libc.so.6", touch_library);
    CHECK_WARM(scratch("touched.dat"), 1);
}

static void copy_file(const char *from, const char *to)
{
    size_t size;
    char *bytes = read_file(from, &size);
    write_file(to, bytes, size);
    free(bytes);
}

static void upgrade_library(void *context)
{
    const char *library = scratch("library.so");
    struct link_map *map;
    void *handle = dlopen("libm.so.6", RTLD_NOW);
    CHECK(handle != NULL && dlinfo(handle, RTLD_DI_LINKMAP, &map) == 0);
    copy_file(map->l_name, library);
    CHECK(dlopen(library, RTLD_NOW) != NULL);
    copy_file("/proc/self/exe", scratch("upgraded.so"));
    if (context != NULL)
        CHECK(rename(scratch("upgraded.so"), library) == 0);
    dependent given = { .path = scratch("upgraded.dat"), .options = { .ignore_snapshot = true } };
    commit_dependent(&given);
}

TEST(library_that_was_exchanged_under_the_process_is_never_taken_for_its_successor)
{
    IN_CHILD(upgrade_library, NULL);
    CHECK_WARM(scratch("upgraded.dat"), 1);
    IN_CHILD(upgrade_library, "");
    CHECK_COLD(scratch("upgraded.dat"), MH_ERR_STALE, "library.so had changed before");
}

TEST(image_tells_its_inputs_and_whether_they_hold)
{
    const char *file = scratch("told.bin");
    write_file(file, "1234", 4);
    dependent made = made_with("told.dat", file, NULL);
    mh_image *image;
    mh_image_info info;
    mh_input_info input;
    mh_error err;
    CHECK_OK(mh_image_open(&image, made.path, &err), err);
    mh_image_read_info(image, &info);
    bool found = false;
    for (uint32_t i = 0; i < info.n_inputs; i++) {
        CHECK_EQUAL(mh_image_read_input(image, i, &input), MH_OK);
        found |= input.kind == MH_INPUT_FILE && strcmp(input.name, file) == 0 && input.size_bytes == 4;
    }
    CHECK(found);
    CHECK_EQUAL(mh_image_read_input(image, info.n_inputs, &input), MH_ERR_ARGUMENT);
    CHECK_OK(mh_image_check_inputs(image, NULL, &err), err);
    CHECK(unlink(file) == 0);
    CHECK_EQUAL(mh_image_check_inputs(image, NULL, &err), MH_ERR_STALE);
    mh_image_close(image);
}

static bool is_kept(int64_t ctime_ns, int64_t now_ns)
{
    mhi_file_input entry = { .in_kind = MH_INPUT_FILE, .in_ctime_ns = ctime_ns, .in_mtime_ns = 1 };
    mhi_identity_forget_young(&entry, now_ns);
    return entry.in_ctime_ns == ctime_ns;
}

TEST(times_tell_a_file_once_another_change_would_have_another_time)
{
    const int64_t second = 1000000000, then = 1700000000 * second;
    CHECK(is_kept(then + 5, then + second) && !is_kept(then + 5, then + 1000));
    CHECK(!is_kept(then, then + second) && !is_kept(then, then + 2 * second)); /* whole seconds, or two */
    CHECK(is_kept(then, then + 4 * second));
    CHECK(!is_kept(then + second, then)); /* of the future */
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
