/* test_process_descriptors.c - which descriptors are recorded, and in which words the others are refused. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pty.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/timerfd.h>
#include <sys/un.h>

#include "process/descriptors.h"
#include "test_snapshot.h"

/* Collects in a process where only what a case opens is open. */
static mhi_descriptors collect(void)
{
    mhi_descriptors found;
    mh_error err;
    CHECK_OK(mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, &err), err);
    return found;
}

static const mhi_descriptor *find(const mhi_descriptors *among, int fd)
{
    for (size_t i = 0; i < among->n_items; i++)
        if (among->items[i].fd == fd)
            return &among->items[i];
    return NULL;
}

/* `fd` can't be recorded; the message names it and says `what`. Closes it. */
static void check_refused(int fd, const char *what)
{
    mhi_descriptors found;
    mh_error err;
    char name[32];
    CHECK(fd >= 0);
    snprintf(name, sizeof name, "descriptor %d is ", fd);
    CHECK_EQUAL(mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, &err), MH_ERR_UNSUPPORTED);
    CHECK(found.items == NULL && found.n_items == 0);
    if (strstr(err.detail, name) == NULL || strstr(err.detail, what) == NULL ||
        strstr(err.detail, ": close it in the body") == NULL)
        harness_fail(__FILE__, __LINE__, err.detail);
    CHECK(close(fd) == 0);
    found = collect();
    mhi_descriptors_release(&found);
}

/* ---- written ---- */

static void tell_written(void *context)
{
    int pipes[2], inherited = open(context, O_RDWR | O_CREAT, 0600);
    mhi_descriptors_remember();
    CHECK(inherited >= 0 && pipe(pipes) == 0 && close(pipes[1]) == 0); /* an end for reading */
    CHECK(open(context, O_RDONLY) >= 0 && open("/dev/null", O_RDWR) >= 0 && eventfd(0, 0) >= 0);
    CHECK(!mhi_descriptors_may_write());
    CHECK(pipe(pipes) == 0);
    int written[] = { open(context, O_WRONLY), open(context, O_RDWR), socket(AF_UNIX, SOCK_STREAM, 0), pipes[1] };
    for (size_t i = 0; i < sizeof written / sizeof *written; i++) {
        CHECK(written[i] >= 0 && mhi_descriptors_may_write());
        CHECK(close(written[i]) == 0);
    }
    CHECK(!mhi_descriptors_may_write());
}
TEST(files_pipes_and_sockets_that_may_be_written_are_noticed) { IN_CHILD(tell_written, (void *)scratch("written")); }

/* ---- recorded ---- */

static void record_file(void *context)
{
    int fd = open(context, O_RDWR | O_APPEND | O_CLOEXEC | O_NONBLOCK);
    CHECK(lseek(fd, 7, SEEK_SET) == 7);
    struct stat status;
    CHECK(fstat(fd, &status) == 0);
    mhi_descriptors found = collect();
    const mhi_descriptor *file = find(&found, fd);
    CHECK(file != NULL && found.n_items == 1);
    CHECK_EQUAL(file->flags, O_RDWR | O_APPEND | O_NONBLOCK);
    CHECK(file->is_cloexec && strcmp(file->path, context) == 0 && file->offset == 7 &&
          file->id.inode == status.st_ino && file->id.number == 0);
    mhi_descriptors_release(&found);
    CHECK(found.items == NULL && found.n_items == 0);
}

/* That a later process finds older than itself. */
static const char *old_file(const char *name)
{
    const char *path = scratch(name);
    write_file(path, "0123456789", 10);
    usleep(100000);
    return path;
}

TEST(file_is_recorded_with_flags_and_offset) { IN_CHILD(record_file, (void *)old_file("file")); }

static void hold_file(void *context)
{
    int fd = open(context, O_RDWR | O_TRUNC | O_CLOEXEC);
    mhi_descriptors found;
    mh_error err;
    CHECK_OK(mhi_descriptors_collect(&found, &(mhi_descriptors_known){ .held = &fd, .n_held = 1 }, &err), err);
    const mhi_descriptor *file = find(&found, fd);
    CHECK(file != NULL && found.n_items == 1 && strcmp(file->path, "/dev/null") == 0 &&
          file->id.number == makedev(1, 3) && file->id.inode == 0);
    CHECK(file->is_cloexec && file->is_held);
    mhi_descriptors_release(&found);
}

