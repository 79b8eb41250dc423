/* test_process_obstacles.c - what stands in the way of a process snapshot is found, and named.
 *
 * Memory and machines that can't be had everywhere are made up: the calls below stand between the library and the
 * kernel.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>

#include "process/obstacles.h"
#include "sys/sys.h"
#include "test_snapshot.h"

enum { PAGE = 4096 };

/* the one file is opened in place of the other; NULL: it is not there */
static const char *pretended_from, *pretended_path;
static uint64_t pretended_features;
static bool pretended_secure;

int __real_mhi_sys_open(const char *path, int flags, mode_t mode);
int __wrap_mhi_sys_open(const char *path, int flags, mode_t mode);
int __wrap_mhi_sys_open(const char *path, int flags, mode_t mode)
{
    bool is_pretended = pretended_from != NULL && strstr(path, pretended_from) != NULL;
    return !is_pretended            ? __real_mhi_sys_open(path, flags, mode)
           : pretended_path == NULL ? -ENOENT
                                    : __real_mhi_sys_open(pretended_path, flags, mode);
}

int __wrap_mhi_sys_shadow_stack(uint64_t *features);
int __wrap_mhi_sys_shadow_stack(uint64_t *features)
{
    *features = pretended_features;
    return 0;
}

bool __wrap_mhi_sys_secure_exec(void);
bool __wrap_mhi_sys_secure_exec(void) { return pretended_secure; }

static const mhi_known_threads nothing_known;

/* A child that waits to be killed, at the latest by our end. */
static pid_t fork_idle(void)
{
    pid_t parent = getpid(), child = fork();
    CHECK(child >= 0);
    if (child == 0)
        prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (child == 0 && getppid() == parent)
        pause();
    if (child == 0)
        _exit(1);
    return child;
}

static void check_free(void)
{
    mh_error err;
    CHECK_OK(mhi_obstacles_check(&err), err);
    CHECK_OK(mhi_threads_check(&nothing_known, &err), err);
}

static void check_text(int found, const mh_error *err, int status, const char *what)
{
    if (found != status || strstr(err->detail, what) == NULL)
        harness_fail(__FILE__, __LINE__, found == MH_OK ? "no obstacle was found" : err->detail);
}

static void check_obstacle(int status, const char *what)
{
    mh_error err;
    check_text(mhi_obstacles_check(&err), &err, status, what);
}

TEST(process_of_one_thread_has_no_obstacles) { check_free(); }

/* ---- children and threads ---- */

TEST(living_child_is_named_and_one_that_has_ended_is_not)
{
    char wanted[64];
    pid_t child = fork_idle();
    snprintf(wanted, sizeof wanted, "child process %d (%.15s) is running", child, program_invocation_short_name);
    check_obstacle(MH_ERR_UNSUPPORTED, wanted);
    CHECK(kill(child, SIGKILL) == 0);
    siginfo_t info;
    CHECK(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT) == 0);
    check_free(); /* though nobody has waited for it */
    CHECK(waitpid(child, NULL, 0) == child);
    check_free();
}

TEST(kernel_that_does_not_list_children_still_tells_that_there_are_some)
{
    pretended_from = "/children";
    check_free();
    pid_t child = fork_idle();
    check_obstacle(MH_ERR_UNSUPPORTED, "there are child processes");
    pretended_from = NULL;
    CHECK(kill(child, SIGKILL) == 0 && waitpid(child, NULL, 0) == child);
}

typedef struct {
    pthread_barrier_t begun, end;
    pid_t child;
} worker;

static void *wait_with_child(void *context)
{
    worker *its = context;
    its->child = fork_idle();
    pthread_barrier_wait(&its->begun);
    pthread_barrier_wait(&its->end);
    return NULL;
}

TEST(child_of_another_thread_is_found)
{
    worker its;
    pthread_t thread;
    CHECK(pthread_barrier_init(&its.begun, NULL, 2) == 0 && pthread_barrier_init(&its.end, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, wait_with_child, &its) == 0);
    pthread_barrier_wait(&its.begun);
    check_obstacle(MH_ERR_UNSUPPORTED, "child process ");
    pthread_barrier_wait(&its.end);
    CHECK(kill(its.child, SIGKILL) == 0 && waitpid(its.child, NULL, 0) == its.child && pthread_join(thread, NULL) == 0);
}

static _Atomic int waiting; /* the thread that waited last */

static void *wait_at(void *barrier)
{
    waiting = gettid();
    pthread_setname_np(pthread_self(), "odd) name");
    pthread_barrier_wait(barrier);
    pthread_barrier_wait(barrier);
    return NULL;
}

