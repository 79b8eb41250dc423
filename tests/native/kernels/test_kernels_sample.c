/* The sampler against a dumb oracle that sorts everything and writes down each token's probability. */
#include "test_kernels.h"

#include <float.h>

enum { MOST = 40, DRAWS = 20000 };

typedef struct {
    double p;
    int32_t token;
} chance;

static int by_chance(const void *a, const void *b)
{
    const chance *x = a, *y = b;
    return x->p != y->p ? (x->p < y->p ? 1 : -1) : x->token - y->token;
}

/* Probabilities of the n tokens after all filters, in the order the header gives. */
static void expect(const mk_sampler *s, const float *logits, int32_t n, double *probability)
{
    chance all[MOST];
    double total = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        all[i] = (chance){ exp((double)logits[i]), i };
    qsort(all, (size_t)n, sizeof *all, by_chance);
    int32_t kept = s->top_k && s->top_k < n ? s->top_k : n, k = 0;
    for (int32_t i = 0; i < kept; i++)
        total += all[i].p;
    while (s->top_p < 1 && k < kept && (k == 0 || sum < (double)s->top_p * total))
        sum += all[k++].p;
    kept = s->top_p < 1 ? k : kept;
    while (kept > 1 && all[kept - 1].p < (double)s->min_p * all[0].p)
        kept--;
    for (int32_t i = 0; i < n; i++)
        probability[i] = 0;
    total = 0;
    for (int32_t i = 0; i < kept; i++)
        total += pow(all[i].p, 1 / (double)s->temperature);
    for (int32_t i = 0; i < kept; i++)
        probability[all[i].token] = pow(all[i].p, 1 / (double)s->temperature) / total;
}

static void check_distribution(mk_sampler s, const float *logits, int32_t n)
{
    double probability[MOST];
    int32_t drawn[MOST] = { 0 }, token;
    expect(&s, logits, n, probability);
    for (int i = 0; i < DRAWS; i++) {
        CHECK_EQUAL(mk_sample(&s, logits, n, &token), MK_OK);
        CHECK(token >= 0 && token < n);
        drawn[token]++;
    }
    for (int32_t i = 0; i < n; i++) { /* six standard deviations, and a few draws where they are tiny */
        double mean = (double)DRAWS * probability[i], deviation = sqrt(mean * (1 - probability[i]));
        CHECK(fabs(drawn[i] - mean) <= 6 * deviation + 3);
        CHECK(probability[i] > 0 || drawn[i] == 0);
    }
}

TEST(tokens_come_as_often_as_the_filters_say)
{
    uint64_t state = harness_seed();
    for (int round = 0; round < 60; round++) {
        float logits[MOST];
        int32_t n = 1 + (int32_t)harness_below(&state, MOST);
        for (int32_t i = 0; i < n; i++)
            logits[i] = 3 * random_float(&state);
        mk_sampler s = { .temperature = 1.1f + random_float(&state), .top_p = 1, .rng = harness_random(&state) };
        if (round & 1)
            s.top_k = 1 + (int32_t)harness_below(&state, MOST);
        if (round & 2)
            s.top_p = 0.49f * (1.01f + random_float(&state));
        if (round & 4)
            s.min_p = 0.25f * (1 + random_float(&state));
        check_distribution(s, logits, n);
    }
}

TEST(greedy_takes_the_first_of_the_greatest_and_no_randomness)
{
    float logits[] = { 1, 5, -INFINITY, 5, 2 };
    mk_sampler s = { .top_p = 1, .rng = 7 };
    int32_t token;
    CHECK_EQUAL(mk_sample(&s, logits, 5, &token), MK_OK);
    CHECK_EQUAL(token, 1);
    CHECK_EQUAL(s.rng, 7);
}

TEST(a_seed_fixes_the_tokens)
{
    float logits[MOST];
    uint64_t state = harness_seed();
    random_floats(&state, logits, MOST);
    mk_sampler a = { .temperature = 1, .top_k = 10, .top_p = 0.9f, .rng = 0 }, b = a;
    for (int i = 0; i < 100; i++) {
        int32_t first, second;
        CHECK_EQUAL(mk_sample(&a, logits, MOST, &first), MK_OK);
        CHECK_EQUAL(mk_sample(&b, logits, MOST, &second), MK_OK);
        CHECK_EQUAL(first, second);
    }
}

