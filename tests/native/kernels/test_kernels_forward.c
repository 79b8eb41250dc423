/* The forward pass: against the double-precision oracle, and the same bits however the work is cut. */
#include "test_kernels_random_model.h"
#include "isa.h"
#include "pool.h"
#include "timeline.h"
#include "workspace.h"

enum { N_CTX = 320, MOST_VOCAB = 64, N_TYPES = 3, N_ISAS = 5 };

/* What timelines keep keys and values as, and how far that may move a logit, as a part of the largest: arbitrary, about
 * ten times (F32) or three times what is observed. */
static const struct {
    int32_t type;
    double bound;
} caches[N_TYPES] = { { MK_F32, 1e-5 }, { MK_I16, 1e-3 }, { MK_Q8_0, 2e-2 } };
#define ROUNDED_BOUND 0.05 /* the same of activations rounded to 8 bits; three times what is observed */

static void random_tokens(uint64_t *state, const mk_model *m, int32_t *tokens, int32_t n)
{
    for (int32_t i = 0; i < n; i++)
        tokens[i] = (int32_t)harness_below(state, (uint64_t)m->config.n_vocab);
}

/* A timeline, and a workspace that serves it alone. */
typedef struct {
    mk_timeline *t;
    mk_workspace *w;
} session;

/* Makes everything the next evaluation must not read a NaN: scratch, and the cache beyond what it holds. */
static void poison(session s)
{
    const mk_config *c = &s.t->config;
    int64_t kv_dim = c->n_kv_heads * c->head_dim, q_dim = c->n_heads * c->head_dim;
    memset(s.w->rounded, 0xff, 2 * (size_t)s.w->n_batch * (size_t)(c->ffn_dim / 32) * sizeof *s.w->rounded);
    int64_t n_scratch = s.w->n_batch * (2 * c->dim + 2 * q_dim + 2 * kv_dim + 2 * (int64_t)c->ffn_dim + c->rope_dim);
    float nothing[64];
    for (int64_t i = 0; i < n_scratch; i++)
        s.w->x[i] = NAN;
    for (int32_t i = 0; i < c->head_dim; i++)
        nothing[i] = NAN;
    for (int32_t layer = 0; layer < c->n_layers; layer++) {
        mki_cache cache = s.t->cache;
        cache.strips += layer * s.t->layer_bytes;
        for (int32_t p = s.t->length; p < (s.t->n_ctx + 63) / 64 * 64; p++)
            for (int32_t h = 0; h < c->n_kv_heads; h++)
                mki_isa_current()->attention->remember(&cache, p, h, nothing, nothing);
    }
}

static session session_of(const mk_model *m, int32_t cache_type)
{
    session s;
    CHECK_EQUAL(mk_timeline_new(&s.t, m, N_CTX, cache_type), MK_OK);
    CHECK_EQUAL(mk_workspace_new(&s.w, m, N_CTX), MK_OK);
    CHECK_EQUAL(mk_timeline_context(s.t), N_CTX);
    memset(s.t->cache.strips, 0xff, (size_t)(m->config.n_layers * s.t->layer_bytes)); /* NaN, whatever the type */
    poison(s);
    return s;
}

static void session_free(session s)
{
    mk_timeline_free(s.t);
    mk_workspace_free(s.w);
}

static void eval_fresh(const mk_model *m, int32_t cache_type, const int32_t *tokens, int32_t n, float *logits)
{
    session s = session_of(m, cache_type);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, n, logits), MK_OK);
    CHECK_EQUAL(mk_timeline_length(s.t), n);
    session_free(s);
}