TEST(other_threads_are_named)
{
    enum { MANY = 30 };
    pthread_t threads[MANY];
    pthread_barrier_t barrier;
    mh_error err;
    CHECK(pthread_barrier_init(&barrier, NULL, MANY + 1) == 0);
    for (int i = 0; i < MANY; i++)
        CHECK(pthread_create(&threads[i], NULL, wait_at, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    check_text(mhi_threads_check(&nothing_known, &err), &err, MH_ERR_UNSUPPORTED, " (odd) name) is running, thread ");
    CHECK(strstr(err.detail, " more: a later run would lose it") != NULL);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < MANY; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
    check_free();
}

TEST(thread_that_is_declared_is_named_with_its_library)
{
    pthread_barrier_t barrier;
    pthread_t thread;
    mh_error err;
    CHECK(pthread_barrier_init(&barrier, NULL, 2) == 0);
    CHECK(pthread_create(&thread, NULL, wait_at, &barrier) == 0);
    pthread_barrier_wait(&barrier);
    const mhi_known_threads known = { .n = 1, .items = { { .thread = waiting, .text = "sleeper of libsleep" } } };
    check_text(mhi_threads_check(&known, &err), &err, MH_ERR_UNSUPPORTED,
               "(sleeper of libsleep) is running: a later run would lose it");
    pthread_barrier_wait(&barrier);
    CHECK(pthread_join(thread, NULL) == 0);
    check_free();
}

static void *return_at_once(void *context) { return context; }

/* The kernel lists a thread a little longer than pthread_join waits for it. */
TEST(thread_that_was_joined_is_no_obstacle)
{
    for (int i = 0; i < 2000; i++) {
        pthread_t thread;
        mh_error err;
        CHECK(pthread_create(&thread, NULL, return_at_once, NULL) == 0 && pthread_join(thread, NULL) == 0);
        CHECK_OK(mhi_threads_check(&nothing_known, &err), err);
    }
}

/* ---- memory ---- */

static void *map_shared(int prot, int fd, int flags)
{
    void *memory = mmap(NULL, PAGE, prot, MAP_SHARED | flags, fd, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}

TEST(file_mapped_shared_is_an_obstacle_only_if_it_can_be_written)
{
    int fd = open(scratch("mapped"), O_RDWR | O_CREAT, 0600);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    void *memory = map_shared(PROT_READ, fd, 0);
    check_free();
    CHECK(mprotect(memory, PAGE, PROT_READ | PROT_WRITE) == 0);
    check_obstacle(MH_ERR_UNSUPPORTED, "a file mapped shared and writable is in use (/");
    CHECK(munmap(memory, PAGE) == 0 && close(fd) == 0);
    check_free();
}

static void check_forked_memory(void *context)
{
    (void)context;
    check_obstacle(MH_ERR_UNSUPPORTED, "shared memory of a forked process is in use (/dev/zero at 0x");
}

TEST(fresh_shared_memory_is_none_unless_it_was_forked_with_the_process)
{
    void *memory = map_shared(PROT_READ | PROT_WRITE, -1, MAP_ANONYMOUS);
    check_free();
    IN_CHILD(check_forked_memory, NULL);
    CHECK(munmap(memory, PAGE) == 0);
}

TEST(shared_memory_mapped_twice_is_an_obstacle)
{
    void *memory = map_shared(PROT_READ | PROT_WRITE, -1, MAP_ANONYMOUS),
         *again = mremap(memory, 0, PAGE, MREMAP_MAYMOVE);
    CHECK(again != MAP_FAILED);
    check_obstacle(MH_ERR_UNSUPPORTED, "shared memory mapped twice");
    CHECK(munmap(again, PAGE) == 0);
    check_free();
    void *two = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(two != MAP_FAILED && mprotect(two, PAGE, PROT_READ) == 0 &&
          mprotect((char *)two + PAGE, PAGE, PROT_READ | PROT_WRITE) == 0);
    check_free(); /* two parts of one mapping are not */
    CHECK(munmap(memory, PAGE) == 0 && munmap(two, 2 * PAGE) == 0);
}

TEST(semaphore_is_none_once_it_has_no_name)
{
    char name[64];
    snprintf(name, sizeof name, "/magicheap-test-%d", getpid());
    sem_t *semaphore = sem_open(name, O_CREAT | O_EXCL, 0600, 1);
    CHECK(semaphore != SEM_FAILED);
    mh_error err; /* asked before the name goes, told after: a test that fails leaves nothing behind */
    int status = mhi_obstacles_check(&err);
    CHECK(sem_unlink(name) == 0);
    check_text(status, &err, MH_ERR_UNSUPPORTED, "a semaphore with a name is in use (/dev/shm/sem.");
    check_free();
    CHECK(sem_close(semaphore) == 0);
}

TEST(shared_memory_that_others_can_have_is_an_obstacle)
{
    char name[64];
    snprintf(name, sizeof name, "/magicheap-test-%d", getpid());
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    void *memory = map_shared(PROT_READ | PROT_WRITE, fd, 0);
    CHECK(close(fd) == 0);
    check_obstacle(MH_ERR_UNSUPPORTED, "POSIX shared memory is in use (/dev/shm/magicheap-test-");
    CHECK(shm_unlink(name) == 0);
    check_obstacle(MH_ERR_UNSUPPORTED, "POSIX shared memory is in use"); /* somebody may have opened it before */
    CHECK(munmap(memory, PAGE) == 0);
    fd = memfd_create("test", MFD_CLOEXEC);
    CHECK(fd >= 0 && ftruncate(fd, PAGE) == 0);
    memory = map_shared(PROT_READ | PROT_WRITE, fd, 0);
    CHECK(close(fd) == 0);
    check_obstacle(MH_ERR_UNSUPPORTED, "shared memory is in use (/memfd:test at");
    CHECK(munmap(memory, PAGE) == 0);
    int segment = shmget(IPC_PRIVATE, PAGE, 0600);
    memory = shmat(segment, NULL, 0);
    CHECK(shmctl(segment, IPC_RMID, NULL) == 0 && memory != (void *)-1);
    check_obstacle(MH_ERR_UNSUPPORTED, "System V shared memory is in use (/SYSV");
    CHECK(shmdt(memory) == 0);
    check_free();
}

static void pretend_mapping(const char *head, const char *flags)
{
    char text[512];
    int size = snprintf(text, sizeof text, "%s\nSize: 4 kB\nVmFlags: %s\n", head, flags);
    pretended_path = scratch("smaps");
    write_file(pretended_path, text, (size_t)size);
    pretended_from = "/proc/self/smaps";
}

TEST(memory_of_devices_is_an_obstacle_and_so_are_huge_pages)
{
    pretend_mapping("7f0000000000-7f0000200000 rw-p 00000000 00:0f 82     /anon_hugepage (deleted)",
                    "rd wr mr mw me de ht");
    check_obstacle(MH_ERR_UNSUPPORTED, "memory in huge pages (MAP_HUGETLB) is in use (/anon_hugepage at 0x");
    pretend_mapping("7f0000000000-7f0000001000 rw-s 00000000 00:06 77     /dev/nvidia0",
                    "rd wr sh mr mw me ms pf io dd");
    check_obstacle(
        MH_ERR_UNSUPPORTED,
        "a GPU's memory is in use (/dev/nvidia0 at 0x7f0000000000): unmap it, or close what did, in the body");
    pretend_mapping("7f0000000000-7f0000001000 rw-p 00000000 00:06 78     /dev/dri/renderD128", "rd wr mr mw me");
    check_obstacle(MH_ERR_UNSUPPORTED, "a GPU's memory is in use");
    pretend_mapping("7f0000000000-7f0000001000 r--s 00000000 00:06 79     /dev/mem", "rd sh mr me ms pf dd");
    check_obstacle(MH_ERR_UNSUPPORTED, "a device's memory is in use (/dev/mem at");
    pretend_mapping("7f0000000000-7f0000001000 rw-s 00000000 00:0f 80     anon_inode:[io_uring]",
                    "rd wr sh mr mw me ms");
    check_obstacle(MH_ERR_UNSUPPORTED, "an io_uring is in use");
    pretend_mapping("210000000000-210000001000 rw-s 00000000 00:01 81     /memfd:ours (deleted)",
                    "rd wr sh mr mw me ms");
    check_obstacle(MH_OK, ""); /* our own, where the launcher will be */
    pretend_mapping("7f0000000000-7f0000001000 nonsense", "rd");
    check_obstacle(MH_ERR_SYSTEM, "/proc/self/smaps");
    pretended_from = pretended_path = NULL;
}

/* ---- the machine ---- */

TEST(machine_that_can_not_is_unsupported)
{
    pretended_features = 1;
    check_obstacle(MH_ERR_UNSUPPORTED, "shadow stack");
    pretended_features = 0;
    pretended_secure = true;
    check_obstacle(MH_ERR_UNTRUSTED, "");
    pretended_secure = false;
    pretended_from = "/proc/self/pagemap";
    check_obstacle(MH_ERR_UNSUPPORTED, "/proc/self/pagemap can't be read");
    pretended_path = "/dev/zero"; /* all pages absent, as a kernel tells whoever may not know */
    check_obstacle(MH_ERR_UNSUPPORTED, "does not tell a written page from its file's");
    pretended_from = pretended_path = NULL;
    check_free();
}

TEST(every_probe_holds_here_or_says_why_not)
{
    const char *name;
    mh_error err;
    uint32_t n = 0;
    for (; mh_process_probe(n, &name, &err) != MH_ERR_ARGUMENT; n++) {
        CHECK(name != NULL && strlen(name) > 3);
        int status = mh_process_probe(n, &name, &err);
        CHECK(status == MH_OK ||
              (strlen(err.detail) > 20 && (status == MH_ERR_UNSUPPORTED || status == MH_ERR_UNTRUSTED)));
    }
    CHECK(name == NULL && n >= 10);
}

TEST(probe_finds_what_lies_where_the_launcher_must)
{
    const char *name;
    mh_error err;
    bool is_found = false;
    void *place =
        mmap((void *)0x210000000000, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    CHECK(place != MAP_FAILED);
    for (uint32_t i = 0; mh_process_probe(i, &name, &err) != MH_ERR_ARGUMENT; i++)
        is_found |= strstr(err.detail, "where the launcher must") != NULL;
    CHECK(munmap(place, PAGE) == 0 && is_found);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