TEST(number_of_a_held_descriptor_is_kept_by_a_device) { IN_CHILD(hold_file, (void *)old_file("held")); }

/* In each way in which a file may have been this process's doing. */
static void refuse_written(void *context)
{
    static const char told[] = "a file that was written to in a way that a later run can't repeat";
    char fresh[PATH_MAX + 8];
    snprintf(fresh, sizeof fresh, "%s.fresh", (char *)context);
    check_refused(open(fresh, O_WRONLY | O_CREAT | O_EXCL, 0600), told);
    check_refused(open(fresh, O_WRONLY | O_APPEND), told);
    mhi_descriptors found;
    int fd = open(context, O_RDWR);
    found = collect();
    CHECK_EQUAL(found.n_items, 1); /* untouched so far */
    mhi_descriptors_release(&found);
    CHECK(pwrite(fd, "x", 1, 3) == 1);
    check_refused(fd, told);
    check_refused(open(context, O_WRONLY | O_APPEND), told); /* who wrote to it can't be told */
    fd = open(context, O_RDONLY);
    found = collect();
    CHECK_EQUAL(found.n_items, 1);
    mhi_descriptors_release(&found);
}

TEST(files_that_this_process_wrote_to_are_refused) { IN_CHILD(refuse_written, (void *)old_file("written")); }

static void refuse_emptied(void *context)
{
    check_refused(open(context, O_WRONLY | O_TRUNC), "a file that was written to");
}

TEST(file_that_this_process_emptied_is_refused) { IN_CHILD(refuse_emptied, (void *)old_file("emptied")); }

static void record_directory(void *context)
{
    int listed = open(context, O_RDONLY | O_DIRECTORY);
    check_refused(open(context, O_PATH | O_CLOEXEC), "a mere path (O_PATH, /");
    mhi_descriptors found = collect();
    CHECK(found.n_items == 1 && found.items[0].fd == listed && found.items[0].flags == O_DIRECTORY &&
          !found.items[0].is_cloexec);
    mhi_descriptors_release(&found);
}

TEST(directories_are_recorded) { IN_CHILD(record_directory, (void *)scratch("")); }

static void record_devices(void *context)
{
    (void)context;
    static const struct {
        const char *path;
        unsigned minor;
    } devices[] = {
        { "/dev/null", 3 }, { "/dev/zero", 5 }, { "/dev/full", 7 }, { "/dev/random", 8 }, { "/dev/urandom", 9 },
    };
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++) {
        int fd = open(devices[i].path, O_RDONLY);
        mhi_descriptors found = collect();
        const mhi_descriptor *device = find(&found, fd);
        CHECK(device != NULL && strcmp(device->path, devices[i].path) == 0);
        CHECK(device->id.inode == 0 && device->offset == 0 && device->id.number == makedev(1, devices[i].minor));
        mhi_descriptors_release(&found);
    }
}

TEST(devices_that_everyone_has_are_recorded_by_number) { IN_CHILD(record_devices, NULL); }

static void skip_own(void *context)
{
    int ends[2], file = open(context, O_RDONLY | O_CREAT, 0600);
    CHECK(pipe(ends) == 0);
    mhi_descriptors found;
    mh_error err;
    CHECK_OK(mhi_descriptors_collect(
                 &found, &(mhi_descriptors_known){ .own = (int[]){ ends[1], file, ends[0] }, .n_own = 3 }, &err),
             err);
    CHECK_EQUAL(found.n_items, 0);
    mhi_descriptors_release(&found);
}

TEST(own_descriptors_are_skipped) { IN_CHILD(skip_own, (void *)scratch("own")); }

static void record_many(void *context)
{
    enum { MANY = 500 };
    for (int i = 0; i < MANY; i++)
        /* one file, opened as often: each has its own offset */
        CHECK(open(context, O_RDONLY | O_CREAT | O_CLOEXEC, 0600) >= 0);
    mhi_descriptors found = collect();
    CHECK_EQUAL(found.n_items, MANY);
    for (int i = 1; i < MANY; i++)
        CHECK(found.items[i - 1].fd < found.items[i].fd);
    mhi_descriptors_release(&found);
}

