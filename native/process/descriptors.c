/* descriptors.c - separates files that can be opened again from all other descriptors.
 *
 * D1  A recorded file is opened again by its path, so the path must lead to the very file that is open: same device,
 *     same inode.
 * D2  A descriptor is refused if its state is more than file, flags and offset: a lock, an offset that two descriptors
 *     share, a copy of a standard stream, a file of /proc about this one process.
 * D3  A file open for writing is opened again only if this process has not changed it: the file was neither made, nor
 *     emptied, nor written since the process began. Its flags at open (O_CREAT, O_TRUNC) are unknown here, and a plain
 *     run would make or empty the file once more. A caller that knows them holds the descriptor (mh_hold_descriptor),
 *     and opens the file itself in each later run.
 * D4  A descriptor that was open when the library was loaded, and is not close-on-exec, was inherited: a make
 *     jobserver's pipe, a runner's socket. It belongs to the parent process, so each later run has its own, or none.
 */
#define _GNU_SOURCE
#include "process/descriptors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "base/array.h"
#include "base/identity.h"
#include "base/proc_dirs.h"
#include "base/text.h"
#include "error.h"
#include "process/obstacles.h"
#include "process/process.h"
#include "process/remade.h"
#include "python/teardown.h"
#include "snapshot/checksum.h"
#include "sys/sys.h"

enum {
    N_STREAMS = 3,
    INHERITED_MAX = 4 << 10, /* arbitrary; a usual process has none, one under make four */
    CPU_WORDS = 128,         /* for 8192 CPUs, the kernel's largest CONFIG_NR_CPUS */
    INFO_BYTES = 1024,       /* of /proc/self/fdinfo, of which only the first lines are read */
    /* the clock of a file system may be 10 ms behind, one tick at 100 a second; twice that */
    CLOCK_SLACK_NS = 20000000,
    /* The flags that fcntl returns and open accepts again. O_LARGEFILE, which the kernel sets for every open, is left
     * out. */
    FLAGS_KEPT = O_ACCMODE | O_APPEND | O_NONBLOCK | O_SYNC | O_DSYNC | O_DIRECT | O_NOATIME | O_DIRECTORY | O_NOFOLLOW,
};

typedef struct {
    int fd;
    struct stat status;
    uint64_t offset;
    uint32_t flags; /* as open takes them, O_CLOEXEC included */
    bool has_lock;
    char target[PATH_MAX]; /* the link in /proc/self/fd: a path, or "pipe:[7]" and the like */
} open_file;

/* ---- inherited descriptors ---- */

static struct {
    int fd;
    mhi_file_id id;
} inherited[INHERITED_MAX];
static size_t n_inherited;
static int *carried; /* descriptors of the last collect: open in a resumed process, but not inherited */
static size_t n_carried;

static int read_info(open_file *file)
{
    char path[48], text[INFO_BYTES], *flags;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", file->fd);
    int result = mhi_sys_read_text(path, text, sizeof text);
    if (result < 0)
        return result;
    if (strncmp(text, "pos:\t", 5) != 0 || (flags = strstr(text, "\nflags:\t")) == NULL)
        return -ENODATA;
    file->offset = strtoull(text + 5, NULL, 10);
    file->flags = (uint32_t)strtoul(flags + 8, NULL, 8);
    file->has_lock = strstr(flags, "\nlock:") != NULL;
    return 0;
}

static bool is_carried(int fd)
{
    for (size_t i = 0; i < n_carried; i++)
        if (carried[i] == fd)
            return true;
    return false;
}

static bool is_inherited(const open_file *file)
{
    for (size_t i = 0; i < n_inherited; i++)
        if (inherited[i].fd == file->fd && mhi_is_same_file(inherited[i].id, mhi_file_id_of(&file->status)))
            return true;
    return false;
}

bool mhi_descriptors_is_inherited(int fd)
{
    open_file file = { .fd = fd };
    return mhi_sys_fstat(fd, &file.status) == 0 && is_inherited(&file);
}

/* Whether only the standard streams and inherited descriptors are open. Since Linux 6.2 the size of /proc/self/fd is
 * the number of descriptors, for a fraction of the time of a listing; before, it is 0. */
static bool is_nothing_else_open(void)
{
    struct stat status;
    if (mhi_sys_stat("/proc/self/fd", &status) < 0 || (uint64_t)status.st_size != N_STREAMS + n_inherited)
        return false;
    for (int fd = 0; fd < N_STREAMS; fd++)
        if (mhi_sys_fstat(fd, &status) < 0)
            return false;
    for (size_t i = 0; i < n_inherited; i++)
        if (!mhi_descriptors_is_inherited(inherited[i].fd))
            return false;
    return true;
}

