/* test_process_threads.c - programs that commit themselves with all their threads, and with descriptors that lead
 * nowhere outside: threads_guest.c, a case at a time, through the launcher. */
#define _GNU_SOURCE
#include "guest.h"

TEST(thread_that_waits_for_a_condition_waits_on) { check_case("condition"); }
TEST(thread_that_holds_a_lock_holds_it) { check_case("lock"); }
TEST(thread_that_reads_a_pipe_reads_on) { check_case("pipe"); }
TEST(thread_that_waits_for_events_waits_on) { check_case("epoll"); }
TEST(thread_that_sleeps_has_the_rest_of_its_time) { check_case("sleep"); }
TEST(thread_that_waits_for_a_semaphore_with_a_timeout_waits_on) { check_case("semaphore"); }
TEST(vectors_and_numbers_of_a_busy_thread_are_kept) { check_case("vectors"); }
TEST(sixty_four_threads_are_revived) { check_case("many"); }
TEST(threads_that_begin_threads_go_on) { check_case("spawning"); }
TEST(mask_stack_name_and_cpus_of_a_thread_are_kept) { check_case("state"); }
TEST(descriptors_that_lead_nowhere_outside_are_made_anew) { check_case("inner"); }

static void check_refused(const char *name, const char *why)
{
    guest each = { .name = name, .path = scratch(name) };
    check_guest(&each, why, 3);
}

TEST(thread_that_blocks_all_signals_is_refused_by_name)
{
    check_refused("deaf", "refused: the thread deaf can't be stopped, since it blocks all signals");
}

TEST(thread_that_holds_a_lock_with_an_owner_is_refused)
{
    check_refused("recursive", "refused: the thread threads_guest holds a lock");
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
