/* Storage types: against bytes that the reference wrote, and there and back within what the format can hold. */
#include "test_kernels.h"
#include "blocks.h"

#include <float.h>

/* Blocks written by gguf-py 0.19.0 (gguf.quants.quantize; numpy for F16), from exact binary fractions with ties, both
 * signs and a repeated extreme. */
static const float golden_values[MKI_BLOCK] = {
    4.84375, 0.375, -1.3125, 1.0, -0.6875, -4.0625, -0.0625, -1.75, 0.5625, -1.125, -2.96875, -0.5, 1.8125, 0.125,
    -1.5625, -1.875, -0.9375, 1.375, -0.3125, 2.0, -0.78125, -1.375, 0.9375, -0.75, 1.5625, 0.3125, -1.8125, 0.5,
    -1.1875, 1.125, 1.40625, 1.75};
static const struct {
    int32_t type;
    const char *hex;
} golden[] = {
    {MK_Q4_0, "d8b8a0679a5699af689b577abd79a5686b5b"},
    {MK_Q4_1, "c03810c45f9765a966508764987542865a9794a4"},
    {MK_Q8_0, "e2287f0ade1aee95fed20fe3b2f33003d7cfe724f834ecdc19ec2908d00de11d252e"},
    {MK_F16, "d844003640bd003c80b910c400ac00bf803880bcf0c100b8403f003040be80bf"
             "80bb803d00b5004040ba80bd803b00ba403e003540bf0038c0bc803ca03d003f"},
    {MK_BF16, "9b40c03ea8bf803f30bf82c080bde0bf103f90bf3ec000bfe83f003ec8bff0bf"
              "70bfb03fa0be004048bfb0bf703f40bfc83fa03ee8bf003f98bf903fb43fe03f"}};
enum { N_GOLDEN = sizeof golden / sizeof *golden };

TEST(a_block_has_the_bytes_the_reference_writes)
{
    for (int k = 0; k < N_GOLDEN; k++) {
        mk_tensor t;
        char hex[256];
        CHECK_EQUAL(mk_tensor_new(&t, golden[k].type, 1, MKI_BLOCK), MK_OK);
        CHECK_EQUAL(mk_quantize(&t, golden_values, 0, 1), MK_OK);
        for (int64_t i = 0; i < mk_row_bytes(t.type, t.cols); i++)
            snprintf(hex + 2 * i, 3, "%02x", ((uint8_t *)t.data)[i]);
        CHECK(strcmp(hex, golden[k].hex) == 0);
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
