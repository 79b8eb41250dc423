/* test_snapshot_corrupt.c - damages every part of a file, also with the checksums repaired so that the damage reaches
 * the checks behind them. An open gives an error or a mapping that can be read: never a signal.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <sys/mman.h>

#include "format.h"
#include "snapshot/checksum.h"
#include "test_snapshot.h"

enum { SEED = 3 };

static const char *path;
static char *whole; /* the undamaged file */
static size_t whole_bytes;
static mhi_file_header whole_header;
static uint64_t tables_start;

static void prepare(void)
{
    if (path != NULL)
        return;
    path = strdup(make_snapshot("damaged.dat", SEED));
    whole = read_file(path, &whole_bytes);
    memcpy(&whole_header, whole, sizeof whole_header);
    tables_start = whole_header.hd_tables[0].tb_offset;
}

static void put(const void *bytes, size_t size, uint64_t offset)
{
    int fd = open(path, O_WRONLY);
    CHECK(fd >= 0 && pwrite(fd, bytes, size, (off_t)offset) == (ssize_t)size && close(fd) == 0);
}

/* A header whose checksum holds, whatever is in it. */
static void put_header(mhi_file_header *header)
{
    header->hd_checksum = mhi_checksum(header, offsetof(mhi_file_header, hd_checksum));
    put(header, sizeof *header, 0);
}

/* Tables whose checksums hold, whatever is in them. */
static void put_tables(const uint8_t *tables)
{
    mhi_file_header header = whole_header;
    for (uint32_t i = 0; i < header.hd_n_tables; i++) {
        mhi_file_table *table = &header.hd_tables[i];
        table->tb_checksum = mhi_checksum(tables + (table->tb_offset - tables_start), table->tb_bytes);
    }
    put(tables, whole_bytes - tables_start, tables_start);
    put_header(&header);
}

static void restore(void)
{
    put(whole, sizeof(mhi_file_header), 0);
    put(whole + tables_start, whole_bytes - tables_start, tables_start);
}

/* Reads all that was mapped, asks the heap about addresses in and around it, and unmaps it for the next one. */
static void use(mh_transaction *tx)
{
    mh_arena *arena = mh_transaction_arena(tx);
    mh_arena_stats stats;
    mh_error err;
    mh_arena_read_stats(arena, &stats);
    uint64_t random = harness_seed(), address = whole_header.hd_address;
    for (int i = 0; i < 200; i++) {
        const void *any =
            (void *)(address + whole_header.hd_data_offset + harness_below(&random, whole_header.hd_data_bytes + 4096));
        if (mh_arena_of(any) == arena)
            mh_usable_size(any);
        mh_free((void *)any);
    }
    mh_check(arena, &err);
    volatile const char *data = (const char *)(address + whole_header.hd_data_offset);
    for (uint64_t i = 0; i < whole_header.hd_data_bytes; i += 512)
        (void)data[i];
    CHECK(mh_root(tx) == NULL || mh_arena_of(mh_root(tx)) == arena);
    mh_arena_delete(arena);
}

/* What `info` would do, whether a run would take the file or not. */
static void look(void)
{
    mh_image *image;
    mh_image_info info;
    mh_segment_info segment;
    mh_input_info input;
    mh_module_info module;
    mh_error err;
    if (mh_image_open(&image, path, &err) != MH_OK)
        return;
    mh_image_read_info(image, &info);
    for (uint32_t i = 0; mh_image_read_segment(image, i, &segment) == MH_OK; i++)
        CHECK(i < info.n_segments);
    for (uint32_t i = 0; mh_image_read_input(image, i, &input) == MH_OK; i++)
        CHECK(i < info.n_inputs);
    for (uint32_t i = 0; mh_image_read_module(image, i, &module) == MH_OK; i++)
        CHECK(i < info.n_modules);
    mh_image_check_inputs(image, NULL, &err);
    mh_image_close(image);
}

/* An attempt to attach; returns the status of the run, MH_OK if it is warm. */
static int try_open(void)
{
    mh_transaction *tx;
    mh_error err;
    look();
    CHECK_OK(mh_open(&tx, path, NULL, &err), err);
    int status = mh_was_committed(tx) ? MH_OK : mh_reason_status(tx);
    CHECK(status == MH_OK || strlen(mh_reason(tx)) > 10);
    if (status == MH_OK)
        use(tx);
    mh_close(tx);
    return status;
}

