/* sample.c - from logits to a token: top-k, top-p, min-p, then temperature.
 *
 * Candidates form a heap, greatest logit first, of which only as many are put in order as the filters look at: a sort
 * of the whole vocabulary would cost as much as a layer. Equal logits go by token id, so that a seed fixes the text.
 */
#include "llama_kernels.h"

#include <math.h>
#include <stdlib.h>

typedef struct {
    float logit;
    int32_t token;
} candidate;

/* at[0 .. n_heap-1] is a heap; behind it, the greatest is last, the second greatest last but one, and so on. */
typedef struct {
    candidate *at;
    int32_t n, n_heap;
} ranking;

static bool before(candidate a, candidate b) { return a.logit > b.logit || (a.logit == b.logit && a.token < b.token); }

static void sift_down(candidate *heap, int32_t n, int32_t i)
{
    candidate moving = heap[i];
    for (int32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && before(heap[child + 1], heap[child]))
            child++;
        if (!before(heap[child], moving))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

/* The candidate of this rank; 0 is the greatest. */
static candidate ranked(ranking *all, int32_t rank)
{
    while (all->n - all->n_heap <= rank) {
        candidate greatest = all->at[0];
        all->at[0] = all->at[--all->n_heap];
        sift_down(all->at, all->n_heap, 0);
        all->at[all->n_heap] = greatest;
    }
    return all->at[all->n - 1 - rank];
}

static int rank_logits(ranking *all, const float *logits, int32_t n)
{
    *all = (ranking){ malloc((size_t)n * sizeof *all->at), n, n };
    if (!all->at)
        return MK_ERR_MEMORY;
    for (int32_t i = 0; i < n; i++)
        all->at[i] = (candidate){ logits[i], i };
    for (int32_t i = n / 2 - 1; i >= 0; i--)
        sift_down(all->at, n, i);
    return MK_OK;
}

/* Probability relative to the greatest logit's. */
static double weight(candidate c, float peak, float temperature)
{
    return exp(((double)c.logit - (double)peak) / (double)temperature);
}

/* Sum of the weights of the first n_kept. If these are not all, they must have been ranked. */
static double total_weight(const ranking *all, int32_t n_kept, float peak, float temperature)
{
    double total = 0;
    for (int32_t i = 0; i < n_kept; i++)
        total += weight(all->at[all->n - 1 - i], peak, temperature);
    return total;
}

/* How many candidates, from the greatest on, pass the filters: at least one. Those are ranked unless they are all. */
static int32_t filter(const mk_sampler *sampler, ranking *all, float peak)
{
    int32_t n_kept = all->n;
    if (sampler->top_k > 0 && sampler->top_k < n_kept) {
        n_kept = sampler->top_k;
        ranked(all, n_kept - 1);
    }
    if (sampler->top_p < 1) {
        double wanted = (double)sampler->top_p * total_weight(all, n_kept, peak, 1), sum = 0;
        int32_t n = 0;
        do
            sum += weight(ranked(all, n++), peak, 1);
        while (n < n_kept && sum < wanted);
        n_kept = n;
    }
    if (sampler->min_p > 0) {
        int32_t n = 1;
        while (n < n_kept && weight(ranked(all, n), peak, 1) >= (double)sampler->min_p)
            n++;
        n_kept = n;
    }
    return n_kept;
}

/* splitmix64 (Steele, Lea & Flood 2014): one word of state, and any seed will do. Uniform in [0, 1). */
static double uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-53;
}

static int32_t draw(mk_sampler *sampler, ranking *all, int32_t n_kept, float peak)
{
    double left = uniform(&sampler->rng) * total_weight(all, n_kept, peak, sampler->temperature);
    for (int32_t i = 0; i < n_kept; i++) {
        candidate c = all->at[all->n - 1 - i];
        left -= weight(c, peak, sampler->temperature);
        if (left < 0)
            return c.token;
    }
    return ranked(all, 0).token; /* rounding ate the last sliver */
}

/* Index of the greatest logit, the first of equals; -1 if there is a NaN or nothing finite to choose. */
static int32_t greatest_logit(const float *logits, int32_t n)
{
    int32_t best = 0;
    for (int32_t i = 0; i < n; i++) {
        if (isnan(logits[i]))
            return -1;
        if (logits[i] > logits[best])
            best = i;
    }
    return isfinite(logits[best]) ? best : -1;
}

static bool sampler_is_sane(const mk_sampler *s)
{
    return isfinite(s->temperature) && s->temperature >= 0 && s->top_k >= 0 && s->top_p >= 0 && s->top_p <= 1 &&
           s->min_p >= 0 && s->min_p <= 1;
}

int mk_sample(mk_sampler *sampler, const float *logits, int32_t n_vocab, int32_t *token)
{
    if (token)
        *token = -1;
    if (!sampler || !logits || !token || n_vocab <= 0 || !sampler_is_sane(sampler))
        return MK_ERR_ARGUMENT;
    int32_t best = greatest_logit(logits, n_vocab);
    if (best < 0)
        return MK_ERR_VALUE;
    if (sampler->temperature == 0) {
        *token = best;
        return MK_OK;
    }
    ranking all;
    int status = rank_logits(&all, logits, n_vocab);
    if (status)
        return status;
    *token = draw(sampler, &all, filter(sampler, &all, logits[best]), logits[best]);
    free(all.at);
    return MK_OK;
}
