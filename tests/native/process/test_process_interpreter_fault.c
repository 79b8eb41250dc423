/* test_process_interpreter_fault.c - what the C library keeps for a process is told and set, and what fails is told,
 * too. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>

#include "harness.h"
#include "magicheap.h"
#include "sys_fault.h"

static mh_error err;

static const char *entry_of(const char *name, uint64_t *name_bytes, uint64_t *size_bytes)
{
    const char *entry;
    for (uint64_t i = 0; (entry = mh_environment_entry(i, name_bytes, size_bytes)) != NULL; i++)
        if (*name_bytes == strlen(name) && memcmp(entry, name, *name_bytes) == 0)
            return entry;
    return NULL;
}

TEST(each_entry_of_the_environment_is_told_where_it_lies)
{
    uint64_t name_bytes, size_bytes;
    CHECK(setenv("SESAME", "open=the door", 1) == 0);
    const char *entry = entry_of("SESAME", &name_bytes, &size_bytes);
    CHECK(entry != NULL && entry + name_bytes + 1 == getenv("SESAME"));
    CHECK_EQUAL(size_bytes, strlen("SESAME=open=the door"));
    CHECK(unsetenv("SESAME") == 0);
    CHECK(entry_of("SESAME", &name_bytes, &size_bytes) == NULL);
    CHECK_EQUAL(name_bytes, 0);
    CHECK_EQUAL(size_bytes, 0);
}

TEST(without_an_environment_there_is_no_entry)
{
    uint64_t name_bytes, size_bytes;
    clearenv();
    CHECK(mh_environment_entry(0, &name_bytes, &size_bytes) == NULL);
}

static void *size_of_own_stack(void *size)
{
    pthread_attr_t attributes;
    pthread_getattr_np(pthread_self(), &attributes);
    pthread_attr_getstacksize(&attributes, size);
    pthread_attr_destroy(&attributes);
    return NULL;
}

TEST(threads_have_the_stack_that_was_set)
{
    uint64_t before, now;
    size_t own = 0;
    pthread_t thread;
    CHECK_EQUAL(mh_read_stack_size(&before, &err), MH_OK);
    CHECK_EQUAL(mh_set_stack_size(3 << 20, &err), MH_OK);
    CHECK_EQUAL(mh_read_stack_size(&now, &err), MH_OK);
    CHECK_EQUAL(now, 3 << 20);
    CHECK(pthread_create(&thread, NULL, size_of_own_stack, &own) == 0 && pthread_join(thread, NULL) == 0);
    CHECK_EQUAL(own, 3 << 20);
    CHECK_EQUAL(mh_set_stack_size(before, &err), MH_OK);
}

TEST(a_stack_that_is_too_small_is_refused_and_nothing_changes)
{
    uint64_t before, now;
    CHECK_EQUAL(mh_read_stack_size(&before, &err), MH_OK);
    CHECK_EQUAL(mh_set_stack_size(1, &err), MH_ERR_SYSTEM);
    CHECK_EQUAL(err.sys_errno, EINVAL);
    CHECK_EQUAL(mh_read_stack_size(&now, &err), MH_OK);
    CHECK_EQUAL(now, before);
}

TEST(a_stream_that_cannot_be_written_is_told)
{
    FILE *full = fopen("/dev/full", "w");
    CHECK(full != NULL);
    fputs("sesame", full);
    CHECK_EQUAL(mh_flush_streams(&err), MH_ERR_NOSPACE);
    CHECK_EQUAL(err.sys_errno, ENOSPC);
    fclose(full);
    CHECK_EQUAL(mh_flush_streams(&err), MH_OK);
}

TEST(a_symbol_is_found_in_the_library_that_has_it_and_in_no_other)
{
    CHECK(mh_symbol("libc.so.6", "getenv") == dlsym(RTLD_DEFAULT, "getenv"));
    CHECK(mh_symbol("libc.so.6", "no_function_is_called_so") == NULL);
    CHECK(mh_symbol("libm.so.6", "getenv") == NULL);
    CHECK(mh_symbol("libthere-is-none.so", "getenv") == NULL);
}

TEST(without_python_no_module_gets_a_function)
{
    CHECK_EQUAL(mh_give_leave("magicheap._cpython", &err), MH_ERR_UNSUPPORTED);
    CHECK(err.detail[0] != '\0');
}

static const char text[] = "a text of which nothing is wiped";
static _Alignas(1 << 14) char no_pool[1 << 14];

static int try_wiping(void)
{
    uint64_t addresses[] = { (uint64_t)no_pool + 100, 64 }; /* at the second there is nothing at all */
    memcpy(no_pool + 96, text, sizeof text);
    int status = mh_try_wiping(text, sizeof text - 1, addresses, 2, &err);
    CHECK(memcmp(no_pool + 96, text, sizeof text) == 0);
    return status;
}

TEST(nothing_is_wiped_where_there_is_no_pool) { CHECK_EQUAL(try_wiping(), MH_OK); }

TEST(a_trial_that_cannot_be_made_is_told)
{
    sys_fault_select("open mmap");
    sys_fault_arm(0, 0);
    CHECK_EQUAL(try_wiping(), MH_OK);
    uint64_t calls = sys_fault_calls();
    CHECK_EQUAL(calls, 2);
    for (uint64_t n = 1; n <= calls; n++) {
        sys_fault_arm(n, ENOMEM);
        CHECK_EQUAL(try_wiping(), MH_ERR_SYSTEM);
        CHECK_EQUAL(err.sys_errno, ENOMEM);
        sys_fault_disarm();
    }
    sys_fault_select(NULL);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
