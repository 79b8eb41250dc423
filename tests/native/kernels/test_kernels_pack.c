/* Files' types and strips: against bytes that the reference wrote, and there and back within what a type can hold. */
#include "test_kernels.h"
#include "blocks.h"
#include "packed.h"

#include <float.h>

/* Blocks written by gguf-py 0.19.0 (gguf.quants.quantize; numpy for F16). */
static const struct {
    float values[MKI_BLOCK];
    struct {
        int32_t type;
        const char *hex;
    } stored[5];
} golden[] = { { /* exact binary fractions of both signs */
                 { 4.84375f, 0.375f,  -1.3125f,  1,     -0.6875f,  -4.0625f, -0.0625f, -1.75f,
                   0.5625f,  -1.125f, -2.96875f, -0.5f, 1.8125f,   0.125f,   -1.5625f, -1.875f,
                   -0.9375f, 1.375f,  -0.3125f,  2,     -0.78125f, -1.375f,  0.9375f,  -0.75f,
                   1.5625f,  0.3125f, -1.8125f,  0.5f,  -1.1875f,  1.125f,   1.40625f, 1.75f },
                 { { MK_Q4_0, "d8b8a0679a5699af689b577abd79a5686b5b" },
                   { MK_Q4_1, "c03810c45f9765a966508764987542865a9794a4" },
                   { MK_Q8_0, "e2287f0ade1aee95fed20fe3b2f33003d7cfe724f834ecdc19ec2908d00de11d252e" },
                   { MK_F16, "d844003640bd003c80b910c400ac00bf803880bcf0c100b8403f003040be80bf"
                             "80bb803d00b5004040ba80bd803b00ba403e003540bf0038c0bc803ca03d003f" },
                   { MK_BF16, "9b40c03ea8bf803f30bf82c080bde0bf103f90bf3ec000bfe83f003ec8bff0bf"
                              "70bfb03fa0be004048bfb0bf703f40bfc83fa03ee8bf003f98bf903fb43fe03f" } } },
               { /* halfway between what Q8_0 (whose step is 1 here), F16 and BF16 hold, and denormals */
                 { 127,       0.5f,      1.5f,       2.5f,       -0.5f,      -1.5f,      -2.5f,       3.5f,
                   0x1.01p0f, 0x1.03p0f, -0x1.01p0f, -0x1.03p0f, 0x1.002p0f, 0x1.006p0f, -0x1.002p0f, -0x1.006p0f,
                   0x1p-24f,  0x1p-25f,  0x3p-25f,   0x1p-149f,  0,          -0.0f,      -63.5f,      64.5f,
                   100.5f,    -100.5f,   8.5f,       -8.5f,      16.9375f,   -16.9375f,  126.5f,      -126.5f },
                 { { MK_Q4_0, "f0cb808888888888c84828e87898789808f8" },
                   { MK_Q4_1, "3a4ce8d77f787878777747b8d82887778868f707" },
                   { MK_Q8_0, "003c7f010203fffefd040101ffff0101ffff000000000000c041659b09f711ef7f81" },
                   { MK_F16, "f0570038003e004100b800be00c10043043c0c3c04bc0cbc003c023c00bc02bc"
                             "010000000200000000000080f0d30854485648d6404840c83c4c3ccce857e8d7" },
                   { MK_BF16, "fe42003fc03f204000bfc0bf20c06040803f823f80bf82bf803f803f80bf80bf"
                              "80330033c0330000000000807ec28142c942c9c2084108c1884188c1fd42fdc2" } } } };

static int64_t read_hex(const char *hex, uint8_t *out)
{
    int64_t n = 0;
    for (unsigned byte; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
        out[n] = (uint8_t)byte;
    return n;
}

/* One block or 32 values, packed as the file has them and packed from float32, are read back as the file's own values.
 * */
static void check_same_values(int32_t type, const uint8_t *stored, const float *values)
{
    float expected[MKI_BLOCK], back[MKI_BLOCK];
    mk_tensor t;
    CHECK_EQUAL(mk_read_floats(type, stored, MKI_BLOCK, expected), MK_OK);
    for (int from_floats = 0; from_floats < 2; from_floats++) {
        CHECK_EQUAL(mk_tensor_new(&t, type, 20, MKI_BLOCK), MK_OK);
        CHECK_EQUAL(mk_pack(&t, from_floats ? MK_F32 : type, from_floats ? (const void *)values : stored, 17, 1),
                    MK_OK);
        CHECK_EQUAL(mk_dequantize_row(&t, 17, back), MK_OK);
        CHECK(same_bits(back, expected, MKI_BLOCK));
        free(t.data);
    }
}

TEST(a_block_has_the_bytes_the_reference_writes)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 5; k++) {
            int32_t type = golden[i].stored[k].type;
            uint8_t expected[64], made[64];
            int64_t n_bytes = read_hex(golden[i].stored[k].hex, expected);
            CHECK_EQUAL(mk_row_bytes(type, MKI_BLOCK), n_bytes);
            if (mki_is_block_type(type)) {
                CHECK(mki_quantize_row(type, golden[i].values, MKI_BLOCK, made));
                CHECK(memcmp(made, expected, (size_t)n_bytes) == 0);
            }
            check_same_values(type, expected, golden[i].values);
        }
}