static int remember(void *context, int reader, int fd)
{
    (void)context;
    open_file file = { .fd = fd };
    if (fd <= 2 || fd == reader || is_carried(fd) || n_inherited == INHERITED_MAX)
        return 0;
    if (mhi_sys_fstat(fd, &file.status) < 0 || read_info(&file) < 0 || file.flags & O_CLOEXEC)
        return 0;
    inherited[n_inherited].fd = fd;
    inherited[n_inherited++].id = mhi_file_id_of(&file.status);
    return 0;
}

void mhi_descriptors_remember(void)
{
    n_inherited = 0;
    if (!is_nothing_else_open())
        mhi_each_number("/proc/self/fd", remember, NULL); /* without /proc there will be no snapshot either */
}

__attribute__((constructor)) static void remember_at_load(void) { mhi_descriptors_remember(); }

static int is_written(void *context, int reader, int fd)
{
    (void)context;
    open_file file = { .fd = fd };
    if (fd <= 2 || fd == reader || mhi_sys_fstat(fd, &file.status) < 0 || is_inherited(&file) ||
        mhi_remade_is_made(fd, &file.status))
        return 0;
    bool keeps = S_ISREG(file.status.st_mode) || S_ISFIFO(file.status.st_mode) || S_ISSOCK(file.status.st_mode);
    return keeps && (read_info(&file) < 0 || (file.flags & O_ACCMODE) != O_RDONLY);
}

bool mhi_descriptors_may_write(void)
{
    return !is_nothing_else_open() && mhi_each_number("/proc/self/fd", is_written, NULL) != 0;
}

/* An object that writes through a descriptor of its own may still flush a buffer when it is deallocated. So CPython's
 * teardown is skipped only if no file, pipe or socket is open for writing, except the standard streams, inherited ones,
 * and those that lead nowhere outside. */
void mh_leave(void)
{
    if (!mhi_descriptors_may_write())
        mhi_teardown_skip();
}

/* ---- words for what can't be opened again ---- */

static void tell_peer(char *text, size_t size, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } peer = { 0 };
    char host[INET6_ADDRSTRLEN];
    text[0] = '\0';
    if (mhi_sys_socket_peer(fd, &peer, sizeof peer) < 0)
        return;
    if (peer.any.sa_family == AF_INET && inet_ntop(AF_INET, &peer.in.sin_addr, host, sizeof host) != NULL)
        snprintf(text, size, " connected to %s:%d", host, ntohs(peer.in.sin_port));
    else if (peer.any.sa_family == AF_INET6 && inet_ntop(AF_INET6, &peer.in6.sin6_addr, host, sizeof host) != NULL)
        snprintf(text, size, " connected to [%s]:%d", host, ntohs(peer.in6.sin6_port));
    else if (peer.any.sa_family == AF_UNIX && peer.un.sun_path[0] == '/')
        snprintf(text, size, " connected to %.100s", peer.un.sun_path);
    else
        snprintf(text, size, " that is connected");
}

static void tell_socket(char *text, size_t size, int fd)
{
    char peer[160];
    int domain = mhi_sys_socket_option(fd, SO_DOMAIN), type = mhi_sys_socket_option(fd, SO_TYPE);
    bool is_internet = domain == AF_INET || domain == AF_INET6;
    const char *kind = is_internet && type == SOCK_STREAM  ? "TCP "
                       : is_internet && type == SOCK_DGRAM ? "UDP "
                       : domain == AF_UNIX                 ? "UNIX "
                       : domain == AF_NETLINK              ? "netlink "
                                                           : "";
    if (mhi_sys_socket_option(fd, SO_ACCEPTCONN) == 1)
        snprintf(peer, sizeof peer, " that listens");
    else
        tell_peer(peer, sizeof peer, fd);
    snprintf(text, size, "a %ssocket%s", kind, peer);
}

/* The kind of a descriptor without a path and a file type, by its link in /proc/self/fd. */
static const char *nameless_kind(const char *target)
{
    static const struct {
        const char *part, *kind;
    } kinds[] = {
        { "[eventpoll]", "an epoll set" },
        { "[eventfd]", "an eventfd" },
        { "[timerfd]", "a timerfd" },
        { "[signalfd]", "a signalfd" },
        { "inotify", "an inotify watch" },
        { "[fanotify]", "a fanotify watch" },
        { "[io_uring]", "an io_uring" },
        { "pidfd", "a pidfd" },
        { "[userfaultfd]", "a userfaultfd" },
        { "[perf_event]", "a performance counter" },
        { "bpf", "a BPF object" },
        { "/memfd:", "a memfd" },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strstr(target, kinds[i].part) != NULL)
            return kinds[i].kind;
    return NULL;
}

