/* test_format.c - the checksum, and the picture in format.h against a file that was really written. */
#define _GNU_SOURCE
#include "format.h"
#include "snapshot/checksum.h"
#include "test_snapshot.h"

static uint64_t checksum_with(uint64_t seed, const void *data, size_t size)
{
    mhi_checksum_state state;
    mhi_checksum_begin(&state, seed);
    return mhi_checksum_end(&state, data, size);
}

TEST(checksum_gives_the_published_values_of_xxh64)
{
    /* The reference implementation's own sanity check: these bytes, these lengths and seeds. */
    const uint64_t prime = 2654435761;
    uint8_t bytes[222];
    uint64_t generator = prime;
    for (size_t i = 0; i < sizeof bytes; i++, generator *= 11400714785074694797ull)
        bytes[i] = (uint8_t)(generator >> 56);
    const struct {
        size_t size;
        uint64_t seed, sum;
    } known[] = {
        { 0, 0, 0xef46db3751d8e999 },      { 0, prime, 0xac75fda2929b17ef }, { 1, 0, 0xe934a84adb052768 },
        { 1, prime, 0x5014607643a9b4c3 },  { 4, 0, 0x9136a0dca57457ee },     { 14, 0, 0x8282dcc4994e35c8 },
        { 14, prime, 0xc3bd6bf63deb6df0 }, { 222, 0, 0xb641ae8cb691c174 },   { 222, prime, 0x20cb8ab7ae10c14a },
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        CHECK_EQUAL(checksum_with(known[i].seed, bytes, known[i].size), known[i].sum);
}

TEST(checksum_in_pieces_is_the_checksum_of_the_whole)
{
    uint8_t bytes[200];
    uint64_t random = harness_seed();
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)harness_random(&random);
    for (size_t size = 0; size <= sizeof bytes; size++)
        for (size_t first = 0; first <= size; first += MHI_STRIPE) {
            mhi_checksum_state state;
            mhi_checksum_begin(&state, MHI_CHECKSUM_SEED);
            mhi_checksum_stripes(&state, bytes, first);
            CHECK_EQUAL(mhi_checksum_end(&state, bytes + first, size - first), mhi_checksum(bytes, size));
        }
}

TEST(zeros_and_nothing_are_no_valid_checksum_S2)
{
    static const uint8_t zeros[MHI_HEADER_BYTES];
    for (size_t size = 0; size <= sizeof zeros; size++)
        CHECK(mhi_checksum(zeros, size) != 0);
    CHECK(mhi_checksum(zeros, 0) != checksum_with(0, zeros, 0));
}

TEST(file_is_laid_out_as_drawn)
{
    size_t size;
    char *bytes = read_file(make_snapshot("drawn.dat", 1), &size);
    mhi_file_header header;
    memcpy(&header, bytes, sizeof header);
    CHECK(memcmp(bytes, "\x89MH\r\n\x1a\n", 8) == 0);
    CHECK_EQUAL(header.hd_version, MHI_FORMAT_VERSION);
    CHECK_EQUAL(header.hd_kind, MH_KIND_HEAP);
    CHECK_EQUAL(header.hd_file_bytes, size);
    CHECK_EQUAL(header.hd_checksum, mhi_checksum(bytes, 4088));
    for (size_t i = sizeof header; i < MHI_SEGMENTS_OFFSET; i++)
        CHECK(bytes[i] == 0);

    const mhi_file_segment *segments = (const mhi_file_segment *)(bytes + header.hd_tables[0].tb_offset);
    CHECK_EQUAL(header.hd_tables[0].tb_count, 2);
    CHECK_EQUAL(segments[0].sg_kind, MH_SEGMENT_ARENA);
    CHECK_EQUAL(segments[0].sg_offset, 2 << 20);
    CHECK_EQUAL(segments[0].sg_checksum, mhi_checksum(bytes + segments[0].sg_offset, segments[0].sg_bytes));
    CHECK_EQUAL(segments[1].sg_kind, MH_SEGMENT_PAGES);
    CHECK_EQUAL(segments[1].sg_offset, segments[0].sg_offset + segments[0].sg_bytes);
    CHECK_EQUAL(segments[1].sg_checksum, mhi_checksum(bytes + segments[1].sg_offset, segments[1].sg_bytes));
    CHECK_EQUAL(header.hd_tables[0].tb_offset, segments[1].sg_offset + segments[1].sg_bytes);

    uint64_t end = header.hd_tables[0].tb_offset;
    for (uint32_t i = 0; i < header.hd_n_tables; i++) {
        const mhi_file_table *table = &header.hd_tables[i];
        CHECK_EQUAL(table->tb_kind, i + 1);
        CHECK_EQUAL(table->tb_offset, (end + 7) / 8 * 8);
        CHECK_EQUAL(table->tb_checksum, mhi_checksum(bytes + table->tb_offset, table->tb_bytes));
        end = table->tb_offset + table->tb_bytes;
    }
    CHECK_EQUAL(end, size);
    free(bytes);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