/* Half of the step between representable values, and what the scale loses by being stored as a half. */
static double tolerance(int32_t type, const float *x)
{
    double least = INFINITY, most = -INFINITY, size = 0;
    for (int i = 0; i < MKI_BLOCK; i++) {
        least = fmin(least, x[i]);
        most = fmax(most, x[i]);
        size = fmax(size, fabs(x[i]));
    }
    switch (type) {
    case MK_Q4_0: return size / 8 * (1 + 0x1p-10) + size * 0x1p-10; /* the far end has no +8: one whole step */
    case MK_Q4_1: return (most - least) / 15 / 2 + 2 * size * 0x1p-10;
    case MK_Q8_0: return size / 127 / 2 + size * 0x1p-10;
    case MK_F16: return size * 0x1p-11;
    case MK_BF16: return size * 0x1p-8;
    }
    return 0;
}

TEST(values_come_back_within_half_a_step)
{
    uint64_t state = harness_seed();
    static const int32_t types[] = { MK_F32, MK_F16, MK_BF16, MK_Q4_0, MK_Q4_1, MK_Q8_0 };
    for (int k = 0; k < 6; k++)
        for (int round = 0; round < 2000; round++) {
            float x[MKI_BLOCK], back[MKI_BLOCK];
            mk_tensor t;
            random_floats(&state, x, MKI_BLOCK);
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_pack(&t, MK_F32, x, 0, 1), MK_OK);
            CHECK_EQUAL(mk_dequantize_row(&t, 0, back), MK_OK);
            for (int i = 0; i < MKI_BLOCK; i++)
                CHECK(fabs((double)x[i] - (double)back[i]) <= tolerance(types[k], x));
            free(t.data);
        }
}

TEST(rows_are_written_where_they_belong)
{
    float x[2 * MKI_BLOCK], back[MKI_BLOCK];
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q8_0, 4, MKI_BLOCK), MK_OK);
    for (int32_t row = 0; row < 4; row++) {
        for (int i = 0; i < MKI_BLOCK; i++)
            x[i] = 2;
        CHECK_EQUAL(mk_pack(&t, MK_F32, x, row, 1), MK_OK);
    }
    for (int i = 0; i < 2 * MKI_BLOCK; i++)
        x[i] = i < MKI_BLOCK ? 1 : -1;
    CHECK_EQUAL(mk_pack(&t, MK_F32, x, 1, 2), MK_OK);
    for (int32_t row = 0; row < 4; row++) {
        static const float expected[] = { 2, 1, -1, 2 };
        CHECK_EQUAL(mk_dequantize_row(&t, row, back), MK_OK);
        CHECK(fabsf(back[7] - expected[row]) < 0.002f);
    }
    free(t.data);
}

TEST(a_block_of_zeros_or_of_denormals_stays_finite)
{
    static const float sizes[] = { 0, -0.0f, FLT_MIN / 1024, FLT_MIN, 1e-20f };
    static const int32_t types[] = { MK_Q4_0, MK_Q4_1, MK_Q8_0 };
    for (int k = 0; k < 3; k++)
        for (int s = 0; s < 5; s++) {
            float x[MKI_BLOCK], back[MKI_BLOCK];
            mk_tensor t;
            for (int i = 0; i < MKI_BLOCK; i++)
                x[i] = i % 3 ? sizes[s] : -sizes[s] / 2;
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_pack(&t, MK_F32, x, 0, 1), MK_OK);
            CHECK_EQUAL(mk_dequantize_row(&t, 0, back), MK_OK);
            for (int i = 0; i < MKI_BLOCK; i++)
                CHECK(fabsf(back[i]) <= 0x1p-24f); /* below the least half */
            free(t.data);
        }
}

TEST(a_value_that_is_not_finite_is_refused_by_every_type)
{
    static const float bad[] = { NAN, INFINITY, -INFINITY, 1e10f /* its scale is no half */ };
    static const int32_t types[] = { MK_Q4_0, MK_Q4_1, MK_Q8_0, MK_F16, MK_F32, MK_BF16 };
    for (int k = 0; k < 6; k++)
        for (int b = 0; b < (k < 4 ? 4 : 3); b++) {
            float x[MKI_BLOCK] = { 0 };
            mk_tensor t;
            x[17] = bad[b];
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_pack(&t, MK_F32, x, 0, 1), MK_ERR_VALUE);
            free(t.data);
        }
}

