/* Strips times vectors: every instruction set gives the bits of the scalar one, which is within rounding of the sum
 * taken in double precision; NaN around every buffer, and in the rows that fill up a strip. */
#include "test_kernels.h"
#include "halves.h"
#include "isa.h"

#include <float.h>

static const char *const isas[] = { "scalar", "avx2", "avx2-vnni", "avx512-vnni" };
static const int32_t block_types[] = { MK_Q4_0, MK_Q4_1, MK_Q8_0 }, float_types[] = { MK_F32, MK_F16, MK_BF16 };
enum { N_ISAS = 4, MOST_VECTORS = 19 /* more than two tiles */ };

/* NULL where this CPU has not got it; the scalar one is always there. */
static const mki_strip_ops *strips_of(const char *isa)
{
    const mki_strip_ops *ops = mk_isa_choose(isa) == MK_OK ? mki_isa_current()->strips : NULL;
    mk_isa_choose(NULL);
    return ops;
}

/* rows x cols random weights, with NaN scales or values in the rows beyond them. */
static mk_tensor random_weights(uint64_t *state, int32_t type, int32_t rows, int32_t cols)
{
    mk_tensor t, filled;
    uint16_t nan = mki_to_half(NAN);
    float *row = malloc((size_t)cols * sizeof *row);
    CHECK_EQUAL(mk_tensor_new(&t, type, rows, cols), MK_OK);
    for (int32_t r = 0; r < rows; r++) {
        random_floats(state, row, cols);
        CHECK_EQUAL(mk_pack(&t, MK_F32, row, r, 1), MK_OK);
    }
    filled = (mk_tensor){ type, mki_n_strips(&t) * MKI_STRIP, cols, t.data };
    for (int32_t r = rows; r < filled.rows; r++) {
        for (int32_t i = 0; i < cols; i++)
            row[i] = mki_is_block_type(type) ? 1 : NAN;
        int status = mk_pack(&filled, MK_F32, row, r, 1); /* which refuses NaN, but only behind it */
        CHECK_EQUAL(status, mki_is_block_type(type) ? MK_OK : MK_ERR_VALUE);
        for (int32_t i = 0; mki_is_block_type(type) && i < cols / MKI_BLOCK * mki_n_scales(type); i++) {
            int64_t strip = r / MKI_STRIP * mki_strip_bytes(type, cols),
                    scales = mki_scales_at(type, i / mki_n_scales(type));
            memcpy((char *)t.data + strip + scales + 2 * (i % mki_n_scales(type) * MKI_STRIP + r % MKI_STRIP), &nan, 2);
        }
    }
    free(row);
    return t;
}

/* For free() of its blocks, behind which the rests lie. */
static mki_q8_rows rounded(const float *x, int32_t n_vectors, int32_t cols)
{
    int32_t n = n_vectors * (cols / MKI_BLOCK);
    mki_q8 *out = malloc(2 * (size_t)n * sizeof *out);
    CHECK(out);
    mki_strips_scalar.quantize(x, n, out, out + n);
    return (mki_q8_rows){ out, out + n, cols / MKI_BLOCK, n_vectors };
}

/* Vector v alone. */
static mki_q8_rows only(mki_q8_rows q, int32_t v)
{
    return q.blocks ? (mki_q8_rows){ q.blocks + v * q.stride, q.rests + v * q.stride, q.stride, 1 } : q;
}

/* Into out (n_vectors, stride), which is NaN; columns beyond the strip's rows must stay so. */
static void multiply(const mki_strip_ops *ops, mki_strips w, mki_q8_rows q, const float *x, int32_t n_vectors,
                     float *out)
{
    int64_t stride = w.n_rows + 3;
    for (int64_t i = 0; i < n_vectors * stride; i++)
        out[i] = NAN;
    if (q.blocks)
        ops->multiply_blocks(w, q, out, stride);
    else
        ops->multiply_floats(w, (mki_rows){ x, w.cols, n_vectors }, false, out, stride);
    for (int32_t v = 0; v < n_vectors; v++)
        for (int64_t r = w.n_rows; r < stride; r++)
            CHECK(isnan(out[v * stride + r]));
}

/* What block and rest say of value i. */
static double activation(const mki_q8 *block, const mki_q8 *rest, int i)
{
    double value = (double)block->d * block->q[i];
    return block->has_rest ? value + (double)rest->d * rest->q[i] : value;
}