TEST(equal_logits_are_ranked_by_token)
{
    float logits[MOST] = { 0 };
    mk_sampler s = { .temperature = 1, .top_k = 3, .top_p = 1, .rng = 1 };
    for (int i = 0; i < 1000; i++) {
        int32_t token;
        CHECK_EQUAL(mk_sample(&s, logits, MOST, &token), MK_OK);
        CHECK(token < 3);
    }
}

TEST(an_infinitely_unlikely_token_is_never_picked)
{
    float logits[] = { -INFINITY, 0, -INFINITY, 1, -INFINITY };
    mk_sampler s = { .temperature = 100, .top_p = 1, .rng = 3 };
    for (int i = 0; i < 1000; i++) {
        int32_t token;
        CHECK_EQUAL(mk_sample(&s, logits, 5, &token), MK_OK);
        CHECK(token == 1 || token == 3);
    }
}

TEST(extreme_temperatures_stay_defined)
{
    float logits[] = { 0, 80, -3e38f, 3e38f };
    static const float temperatures[] = { 1e-30f, 1e30f };
    for (int k = 0; k < 2; k++) {
        mk_sampler s = { .temperature = temperatures[k], .top_p = 0.99f, .min_p = 0.01f, .rng = 3 };
        int32_t token;
        CHECK_EQUAL(mk_sample(&s, logits, 4, &token), MK_OK);
        CHECK_EQUAL(token, 3);
    }
}

static void check_status(mk_sampler s, const float *logits, int32_t n, int status)
{
    int32_t token = 5;
    CHECK_EQUAL(mk_sample(&s, logits, n, &token), status);
    CHECK_EQUAL(token, -1);
}

static void check_refused(mk_sampler s, const float *logits, int32_t n) { check_status(s, logits, n, MK_ERR_ARGUMENT); }

TEST(scores_that_are_not_finite_are_told_apart_from_nonsense)
{
    float nan[] = { 1, NAN }, infinite[] = { 1, INFINITY }, nothing[] = { -INFINITY, -INFINITY };
    mk_sampler s = { .temperature = 1, .top_p = 1 };
    check_status(s, nan, 2, MK_ERR_VALUE);
    check_status(s, infinite, 2, MK_ERR_VALUE);
    check_status(s, nothing, 2, MK_ERR_VALUE);
}

TEST(filters_at_their_edges_leave_the_likeliest_token)
{
    float logits[] = { 1, 3, 2, 3 };
    static const mk_sampler edges[] = { { .temperature = FLT_MAX, .top_p = 0 },
                                        { .temperature = FLT_MAX, .top_p = 1, .min_p = 1, .top_k = 1 },
                                        { .temperature = FLT_TRUE_MIN, .top_p = 1, .top_k = 1 },
                                        { .temperature = 1, .top_p = FLT_TRUE_MIN } };
    for (int i = 0; i < 4; i++) {
        mk_sampler s = edges[i];
        int32_t token;
        CHECK_EQUAL(mk_sample(&s, logits, 4, &token), MK_OK);
        CHECK_EQUAL(token, 1);
    }
}

TEST(nonsense_is_refused)
{
    float good[] = { 1, 2 };
    mk_sampler s = { .temperature = 1, .top_p = 1 };
    check_refused(s, good, 0);
    check_refused(s, good, -1);
    check_refused(s, NULL, 2);
    check_refused((mk_sampler){ .temperature = -1, .top_p = 1 }, good, 2);
    check_refused((mk_sampler){ .temperature = NAN, .top_p = 1 }, good, 2);
    check_refused((mk_sampler){ .temperature = 1, .top_p = -1 }, good, 2);
    check_refused((mk_sampler){ .temperature = 1, .top_p = NAN }, good, 2);
    check_refused((mk_sampler){ .temperature = 1, .top_p = 1, .top_k = -1 }, good, 2);
    check_refused((mk_sampler){ .temperature = 1, .top_p = 1, .min_p = 1.5f }, good, 2);
    CHECK_EQUAL(mk_sample(NULL, good, 2, &(int32_t){ 0 }), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_sample(&s, good, 2, NULL), MK_ERR_ARGUMENT);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