/* Lengths up to the longest, on both sides of a batch and of two attention chunks, both of 128. */
static void check_against_oracle(mk_model *m, int32_t longest)
{
    static const int32_t lengths[] = { 1, 2, 63, 65, 128, 129, 300 };
    static const char *const isas[] = { "portable", "scalar", "avx2", "avx2-vnni", "avx512-vnni" };
    uint64_t state = harness_seed();
    int32_t tokens[N_CTX];
    random_tokens(&state, m, tokens, N_CTX);
    for (int k = 0; k < 7 && lengths[k] <= longest; k++) {
        double *exact = oracle_logits(m, tokens, lengths[k]);
        for (int at = 0; at < 2 * N_ISAS * N_TYPES; at++) {
            bool is_exact = at % 2;
            double bound = caches[at / 2 % N_TYPES].bound + (is_exact ? 0 : ROUNDED_BOUND), size = 0;
            if (mk_isa_choose(isas[at / 2 / N_TYPES]) != MK_OK)
                continue; /* scalar and avx2 are there: main asked */
            float *logits = guarded_new(m->config.n_vocab);
            mk_exact_choose(is_exact);
            eval_fresh(m, caches[at / 2 % N_TYPES].type, tokens, lengths[k], logits);
            for (int32_t i = 0; i < m->config.n_vocab; i++)
                size = fmax(size, fabs(exact[i]));
            for (int32_t i = 0; i < m->config.n_vocab; i++)
                CHECK(fabs((double)logits[i] - exact[i]) <= bound * size);
            guarded_free(logits, m->config.n_vocab);
        }
        free(exact);
    }
    mk_exact_choose(false);
    mk_isa_choose(NULL);
    mk_model_free(m);
}

TEST(a_quantised_model_agrees_with_the_oracle) { check_against_oracle(quantised_model(), 300); }
TEST(a_model_of_odd_sizes_agrees_with_the_oracle) { check_against_oracle(odd_model(), 300); }
TEST(a_model_wider_than_a_segment_agrees_with_the_oracle) { check_against_oracle(wide_model(), 2); }

static void check_pieces(mk_model *m, int32_t n)
{
    uint64_t state = harness_seed();
    int32_t tokens[N_CTX];
    float whole[MOST_VOCAB], pieces[MOST_VOCAB];
    random_tokens(&state, m, tokens, n);
    for (int round = 0; round < 4 * N_TYPES; round++) {
        session s = session_of(m, caches[round / 4].type);
        if (round % 4 == 0)
            eval_fresh(m, caches[round / 4].type, tokens, n, whole);
        for (int32_t done = 0, step; done < n; done += step) {
            step = round % 4 == 0 ? 1 : 1 + (int32_t)harness_below(&state, (uint64_t)n / 2);
            step = step < n - done ? step : n - done;
            CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens + done, step, done + step < n ? NULL : pieces), MK_OK);
        }
        CHECK(same_bits(whole, pieces, m->config.n_vocab));
        session_free(s);
    }
    mk_model_free(m);
}

TEST(a_quantised_model_gives_the_same_bits_for_a_prompt_in_pieces) { check_pieces(quantised_model(), 300); }
TEST(a_model_of_odd_sizes_gives_the_same_bits_for_a_prompt_in_pieces) { check_pieces(odd_model(), 300); }
TEST(a_model_wider_than_a_segment_gives_the_same_bits_for_a_prompt_in_pieces) { check_pieces(wide_model(), 10); }

static void check_every_token_scored(mk_model *m)
{
    enum { N = 140 }; /* more than a batch of 128 */
    uint64_t state = harness_seed();
    int32_t tokens[N], n_vocab = m->config.n_vocab;
    float *all = guarded_new(N * n_vocab), one[MOST_VOCAB];
    random_tokens(&state, m, tokens, N);
    session at_once = session_of(m, MK_I16), singly = session_of(m, MK_I16);
    CHECK_EQUAL(mk_eval(at_once.t, at_once.w, m, NULL, tokens, 3, NULL), MK_OK);
    CHECK_EQUAL(mk_eval_all(at_once.t, at_once.w, m, NULL, tokens + 3, N - 3, all + 3 * n_vocab), MK_OK);
    CHECK_EQUAL(mk_timeline_length(at_once.t), N);
    for (int32_t t = 0; t < N; t++) {
        CHECK_EQUAL(mk_eval(singly.t, singly.w, m, NULL, tokens + t, 1, one), MK_OK);
        CHECK(t < 3 || same_bits(one, all + t * n_vocab, n_vocab));
    }
    session_free(at_once);
    session_free(singly);
    guarded_free(all, N * n_vocab);
    mk_model_free(m);
}

TEST(a_quantised_model_scores_every_token_as_it_does_one) { check_every_token_scored(quantised_model()); }
TEST(a_model_of_odd_sizes_scores_every_token_as_it_does_one) { check_every_token_scored(odd_model()); }