/* |found - exact|, where a sum of cols products of floats rounds at each step, and of blocks at each block. */
static void check_close(const mk_tensor *t, int32_t row, const float *x, mki_q8_rows q, float found)
{
    float *w = malloc((size_t)t->cols * sizeof *w);
    double exact = 0, size = 0;
    CHECK_EQUAL(mk_dequantize_row(t, row, w), MK_OK);
    for (int32_t i = 0; i < t->cols; i++) {
        double value =
            q.blocks ? activation(q.blocks + i / MKI_BLOCK, q.rests + i / MKI_BLOCK, i % MKI_BLOCK) : (double)x[i];
        exact += (double)w[i] * value;
        size += fabs((double)w[i] * value);
    }
    /* A block with a minimum adds two terms that may cancel, each up to 15 steps where the weights are one. */
    double steps = q.blocks ? 32 : 1;
    CHECK(fabs((double)found - exact) <= (t->cols + 2) * (FLT_EPSILON / 2.0) * (size * steps + DBL_MIN));
    free(w);
}

/* Strips first .. first + n of t, by every instruction set; and by the scalar one each vector alone. */
static void check_strips(const mk_tensor *t, int32_t first, int32_t n, const float *x, mki_q8_rows q, int32_t n_vectors)
{
    mki_strips w = mki_strips_of(t, first, n);
    int64_t stride = w.n_rows + 3;
    float *judge = guarded_new(n_vectors * stride), *other = guarded_new(n_vectors * stride),
          *alone = guarded_new(stride);
    multiply(&mki_strips_scalar, w, q, x, n_vectors, judge);
    for (int32_t v = 0; v < n_vectors; v++) {
        mki_q8_rows own = only(q, v);
        for (int32_t r = 0; r < w.n_rows; r++)
            check_close(t, first * MKI_STRIP + r, x + (int64_t)v * t->cols, own, judge[v * stride + r]);
        multiply(&mki_strips_scalar, w, own, x + (int64_t)v * t->cols, 1, alone);
        CHECK(same_bits(alone, judge + v * stride, w.n_rows));
    }
    for (int k = 1; k < N_ISAS; k++)
        if (strips_of(isas[k])) {
            multiply(strips_of(isas[k]), w, q, x, n_vectors, other);
            for (int32_t v = 0; v < n_vectors; v++)
                CHECK(same_bits(judge + v * stride, other + v * stride, w.n_rows));
        }
    guarded_free(judge, n_vectors * stride);
    guarded_free(other, n_vectors * stride);
    guarded_free(alone, stride);
}

static void check_product(uint64_t *state, int32_t type, int32_t rows, int32_t cols, int32_t n_vectors)
{
    mk_tensor t = random_weights(state, type, rows, cols);
    float *x = guarded_new((int64_t)n_vectors * cols);
    random_floats(state, x, (int64_t)n_vectors * cols);
    for (int32_t i = 0; i < n_vectors * cols; i += 1 + (int32_t)harness_below(state, 100))
        x[i] *= 100; /* stands out */
    bool is_block_type = mki_is_block_type(type);
    mki_q8_rows q = is_block_type ? rounded(x, n_vectors, cols) : (mki_q8_rows){ 0 };
    for (int32_t first = 0, n; first < mki_n_strips(&t); first += n) {
        int32_t left = mki_n_strips(&t) - first;
        n = is_block_type && left > 1 ? 1 + (int32_t)harness_below(state, (uint64_t)left) : 1;
        check_strips(&t, first, n, x, q, n_vectors);
    }
    guarded_free(x, (int64_t)n_vectors * cols);
    free((void *)q.blocks);
    free(t.data);
}

TEST(products_of_blocks_have_the_same_bits_everywhere)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < 3; k++) {
        for (int32_t rows = 1; rows <= 34; rows += rows < 17 ? 3 : 7)
            for (int32_t n = 1; n <= MOST_VECTORS; n++)
                check_product(&state, block_types[k], rows, MKI_BLOCK * (1 + n % 4), n);
        check_product(&state, block_types[k], 83, 96, 5);
        check_product(&state, block_types[k], 48, 2080, 9); /* more groups than are multiplied at once */
    }
}

TEST(products_of_floats_have_the_same_bits_everywhere)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < 3; k++) {
        for (int32_t rows = 1; rows <= 34; rows += rows < 17 ? 3 : 7)
            for (int32_t n = 1; n <= MOST_VECTORS; n += 2)
                check_product(&state, float_types[k], rows, 1 + (7 * n + rows) % 40, n);
        check_product(&state, float_types[k], 16, 2081, 9);
    }
}

/* The largest integers there are: weights of 15 or 255 and activations of 127 of one sign, where 16-bit sums would
 * break. */
