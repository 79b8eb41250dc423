/* Storage types: against bytes that the reference wrote, and there and back within what the format can hold. */
#include "test_kernels.h"
#include "blocks.h"

#include <float.h>

/* Blocks written by gguf-py 0.19.0 (gguf.quants.quantize; numpy for F16). */
static const struct {
    float values[MKI_BLOCK];
    struct {
        int32_t type;
        const char *hex;
    } stored[5];
} golden[] = {
    {/* exact binary fractions of both signs */
     {4.84375f, 0.375f, -1.3125f, 1, -0.6875f, -4.0625f, -0.0625f, -1.75f, 0.5625f, -1.125f, -2.96875f, -0.5f, 1.8125f, 0.125f,
      -1.5625f, -1.875f, -0.9375f, 1.375f, -0.3125f, 2, -0.78125f, -1.375f, 0.9375f, -0.75f, 1.5625f, 0.3125f, -1.8125f, 0.5f,
      -1.1875f, 1.125f, 1.40625f, 1.75f},
     {{MK_Q4_0, "d8b8a0679a5699af689b577abd79a5686b5b"},
      {MK_Q4_1, "c03810c45f9765a966508764987542865a9794a4"},
      {MK_Q8_0, "e2287f0ade1aee95fed20fe3b2f33003d7cfe724f834ecdc19ec2908d00de11d252e"},
      {MK_F16, "d844003640bd003c80b910c400ac00bf803880bcf0c100b8403f003040be80bf"
               "80bb803d00b5004040ba80bd803b00ba403e003540bf0038c0bc803ca03d003f"},
      {MK_BF16, "9b40c03ea8bf803f30bf82c080bde0bf103f90bf3ec000bfe83f003ec8bff0bf"
                "70bfb03fa0be004048bfb0bf703f40bfc83fa03ee8bf003f98bf903fb43fe03f"}}},
    {/* halfway between what Q8_0 (whose step is 1 here), F16 and BF16 hold, and denormals */
     {127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 3.5f, 0x1.01p0f, 0x1.03p0f, -0x1.01p0f, -0x1.03p0f, 0x1.002p0f, 0x1.006p0f,
      -0x1.002p0f, -0x1.006p0f, 0x1p-24f, 0x1p-25f, 0x3p-25f, 0x1p-149f, 0, -0.0f, -63.5f, 64.5f, 100.5f, -100.5f, 8.5f, -8.5f,
      16.9375f, -16.9375f, 126.5f, -126.5f},
     {{MK_Q4_0, "f0cb808888888888c84828e87898789808f8"},
      {MK_Q4_1, "3a4ce8d77f787878777747b8d82887778868f707"},
      {MK_Q8_0, "003c7f010203fffefd040101ffff0101ffff000000000000c041659b09f711ef7f81"},
      {MK_F16, "f0570038003e004100b800be00c10043043c0c3c04bc0cbc003c023c00bc02bc"
               "010000000200000000000080f0d30854485648d6404840c83c4c3ccce857e8d7"},
      {MK_BF16, "fe42003fc03f204000bfc0bf20c06040803f823f80bf82bf803f803f80bf80bf"
                "80330033c0330000000000807ec28142c942c9c2084108c1884188c1fd42fdc2"}}}};

TEST(a_block_has_the_bytes_the_reference_writes)
{
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 5; k++) {
            mk_tensor t;
            char hex[256];
            CHECK_EQUAL(mk_tensor_new(&t, golden[i].stored[k].type, 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_quantize(&t, golden[i].values, 0, 1), MK_OK);
            for (int64_t byte = 0; byte < mk_row_bytes(t.type, t.cols); byte++)
                snprintf(hex + 2 * byte, 3, "%02x", ((uint8_t *)t.data)[byte]);
            CHECK(strcmp(hex, golden[i].stored[k].hex) == 0);
            free(t.data);
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
    static const int32_t types[] = {MK_F32, MK_F16, MK_BF16, MK_Q4_0, MK_Q4_1, MK_Q8_0};
    for (int k = 0; k < 6; k++)
        for (int round = 0; round < 2000; round++) {
            float x[MKI_BLOCK], back[MKI_BLOCK];
            mk_tensor t;
            random_floats(&state, x, MKI_BLOCK);
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_quantize(&t, x, 0, 1), MK_OK);
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
    for (int i = 0; i < 2 * MKI_BLOCK; i++)
        x[i] = i < MKI_BLOCK ? 1 : -1;
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q8_0, 4, MKI_BLOCK), MK_OK);
    CHECK_EQUAL(mk_quantize(&t, x, 1, 2), MK_OK);
    for (int32_t row = 0; row < 4; row++) {
        static const float expected[] = {0, 1, -1, 0};
        CHECK_EQUAL(mk_dequantize_row(&t, row, back), MK_OK);
        CHECK(fabsf(back[7] - expected[row]) < 0.001f);
    }
    free(t.data);
}

TEST(a_block_of_zeros_or_of_denormals_stays_finite)
{
    static const float sizes[] = {0, -0.0f, FLT_MIN / 1024, FLT_MIN, 1e-20f};
    static const int32_t types[] = {MK_Q4_0, MK_Q4_1, MK_Q8_0};
    for (int k = 0; k < 3; k++)
        for (int s = 0; s < 5; s++) {
            float x[MKI_BLOCK], back[MKI_BLOCK];
            mk_tensor t;
            for (int i = 0; i < MKI_BLOCK; i++)
                x[i] = i % 3 ? sizes[s] : -sizes[s] / 2;
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_quantize(&t, x, 0, 1), MK_OK);
            CHECK_EQUAL(mk_dequantize_row(&t, 0, back), MK_OK);
            for (int i = 0; i < MKI_BLOCK; i++)
                CHECK(fabsf(back[i]) <= 0x1p-24f); /* below the least half */
            free(t.data);
        }
}

TEST(a_value_that_is_not_finite_is_refused_by_block_types)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    static const int32_t types[] = {MK_Q4_0, MK_Q4_1, MK_Q8_0};
    for (int k = 0; k < 3; k++)
        for (int b = 0; b < 3; b++) {
            float x[MKI_BLOCK] = {0};
            mk_tensor t;
            x[17] = bad[b];
            CHECK_EQUAL(mk_tensor_new(&t, types[k], 1, MKI_BLOCK), MK_OK);
            CHECK_EQUAL(mk_quantize(&t, x, 0, 1), MK_ERR_ARGUMENT);
            free(t.data);
        }
}

TEST(rows_outside_the_tensor_are_refused)
{
    float x[2 * MKI_BLOCK] = {0};
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_F32, 2, MKI_BLOCK), MK_OK);
    CHECK_EQUAL(mk_quantize(&t, x, -1, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_quantize(&t, x, 0, 3), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_quantize(&t, x, INT32_MAX, INT32_MAX), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_quantize(&t, x, 0, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_quantize(&t, NULL, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_quantize(NULL, x, 0, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&t, 2, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&t, -1, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&(mk_tensor){99, 1, 32, t.data}, 0, x), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_dequantize_row(&(mk_tensor){MK_F32, 1, 32, NULL}, 0, x), MK_ERR_ARGUMENT);
    free(t.data);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
