/* remade.c - the descriptors whose whole state lies in this process.
 *
 * M1  A pipe or a pair of sockets is inner only if both ends are open here, and this process made it: an inherited one
 *     is the parent's. There are no children when this is asked (obstacles.c).
 * M2  Copies of a descriptor (dup) stay copies; where the kernel can't compare descriptors, each is refused that may be
 *     one. Two descriptors that open one pipe separately, as by /proc, have flags
 *     of their own, and are refused.
 * M3  States are read, never changed: content is copied (tee, MSG_PEEK), so that the committing process goes on with
 *     it. They are read while no other thread runs, so that all are of one moment.
 * M4  An epoll set names the files that it watches by the descriptors that they had when they were added. If such a
 *     descriptor is another file's by now, the set can't be told, and is refused.
 */
#define _GNU_SOURCE
#include "process/remade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/identity.h"
#include "base/text.h"
#include "error.h"
#include "sys/sys.h"

enum {
    WATCHED_MAX = 8 << 10,       /* files in epoll sets; arbitrary */
    INFO_BYTES = 1 << 20,        /* of /proc/self/fdinfo: a line of 100 bytes for each watched file */
    CONTENT_MAX_BYTES = 1 << 20, /* of one pipe, which the kernel allows an ordinary user */
    NONE = -1,
};

typedef enum { EVENT, EPOLL, TIMER, SIGNALS, PIPE, SOCKET } remade_kind;

typedef struct {
    int fd;
    remade_kind kind;
    uint32_t flags; /* O_*, O_CLOEXEC included */
    mhi_file_id file;
    int first;       /* index of the first descriptor of the same open file; its own: it is the first */
    int peer;        /* index of a descriptor of the other end; NONE: this kind has no ends, or it is not here */
    bool is_unknown; /* the kernel can't compare it with another descriptor */
    uint64_t count;  /* of an eventfd; of a signalfd: its signals */
    bool is_semaphore;
    mhi_sys_timer timer;
    size_t first_watched, n_watched;
    int socket_type, is_shut;
    uint64_t capacity_bytes, content_bytes;
    void *content; /* pages of its own; what the other end wrote, and this one has not read */
} remade;

typedef struct {
    int fd;
    uint32_t events;
    uint64_t data;
} watched_file;

/* All of this is in the image. */
static remade items[MHI_REMADE_MAX];
static size_t n_items;
static watched_file watched[WATCHED_MAX];
static size_t n_watched;

static const char *const words[] = { "an eventfd", "an epoll set", "a timerfd", "a signalfd", "a pipe", "a socket" };

static int refuse(const remade *its, const char *why, mh_error *err)
{
    return mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                    "descriptor %d is %s %s: close it in the body, or open it after the with", its->fd,
                    words[its->kind], why);
}

/* ---- which ---- */

void mhi_remade_forget(void)
{
    for (size_t i = 0; i < n_items; i++)
        if (items[i].content != NULL)
            mhi_sys_munmap(items[i].content, items[i].content_bytes);
    n_items = n_watched = 0;
}