static const char *device_kind(const char *path)
{
    bool is_gpu = mhi_begins(path, "/dev/nvidia") || mhi_begins(path, "/dev/dri/") || mhi_begins(path, "/dev/kfd");
    return is_gpu                                                           ? "a GPU context"
           : mhi_begins(path, "/dev/pts/") || mhi_begins(path, "/dev/ttyS") ? "a terminal"
                                                                            : "a device";
}

static void tell(char *text, size_t size, const open_file *file)
{
    const char *kind = nameless_kind(file->target);
    if (S_ISSOCK(file->status.st_mode))
        tell_socket(text, size, file->fd);
    else if (S_ISFIFO(file->status.st_mode))
        snprintf(text, size, file->target[0] == '/' ? "a pipe (%.160s)" : "a pipe", file->target);
    else if (S_ISCHR(file->status.st_mode) || S_ISBLK(file->status.st_mode))
        snprintf(text, size, "%s (%.160s)", device_kind(file->target), file->target);
    else if (file->target[0] != '/' || mhi_begins(file->target, "/memfd:"))
        snprintf(text, size, kind != NULL ? "%s (%.160s)" : "%s%.160s", kind != NULL ? kind : "", file->target);
    else if (file->flags & O_PATH)
        snprintf(text, size, "a mere path (O_PATH, %.160s)", file->target);
    else if (mhi_begins(file->target, "/proc/"))
        snprintf(text, size, "of this one process (%.160s)", file->target);
    else
        snprintf(text, size, "a file that is no longer at its path (%.160s)", file->target);
}

/* ---- one descriptor ---- */

typedef struct {
    mhi_descriptors *out;
    size_t capacity;
    const mhi_descriptors_known *known;
    mhi_obstacles found;
    int failed; /* the descriptor that could not be examined */
} collection;

/* /dev/null and others that are the same for everyone, by their numbers in Documentation/admin-guide/devices.txt. */
static bool is_common_device(const struct stat *status)
{
    static const unsigned memory[] = { 3 /* null */, 5 /* zero */, 7 /* full */, 8 /* random */, 9 /* urandom */ };
    if (!S_ISCHR(status->st_mode))
        return false;
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++)
        if (status->st_rdev == makedev(1, memory[i]))
            return true;
    return status->st_rdev == makedev(5, 0); /* tty: the terminal of each process */
}

/* D1 */
static bool is_at_path(const open_file *file)
{
    struct stat there;
    if (file->target[0] != '/' || mhi_sys_stat(file->target, &there) < 0)
        return false;
    if (is_common_device(&file->status))
        return mhi_is_same_open_id(mhi_open_id_of(&file->status, true), &there);
    return mhi_is_same_file(mhi_file_id_of(&there), mhi_file_id_of(&file->status));
}

/* "/proc/7/maps": in another process the path would differ. */
static bool is_of_process(const char *path) { return mhi_begins(path, "/proc/") && path[6] >= '0' && path[6] <= '9'; }

static bool can_be_opened_again(const open_file *file)
{
    bool is_file = (S_ISREG(file->status.st_mode) || S_ISDIR(file->status.st_mode)) && !(file->flags & O_PATH);
    return (is_file || is_common_device(&file->status)) && is_at_path(file) && !is_of_process(file->target);
}

/* The standard stream that the descriptor is a copy of, or NULL. Where the kernel won't compare descriptors, the same
 * file counts as a copy. */
static const char *copied_stream(const open_file *file)
{
    static const char *const names[] = { "standard input", "standard output", "standard error" };
    for (int stream = 0; stream <= 2; stream++) {
        struct stat status;
        if (mhi_sys_fstat(stream, &status) == 0 &&
            mhi_is_same_file(mhi_file_id_of(&status), mhi_file_id_of(&file->status)) && !is_common_device(&status) &&
            mhi_sys_is_same_open(file->fd, stream) != 0)
            return names[stream];
    }
    return NULL;
}

