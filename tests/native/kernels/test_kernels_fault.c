/* When memory or threads run out: the N-th request fails, for every N; the call says so, its output is NULL and
 * nothing stays allocated. Linked so that the wrappers below stand between the kernels and the C library. */
#include "test_kernels_random_model.h"
#include "pool.h"

#include <pthread.h>

static long countdown = -1; /* requests until one fails; negative: none will */
static long n_live;         /* blocks the kernels hold */

static bool refuse(void) { return countdown >= 0 && countdown-- == 0; }

static void *counted(void *block)
{
    n_live += block != NULL;
    return block;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *block);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *block);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg);

void *__wrap_malloc(size_t size) { return refuse() ? NULL : counted(__real_malloc(size)); }
void *__wrap_calloc(size_t n, size_t size) { return refuse() ? NULL : counted(__real_calloc(n, size)); }
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return refuse() ? NULL : counted(__real_aligned_alloc(alignment, size));
}

void __wrap_free(void *block)
{
    n_live -= block != NULL;
    __real_free(block);
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *arg)
{
    return refuse() ? 11 /* EAGAIN */ : __real_pthread_create(thread, attr, run, arg);
}

/* Calls attempt(arg) with its first, second, ... request failing, until it succeeds. */
static void fail_every_request(int (*attempt)(void *arg), void *arg, long n_expected)
{
    long before = n_live, n = 0;
    for (int status = MK_ERR_MEMORY; status; n++) {
        countdown = n;
        status = attempt(arg);
        countdown = -1;
        CHECK(status == MK_OK || status == MK_ERR_MEMORY);
        CHECK_EQUAL(n_live, before);
    }
    CHECK_EQUAL(n, n_expected + 1);
}

static int new_model(void *arg)
{
    mk_model *m = (mk_model *)1;
    int status = mk_model_new(&m, arg);
    CHECK((status == MK_OK) == (m != NULL));
    mk_model_free(m);
    return status;
}

TEST(a_model_is_whole_or_not_at_all) { fail_every_request(new_model, (void *)&odd_config, 3); }

static int new_tensor(void *arg)
{
    mk_tensor t = { .rows = 5 };
    int status = mk_tensor_new(&t, MK_F32, 3, 3);
    CHECK(status == MK_OK || (t.rows == 5 && !t.data));
    free(t.data);
    return arg ? MK_OK : status;
}

TEST(a_tensor_without_memory_stays_as_it_was) { fail_every_request(new_tensor, NULL, 1); }

static int new_weights(void *arg)
{
    mk_tensor t = { MK_F32, 3, 3, NULL };
    mk_model *m = arg;
    int status = mk_weights_new(m, (mk_tensor *[]){ &t }, 1);
    CHECK((status == MK_OK) == (t.data != NULL) && t.data == m->weights);
    free(m->weights);
    m->weights = NULL;
    return status;
}

TEST(weights_without_memory_are_none)
{
    mk_model *m;
    CHECK_EQUAL(mk_model_new(&m, &odd_config), MK_OK);
    fail_every_request(new_weights, m, 1);
    mk_model_free(m);
}

static int new_vector(void *arg)
{
    float *vector = (float *)1;
    int status = mk_vector_new(&vector, 3);
    CHECK((status == MK_OK) == (vector != NULL));
    free(vector);
    return arg ? MK_OK : status;
}

TEST(a_vector_is_there_or_not) { fail_every_request(new_vector, NULL, 1); }

static int pack(void *tensor)
{
    float row[32] = { 1 };
    return mk_pack(tensor, MK_F32, row, 0, 1);
}

TEST(packing_without_memory_says_so)
{
    mk_tensor t;
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q8_0, 1, 32), MK_OK);
    fail_every_request(pack, &t, 2);
    free(t.data);
}

static int new_timeline(void *model)
{
    mk_timeline *t = (mk_timeline *)1;
    int status = mk_timeline_new(&t, model, 20, MK_I16);
    CHECK((status == MK_OK) == (t != NULL));
    mk_timeline_free(t);
    return status;
}

static int new_workspace(void *model)
{
    mk_workspace *w = (mk_workspace *)1;
    int status = mk_workspace_new(&w, model, 20);
    CHECK((status == MK_OK) == (w != NULL));
    mk_workspace_free(w);
    return status;
}

TEST(a_timeline_and_a_workspace_are_whole_or_not_at_all)
{
    mk_model *m = quantised_model();
    fail_every_request(new_timeline, m, 2);
    fail_every_request(new_workspace, m, 5);
    mk_model_free(m);
}

static int new_pool(void *arg)
{
    mk_pool *pool = (mk_pool *)1;
    int status = mki_pool_new(&pool, *(int32_t *)arg);
    CHECK((status == MK_OK) == (pool != NULL));
    mk_pool_free(pool);
    return status;
}

TEST(a_pool_has_all_its_threads_or_none) { fail_every_request(new_pool, &(int32_t){ 4 }, 4); }

static int sample(void *arg)
{
    float logits[] = { 1, 2, 3 };
    int32_t token = 7;
    mk_sampler *s = arg;
    uint64_t rng = s->rng;
    int status = mk_sample(s, logits, 3, &token);
    CHECK(status == MK_OK ? token >= 0 : token == -1 && s->rng == rng);
    return status;
}

TEST(a_sampler_without_memory_keeps_its_state)
{
    fail_every_request(sample, &(mk_sampler){ .temperature = 1, .top_p = 0.5f, .top_k = 2 }, 1);
}

static int copy_bytes(void *arg)
{
    char *copy = mk_bytes_copy(arg, 1);
    int status = copy ? MK_OK : MK_ERR_MEMORY;
    free(copy);
    return status;
}

TEST(a_copy_without_memory_is_null) { fail_every_request(copy_bytes, "a", 1); }

static int eval(void *arg)
{
    mk_model *m = arg;
    mk_timeline *t;
    mk_workspace *w;
    float logits[64];
    countdown = -1;
    CHECK_EQUAL(mk_timeline_new(&t, m, 20, MK_I16), MK_OK);
    CHECK_EQUAL(mk_workspace_new(&w, m, 20), MK_OK);
    long before = n_live;
    countdown = 0;
    int status = mk_eval(t, w, m, NULL, (int32_t[]){ 1, 2, 3 }, 3, logits);
    CHECK_EQUAL(countdown, 0);
    CHECK_EQUAL(n_live, before);
    mk_timeline_free(t);
    mk_workspace_free(w);
    return status;
}

TEST(evaluation_asks_for_no_memory)
{
    mk_model *m = quantised_model();
    CHECK_EQUAL(eval(m), MK_OK);
    countdown = -1;
    mk_model_free(m);
}

int main(int argc, char **argv) { return harness_main(argc, argv); }
