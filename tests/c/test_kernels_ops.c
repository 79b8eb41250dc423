/* Each operation on both instruction sets: exact where it promises exactness, otherwise within rounding of the sum
 * taken in double precision; with NaN around every buffer. */
#include "test_kernels.h"
#include "blocks.h"

#include <float.h>

static const mki_ops *const isas[] = {&mki_ops_scalar, &mki_ops_avx2};
static const int32_t types[] = {MK_F32, MK_F16, MK_BF16, MK_Q4_0, MK_Q4_1, MK_Q8_0};
enum { N_ISAS = 2, N_TYPES = 6 };

/* A row of `type` from random values, its storage exactly as long as it must be. */
static mk_tensor random_tensor(uint64_t *state, int32_t type, int32_t rows, int32_t cols)
{
    size_t n = (size_t)rows * (size_t)cols;
    float *values = malloc(n * sizeof *values);
    random_floats(state, values, (int64_t)n);
    mk_tensor t = {type, rows, cols, malloc((size_t)(rows * mk_row_bytes(type, cols)))};
    CHECK(values && t.data);
    CHECK_EQUAL(mk_quantize(&t, values, 0, rows), MK_OK);
    free(values);
    return t;
}

static void check_dequantize(const mk_tensor *t)
{
    float *judge = guarded_new(t->cols), *other = guarded_new(t->cols);
    mki_ops_scalar.dequantize(t->type, t->data, t->cols, judge);
    mki_ops_avx2.dequantize(t->type, t->data, t->cols, other);
    for (int32_t i = 0; i < t->cols; i++)
        CHECK(memcmp(judge + i, other + i, sizeof *judge) == 0 || (isnan(judge[i]) && isnan(other[i])));
    guarded_free(judge, t->cols);
    guarded_free(other, t->cols);
}

TEST(dequantize_gives_the_same_bits_on_both)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < N_TYPES; k++)
        for (int32_t cols = 1; cols <= 320; cols++)
            if (mk_row_bytes(types[k], cols)) {
                mk_tensor t = random_tensor(&state, types[k], 1, cols);
                check_dequantize(&t);
                free(t.data);
            }
}

TEST(dequantize_gives_the_same_bits_for_any_bytes)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < N_TYPES; k++)
        for (int round = 0; round < 3000; round++) {
            uint8_t bytes[4 * MKI_BLOCK];
            for (size_t i = 0; i < sizeof bytes; i++)
                bytes[i] = (uint8_t)harness_random(&state);
            check_dequantize(&(mk_tensor){types[k], 1, MKI_BLOCK, bytes});
        }
}

TEST(every_half_converts_alike_on_both)
{
    uint16_t *halves = malloc(65536 * sizeof *halves);
    for (int32_t i = 0; i < 65536; i++)
        halves[i] = (uint16_t)i;
    check_dequantize(&(mk_tensor){MK_F16, 1, 65536, halves});
    check_dequantize(&(mk_tensor){MK_BF16, 1, 65536, halves});
    free(halves);
}

/* Lanes and columns of add_dots for every shape up to more than two tiles, with a gap of NaN between vectors. */
static void check_dots(const mki_ops *ops, uint64_t *state, int32_t n_rows, int32_t n_vectors, int32_t n)
{
    int64_t stride = n + 3, out_stride = n_rows + 2;
    float *w = guarded_new(n_rows * stride), *x = guarded_new(n_vectors * stride), *out = guarded_new(n_vectors * out_stride);
    for (int32_t r = 0; r < n_rows; r++)
        random_floats(state, w + r * stride, n);
    for (int32_t v = 0; v < n_vectors; v++) {
        random_floats(state, x + v * stride, n);
        random_floats(state, out + v * out_stride, n_rows);
    }
    float *before = malloc((size_t)(n_vectors * out_stride) * sizeof *before);
    memcpy(before, out, (size_t)(n_vectors * out_stride) * sizeof *before);
    ops->add_dots((mki_rows){w, stride, n_rows}, (mki_rows){x, stride, n_vectors}, n, out, out_stride);
    for (int32_t v = 0; v < n_vectors; v++)
        for (int32_t r = 0; r < n_rows; r++) {
            float *at = out + v * out_stride + r, start = before[v * out_stride + r], alone = start;
            double exact = start, size = fabs(start);
            for (int32_t i = 0; i < n; i++) {
                exact += (double)w[r * stride + i] * (double)x[v * stride + i];
                size += fabs((double)w[r * stride + i] * (double)x[v * stride + i]);
            }
            /* A product and n / 8 additions in a lane, three to add the lanes, one to add to out: each rounds once. */
            CHECK(fabs((double)*at - exact) <= (n / 8 + 6) * (FLT_EPSILON / 2.0) * size);
            ops->add_dots((mki_rows){w + r * stride, 0, 1}, (mki_rows){x + v * stride, 0, 1}, n, &alone, 0);
            CHECK(same_bits(at, &alone, 1));
        }
    for (int32_t v = 0; v < n_vectors; v++)
        CHECK(isnan(out[v * out_stride + n_rows]) && isnan(out[v * out_stride + n_rows + 1]));
    guarded_free(w, n_rows * stride);
    guarded_free(x, n_vectors * stride);
    guarded_free(out, n_vectors * out_stride);
    free(before);
}

TEST(dots_are_within_rounding_and_do_not_depend_on_their_neighbours)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < N_ISAS; k++)
        for (int32_t n_rows = 1; n_rows <= 9; n_rows++)
            for (int32_t n_vectors = 1; n_vectors <= 7; n_vectors++)
                for (int32_t n = 1; n <= 40; n += n < 18 ? 1 : 7)
                    check_dots(isas[k], &state, n_rows, n_vectors, n);
    for (int k = 0; k < N_ISAS; k++)
        check_dots(isas[k], &state, 5, 4, 4099);
}

TEST(block_dots_have_the_bits_of_dots_of_expanded_rows)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < N_TYPES; k++)
        for (int32_t rows = 1; rows <= 9 && mki_is_block_type(types[k]); rows++)
            for (int32_t cols = MKI_BLOCK; cols <= 3 * MKI_BLOCK; cols += MKI_BLOCK) {
                mk_tensor t = random_tensor(&state, types[k], rows, cols);
                float *w = guarded_new(rows * cols), *x = guarded_new(cols);
                float *direct = guarded_new(rows), *judge = guarded_new(rows);
                random_floats(&state, x, cols);
                random_floats(&state, judge, rows);
                memcpy(direct, judge, (size_t)rows * sizeof *direct);
                for (int32_t r = 0; r < rows; r++)
                    CHECK_EQUAL(mk_dequantize_row(&t, r, w + r * cols), MK_OK);
                mki_stored stored = {t.type, t.data, mk_row_bytes(t.type, cols), rows};
                mki_ops_avx2.add_block_dots(stored, x, cols, direct);
                mki_ops_avx2.add_dots((mki_rows){w, cols, rows}, (mki_rows){x, 0, 1}, cols, judge, 0);
                CHECK(same_bits(direct, judge, rows));
                guarded_free(w, rows * cols);
                guarded_free(x, cols);
                guarded_free(direct, rows);
                guarded_free(judge, rows);
                free(t.data);
            }
}

int main(int argc, char **argv)
{
    need_avx2();
    return harness_main(argc, argv);
}