TEST(hundreds_of_files_are_recorded) { IN_CHILD(record_many, (void *)scratch("many")); }

/* ---- inherited ---- */

static void inherit(void *context)
{
    int ends[2], later[2], file = open(context, O_RDONLY | O_CREAT, 0600);
    CHECK(pipe(ends) == 0 && pipe2(later, O_CLOEXEC) == 0 && close(later[1]) == 0);
    mhi_descriptors_remember();
    check_refused(later[0], "a pipe");
    check_refused(dup(ends[0]), "a pipe"); /* another number */
    mhi_descriptors found = collect();
    CHECK_EQUAL(found.n_items, 0);
    mhi_descriptors_release(&found);
    CHECK(rename(context, scratch("moved")) == 0 && close(file) == 0);
    CHECK(open(context, O_RDONLY | O_CREAT, 0600) == file); /* the same number, another file */
    found = collect();
    CHECK(found.n_items == 1 && found.items[0].fd == file);
    mhi_descriptors_release(&found);
}

TEST(what_was_open_at_the_start_and_survives_exec_is_inherited) { IN_CHILD(inherit, (void *)scratch("inherited")); }

static void be_resumed(void *context)
{
    int file = open(context, O_RDONLY | O_CREAT, 0600), ends[2];
    mhi_descriptors found = collect();
    CHECK_EQUAL(found.n_items, 1);
    mhi_descriptors_release(&found);
    CHECK(pipe(ends) == 0);
    /* as in a resumed process: the launcher has opened the file, the pipe came from outside */
    mhi_descriptors_remember();
    found = collect();
    CHECK(found.n_items == 1 && found.items[0].fd == file);
    mhi_descriptors_release(&found);
}

TEST(what_a_resumed_process_was_given_is_inherited_and_what_it_had_is_not)
{
    IN_CHILD(be_resumed, (void *)scratch("resumed"));
}

/* ---- refused ---- */

static void refuse_nameless(void *context)
{
    (void)context;
    int ends[2];
    CHECK(pipe(ends) == 0 && close(ends[1]) == 0);
    check_refused(ends[0], "a pipe");
    check_refused(inotify_init1(0), "an inotify watch");
    check_refused(memfd_create("carried", 0), "a memfd (/memfd:carried");
    check_refused((int)syscall(SYS_pidfd_open, getpid(), 0), "a pidfd");
}

TEST(descriptors_without_a_file_are_refused_by_kind) { IN_CHILD(refuse_nameless, NULL); }

