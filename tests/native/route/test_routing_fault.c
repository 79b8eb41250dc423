/* test_routing_fault.c - routing and audit when the kernel refuses: an error, nothing routed, and the next attempt
 * succeeds. */
#define _GNU_SOURCE
#include "route_host.h"

#include <errno.h>

#include "audit/audit.h"
#include "route/questions.h"
#include "sys_fault.h"

TEST(a_begin_that_the_kernel_refuses_routes_nothing)
{
    mh_error err;
    mh_arena *arena;
    int n_failed = 0;
    bool struck = true;
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    for (uint64_t n = 1; struck; n++) {
        void *handle = dlopen(guest_path("route_late"), RTLD_NOW); /* something to patch, each time */
        CHECK(handle != NULL);
        sys_fault_arm(n, ENOMEM);
        int status = mhi_route_begin(arena, &err);
        sys_fault_disarm();
        struck = sys_fault_struck();
        if (status != MH_OK) {
            n_failed++;
            CHECK_EQUAL(status, MH_ERR_SYSTEM);
            CHECK_EQUAL(err.sys_errno, ENOMEM);
            CHECK(err.detail[0] != '\0');
        }
        void *(*late_malloc)(size_t) = dlsym(handle, "late_malloc");
        void (*late_free)(void *) = dlsym(handle, "late_free");
        void *block = late_malloc(100);
        CHECK_EQUAL(mh_arena_of(block) == arena, status == MH_OK);
        late_free(block);
        mhi_route_end();
        CHECK_OK(mhi_route_begin(arena, &err), err);
        mhi_route_end();
        dlclose(handle);
    }
    CHECK(n_failed > 2);
}

TEST(a_watch_that_the_kernel_refuses_is_an_error_and_the_next_one_succeeds)
{
    mh_error err;
    bool struck = true;
    int n_failed = 0;
    for (uint64_t n = 1; struck; n++) {
        void *handle = dlopen(guest_path("route_late"), RTLD_NOW);
        CHECK(handle != NULL);
        sys_fault_arm(n, ENOMEM);
        int status = mhi_route_watch(&err);
        sys_fault_disarm();
        struck = sys_fault_struck();
        if (status != MH_OK) {
            n_failed++;
            CHECK_EQUAL(status, MH_ERR_SYSTEM);
            CHECK_OK(mhi_route_watch(&err), err);
        }
        int (*late_open)(const char *) = dlsym(handle, "late_open");
        close(late_open("/etc/passwd"));
        mhi_route_end();
        CHECK_EQUAL(mhi_questions_count(), 1);
        dlclose(handle);
    }
    CHECK(n_failed > 0);
}

TEST(an_audit_that_the_kernel_refuses_is_an_error_or_right)
{
    mh_error err;
    mh_arena *arena;
    mhi_audit audit;
    CHECK_OK(mh_arena_new(&arena, 1 << 30, &err), err);
    uint64_t *block = mh_calloc(arena, 8, 8), *large = mh_calloc(arena, 1 << 13, 8);
    CHECK(block != NULL && large != NULL);
    block[0] = (uint64_t)large;
    block[1] = (uint64_t)load_guest()->table;
    for (int i = 0; i < 1 << 13; i++)
        large[i] = (uint64_t)load_guest()->literal;
    CHECK_OK(mhi_arena_seal(arena, &err), err);
    enum { N_CALLS = 40 }; /* the first of them; each word of the large block is another */
    int n_failed = 0;
    for (uint64_t n = 1; n <= N_CALLS; n++) {
        sys_fault_arm(n, ENOMEM);
        int status = mhi_audit_run(&audit, arena, &(uint64_t){ (uint64_t)block }, 1, &err);
        sys_fault_disarm();
        n_failed += status != MH_OK;
        if (status == MH_OK)
            CHECK(audit.n_relocations >= 1 && audit.summary.findings == 0);
        else
            CHECK(status == MH_ERR_SYSTEM && audit.relocations == NULL && audit.findings == NULL);
        mhi_audit_release(&audit);
    }
    CHECK(n_failed > 2);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
