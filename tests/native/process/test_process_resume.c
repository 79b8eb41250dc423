/* test_process_resume.c - programs that commit themselves and are resumed: process_guest.c, a case at a time, through
 * the launcher. */
#define _GNU_SOURCE
#include "guest.h"

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