static int record(collection *into, const open_file *file)
{
    mhi_descriptors *out = into->out;
    mhi_descriptor *items = mhi_array_grow(out->items, out->n_items, &into->capacity, sizeof *items);
    if (items == NULL)
        return -ENOMEM;
    out->items = items;
    bool is_device = is_common_device(&file->status);
    char *path = strdup(file->target);
    if (path == NULL)
        return -ENOMEM;
    out->items[out->n_items++] = (mhi_descriptor){
        .fd = file->fd,
        .flags = file->flags & FLAGS_KEPT,
        .is_cloexec = file->flags & O_CLOEXEC,
        .path = path,
        .offset = is_device ? 0 : file->offset,
        .id = mhi_open_id_of(&file->status, is_device),
    };
    return 0;
}

static int read_file(open_file *file)
{
    char link[48];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file->fd);
    int result = mhi_sys_fstat(file->fd, &file->status);
    if (result == 0)
        result = read_info(file);
    if (result == 0) {
        ssize_t size = mhi_sys_readlink(link, file->target, sizeof file->target);
        result = size < 0 ? (int)size : 0;
    }
    return result;
}

static bool is_among(const int *numbers, size_t n, int fd)
{
    for (size_t i = 0; i < n; i++)
        if (numbers[i] == fd)
            return true;
    return false;
}

static int record_held(collection *into, const open_file *file)
{
    open_file null = { .fd = file->fd, .flags = O_RDWR | (file->flags & O_CLOEXEC), .target = "/dev/null" };
    null.status.st_mode = S_IFCHR;
    null.status.st_rdev = makedev(1, 3);
    int result = record(into, &null);
    if (result == 0)
        into->out->items[into->out->n_items - 1].is_held = true;
    return result;
}

/* D3. Any write changes the ctime, and nothing can set it back. */
static bool is_untouched(const open_file *file)
{
    int64_t began_ns;
    if ((file->flags & O_ACCMODE) == O_RDONLY || !S_ISREG(file->status.st_mode))
        return true;
    return mhi_sys_began_ns(&began_ns) == 0 && mhi_file_state_of(&file->status).ctime_ns < began_ns - CLOCK_SLACK_NS;
}

/* HDF5 locks every file that it opens. */
static bool is_hdf5(int fd)
{
    char start[8];
    return mhi_sys_pread(fd, start, sizeof start, 0) == sizeof start &&
           memcmp(start, "\x89HDF\r\n\x1a\n", sizeof start) == 0;
}

static void tell_obstacle(collection *into, const open_file *file, const char *stream, bool is_file)
{
    char text[256];
    if (stream != NULL)
        snprintf(text, sizeof text, "a copy of %s", stream);
    else if (file->has_lock)
        snprintf(text, sizeof text, "a file that holds a lock (%.160s%s)", file->target,
                 is_hdf5(file->fd) ? "; HDF5_USE_FILE_LOCKING=FALSE takes none" : "");
    else if (is_file)
        snprintf(text, sizeof text, "a file that was written to in a way that a later run can't repeat (%.160s)",
                 file->target);
    else
        tell(text, sizeof text, file);
    mhi_obstacles_add(&into->found, "descriptor %d is %s", file->fd, text);
}

static int read_open(collection *into, open_file *file)
{
    int result = read_file(file);
    if (result < 0)
        into->failed = file->fd;
    return result;
}

static bool is_gone(int result) { return result == -EBADF || result == -ENOENT; } /* another thread has closed it */

static int take(void *context, int reader, int fd)
{
    collection *into = context;
    open_file file = { .fd = fd };
    if (fd <= 2 || fd == reader || is_among(into->known->own, into->known->n_own, fd))
        return 0;
    int result = read_open(into, &file);
    if (result < 0)
        return is_gone(result) ? 0 : result;
    if (is_among(into->known->held, into->known->n_held, fd))
        return record_held(into, &file);
    if (is_inherited(&file))
        return 0;
    const char *stream = copied_stream(&file);
    bool is_file = can_be_opened_again(&file);
    if (stream == NULL && !file.has_lock && is_file && is_untouched(&file))
        return record(into, &file);
    if (stream != NULL || is_file || !mhi_remade_consider(fd, &file.status, file.target, file.flags))
        tell_obstacle(into, &file, stream, is_file);
    return 0;
}

/* Those that remade.c has considered: held for it, or refused. */
static int take_considered(void *context, int fd)
{
    collection *into = context;
    open_file file = { .fd = fd };
    int result = read_open(into, &file);
    if (result < 0)
        return is_gone(result) ? 0 : result;
    if (mhi_remade_is_inner(fd))
        return record_held(into, &file);
    tell_obstacle(into, &file, NULL, false);
    return 0;
}