/* Runs in a child, since a defect would be a signal; `what` then tells which damage it was. */
static void survive(void (*damage_all)(void *what))
{
    prepare();
    char *what = mmap(NULL, 256, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(what != MAP_FAILED);
    int status = wait_for_child(damage_all, what);
    if (status != 0)
        harness_fail(__FILE__, __LINE__, what);
    restore();
    CHECK_EQUAL(truncate(path, (off_t)whole_bytes), 0);
    CHECK_WARM(path, SEED);
}

#define NOTE(what, ...) snprintf(what, 256, __VA_ARGS__)

static const uint8_t masks[] = { 0x01, 0x80, 0xff };

static void damage_header_bytes(void *what)
{
    for (size_t at = 0; at < sizeof(mhi_file_header); at++)
        for (size_t i = 0; i < sizeof masks; i++) {
            uint8_t byte = (uint8_t)whole[at] ^ masks[i];
            NOTE(what, "header byte %zu is 0x%02x", at, byte);
            put(&byte, 1, at);
            int status = try_open();
            CHECK(status == MH_ERR_FORMAT || status == MH_ERR_CORRUPT);
            put(whole + at, 1, at);
        }
}

TEST(any_damaged_byte_of_the_header_is_noticed) { survive(damage_header_bytes); }

static void damage_table_bytes(void *what)
{
    for (size_t at = tables_start; at < whole_bytes; at++) {
        uint8_t byte = (uint8_t)whole[at] ^ masks[at % sizeof masks];
        bool is_padding = true;
        for (uint32_t i = 0; i < whole_header.hd_n_tables; i++) {
            const mhi_file_table *table = &whole_header.hd_tables[i];
            is_padding &= at < table->tb_offset || at >= table->tb_offset + table->tb_bytes;
        }
        NOTE(what, "byte %zu of the tables is 0x%02x", at - tables_start, byte);
        put(&byte, 1, at);
        CHECK_EQUAL(try_open(), is_padding ? MH_OK : MH_ERR_CORRUPT);
        put(whole + at, 1, at);
    }
}

TEST(any_damaged_byte_of_the_tables_is_noticed) { survive(damage_table_bytes); }

/* What an attacker would write into a field. */
static uint64_t hostile(uint64_t was, int i)
{
    const uint64_t values[] = { 0,
                                1,
                                was + 1,
                                was - 1,
                                was + 4096,
                                was - 4096,
                                was << 1,
                                was >> 1,
                                UINT64_MAX,
                                UINT64_MAX - 4095,
                                INT64_MAX,
                                (uint64_t)INT64_MAX + 1,
                                UINT32_MAX,
                                whole_bytes,
                                whole_header.hd_address };
    return values[i];
}

enum { HOSTILE = 15 };

static void forge_header(void *what)
{
    for (size_t at = 0; at < offsetof(mhi_file_header, hd_reserved); at += 4)
        for (int i = 0; i < HOSTILE; i++)
            for (size_t size = 4; size <= 8; size += 4) {
                mhi_file_header forged = whole_header;
                uint64_t field = 0;
                memcpy(&field, (char *)&forged + at, size);
                field = hostile(field, i);
                NOTE(what, "%zu bytes of the header at %zu are 0x%" PRIx64 ", checksum repaired", size, at, field);
                memcpy((char *)&forged + at, &field, size);
                put_header(&forged);
                try_open();
            }
}

TEST(forged_header_with_a_good_checksum_is_an_error_or_harmless) { survive(forge_header); }

static void forge_tables(void *what)
{
    size_t size = whole_bytes - tables_start;
    uint8_t *forged = malloc(size);
    for (size_t at = 0; at + 8 <= size; at += 4)
        for (int i = 0; i < HOSTILE; i++) {
            uint64_t field;
            memcpy(forged, whole + tables_start, size);
            memcpy(&field, forged + at, sizeof field);
            field = hostile(field, i);
            NOTE(what, "the tables at %zu hold 0x%" PRIx64 ", checksum repaired", at, field);
            memcpy(forged + at, &field, sizeof field);
            put_tables(forged);
            try_open();
        }
    free(forged);
}

TEST(forged_tables_with_good_checksums_are_an_error_or_harmless) { survive(forge_tables); }

static void scramble_tables(void *what)
{
    size_t size = whole_bytes - tables_start;
    uint8_t *scrambled = malloc(size);
    uint64_t random = harness_seed();
    for (int round = 0; round < 2000; round++) {
        memcpy(scrambled, whole + tables_start, size);
        NOTE(what, "round %d of random damage, checksum repaired", round);
        for (uint64_t n = 1 + harness_below(&random, 16); n > 0; n--)
            scrambled[harness_below(&random, size)] = (uint8_t)harness_random(&random);
        put_tables(scrambled);
        try_open();
    }
    free(scrambled);
}

TEST(tables_damaged_at_random_are_an_error_or_harmless) { survive(scramble_tables); }

static void scramble_meta(void *what)
{
    const mhi_file_segment *meta = (const mhi_file_segment *)(whole + tables_start) + 1;
    uint8_t *scrambled = malloc(meta->sg_bytes);
    uint64_t random = harness_seed();
    for (int round = 0; round < 2000; round++) {
        memcpy(scrambled, whole + meta->sg_offset, meta->sg_bytes);
        NOTE(what, "round %d of random damage to the arena's own tables", round);
        for (uint64_t n = 1 + harness_below(&random, 64); n > 0; n--)
            scrambled[harness_below(&random, round % 2 == 0 ? meta->sg_bytes : 256)] = (uint8_t)harness_random(&random);
        put(scrambled, meta->sg_bytes, meta->sg_offset);
        try_open();
    }
    put(whole + meta->sg_offset, meta->sg_bytes, meta->sg_offset);
    free(scrambled);
}

TEST(damaged_page_table_of_the_arena_is_an_error_or_harmless) { survive(scramble_meta); }

static void change_size(void *what)
{
    uint64_t sizes[64], n = 0;
    const uint64_t edges[] = { 0,
                               1,
                               8,
                               16,
                               96,
                               4096,
                               8192,
                               2 << 20,
                               (2 << 20) + 4096,
                               tables_start,
                               whole_bytes,
                               whole_bytes + 4096,
                               whole_bytes * 2 };
    for (size_t i = 0; i < sizeof edges / sizeof *edges; i++)
        for (int off = -1; off <= 1; off++)
            if (edges[i] + (uint64_t)off != whole_bytes && (edges[i] > 0 || off >= 0))
                sizes[n++] = edges[i] + (uint64_t)off;
    for (uint32_t i = 0; i < whole_header.hd_n_tables; i++)
        sizes[n++] = whole_header.hd_tables[i].tb_offset;
    for (uint64_t i = 0; i < n; i++) {
        NOTE(what, "%" PRIu64 " bytes instead of %zu", sizes[i], whole_bytes);
        write_file(path, whole, sizes[i] < whole_bytes ? sizes[i] : whole_bytes);
        CHECK_EQUAL(truncate(path, (off_t)sizes[i]), 0);
        int status = try_open();
        CHECK(status == MH_ERR_FORMAT || status == MH_ERR_CORRUPT);
    }
    write_file(path, whole, whole_bytes);
}

TEST(file_of_another_size_is_noticed_before_it_is_mapped) { survive(change_size); }

/* ---- named errors ---- */

static void check_header(mhi_file_header header, int status, const char *reason)
{
    put_header(&header);
    CHECK_COLD(path, status, reason);
    restore();
}

TEST(newer_format_says_so_in_its_own_words)
{
    prepare();
    mhi_file_header newer = whole_header;
    newer.hd_version = MHI_FORMAT_VERSION + 1;
    check_header(newer, MH_ERR_FORMAT, "has format 6, this build reads 5");
    mhi_file_header kind = whole_header;
    kind.hd_kind = 3;
    check_header(kind, MH_ERR_FORMAT, "is a snapshot of kind 3");
    kind.hd_kind = MH_KIND_PROCESS;
    check_header(kind, MH_ERR_CORRUPT, "the number of its tables");
    mhi_file_header unfinished = whole_header;
    unfinished.hd_state = 0;
    check_header(unfinished, MH_ERR_CORRUPT, "incomplete");
}

TEST(foreign_and_empty_files_are_no_snapshots)
{
    write_file(scratch("foreign.dat"), "#!/bin/sh\n", 10);
    CHECK_COLD(scratch("foreign.dat"), MH_ERR_FORMAT, "is not a snapshot");
    write_file(scratch("empty.dat"), "", 0);
    CHECK_COLD(scratch("empty.dat"), MH_ERR_FORMAT, "is not a snapshot");
    CHECK_EQUAL(truncate(scratch("empty.dat"), 3 << 20), 0);
    CHECK_COLD(scratch("empty.dat"), MH_ERR_FORMAT, "first page is zero");
}

TEST(damaged_data_is_found_by_verify_and_by_the_environment_switch)
{
    prepare();
    mh_image *image;
    mh_error err;
    CHECK_OK(mh_image_open(&image, path, &err), err);
    CHECK_OK(mh_image_verify(image, &err), err);
    for (uint64_t at = MHI_SEGMENTS_OFFSET; at < tables_start; at += 4099) {
        char byte = (char)(whole[at] ^ 1);
        put(&byte, 1, at);
        CHECK_EQUAL(mh_image_verify(image, &err), MH_ERR_CORRUPT);
        put(whole + at, 1, at);
    }
    CHECK_OK(mh_image_verify(image, &err), err);
    mh_image_close(image);

    char byte = (char)(whole[tables_start - 1] ^ 1);
    put(&byte, 1, tables_start - 1);
    setenv("MAGICHEAP_VERIFY", "1", 1);
    CHECK_COLD(path, MH_ERR_CORRUPT, "has checksum");
    unsetenv("MAGICHEAP_VERIFY");
    put(whole + tables_start - 1, 1, tables_start - 1);
    CHECK_WARM(path, SEED);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
