/* test_transaction_crash.c - power fails at any moment of a commit: the disk holds the old snapshot or the new one
 * (S1).
 *
 * What the kernel has not been told to make durable may be lost, in any part and in any order. A commit is recorded as
 * a list of operations: sectors written to the new file, its length, syncs, link and rename. Then, for every prefix of
 * the list, a disk is made on which everything before the last sync is there, and of the rest a seeded subset, and a
 * run opens what is on it. The arena's data is written through its mapping, not by calls: its sectors join the list
 * when the file gets its length.
 *
 * Linked so that the wrappers below stand before the calls they record.
 */
#define _GNU_SOURCE
#include "sys/sys.h"
#include "test_snapshot.h"

enum { OLD = 1, NEW = 2, SECTOR = 4096, SUBSETS = 8 /* per prefix; arbitrary */ };

enum { WRITE, LENGTH, SYNC, LINK, RENAME, SYNC_DIRECTORY };

typedef struct {
    int kind;
    uint64_t offset, size;
    uint8_t *bytes; /* of a WRITE */
} operation;

static operation *operations;
static size_t n_operations;
static bool recording;
static int new_fd; /* the file that is to become the snapshot */

static void record(int kind, uint64_t offset, uint64_t size, const void *bytes)
{
    operations = realloc(operations, (n_operations + 1) * sizeof *operations);
    CHECK(operations != NULL);
    operation *added = &operations[n_operations++];
    *added = (operation){ .kind = kind, .offset = offset, .size = size };
    if (bytes != NULL)
        added->bytes = memcpy(malloc(size), bytes, size);
}

/* Sector by sector, since a disk may write one and lose the next. */
static void record_write(uint64_t offset, uint64_t size, const uint8_t *bytes)
{
    for (uint64_t done = 0, n; done < size; done += n) {
        n = SECTOR - (offset + done) % SECTOR;
        n = n < size - done ? n : size - done;
        record(WRITE, offset + done, n, bytes + done);
    }
}

/* ---- the wrappers ---- */

int __real_mhi_sys_ftruncate(int fd, uint64_t size);
int __wrap_mhi_sys_ftruncate(int fd, uint64_t size);
int __wrap_mhi_sys_ftruncate(int fd, uint64_t size)
{
    uint8_t sector[SECTOR];
    int result = __real_mhi_sys_ftruncate(fd, size);
    if (!recording)
        return result;
    new_fd = fd;
    record(LENGTH, 0, size, NULL);
    for (uint64_t at = 2 << 20; at < size; at += SECTOR) {
        CHECK(pread(fd, sector, SECTOR, (off_t)at) == SECTOR);
        record(WRITE, at, SECTOR, sector);
    }
    return result;
}

ssize_t __real_mhi_sys_pwrite(int fd, const void *from, size_t size, uint64_t offset);
ssize_t __wrap_mhi_sys_pwrite(int fd, const void *from, size_t size, uint64_t offset);
ssize_t __wrap_mhi_sys_pwrite(int fd, const void *from, size_t size, uint64_t offset)
{
    if (recording)
        record_write(offset, size, from);
    return __real_mhi_sys_pwrite(fd, from, size, offset);
}

int __real_mhi_sys_fsync(int fd);
int __wrap_mhi_sys_fsync(int fd);
int __wrap_mhi_sys_fsync(int fd)
{
    if (recording)
        record(fd == new_fd ? SYNC : SYNC_DIRECTORY, 0, 0, NULL);
    return __real_mhi_sys_fsync(fd);
}

int __real_mhi_sys_link_fd(int fd, int directory, const char *name);
int __wrap_mhi_sys_link_fd(int fd, int directory, const char *name);
int __wrap_mhi_sys_link_fd(int fd, int directory, const char *name)
{
    if (recording)
        record(LINK, 0, 0, NULL);
    return __real_mhi_sys_link_fd(fd, directory, name);
}

int __real_mhi_sys_renameat(int directory, const char *from, const char *to);
int __wrap_mhi_sys_renameat(int directory, const char *from, const char *to);
int __wrap_mhi_sys_renameat(int directory, const char *from, const char *to)
{
    if (recording)
        record(RENAME, 0, 0, NULL);
    return __real_mhi_sys_renameat(directory, from, to);
}