TEST(a_block_whose_scale_is_not_finite_is_refused)
{
    static const int32_t types[] = { MK_Q4_0, MK_Q4_1, MK_Q4_1, MK_Q8_0 };
    for (int k = 0; k < 4; k++) {
        uint8_t row[34] = { 0 };
        mk_tensor t;
        row[k == 2 ? 3 : 1] = k % 2 ? 0x7c : 0xfe;
        CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
        CHECK_EQUAL(mk_pack(&t, types[k], row, 0, 1), MK_ERR_VALUE);
        free(t.data);
    }
}

/* A block of a K type: any bytes are one, but for its halves, which are small and finite here. */
static void random_super_block(uint64_t *state, int32_t type, uint8_t *out)
{
    int64_t n = mk_row_bytes(type, MKI_SUPER);
    for (int64_t i = 0; i < n; i++)
        out[i] = (uint8_t)harness_random(state);
    int64_t halves = type == MK_Q6_K ? n - 2 : 0;
    out[halves + 1] &= 0xb3; /* exponents to 2^-3 */
    if (type != MK_Q6_K)
        out[3] &= 0xb3;
}

/* What packing may change: a half's rounding of scale and minimum, or half a step of the 8 bits it is rounded to. */
TEST(k_types_are_packed_within_what_is_said_of_them)
{
    static const int32_t types[] = { MK_Q4_K, MK_Q5_K, MK_Q6_K };
    uint64_t state = harness_seed();
    for (int k = 0; k < 3; k++)
        for (int round = 0; round < 500; round++) {
            uint8_t rows[2][256];
            float expected[MKI_SUPER], back[MKI_SUPER];
            mk_tensor t;
            random_super_block(&state, types[k], rows[0]);
            CHECK_EQUAL(mk_tensor_new(&t, mk_packed_type(types[k]), 3, MKI_SUPER), MK_OK);
            CHECK_EQUAL(mk_pack(&t, types[k], rows[0], 2, 1), MK_OK);
            CHECK_EQUAL(mk_read_floats(types[k], rows[0], MKI_SUPER, expected), MK_OK);
            CHECK_EQUAL(mk_dequantize_row(&t, 2, back), MK_OK);
            for (int i = 0; i < MKI_SUPER; i++) {
                double most = 0;
                for (int j = i / 32 * 32; j < i / 32 * 32 + 32; j++)
                    most = fmax(most, fabs((double)expected[j]));
                /* Q4_K: scale * q and min are each at most 63 * 16 halves of 2^-3 here; both are rounded to 11 bits. */
                double bound =
                    types[k] == MK_Q4_K ? 2 * 63 * 15 * 0.5 * 0x1p-11 : most / 127 / 2 + most * 0x1p-10 + 0x1p-18;
                CHECK(fabs((double)expected[i] - (double)back[i]) <= bound);
            }
            free(t.data);
        }
}

TEST(a_k_block_that_is_not_finite_is_refused)
{
    static const int32_t types[] = { MK_Q4_K, MK_Q5_K, MK_Q6_K };
    for (int k = 0; k < 3; k++)
        for (int high = 0x7c; high <= 0xff; high += 0x83) { /* infinity, and a NaN */
            uint8_t row[256];
            mk_tensor t;
            memset(row, 0x11, sizeof row);
            row[types[k] == MK_Q6_K ? mk_row_bytes(MK_Q6_K, MKI_SUPER) - 1 : 1] = (uint8_t)high;
            row[types[k] == MK_Q6_K ? mk_row_bytes(MK_Q6_K, MKI_SUPER) - 2 : 0] = high == 0x7c ? 0 : 1;
            CHECK_EQUAL(mk_tensor_new(&t, mk_packed_type(types[k]), 1, MKI_SUPER), MK_OK);
            CHECK_EQUAL(mk_pack(&t, types[k], row, 0, 1), MK_ERR_VALUE);
            free(t.data);
        }
}

TEST(a_type_that_would_lose_twice_is_refused)
{
    uint8_t row[34] = { 0 };
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q4_0, 1, MKI_BLOCK), MK_OK);
    CHECK_EQUAL(mk_pack(&t, MK_Q8_0, row, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(&t, 99, row, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_read_floats(MK_Q8_0, row, 33, (float[33]){ 0 }), MK_ERR_ARGUMENT);
    free(t.data);
}

TEST(rows_outside_the_tensor_are_refused)
{
    float x[2 * MKI_BLOCK] = { 0 };
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_F32, 2, MKI_BLOCK), MK_OK);
    CHECK_EQUAL(mk_pack(&t, MK_F32, x, -1, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(&t, MK_F32, x, 0, 3), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(&t, MK_F32, x, INT32_MAX, INT32_MAX), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(&t, MK_F32, x, 0, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(&t, MK_F32, NULL, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_pack(NULL, MK_F32, x, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&t, 2, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&t, -1, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&(mk_tensor){ 99, 1, 32, t.data }, 0, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&(mk_tensor){ MK_F32, 1, 32, NULL }, 0, x), MK_ERR_ARGUMENT);
    free(t.data);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