/* Enough heads that one token's attention is worth sharing, from a position on that a prompt of 200 has passed. */
static mk_model *many_headed_model(void)
{
    static const mk_config config = { .n_layers = 2,
                                      .dim = 32,
                                      .n_heads = 16,
                                      .n_kv_heads = 2,
                                      .head_dim = 48,
                                      .ffn_dim = 64,
                                      .n_vocab = 40,
                                      .n_ctx_train = 512,
                                      .rope_dim = 48,
                                      .rope_theta = 10000,
                                      .norm_eps = 1e-5f };
    return random_model(harness_seed(), &config, (const int32_t[]){ MK_Q8_0 }, 1, true);
}

static void check_threads(mk_model *m)
{
    uint64_t state = harness_seed();
    int32_t tokens[N_CTX];
    float alone[2][MOST_VOCAB], together[MOST_VOCAB];
    random_tokens(&state, m, tokens, N_CTX);
    for (int32_t n_threads = 1; n_threads <= 4; n_threads++) {
        mk_pool *pool;
        session s = session_of(m, MK_I16);
        CHECK_EQUAL(mki_pool_new(&pool, n_threads), MK_OK);
        for (int part = 0; part < 2; part++) { /* a prompt, then one token */
            CHECK_EQUAL(mk_eval(s.t, s.w, m, pool, tokens + part * 200, part ? 1 : 200, together), MK_OK);
            if (n_threads == 1)
                memcpy(alone[part], together, sizeof together);
            CHECK(same_bits(alone[part], together, m->config.n_vocab));
        }
        session_free(s);
        mk_pool_free(pool);
    }
    mk_model_free(m);
}

TEST(any_number_of_threads_gives_the_same_bits) { check_threads(quantised_model()); }
TEST(any_number_of_threads_gives_the_same_bits_of_many_heads) { check_threads(many_headed_model()); }

TEST(a_truncated_timeline_is_as_if_the_rest_had_never_been)
{
    uint64_t state = harness_seed();
    mk_model *m = quantised_model();
    int32_t tokens[N_CTX];
    float fresh[MOST_VOCAB], again[MOST_VOCAB];
    random_tokens(&state, m, tokens, N_CTX);
    session s = session_of(m, MK_I16);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, N_CTX, NULL), MK_OK);
    for (int32_t length = 150; length >= 0; length -= 50) {
        CHECK_EQUAL(mk_timeline_truncate(s.t, length), MK_OK);
        CHECK_EQUAL(mk_timeline_length(s.t), length);
        poison(s);
        eval_fresh(m, MK_I16, tokens, length + 7, fresh);
        CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens + length, 7, again), MK_OK);
        CHECK(same_bits(fresh, again, m->config.n_vocab));
    }
    CHECK_EQUAL(mk_timeline_truncate(s.t, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_truncate(s.t, mk_timeline_length(s.t) + 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_truncate(NULL, 0), MK_ERR_ARGUMENT);
    session_free(s);
    mk_model_free(m);
}

TEST(a_timeline_that_is_given_the_state_of_another_goes_on_as_that_one)
{
    static const int32_t lengths[] = { 0, 1, 63, 64, 65, 200, N_CTX - 1 };
    uint64_t state = harness_seed();
    mk_model *m = odd_model();
    int32_t tokens[N_CTX];
    random_tokens(&state, m, tokens, N_CTX);
    for (int i = 0; i < 7 * N_TYPES; i++) {
        int32_t length = lengths[i / N_TYPES];
        session from = session_of(m, caches[i % N_TYPES].type), to = session_of(m, caches[i % N_TYPES].type);
        float expected[MOST_VOCAB], found[MOST_VOCAB];
        CHECK(length == 0 || mk_eval(from.t, from.w, m, NULL, tokens, length, NULL) == MK_OK);
        int64_t n_bytes = mk_timeline_state_bytes(from.t, length);
        void *bytes = malloc((size_t)n_bytes + 1);
        CHECK_EQUAL(mk_timeline_save(from.t, bytes, n_bytes + 1), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_timeline_save(from.t, bytes, n_bytes), MK_OK);
        CHECK_EQUAL(mk_timeline_load(to.t, bytes, n_bytes + 1, length), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_timeline_load(to.t, bytes, n_bytes, N_CTX + 1), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_timeline_load(to.t, bytes, n_bytes, -1), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_timeline_length(to.t), 0);
        CHECK_EQUAL(mk_timeline_load(to.t, bytes, n_bytes, length), MK_OK);
        CHECK_EQUAL(mk_timeline_length(to.t), length);
        poison(to);
        CHECK_EQUAL(mk_eval(from.t, from.w, m, NULL, tokens + length, 1, expected), MK_OK);
        CHECK_EQUAL(mk_eval(to.t, to.w, m, NULL, tokens + length, 1, found), MK_OK);
        CHECK(same_bits(expected, found, m->config.n_vocab));
        free(bytes);
        session_free(from);
        session_free(to);
    }
    CHECK_EQUAL(mk_timeline_state_bytes(NULL, 1), 0);
    CHECK_EQUAL(mk_timeline_save(NULL, tokens, 0), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_load(NULL, tokens, 0, 0), MK_ERR_ARGUMENT);
    mk_model_free(m);
}

/* `n` tokens must be refused with `status`, and leave the timeline as if nobody had asked. */
static void check_refused(session s, const mk_model *m, const int32_t *tokens, int32_t n, int status)
{
    float logits[MOST_VOCAB], expected[MOST_VOCAB];
    int32_t length = mk_timeline_length(s.t), one = 1;
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, n, logits), status);
    CHECK_EQUAL(mk_timeline_length(s.t), length);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, &one, 1, expected), MK_OK);
    CHECK_EQUAL(mk_timeline_truncate(s.t, length), MK_OK);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, n, logits), status);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, &one, 1, logits), MK_OK);
    CHECK(same_bits(logits, expected, m->config.n_vocab));
    CHECK_EQUAL(mk_timeline_truncate(s.t, length), MK_OK);
}