int __real_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags);
int __wrap_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags);
int __wrap_mhi_sys_rename_with(int directory, const char *from, const char *to, unsigned flags)
{
    if (recording)
        record(RENAME, 0, 0, NULL);
    return __real_mhi_sys_rename_with(directory, from, to, flags);
}

/* ---- the disk after the crash ---- */

static uint64_t random_state;

/* Whether an operation in the prefix is on the disk: surely if a sync of this kind follows it there, else by chance. */
static bool survives(size_t i, size_t prefix, int sync)
{
    for (size_t later = i + 1; later < prefix; later++)
        if (operations[later].kind == sync)
            return true;
    return harness_below(&random_state, 2) == 1;
}

static void write_new_file(const char *path, size_t prefix)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0);
    for (size_t i = 0; i < prefix; i++) {
        const operation *each = &operations[i];
        if (each->kind == LENGTH && survives(i, prefix, SYNC))
            CHECK(ftruncate(fd, (off_t)each->size) == 0);
        if (each->kind == WRITE && survives(i, prefix, SYNC))
            CHECK(pwrite(fd, each->bytes, each->size, (off_t)each->offset) == (ssize_t)each->size);
    }
    close(fd);
}

static bool is_renamed(size_t prefix)
{
    for (size_t i = 0; i < prefix; i++)
        if (operations[i].kind == RENAME && survives(i, prefix, SYNC_DIRECTORY))
            return true;
    return false;
}

static void open_after_crash(void *context)
{
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, context, NULL, &err), err);
    if (!mh_was_committed(tx))
        harness_fail(__FILE__, __LINE__, mh_reason(tx));
    CHECK(is_list(mh_root(tx), OLD) || is_list(mh_root(tx), NEW));
    mh_close(tx);
}

/* A commit in this process, recorded; its arena is unmapped again, so that children can attach what they find. */
static void record_commit(const char *path)
{
    mh_error err;
    mh_transaction *tx;
    CHECK_OK(mh_open(&tx, path, &(mh_options){ .ignore_snapshot = true }, &err), err);
    CHECK_OK(mh_begin(tx, &err), err);
    mh_arena *arena = mh_transaction_arena(tx);
    CHECK_OK(mh_set_root(tx, build_list(arena, NEW, 50), &err), err);
    recording = true;
    CHECK_OK(mh_commit(tx, &err), err);
    recording = false;
    mh_close(tx);
    mh_arena_delete(arena);
}

static size_t find(int kind)
{
    for (size_t i = 0; i < n_operations; i++)
        if (operations[i].kind == kind)
            return i;
    return n_operations;
}

static void crash_everywhere(void *context)
{
    size_t old_size;
    char *old = read_file(context, &old_size);
    const char *disk = scratch("disk.dat"), *other = scratch("disk.dat.uncommitted");
    record_commit(context);
    CHECK(find(SYNC) < find(RENAME) && find(RENAME) < find(SYNC_DIRECTORY) && find(SYNC_DIRECTORY) < n_operations);
    random_state = harness_seed();
    for (size_t prefix = 0; prefix <= n_operations; prefix++)
        for (int subset = 0; subset < SUBSETS; subset++) {
            write_new_file(is_renamed(prefix) ? disk : other, prefix);
            if (exists(other))
                write_file(disk, old, old_size);
            IN_CHILD(open_after_crash, (void *)disk);
            unlink(other);
        }
    free(old);
}

TEST(power_failure_at_any_moment_leaves_the_old_snapshot_or_the_new_one_S1)
{
    IN_CHILD(crash_everywhere, (void *)make_snapshot("power.dat", OLD));
}

static void never_finish(void *context)
{
    record_commit(context);
    size_t header = n_operations;
    for (size_t i = 0; i < n_operations; i++)
        if (operations[i].kind == WRITE && operations[i].offset == 0)
            header = i;
    CHECK(header < n_operations);
    random_state = harness_seed();
    for (size_t prefix = 0; prefix <= header; prefix++) {
        mh_image *image;
        write_new_file(scratch("unfinished.dat"), prefix);
        int status = mh_image_open(&image, scratch("unfinished.dat"), NULL);
        CHECK(image == NULL && (status == MH_ERR_FORMAT || status == MH_ERR_CORRUPT));
    }
}

TEST(file_whose_header_was_not_written_is_never_taken_S2) { IN_CHILD(never_finish, (void *)scratch("power.dat")); }

int main(int argc, char **argv) { return harness_main(argc, argv); }
