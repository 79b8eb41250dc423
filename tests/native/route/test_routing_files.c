/* test_routing_files.c - which of the files that libraries open are noted, and as what; and noting without routing. */
#define _GNU_SOURCE
#include "route_host.h"

#include <fcntl.h>

#include "route/questions.h"

static char directory[PATH_MAX / 2], before[PATH_MAX];

static const char *in_directory(const char *name)
{
    static char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *file = fopen(in_directory(name), "w"); /* of the test program, which is not routed */
    CHECK(file != NULL && fputs(text, file) >= 0 && fclose(file) == 0);
}

/* Into an empty directory, with files of these names. */
static void enter_directory(const char *const *names)
{
    strcpy(directory, "/tmp/magicheap-route-XXXXXX");
    CHECK(mkdtemp(directory) != NULL && getcwd(before, sizeof before) != NULL && chdir(directory) == 0);
    for (; *names != NULL; names++)
        write_file(*names, *names);
}

static void leave_directory(const char *const *names)
{
    for (; *names != NULL; names++)
        CHECK_EQUAL(unlink(*names), 0);
    CHECK(chdir(before) == 0 && rmdir(directory) == 0);
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* What was asked about a path, by its name in the directory. */
static const mhi_question *find_opened(const char *name)
{
    for (uint32_t i = 0; i < mhi_questions_count(); i++)
        if (mhi_question_at(i)->kind == MHI_ASKED_PATH && strcmp(mhi_question_at(i)->name, in_directory(name)) == 0)
            return mhi_question_at(i);
    return NULL;
}

static uint32_t count_paths(void)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < mhi_questions_count(); i++)
        n += mhi_question_at(i)->kind == MHI_ASKED_PATH;
    return n;
}

static int uses_of(const char *name)
{
    const mhi_question *found = find_opened(name);
    return found == NULL ? -1 : (int)found->uses;
}

static void begin_watching(void)
{
    mh_error err;
    CHECK_OK(mhi_route_watch(&err), err);
}

/* The first case: memory is routed by none before. */
TEST(a_watch_notes_files_and_leaves_memory_alone)
{
    const guest *g = load_guest();
    void *real_malloc = g->dlsym(RTLD_DEFAULT, "malloc"), *real_fopen = g->dlsym(RTLD_DEFAULT, "fopen");
    enter_directory(NAMES("a", "b", "c"));
    begin_watching();
    close(g->open("a", O_RDONLY));
    CHECK(g->dlsym(RTLD_DEFAULT, "malloc") == real_malloc);
    FILE *(*found_fopen)(const char *, const char *) = g->dlsym(RTLD_DEFAULT, "fopen");
    fclose(found_fopen("b", "r"));
    mhi_route_end();
    close(g->open("c", O_RDONLY));
    CHECK_EQUAL(count_paths(), 2);
    CHECK(uses_of("a") == 0 && uses_of("b") == 0);
    CHECK(g->dlsym(RTLD_DEFAULT, "fopen") == real_fopen);
    leave_directory(NAMES("a", "b", "c"));
}

TEST(a_watch_that_memory_was_routed_after_goes_on_as_before)
{
    const guest *g = load_guest();
    enter_directory(NAMES("a"));
    begin_watching();
    mhi_route_end();
    mh_arena *arena = begin_routing();
    void *inside = g->malloc(100);
    CHECK_OWNER(arena, inside, "libroute_guest.so");
    end_routing(arena);
    begin_watching();
    void *ordinary = g->malloc(100);
    CHECK(mh_arena_of(ordinary) == NULL);
    g->free(ordinary);
    g->free(inside);
    CHECK_EQUAL(mh_usable_size(inside), 0);
    close(g->open("a", O_RDONLY));
    CHECK_EQUAL(uses_of("a"), 0);
    mhi_route_end();
    leave_directory(NAMES("a"));
}

TEST(a_library_that_arrives_in_a_watch_is_watched)
{
    const guest *g = load_guest();
    enter_directory(NAMES("a", "b"));
    begin_watching();
    void *handle = g->dlopen(guest_path("route_late"));
    CHECK(handle != NULL);
    int (*late_open)(const char *) = g->dlsym(handle, "late_open");
    close(late_open("a"));
    mhi_route_end();
    CHECK_EQUAL(dlclose(handle), 0);
    handle = g->dlopen(guest_path("route_late")); /* and not behind it, but for the next one */
    late_open = g->dlsym(handle, "late_open");
    CHECK_EQUAL(uses_of("a"), 0);
    begin_watching();
    close(late_open("b"));
    mhi_route_end();
    CHECK(uses_of("a") == -1 && uses_of("b") == 0);
    CHECK_EQUAL(dlclose(handle), 0);
    leave_directory(NAMES("a", "b"));
}