static void refuse_sockets(void *context)
{
    (void)context;
    check_refused(socket(AF_INET, SOCK_STREAM, 0), "a TCP socket");
    check_refused(socket(AF_INET6, SOCK_DGRAM, 0), "a UDP socket");
    check_refused(socket(AF_UNIX, SOCK_STREAM, 0), "a UNIX socket");
    check_refused(socket(AF_NETLINK, SOCK_RAW, 0), "a netlink socket");
    int ends[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    mhi_descriptors_remember(); /* so that the other end is another process's */
    check_refused(fcntl(ends[0], F_DUPFD_CLOEXEC, 0), "a UNIX socket that is connected");
}

TEST(sockets_are_refused_by_family) { IN_CHILD(refuse_sockets, NULL); }

static void refuse_connected(void *context)
{
    (void)context;
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof address;
    char peer[64];
    int listening = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(bind(listening, (void *)&address, size) == 0 && listen(listening, 1) == 0 &&
          getsockname(listening, (void *)&address, &size) == 0);
    mhi_descriptors_remember();
    int connected = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(connect(connected, (void *)&address, size) == 0);
    snprintf(peer, sizeof peer, "a TCP socket connected to 127.0.0.1:%d", ntohs(address.sin_port));
    check_refused(connected, peer);
    check_refused(fcntl(listening, F_DUPFD_CLOEXEC, 0), "a TCP socket that listens");
}

TEST(sockets_are_refused_with_their_peer) { IN_CHILD(refuse_connected, NULL); }

static void refuse_files(void *context)
{
    char other[PATH_MAX + 16];
    int file = open(context, O_RDWR | O_CREAT, 0600);
    CHECK(unlink(context) == 0);
    snprintf(other, sizeof other, "%s (deleted)", (char *)context); /* what the kernel calls it */
    CHECK(close(open(other, O_RDWR | O_CREAT, 0600)) == 0);
    check_refused(file, "a file that is no longer at its path");
    snprintf(other, sizeof other, "%s.other", (char *)context);
    file = open(context, O_RDWR | O_CREAT, 0600);
    int replacing = open(other, O_RDWR | O_CREAT, 0600);
    CHECK(close(replacing) == 0 && rename(other, context) == 0);
    check_refused(file, "a file that is no longer at its path");
    file = open(context, O_RDWR);
    CHECK(flock(file, LOCK_SH) == 0);
    check_refused(file, "a file that holds a lock");
    file = open(context, O_RDWR);
    CHECK(fcntl(file, F_SETLK, &(struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET }) == 0);
    check_refused(file, "a file that holds a lock");
    check_refused(open("/proc/self/status", O_RDONLY), "of this one process");
    CHECK(mkfifo(other, 0600) == 0);
    check_refused(open(other, O_RDWR), "a pipe (/");
}

TEST(files_that_could_not_be_opened_again_are_refused) { IN_CHILD(refuse_files, (void *)scratch("refused")); }

static void refuse_copies(void *context)
{
    int file = open(context, O_RDONLY | O_CREAT, 0600);
    check_refused(dup(file), "a copy of");
    CHECK(close(file) == 0 && dup2(open(context, O_WRONLY), 1) == 1 && close(file) == 0);
    check_refused(dup(1), "a copy of standard output");
    file = open(context, O_RDONLY); /* the same file, opened on its own */
    CHECK(dup2(open("/dev/null", O_RDONLY), 0) == 0);
    int null = dup(0); /* which is the same for everyone */
    mhi_descriptors found = collect();
    CHECK(found.n_items == 3 && find(&found, file) != NULL && find(&found, null) != NULL);
    mhi_descriptors_release(&found);
}

TEST(copies_of_a_descriptor_are_refused) { IN_CHILD(refuse_copies, (void *)scratch("copies")); }

static void refuse_terminal(void *context)
{
    (void)context;
    int controller = posix_openpt(O_RDWR | O_NOCTTY);
    CHECK(controller >= 0 && grantpt(controller) == 0 && unlockpt(controller) == 0);
    const char *name = ptsname(controller);
    mhi_descriptors_remember();
    check_refused(open(name, O_RDWR | O_NOCTTY), "a terminal (/dev/pts/");
    check_refused(fcntl(controller, F_DUPFD_CLOEXEC, 0), "a device (");
}

TEST(terminals_are_refused) { IN_CHILD(refuse_terminal, NULL); }

static void refuse_many(void *context)
{
    (void)context;
    mhi_descriptors found;
    mh_error err;
    for (int i = 0; i < 100; i++)
        CHECK(memfd_create("one of many", MFD_CLOEXEC) >= 0);
    CHECK_EQUAL(mhi_descriptors_collect(&found, &(mhi_descriptors_known){ 0 }, &err), MH_ERR_UNSUPPORTED);
    int told = 0, more = 0;
    for (const char *at = err.detail; (at = strstr(at, "descriptor ")) != NULL; at++)
        told++;
    const char *count = strstr(err.detail, " and ");
    CHECK(count != NULL && sscanf(count, " and %d more: close it in the body, or open it after the with", &more) == 1);
    CHECK(told > 2 && told + more == 100);
    CHECK(strcmp(err.detail + strlen(err.detail) - strlen("after the with"), "after the with") == 0);
}

TEST(many_refusals_are_told_as_far_as_they_fit) { IN_CHILD(refuse_many, NULL); }

int main(int argc, char **argv)
{
    for (int fd = 3; fd < 1024; fd++) /* what the test's own runner left open would be in each case */
        close(fd);
    return harness_main(argc, argv);
}