TEST(the_largest_sums_do_not_overflow)
{
    enum { COLS = 64 };
    float x[COLS], out[N_ISAS][MKI_STRIP];
    for (int k = 0; k < 3; k++)
        for (int sign = -1; sign <= 1; sign += 2)
            for (int edge = 0; edge < 2; edge++) { /* the least and the greatest weight */
                mk_tensor t;
                CHECK_EQUAL(mk_tensor_new(&t, block_types[k], MKI_STRIP, COLS), MK_OK);
                memset(t.data, edge ? 0xff : 0, (size_t)mki_strip_bytes(t.type, COLS));
                for (int64_t i = 0; i < COLS / MKI_BLOCK * mki_n_scales(t.type) * MKI_STRIP; i++) {
                    int64_t a_group = mki_n_scales(t.type) * MKI_STRIP;
                    ((uint16_t *)((char *)t.data + mki_scales_at(t.type, i / a_group)))[i % a_group] = mki_to_half(1);
                }
                for (int i = 0; i < COLS; i++)
                    x[i] = (float)sign;
                mki_q8_rows q = rounded(x, 1, COLS);
                int zero = t.type == MK_Q4_0 ? 8 : t.type == MK_Q8_0 ? 128 : 0, greatest = t.type == MK_Q8_0 ? 255 : 15;
                double weight = (edge ? greatest : 0) - zero + (t.type == MK_Q4_1);
                for (int i = 0; i < N_ISAS; i++)
                    if (strips_of(isas[i])) {
                        strips_of(isas[i])->multiply_blocks(mki_strips_of(&t, 0, 1), q, out[i], MKI_STRIP);
                        for (int r = 0; r < MKI_STRIP; r++)
                            CHECK(fabs((double)out[i][r] - weight * sign * (double)COLS) <=
                                  1e-5 * fabs(weight * (double)COLS));
                    }
                free((void *)q.blocks);
                free(t.data);
            }
}

/* Infinite weights times the zeros of a rest that is none would be NaN. */
TEST(a_rest_is_added_to_the_products_of_its_own_vector_alone)
{
    enum { COLS = 32, N = 8, ROWS = 2 * MKI_STRIP };
    float x[N * COLS], out[N * ROWS], alone[ROWS];
    uint16_t infinite = mki_to_half(INFINITY);
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q8_0, ROWS, COLS), MK_OK);
    memset(t.data, 0xff, 2 * (size_t)mki_strip_bytes(MK_Q8_0, COLS));
    for (int r = 0; r < ROWS; r++)
        memcpy((char *)t.data + r / MKI_STRIP * mki_strip_bytes(MK_Q8_0, COLS) + 2 * (r % MKI_STRIP), &infinite, 2);
    for (int i = 0; i < N * COLS; i++)
        x[i] = i % COLS == 3 && i / COLS % 2 ? 1000 : 1; /* stands out in every other vector */
    mki_q8_rows q = rounded(x, N, COLS);
    for (int k = 0; k < N_ISAS; k++) {
        const mki_strip_ops *ops = strips_of(isas[k]);
        if (!ops)
            continue;
        ops->multiply_blocks(mki_strips_of(&t, 0, 2), q, out, ROWS);
        for (int v = 0; v < N; v++) {
            ops->multiply_blocks(mki_strips_of(&t, 0, 2), only(q, v), alone, ROWS);
            CHECK(q.blocks[v].has_rest == v % 2 && alone[0] == INFINITY && same_bits(alone, out + v * ROWS, ROWS));
        }
    }
    free((void *)q.blocks);
    free(t.data);
}

TEST(a_product_may_be_added_in_segments)
{
    uint64_t state = harness_seed();
    for (int k = 0; k < N_ISAS; k++) {
        const mki_strip_ops *ops = strips_of(isas[k]);
        if (!ops)
            continue;
        mk_tensor t = random_weights(&state, MK_F32, 13, 40);
        float x[3 * 40], whole[3 * MKI_STRIP], parts[3 * MKI_STRIP];
        random_floats(&state, x, 3 * 40);
        mki_strips w = mki_strips_of(&t, 0, 1), head = w, tail = w;
        head.cols = 23, tail.cols = 17, tail.data += 23 * MKI_STRIP * sizeof(float);
        ops->multiply_floats(w, (mki_rows){ x, 40, 3 }, false, whole, MKI_STRIP);
        ops->multiply_floats(head, (mki_rows){ x, 40, 3 }, false, parts, MKI_STRIP);
        ops->multiply_floats(tail, (mki_rows){ x + 23, 40, 3 }, true, parts, MKI_STRIP);
        for (int v = 0; v < 3; v++)
            CHECK(same_bits(whole + v * MKI_STRIP, parts + v * MKI_STRIP, 13));
        free(t.data);
    }
}

