/* test_process_resume.c - programs that commit themselves and are resumed: process_guest.c, a case at a time, through
 * the launcher. */
#define _GNU_SOURCE
#include <sys/resource.h>

#include "test_snapshot.h"

typedef struct {
    const char *name, *path;
    const char *argument; /* NULL: none */
    rlim_t stack_bytes;   /* 0: as it is */
} guest;

static void execute(const guest *given, int output)
{
    const char *program = getenv("PROCESS_GUEST"), *launcher = getenv("LAUNCHER");
    if (given->stack_bytes != 0)
        setrlimit(RLIMIT_STACK, &(struct rlimit){ given->stack_bytes, RLIM_INFINITY });
    setenv("GUEST_VARIABLE", "of this run", 1);
    dup2(output, 1);
    execl(program, program, given->name, given->path, launcher, given->argument, NULL);
    _exit(127);
}

/* Runs it and returns its wait status; what it printed goes to `printed`. */
static int run_guest(const guest *given, char *printed, size_t size)
{
    int ends[2], status;
    CHECK(pipe2(ends, O_CLOEXEC) == 0);
    fflush(NULL);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        execute(given, ends[1]);
    close(ends[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(ends[0], printed + used, size - 1 - used)) > 0; used += (size_t)n)
        continue;
    printed[used] = '\0';
    close(ends[0]);
    CHECK(waitpid(child, &status, 0) == child);
    return status;
}

static void check_guest(const guest *given, const char *prints, int status)
{
    char printed[1024], all[1400];
    int ended = run_guest(given, printed, sizeof printed);
    if (ended != status << 8 || strncmp(printed, prints, strlen(prints)) != 0) {
        snprintf(all, sizeof all, "%s ended with 0x%x instead of %d and printed: %s", given->name, ended, status,
                 printed);
        harness_fail(__FILE__, __LINE__, all);
    }
}

static void check_verifies(const char *path)
{
    mh_image *image;
    mh_error err;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    CHECK_OK(mh_image_verify(image, &err), err);
    mh_image_close(image);
}

/* Commits, then is resumed twice. */
static void check_case(const char *name)
{
    guest each = { .name = name, .path = scratch(name) };
    check_guest(&each, "cold: there is no snapshot", 0);
    check_verifies(each.path);
    check_guest(&each, "resumed\n", 0);
    each.argument = "7";
    check_guest(&each, "resumed\n", 7);
}

TEST(variables_heap_and_rounding_come_back) { check_case("memory"); }
TEST(malloc_goes_on_where_the_heap_ended) { check_case("growth"); }
TEST(memory_comes_back_in_every_state) { check_case("states"); }
TEST(guards_stay_guards) { check_case("guards"); }
TEST(fresh_shared_memory_is_shared_with_the_children_of_each_run) { check_case("shared"); }
TEST(signals_have_their_actions_mask_and_stack) { check_case("signals"); }
TEST(descriptors_are_open_where_they_stood)
{
    write_file(scratch("descriptors.log"), "log", 3);
    usleep(100000); /* older than the processes */
    check_case("descriptors");
}
TEST(threads_begin_as_in_any_process) { check_case("threads"); }
TEST(libraries_hear_of_the_fork_and_others_can_be_loaded) { check_case("libraries"); }
TEST(children_run_in_the_environment_of_this_run) { check_case("children"); }
TEST(clocks_go_on) { check_case("clocks"); }

/* Bytes that the snapshot says every run writes to. */
static uint64_t touched_bytes(const char *path)
{
    mh_image *image;
    mh_process_info info;
    mh_error err;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    CHECK_EQUAL(mh_image_read_process(image, &info), MH_OK);
    mh_image_close(image);
    return info.touched_bytes;
}

TEST(pages_that_the_rehearsal_writes_to_are_copied_before_each_run)
{
    check_case("rehearsal");
    CHECK(touched_bytes(scratch("rehearsal")) >= 100 * 4096 && touched_bytes(scratch("rehearsal")) < 150 * 4096);
}

TEST(rehearsal_that_fails_leaves_a_good_snapshot)
{
    check_case("rehearsal that dies");
    CHECK_EQUAL(touched_bytes(scratch("rehearsal that dies")), 0);
    check_case("rehearsal that hangs");
    CHECK_EQUAL(touched_bytes(scratch("rehearsal that hangs")), 0);
}

TEST(stack_grows_to_the_limit_of_each_run)
{
    check_case("stack");
    guest larger = { .name = "stack", .path = scratch("stack"), .stack_bytes = 200 << 20 };
    check_guest(&larger, "resumed\n", 0);
}

TEST(layer_holds_only_what_changed_and_goes_with_its_parent)
{
    struct stat base, layer;
    guest each = { .name = "layers", .path = scratch("layers") };
    check_guest(&each, "cold: there is no snapshot", 0);
    check_guest(&each, "resumed\n", 0);
    check_guest(&each, "layer\n", 0);
    check_guest(&each, "layer\n", 0);
    CHECK(stat(each.path, &base) == 0 && stat(scratch("layers.layer"), &layer) == 0);
    CHECK(base.st_blocks > (32 << 20) / 512 && layer.st_blocks < (8 << 20) / 512);
    CHECK(unlink(each.path) == 0);
    char printed[1024];
    CHECK_EQUAL(run_guest(&each, printed, sizeof printed), 0);
    CHECK(strncmp(printed, "cold: there is no snapshot", 26) == 0);
    check_guest(&each, "resumed\n", 0); /* the layer was made on another parent: this run replaces it */
    check_guest(&each, "layer\n", 0);
}

TEST(environment_of_the_commit_is_not_in_the_file)
{
    static const char secret[] = "correct horse battery staple";
    size_t size;
    CHECK(setenv("GUEST_SECRET", secret, 1) == 0);
    guest each = { .name = "memory", .path = scratch("secret") };
    check_guest(&each, "cold: there is no snapshot", 0);
    CHECK(unsetenv("GUEST_SECRET") == 0);
    char *bytes = read_file(each.path, &size);
    CHECK(memmem(bytes, size, secret, sizeof secret - 1) == NULL && memmem(bytes, size, "on the heap", 11) != NULL);
    free(bytes);
    check_guest(&each, "resumed\n", 0);
}

TEST(hundreds_of_resumes_all_succeed)
{
    guest each = { .name = "threads", .path = scratch("often") };
    check_guest(&each, "cold: there is no snapshot", 0);
    for (int i = 0; i < 300; i++)
        check_guest(&each, "resumed\n", 0);
}

static void resume_often(void *context)
{
    for (int i = 0; i < 25; i++)
        check_guest(context, "resumed\n", 0);
}

TEST(many_resumes_at_once_succeed)
{
    enum { AT_ONCE = 16 };
    guest each = { .name = "memory", .path = scratch("at once") };
    pid_t children[AT_ONCE];
    check_guest(&each, "cold: there is no snapshot", 0);
    for (int i = 0; i < AT_ONCE; i++)
        if ((children[i] = fork()) == 0) {
            resume_often(&each);
            _exit(0);
        }
    for (int i = 0, status; i < AT_ONCE; i++)
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
