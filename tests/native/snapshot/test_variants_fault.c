/* test_variants_fault.c - the commit of a second variant, cut short at every system call in turn: by an error, or by
 * SIGKILL.
 *
 * Whatever fails, the first variant is as it was, and of the second there is a whole one or none.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "snapshot/variants.h"
#include "sys_fault.h"
#include "test_snapshot.h"

enum { FIRST = 1, SECOND = 2 };

typedef struct {
    const char *path;
    uint64_t n;
    int code;
    uint64_t *calls; /* shared: how many there were */
} attempt;

/* Nothing is checked: whatever may fail, the disk must be right. */
static void commit_second(void *context)
{
    const attempt *given = context;
    mh_transaction *tx;
    sys_fault_arm(given->n, given->code);
    if (mh_open(&tx, given->path, &(mh_options){ .key = "second" }, NULL) == MH_OK) {
        if (mh_begin(tx, NULL) == MH_OK) {
            mh_set_root(tx, build_list(mh_transaction_arena(tx), SECOND, 20), NULL);
            mh_commit(tx, NULL);
        }
        mh_close(tx);
    }
    *given->calls = sys_fault_calls();
    sys_fault_disarm();
}

static void cut_short_everywhere(const char *path, int code)
{
    const char *first = path;
    char second[PATH_MAX];
    CHECK(mhi_variant_path(second, path, 1));
    uint64_t *calls = mmap(NULL, sizeof *calls, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(calls != MAP_FAILED);
    run commit = { .path = path, .seed = FIRST, .n_nodes = 20, .options = { .key = "first" } }, other = commit;
    other.seed = SECOND;
    other.options.key = "second";
    IN_CHILD(commit_run, &commit);
    attempt a = { .path = path, .code = code, .calls = calls };
    IN_CHILD(commit_second, &a);
    IN_CHILD(attach_run, &other);
    uint64_t n_calls = *calls, n_made = 0;
    CHECK(n_calls > 20);
    for (a.n = 1; a.n <= n_calls; a.n++) {
        CHECK(unlink(second) == 0 || errno == ENOENT);
        int status = wait_for_child(commit_second, &a);
        CHECK(status == 0 || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
        IN_CHILD(attach_run, &commit);
        if (exists(second)) {
            n_made++;
            IN_CHILD(attach_run, &other);
        }
    }
    CHECK(exists(first) && n_made > 0 && n_made < n_calls);
}

TEST(killed_before_any_call_the_other_variant_is_as_it_was) { cut_short_everywhere(scratch("killed"), SYS_FAULT_KILL); }

TEST(a_call_that_fails_never_costs_the_other_variant) { cut_short_everywhere(scratch("failed"), EIO); }

int main(int argc, char **argv) { return harness_main(argc, argv); }