TEST(a_strip_expands_to_its_rows)
{
    uint64_t state = harness_seed();
    enum { COLS = 96, FIRST = 32, N = 64 };
    for (int k = 0; k < 3; k++)
        for (int isa = 0; isa < N_ISAS; isa++) {
            const mki_strip_ops *ops = strips_of(isas[isa]);
            if (!ops)
                continue;
            mk_tensor t = random_weights(&state, block_types[k], MKI_STRIP, COLS);
            float *out = guarded_new(N * MKI_STRIP), row[COLS];
            ops->expand(mki_strips_of(&t, 0, 1), FIRST, N, out);
            for (int32_t r = 0; r < MKI_STRIP; r++) {
                CHECK_EQUAL(mk_dequantize_row(&t, r, row), MK_OK);
                for (int i = 0; i < N; i++)
                    CHECK(out[i * MKI_STRIP + r] == row[FIRST + i]);
            }
            guarded_free(out, N * MKI_STRIP);
            free(t.data);
        }
}

static bool same_block(const mki_q8 *a, const mki_q8 *b)
{
    bool same_sum = same_bits(&a->sum, &b->sum, 1) || (isnan(a->sum) && isnan(b->sum));
    bool same_step = same_bits(&a->d, &b->d, 1) || (isnan(a->d) && isnan(b->d));
    return memcmp(a->q, b->q, sizeof a->q) == 0 && a->bias == b->bias && same_step && same_sum &&
           a->has_rest == b->has_rest;
}

/* Returns whether the block has a rest. */
static bool check_rounding(const float x[MKI_BLOCK])
{
    mki_q8 judge, rest = { .has_rest = 0 }, other, other_rest = { .has_rest = 0 };
    mki_strips_scalar.quantize(x, 1, &judge, &rest);
    for (int k = 1; k < N_ISAS; k++)
        if (strips_of(isas[k])) {
            strips_of(isas[k])->quantize(x, 1, &other, &other_rest);
            CHECK(same_block(&judge, &other));
            CHECK(!judge.has_rest || (memcmp(rest.q, other_rest.q, sizeof rest.q) == 0 &&
                                      rest.bias == other_rest.bias && same_bits(&rest.d, &other_rest.d, 1)));
        }
    int total = 0, rest_total = 0;
    double largest = 0, sum = 0, magnitudes = 0;
    for (int i = 0; i < MKI_BLOCK; i++) {
        total += judge.q[i], rest_total += rest.q[i], sum += activation(&judge, &rest, i);
        magnitudes += fabs((double)x[i]);
        largest = isfinite(x[i]) ? fmax(largest, fabs((double)x[i])) : INFINITY;
    }
    CHECK_EQUAL(judge.bias, -8 * total);
    CHECK(!judge.has_rest || rest.bias == -8 * rest_total);
    if (largest == INFINITY) {
        CHECK(isnan(judge.d) && isnan(judge.sum) && !judge.has_rest);
        return false;
    }
    CHECK(fabs((double)judge.sum - sum) <= 1e-6 * 32 * largest + 1e-30);
    CHECK(judge.has_rest || judge.d == 0 || largest <= 11 * magnitudes / 32);
    double step = judge.has_rest ? (double)rest.d : largest / 127;
    for (int i = 0; i < MKI_BLOCK; i++) /* half a step, and the rounding of x / step */
        CHECK(fabs(activation(&judge, &rest, i) - (double)x[i]) <=
              step * (0.5 + 1e-4) + largest * 1e-6 + 127 * (double)FLT_MIN);
    return judge.has_rest;
}

TEST(activations_are_rounded_within_half_a_step_alike_everywhere)
{
    uint64_t state = harness_seed();
    static const float sizes[] = { 1, 1e-30f, 1e30f, 1e34f, 200 * FLT_MIN, FLT_MIN, 0x1p-149f, 0 };
    for (int round = 0; round < 4000; round++) {
        float x[MKI_BLOCK];
        random_floats(&state, x, MKI_BLOCK);
        for (int i = 0; i < MKI_BLOCK; i++)
            x[i] *= sizes[round % 8];
        CHECK(!check_rounding(x));
    }
}

TEST(beside_a_value_that_stands_out_the_others_keep_their_precision)
{
    uint64_t state = harness_seed();
    for (int round = 0; round < 4000; round++) {
        float x[MKI_BLOCK], size = exp2f((float)harness_below(&state, 40) - 20);
        random_floats(&state, x, MKI_BLOCK);
        for (int i = 0; i < MKI_BLOCK; i++)
            x[i] *= size;
        x[round % MKI_BLOCK] = (round & 64 ? -1 : 1) * size * (float)(30 + harness_below(&state, 100000));
        CHECK(check_rounding(x));
    }
}

TEST(activations_that_are_not_finite_are_not_hidden)
{
    static const float bad[] = { INFINITY, -INFINITY, NAN, -NAN };
    for (int b = 0; b < 4; b++)
        for (int at = 0; at < MKI_BLOCK; at++) {
            float x[MKI_BLOCK] = { 1, 2, 3 };
            x[at] = bad[b];
            check_rounding(x);
        }
}

int main(int argc, char **argv)
{
    need_avx2();
    return harness_main(argc, argv);
}