TEST(what_cannot_be_evaluated_is_refused_and_changes_nothing)
{
    mk_model *m = quantised_model();
    session s = session_of(m, MK_I16);
    int32_t tokens[N_CTX + 1] = { 0 }, negative[] = { 3, -1 }, beyond[] = { 3, m->config.n_vocab };
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, 30, NULL), MK_OK);
    check_refused(s, m, tokens, N_CTX - 29, MK_ERR_CONTEXT);
    check_refused(s, m, tokens, N_CTX + 1, MK_ERR_CONTEXT);
    check_refused(s, m, tokens, 0, MK_ERR_ARGUMENT);
    check_refused(s, m, tokens, -5, MK_ERR_ARGUMENT);
    check_refused(s, m, NULL, 2, MK_ERR_ARGUMENT);
    check_refused(s, m, negative, 2, MK_ERR_ARGUMENT);
    check_refused(s, m, beyond, 2, MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval(NULL, s.w, m, NULL, tokens, 1, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval(s.t, NULL, m, NULL, tokens, 1, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval(s.t, s.w, NULL, NULL, tokens, 1, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval_all(NULL, s.w, m, NULL, tokens, 1, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval_all(s.t, s.w, m, NULL, tokens, N_CTX - 29, NULL), MK_ERR_CONTEXT);
    CHECK_EQUAL(mk_eval_all(s.t, s.w, m, NULL, tokens, N_CTX - 30, NULL), MK_OK);
    CHECK_EQUAL(mk_eval(s.t, s.w, m, NULL, tokens, 1, NULL), MK_ERR_CONTEXT);
    session_free(s);
    mk_model_free(m);
}

TEST(a_workspace_serves_one_timeline_after_another)
{
    uint64_t state = harness_seed();
    mk_model *m = odd_model();
    enum { N = 20 };
    int32_t tokens[2][N];
    float alone[2][MOST_VOCAB], in_turns[MOST_VOCAB];
    session s[] = { session_of(m, MK_I16), session_of(m, MK_F32) };
    for (int i = 0; i < 2; i++) {
        random_tokens(&state, m, tokens[i], N);
        eval_fresh(m, s[i].t->cache.type, tokens[i], N, alone[i]);
    }
    for (int32_t done = 0; done < N; done += 5)
        for (int i = 0; i < 2; i++) {
            CHECK_EQUAL(mk_eval(s[i].t, s[0].w, m, NULL, tokens[i] + done, 5, in_turns), MK_OK);
            CHECK(done + 5 < N || same_bits(alone[i], in_turns, m->config.n_vocab));
        }
    session_free(s[0]);
    session_free(s[1]);
    mk_model_free(m);
}

TEST(a_workspace_of_another_model_or_a_shorter_context_is_refused)
{
    mk_model *m = quantised_model(), *other = odd_model();
    session s = session_of(m, MK_I16);
    mk_workspace *shorter, *longer, *others;
    float logits[MOST_VOCAB];
    CHECK_EQUAL(mk_workspace_new(&shorter, m, N_CTX - 1), MK_OK);
    CHECK_EQUAL(mk_workspace_new(&longer, m, N_CTX + 1), MK_OK);
    CHECK_EQUAL(mk_workspace_new(&others, other, N_CTX), MK_OK);
    CHECK_EQUAL(mk_eval(s.t, shorter, m, NULL, (int32_t[]){ 1 }, 1, logits), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_eval(s.t, others, m, NULL, (int32_t[]){ 1 }, 1, logits), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_length(s.t), 0);
    CHECK_EQUAL(mk_eval(s.t, longer, m, NULL, (int32_t[]){ 1 }, 1, logits), MK_OK);
    mk_workspace_free(shorter);
    mk_workspace_free(longer);
    mk_workspace_free(others);
    session_free(s);
    mk_model_free(m);
    mk_model_free(other);
}

TEST(a_workspace_of_no_tokens_is_refused)
{
    mk_model *m = quantised_model();
    mk_workspace *w = (mk_workspace *)1;
    CHECK_EQUAL(mk_workspace_new(&w, m, 0), MK_ERR_ARGUMENT);
    CHECK(!w);
    CHECK_EQUAL(mk_workspace_new(&w, m, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_workspace_new(&w, NULL, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_workspace_new(NULL, m, 1), MK_ERR_ARGUMENT);
    mk_workspace_free(NULL);
    mk_model_free(m);
}

TEST(another_model_is_refused)
{
    mk_model *m = quantised_model(), *other = odd_model();
    session s = session_of(m, MK_I16);
    CHECK_EQUAL(mk_eval(s.t, s.w, other, NULL, (int32_t[]){ 1 }, 1, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_length(s.t), 0);
    session_free(s);
    mk_model_free(m);
    mk_model_free(other);
}

TEST(a_timeline_of_no_tokens_or_an_unknown_cache_is_refused)
{
    mk_model *m = quantised_model();
    mk_timeline *t = (mk_timeline *)1;
    CHECK_EQUAL(mk_timeline_new(&t, m, 0, MK_F32), MK_ERR_ARGUMENT);
    CHECK(!t);
    CHECK_EQUAL(mk_timeline_new(&t, m, -1, MK_F32), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_new(&t, m, 1, MK_Q4_0), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_new(&t, NULL, 1, MK_F32), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_new(NULL, m, 1, MK_F32), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_timeline_length(NULL), 0);
    CHECK_EQUAL(mk_timeline_context(NULL), 0);
    mk_timeline_free(NULL);
    mk_model_free(m);
}

TEST(a_context_whose_size_overflows_is_out_of_memory)
{
    /* Two layers of keys of 2^30 floats for 2^31 tokens: the shapes agree, and nothing is read before the product. */
    int32_t wide = 1 << 30;
    float vector[1];
    mk_tensor one = { MK_F32, 1, 1, &wide }, to_wide = { MK_F32, wide, 1, &wide },
              from_wide = { MK_F32, 1, wide, &wide };
    mk_layer layer = { vector, to_wide, to_wide, to_wide, from_wide, vector, one, one, one };
    mk_layer layers[] = { layer, layer };
    mk_model m = { .config = { .n_layers = 2,
                               .dim = 1,
                               .n_heads = 1,
                               .n_kv_heads = 1,
                               .head_dim = wide,
                               .ffn_dim = 1,
                               .n_vocab = 1,
                               .rope_dim = 0,
                               .rope_theta = 1 },
                   .embed = one,
                   .out_norm = vector,
                   .output = one,
                   .layers = layers };
    mk_timeline *t = (mk_timeline *)1;
    CHECK_EQUAL(mk_timeline_new(&t, &m, INT32_MAX, MK_F32), MK_ERR_MEMORY);
    CHECK(!t);
}

int main(int argc, char **argv)
{
    need_avx2();
    return harness_main(argc, argv);
}