static bool find_kind(const struct stat *status, const char *target, remade_kind *kind)
{
    static const struct {
        const char *target;
        remade_kind kind;
    } kinds[] = {
        { "anon_inode:[eventfd]", EVENT },
        { "anon_inode:[eventpoll]", EPOLL },
        { "anon_inode:[timerfd]", TIMER },
        { "anon_inode:[signalfd]", SIGNALS },
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (strcmp(target, kinds[i].target) == 0) {
            *kind = kinds[i].kind;
            return true;
        }
    bool is_pipe = S_ISFIFO(status->st_mode) && mhi_begins(target, "pipe:[");
    *kind = is_pipe ? PIPE : SOCKET;
    return is_pipe || S_ISSOCK(status->st_mode);
}

bool mhi_remade_consider(int fd, const struct stat *status, const char *target, uint32_t flags)
{
    remade_kind kind;
    if (n_items == MHI_REMADE_MAX || !find_kind(status, target, &kind))
        return false;
    items[n_items] = (remade){ .fd = fd, .kind = kind, .flags = flags, .file = mhi_file_id_of(status), .peer = NONE };
    items[n_items].first = (int)n_items;
    n_items++;
    return true;
}

/* Anonymous inodes are one for all files of a kind: only the kernel's comparison tells copies. */
static void join_copies(remade *one, const remade *other)
{
    bool may_be = one->kind == other->kind && mhi_is_same_file(one->file, other->file);
    int is_same = may_be ? mhi_sys_is_same_open(one->fd, other->fd) : 0;
    if (is_same == 1)
        one->first = other->first;
    one->is_unknown |= is_same < 0;
}

static remade *find(int fd)
{
    for (size_t i = 0; i < n_items; i++)
        if (items[i].fd == fd)
            return &items[i];
    return NULL;
}

static void join_pipes(void)
{
    for (size_t i = 0; i < n_items; i++)
        for (size_t j = 0; j < n_items && items[i].kind == PIPE; j++) {
            bool is_other_end = (items[i].flags & O_ACCMODE) != (items[j].flags & O_ACCMODE) &&
                                (items[i].flags & O_ACCMODE) != O_RDWR && (items[j].flags & O_ACCMODE) != O_RDWR;
            if (items[j].kind == PIPE && mhi_is_same_file(items[j].file, items[i].file) && is_other_end)
                items[i].peer = items[j].first;
        }
}

/* Where the kernel does not tell the other end, it counts as outside. */
static void join_socket(remade *its)
{
    uint64_t peer = 0;
    its->socket_type = mhi_sys_socket_option(its->fd, SO_TYPE);
    if (mhi_sys_socket_option(its->fd, SO_DOMAIN) != AF_UNIX || !mhi_sys_is_nameless_socket(its->fd))
        return;
    int result = mhi_sys_unix_peer(its->file.inode, &peer, &its->is_shut);
    for (size_t i = 0; i < n_items && result == 0; i++)
        if (items[i].kind == SOCKET && mhi_is_same_file(items[i].file, (mhi_file_id){ peer, its->file.device }))
            its->peer = items[i].first;
}

static void join(void)
{
    for (size_t i = 0; i < n_items; i++)
        for (size_t j = 0; j < i && items[i].first == (int)i; j++)
            join_copies(&items[i], &items[j]);
    join_pipes();
    for (size_t i = 0; i < n_items; i++)
        if (items[i].kind == SOCKET)
            join_socket(&items[i]);
}

/* M2: of each end there is one open file, and copies of it. */
static bool is_one_file(const remade *its)
{
    for (size_t i = 0; i < n_items; i++)
        if (items[i].kind == its->kind && mhi_is_same_file(items[i].file, its->file) &&
            (items[i].flags & O_ACCMODE) == (its->flags & O_ACCMODE) && items[i].first != its->first)
            return false;
    return true;
}

static bool is_inner(const remade *its)
{
    bool has_ends = its->kind == PIPE || its->kind == SOCKET;
    return !its->is_unknown && (!has_ends || (its->peer != NONE && is_one_file(its)));
}

bool mhi_remade_is_inner(int fd)
{
    const remade *its = find(fd);
    return its != NULL && is_inner(its);
}

bool mhi_remade_is_made(int fd, const struct stat *status)
{
    const remade *its = find(fd);
    return its != NULL && mhi_is_same_file(its->file, mhi_file_id_of(status));
}

bool mhi_remade_are_there(void) { return n_items > 0; }

int mhi_remade_join(int (*take)(void *context, int fd), void *context)
{
    int result = 0;
    join();
    for (size_t i = 0; i < n_items && result == 0; i++)
        result = take(context, items[i].fd);
    return result;
}
/* ---- states ---- */

static bool read_number(const char *info, const char *key, int base, uint64_t *number)
{
    const char *at = strstr(info, key);
    if (at != NULL)
        *number = strtoull(at + strlen(key), NULL, base);
    return at != NULL;
}

static int take_event(remade *its, const char *info, mh_error *err)
{
    uint64_t is_semaphore = 0;
    if (!read_number(info, "\neventfd-count:", 16, &its->count))
        return refuse(its, "whose count can't be told", err);
    if (!read_number(info, "\neventfd-semaphore:", 10, &is_semaphore))
        return refuse(its, "of which this kernel does not tell whether it is a semaphore", err);
    its->is_semaphore = is_semaphore != 0;
    return MH_OK;
}

static int take_timer(remade *its, const char *info, mh_error *err)
{
    int fields = 0;
    unsigned long long clock, ticks;
    const char *at = strstr(info, "\nclockid:");
    if (at != NULL)
        fields = sscanf(at,
                        "\nclockid: %llu\nticks: %llu\nsettime flags: %o\nit_value: (%" SCNd64 ", %" SCNd64
                        ")\nit_interval: (%" SCNd64 ", %" SCNd64 ")",
                        &clock, &ticks, &its->timer.flags, &its->timer.value_s, &its->timer.value_ns,
                        &its->timer.interval_s, &its->timer.interval_ns);
    if (fields != 7)
        return refuse(its, "whose time can't be told", err);
    if (ticks != 0)
        return refuse(its, "that has expired and was not read", err);
    its->timer.clock = (int)clock;
    return MH_OK;
}

static bool is_watched_still(int fd, uint64_t inode)
{
    struct stat found;
    return mhi_sys_fstat(fd, &found) == 0 && mhi_may_be_watched(&found, inode);
}

static int take_set(remade *its, const char *info, mh_error *err)
{
    its->first_watched = n_watched;
    its->n_watched = 0;
    for (const char *at = info; (at = strstr(at, "\ntfd:")) != NULL; at++) {
        int fd;
        unsigned events;
        unsigned long long data, inode;
        if (sscanf(at, "\ntfd: %d events: %x data: %llx pos:%*d ino:%llx", &fd, &events, &data, &inode) != 4 ||
            n_watched == WATCHED_MAX)
            return refuse(its, "whose files can't be told", err);
        if (!is_watched_still(fd, inode)) /* M4 */
            return refuse(its, "that watches a file which is no longer at its descriptor", err);
        watched[n_watched++] = (watched_file){ .fd = fd, .events = events, .data = data };
        its->n_watched++;
    }
    return MH_OK;
}

static int take_content(remade *its, mh_error *err)
{
    bool is_pipe = its->kind == PIPE;
    int64_t bytes = mhi_sys_unread(its->fd);
    if (is_pipe)
        its->capacity_bytes = (uint64_t)mhi_sys_pipe_capacity(its->fd);
    if (bytes < 0 || bytes > CONTENT_MAX_BYTES)
        return refuse(its, "whose content can't be told", err);
    if (bytes == 0)
        return MH_OK;
    if (is_pipe ? (its->flags & O_DIRECT) != 0 : its->socket_type != SOCK_STREAM)
        return refuse(its, "with messages in it that were not read", err);
    int result =
        mhi_sys_mmap(&its->content, NULL, (size_t)bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "no memory for what is in descriptor %d", its->fd);
    its->content_bytes = (uint64_t)bytes;
    int64_t n = is_pipe ? mhi_sys_peek_pipe(its->fd, its->content, (size_t)bytes)
                        : mhi_sys_peek_socket(its->fd, its->content, (size_t)bytes);
    return n == bytes ? MH_OK : refuse(its, "whose content can't be copied", err);
}

static int take_one(remade *its, char *info, mh_error *err)
{
    char path[48];
    if (its->first != its - items)
        return MH_OK;
    if (its->kind == PIPE || its->kind == SOCKET)
        return its->kind == SOCKET || (its->flags & O_ACCMODE) == O_RDONLY ? take_content(its, err) : MH_OK;
    snprintf(path, sizeof path, "/proc/self/fdinfo/%d", its->fd);
    int result = mhi_sys_read_text(path, info, INFO_BYTES);
    if (result < 0)
        return mhi_fail_sys(err, result, "cannot read %s", path);
    if (strlen(info) == INFO_BYTES - 1)
        return refuse(its, "that watches too many files", err);
    if (its->kind == SIGNALS)
        return read_number(info, "\nsigmask:", 16, &its->count) ? MH_OK
                                                                : refuse(its, "whose signals can't be told", err);
    return its->kind == EVENT   ? take_event(its, info, err)
           : its->kind == TIMER ? take_timer(its, info, err)
                                : take_set(its, info, err);
}

int mhi_remade_take(mh_error *err)
{
    void *info;
    int status = MH_OK;
    n_watched = 0;
    if (n_items == 0)
        return MH_OK;
    int result = mhi_sys_mmap(&info, NULL, INFO_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (result < 0)
        return mhi_fail_sys(err, result, "no memory for the states of descriptors");
    for (size_t i = 0; i < n_items && status == MH_OK; i++)
        status = take_one(&items[i], info, err);
    mhi_sys_munmap(info, INFO_BYTES);
    return status;
}

/* ---- making ---- */

static int place(int fd, const remade *its)
{
    int result = fd < 0 ? fd : mhi_sys_set_flags(fd, its->flags & ~(uint32_t)(O_CLOEXEC | O_ACCMODE));
    if (result >= 0)
        result = mhi_sys_dup_as(fd, its->fd, its->flags & O_CLOEXEC);
    if (fd >= 0)
        mhi_sys_close(fd);
    return result;
}

static int fill(const remade *its, int other)
{
    return its->content_bytes == 0 ? 0 : mhi_sys_write_all(other, its->content, its->content_bytes);
}

static int make_pair(const remade *its)
{
    int ends[2]; /* what is written to the second can be read from the first */
    const remade *peer = &items[its->peer];
    int result = its->kind == PIPE ? mhi_sys_pipe(ends) : mhi_sys_socket_pair(its->socket_type, ends);
    if (result < 0)
        return result;
    for (int end = 0; end < 2; end++) /* what does not fit is an error, no wait */
        mhi_sys_set_flags(ends[end], O_NONBLOCK);
    if (its->kind == PIPE)
        result = mhi_sys_set_pipe_capacity(ends[1], its->capacity_bytes);
    if (result >= 0)
        result = fill(its, ends[1]);
    if (result >= 0 && its->kind == SOCKET)
        result = fill(peer, ends[0]);
    if (result >= 0 && its->kind == SOCKET && its->is_shut != 0)
        result = mhi_sys_shut(ends[0], its->is_shut - 1);
    if (result >= 0 && its->kind == SOCKET && peer->is_shut != 0)
        result = mhi_sys_shut(ends[1], peer->is_shut - 1);
    int second = place(ends[1], peer), first = place(ends[0], its);
    return result < 0 ? result : first < 0 ? first : second;
}

static int make_one(const remade *its)
{
    switch (its->kind) {
    case EVENT: return place(mhi_sys_event(its->count, its->is_semaphore), its);
    case EPOLL: return place(mhi_sys_epoll(), its);
    case TIMER: return place(mhi_sys_timer_make(&its->timer), its);
    case SIGNALS: return place(mhi_sys_signals(its->count), its);
    case PIPE: return (its->flags & O_ACCMODE) == O_RDONLY ? make_pair(its) : 0;
    case SOCKET: return its->peer > its - items ? make_pair(its) : 0;
    }
    return 0;
}

static int fill_set(const remade *its)
{
    int result = 0;
    for (size_t i = its->first_watched; i < its->first_watched + its->n_watched && result == 0; i++)
        result = mhi_sys_epoll_add(its->fd, watched[i].fd, watched[i].events, watched[i].data);
    return result;
}

/* First all files, then the copies, then the sets, which may watch each other. */
int mhi_remade_make(mh_error *err)
{
    enum { FILES, COPIES, SETS, STEPS };
    for (int step = FILES; step < STEPS; step++)
        for (size_t i = 0; i < n_items; i++) {
            const remade *its = &items[i];
            bool is_first = its->first == (int)i;
            int result = step == FILES && is_first ? make_one(its)
                         : step == COPIES && !is_first
                             ? mhi_sys_dup_as(items[its->first].fd, its->fd, its->flags & O_CLOEXEC)
                         : step == SETS && is_first && its->kind == EPOLL ? fill_set(its)
                                                                          : 0;
            if (result < 0)
                return mhi_fail_sys(err, result, "descriptor %d, %s, can't be made again", its->fd, words[its->kind]);
        }
    for (size_t i = 0; i < n_items; i++) {
        struct stat made;
        if (mhi_sys_fstat(items[i].fd, &made) == 0)
            items[i].file = mhi_file_id_of(&made);
    }
    return MH_OK;
}
