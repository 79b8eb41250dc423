/* test_process_first.c - our fork handlers come before those that were registered earlier, and forks go on as they did.
 *
 * Handlers are for ever, so each case runs in a child of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

#include "process/first.h"
#include "sys/sys.h"
#include "test_snapshot.h"

/* What the handlers of the last fork wrote, in their order; in memory that parent and child have each their own of. */
static char trace[4096];
static size_t n_trace;

static void note(const char *what)
{
    CHECK(n_trace + strlen(what) < sizeof trace);
    n_trace += (size_t)snprintf(trace + n_trace, sizeof trace - n_trace, "%s", what);
}

#define HANDLERS(name)                                    \
    static void prepare_##name(void) { note("(" #name); } \
    static void parent_##name(void) { note(#name ")"); }  \
    static void child_##name(void) { note(#name "]"); }
HANDLERS(a)
HANDLERS(b)
HANDLERS(c)
HANDLERS(ours)

#define REGISTER(name) CHECK_EQUAL(pthread_atfork(prepare_##name, parent_##name, child_##name), 0)

static void check_fork(const char *in_parent, const char *in_child)
{
    n_trace = 0;
    trace[0] = '\0';
    pid_t child = fork();
    CHECK(child >= 0);
    const char *wanted = child == 0 ? in_child : in_parent;
    if (strcmp(trace, wanted) != 0)
        harness_fail(__FILE__, __LINE__, trace);
    if (child == 0)
        _exit(0);
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void come_late(void *context)
{
    (void)context;
    REGISTER(a);
    REGISTER(b);
    REGISTER(ours);
    check_fork("(ours(b(aa)b)ours)", "(ours(b(aa]b]ours]");
    CHECK(mhi_first_move_to_front(prepare_ours, parent_ours, child_ours));
    check_fork("(b(a(oursours)a)b)", "(b(a(oursours]a]b]");
    REGISTER(c);
    check_fork("(c(b(a(oursours)a)b)c)", "(c(b(a(oursours]a]b]c]");
}

TEST(late_handlers_come_first_and_the_others_keep_their_order) { IN_CHILD(come_late, NULL); }

static void come_first(void *context)
{
    (void)context;
    REGISTER(ours);
    CHECK(mhi_first_move_to_front(prepare_ours, parent_ours, child_ours));
    REGISTER(a);
    check_fork("(a(oursours)a)", "(a(oursours]a]");
}

TEST(handlers_that_are_first_stay_first) { IN_CHILD(come_first, NULL); }

static int n_counted;
static void count(void) { n_counted++; }

/* The list then lies no longer in libc's variables but on the heap. */
static void come_behind_many(void *context)
{
    (void)context;
    for (int i = 0; i < 500; i++)
        CHECK_EQUAL(pthread_atfork(count, count, count), 0);
    REGISTER(a);
    REGISTER(ours);
    CHECK(mhi_first_move_to_front(prepare_ours, parent_ours, child_ours));
    check_fork("(a(oursours)a)", "(a(oursours]a]");
    CHECK_EQUAL(n_counted, 1000);
}

TEST(list_that_has_grown_is_found_too) { IN_CHILD(come_behind_many, NULL); }

static void be_doubtful(void *context)
{
    (void)context;
    REGISTER(a);
    REGISTER(ours);
    REGISTER(b);
    CHECK(!mhi_first_move_to_front(prepare_ours, parent_ours, child_ours)); /* b is behind them */
    CHECK(!mhi_first_move_to_front(prepare_c, parent_c, child_c));          /* never registered */
    CHECK(!mhi_first_move_to_front(prepare_b, parent_b, child_ours));
    check_fork("(b(ours(aa)ours)b)", "(b(ours(aa]ours]b]");
}

TEST(on_any_doubt_nothing_is_moved) { IN_CHILD(be_doubtful, NULL); }

/* A library of its own that registers handlers, as OpenBLAS and jemalloc do, and takes them along when it is unloaded.
 * */
static void outlive_a_library(void *context)
{
    void *library = dlopen(context, RTLD_NOW);
    CHECK(library != NULL);
    const int *n_prepared = dlsym(library, "forking_prepared"), *n_child = dlsym(library, "forking_child");
    CHECK(n_prepared != NULL && n_child != NULL);
    REGISTER(a);
    REGISTER(ours);
    CHECK(mhi_first_move_to_front(prepare_ours, parent_ours, child_ours));
    check_fork("(a(oursours)a)", "(a(oursours]a]");
    CHECK(*n_prepared == 1 && *n_child == 0);
    CHECK(dlclose(library) == 0);
    check_fork("(a(oursours)a)", "(a(oursours]a]");
}

TEST(library_that_is_unloaded_takes_its_own_handlers_along) { IN_CHILD(outlive_a_library, (void *)getenv("FORKING")); }

int main(int argc, char **argv) { return harness_main(argc, argv); }