TEST(watching_and_routing_exclude_each_other)
{
    mh_error err = { 0 };
    mh_arena *arena = begin_routing();
    CHECK_EQUAL(mhi_route_watch(&err), MH_ERR_BUSY);
    end_routing(arena);
    begin_watching();
    CHECK_EQUAL(mhi_route_begin(arena, &err), MH_ERR_BUSY);
    CHECK_EQUAL(mhi_route_watch(&err), MH_ERR_BUSY);
    CHECK(strstr(err.detail, "another transaction") != NULL);
    mhi_route_end();
    begin_watching();
    mhi_route_end();
}

TEST(files_opened_for_reading_are_noted_once_and_absolute)
{
    const guest *g = load_guest();
    enter_directory(NAMES("a", "b", "c", "d"));
    mh_arena *arena = begin_routing();
    close(g->open(in_directory("a"), O_RDONLY));
    close(g->open("a", O_RDONLY));
    close(g->open("b", O_RDWR));
    close(g->open_in(directory, "c"));
    fclose(g->fopen("d", "r"));
    CHECK_EQUAL(g->open("missing", O_RDONLY), -1);
    close(g->open(directory, O_RDONLY));
    end_routing(arena);
    close(g->open("d", O_RDWR));
    CHECK_EQUAL(count_paths(), 6);
    CHECK_EQUAL(mhi_questions_lost(), 0);
    CHECK(find_opened("missing")->found.st_mode == 0 && find_opened("a")->found.st_mode != 0);
    CHECK(uses_of("a") == 0 && uses_of("b") == MHI_FILE_CHANGED && uses_of("c") == 0 && uses_of("d") == 0);
    leave_directory(NAMES("a", "b", "c", "d"));
}

TEST(output_stays_output_and_a_file_that_was_read_first_does_not_become_it)
{
    const guest *g = load_guest();
    enter_directory(NAMES("read"));
    begin_watching();
    fclose(g->fopen("out", "w"));
    fclose(g->fopen("out", "r"));
    close(g->open("new", O_RDWR | O_CREAT));
    close(g->open("new", O_RDONLY));
    close(g->open("read", O_RDONLY));
    fclose(g->fopen("read", "a"));
    mhi_route_end();
    CHECK(uses_of("out") & MHI_FILE_OUTPUT && uses_of("new") & MHI_FILE_OUTPUT);
    CHECK_EQUAL(uses_of("read"), MHI_FILE_CHANGED);
    mhi_questions_mark_output(&find_opened("read")->found);
    CHECK(uses_of("read") & MHI_FILE_OUTPUT);
    leave_directory(NAMES("read", "out", "new"));
}

TEST(a_file_counts_as_it_was_when_it_was_first_opened)
{
    const guest *g = load_guest();
    enter_directory(NAMES("a"));
    begin_watching();
    close(g->open("a", O_RDONLY));
    write_file("a", "changed");
    close(g->open("a", O_RDONLY));
    mhi_route_end();
    CHECK_EQUAL(find_opened("a")->found.st_size, 1);
    leave_directory(NAMES("a"));
}

/* Opens `n` links to one file, made and removed one by one. */
static void open_many(int n, const char *prefix, int flags)
{
    const guest *g = load_guest();
    char name[64];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%d", prefix, i);
        CHECK_EQUAL(symlink(in_directory("file"), name), 0);
        close(g->open(name, flags));
        CHECK_EQUAL(unlink(name), 0);
    }
}

TEST(more_files_than_can_be_kept_are_counted)
{
    enter_directory(NAMES("file"));
    begin_watching();
    open_many(24600, "in", O_RDONLY);
    mhi_route_end();
    CHECK_EQUAL(mhi_questions_count(), 24576);
    CHECK_EQUAL(mhi_questions_lost(), 25); /* the working directory was one question */
    leave_directory(NAMES("file"));
}

TEST(output_leaves_room_for_input)
{
    enter_directory(NAMES("file"));
    begin_watching();
    open_many(13000, "out", O_WRONLY);
    open_many(2000, "in", O_RDONLY);
    mhi_route_end();
    CHECK_EQUAL(mhi_questions_lost(), 0);
    CHECK(uses_of("in1999") == 0);
    leave_directory(NAMES("file"));
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