/* ---- all of them ---- */

/* D2: two descriptors of one open file share an offset; opened again, each would have its own. */
static void refuse_copies(collection *into)
{
    for (size_t i = 0; i < into->out->n_items; i++)
        for (size_t j = 0; j < i; j++) {
            const mhi_descriptor *one = &into->out->items[i], *other = &into->out->items[j];
            if (!one->is_held && !other->is_held && one->id.inode != 0 && strcmp(one->path, other->path) == 0 &&
                mhi_sys_is_same_open(one->fd, other->fd) != 0)
                mhi_obstacles_add(&into->found, "descriptor %d is a copy of %d (%.160s)", one->fd, other->fd,
                                  one->path);
        }
}

static int by_number(const void *one, const void *other)
{
    return ((const mhi_descriptor *)one)->fd - ((const mhi_descriptor *)other)->fd;
}

static int keep_carried(const mhi_descriptors *descriptors, mh_error *err)
{
    int *larger = reallocarray(carried, descriptors->n_items + 1, sizeof *carried);
    if (larger == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for the list of descriptors");
    carried = larger;
    n_carried = descriptors->n_items;
    for (size_t i = 0; i < n_carried; i++)
        carried[i] = descriptors->items[i].fd;
    return MH_OK;
}

int mhi_descriptors_collect(mhi_descriptors *out, const mhi_descriptors_known *known, mh_error *err)
{
    *out = (mhi_descriptors){ 0 };
    collection into = { .out = out, .known = known, .failed = -1 };
    mhi_remade_forget();
    int result = mhi_each_number("/proc/self/fd", take, &into), status = MH_OK;
    if (result == 0)
        result = mhi_remade_join(take_considered, &into);
    if (result < 0) {
        status = into.failed < 0 ? mhi_fail_sys(err, result, "cannot list the open descriptors in /proc/self/fd")
                                 : mhi_fail_sys(err, result, "cannot tell what descriptor %d is", into.failed);
    } else {
        if (out->n_items > 0)
            qsort(out->items, out->n_items, sizeof *out->items, by_number);
        refuse_copies(&into);
        status = mhi_obstacles_end(&into.found, "close it in the body, or open it after the with", err);
    }
    if (status == MH_OK)
        status = keep_carried(out, err);
    if (status != MH_OK)
        mhi_descriptors_release(out);
    return status;
}

void mhi_descriptors_release(mhi_descriptors *descriptors)
{
    for (size_t i = 0; i < descriptors->n_items; i++)
        free(descriptors->items[i].path);
    free(descriptors->items);
    *descriptors = (mhi_descriptors){ 0 };
}

/* A variable's value as a number; 0: it is not set. */
static uint64_t hash_of(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? mhi_checksum(value, strlen(value)) | 1 : 0;
}

static uint64_t hash_of_circumstances(void)
{
    struct { uint64_t kinds[3], stack_bytes, cpus[CPU_WORDS], time_zone, log; } found = { 0 };
    found.time_zone = hash_of("TZ");
    found.log = hash_of("MAGICHEAP_LOG");
    for (int fd = 0; fd < 3; fd++)
        if ((found.kinds[fd] = mh_descriptor_kind(fd)) == 0)
            return 0;
    if (mhi_sys_stack_limit(&found.stack_bytes) < 0 || mhi_sys_cpus(found.cpus, sizeof found.cpus) < 0)
        return 0;
    return mhi_checksum(&found, sizeof found) | 1;
}

uint64_t mh_circumstances(void)
{
    static uint64_t before; /* in the committing process */
    if (!mhi_rehearsal_is_on())
        before = hash_of_circumstances();
    return before;
}

uint64_t mh_descriptor_kind(int fd)
{
    struct stat found;
    if (mhi_rehearsal_is_on())
        return mhi_rehearsal_kind(fd);
    if (mhi_sys_fstat(fd, &found) < 0 ||
        !(S_ISCHR(found.st_mode) || S_ISFIFO(found.st_mode) || S_ISSOCK(found.st_mode)))
        return 0;
    bool is_terminal = S_ISCHR(found.st_mode) && mhi_sys_is_terminal(fd);
    const uint64_t parts[] = { found.st_mode & S_IFMT, is_terminal ? 0 : found.st_rdev, (uint64_t)found.st_blksize,
                               is_terminal };
    return mhi_checksum(parts, sizeof parts) | 1;
}
