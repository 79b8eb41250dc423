/* What surrounds the arithmetic: sizes, shapes, names, and the CPUs a process may use. */
#include "test_kernels_random_model.h"
#include "cpus.h"

#include <malloc.h>
#include <sys/stat.h>
#include <unistd.h>

TEST(a_row_has_the_bytes_its_type_takes)
{
    CHECK_EQUAL(mk_row_bytes(MK_F32, 3), 12);
    CHECK_EQUAL(mk_row_bytes(MK_F16, 3), 6);
    CHECK_EQUAL(mk_row_bytes(MK_BF16, 3), 6);
    CHECK_EQUAL(mk_row_bytes(MK_Q4_0, 64), 36);
    CHECK_EQUAL(mk_row_bytes(MK_Q4_1, 64), 40);
    CHECK_EQUAL(mk_row_bytes(MK_Q8_0, 64), 68);
    CHECK_EQUAL(mk_row_bytes(MK_Q4_K, 512), 288);
    CHECK_EQUAL(mk_row_bytes(MK_Q5_K, 512), 352);
    CHECK_EQUAL(mk_row_bytes(MK_Q6_K, 512), 420);
    CHECK_EQUAL(mk_row_bytes(MK_Q6_K, 128), 0);
    CHECK_EQUAL(mk_row_bytes(MK_Q8_0, 33), 0);
    CHECK_EQUAL(mk_row_bytes(99, 32), 0);
    CHECK_EQUAL(mk_row_bytes(MK_F32, 0), 0);
    CHECK_EQUAL(mk_row_bytes(MK_F32, -4), 0);
    CHECK_EQUAL(mk_row_bytes(MK_F32, INT64_MAX), 0);
}

TEST(a_tensor_is_aligned_filled_up_with_zeros_and_a_vector_is_zeroed)
{
    enum { N_BYTES = 3 * 2 * 16 * 2 + 3 * 4 * 64 }; /* of a strip: scales and lines of three blocks */
    mk_tensor t = { 0 }, odd = { 0 };
    float *vector;
    mallopt(M_PERTURB, 0x55); /* malloc gives out nothing that is zero by chance */
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q4_1, 5, 96), MK_OK);
    CHECK_EQUAL((uintptr_t)t.data % 64, 0);
    for (int i = 0; i < N_BYTES; i++)
        CHECK_EQUAL(((char *)t.data)[i], 0);
    CHECK_EQUAL(mk_tensor_new(&odd, MK_Q8_0, 32, 96), MK_OK);
    for (int strip = 0; strip < 2; strip++)
        for (int i = 0; i < 32; i++) /* behind the scales of the third block, which has none beside it */
            CHECK_EQUAL(((char *)odd.data)[strip * 2 * 64 + strip * 3 * 512 + 64 + 2 * 512 + 32 + i], 0);
    free(odd.data);
    CHECK_EQUAL(mk_vector_new(&vector, 5), MK_OK);
    for (int i = 0; i < 5; i++)
        CHECK(vector[i] == 0);
    free(t.data);
    free(vector);
    mallopt(M_PERTURB, 0);
    CHECK_EQUAL(mk_vector_new(&vector, 0), MK_ERR_ARGUMENT);
    CHECK(!vector);
    CHECK_EQUAL(mk_vector_new(NULL, 1), MK_ERR_ARGUMENT);
}

/* A request beyond any memory is for the allocator to refuse; the sanitizer's would end the program. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "allocator_may_return_null=1"; }

TEST(a_tensor_that_cannot_be_leaves_the_old_one)
{
    mk_tensor t = { MK_F16, 7, 9, NULL };
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q4_1, 5, 95), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_tensor_new(&t, 77, 5, 96), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_tensor_new(&t, MK_Q4_K, 5, 256), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_tensor_new(&t, MK_F32, 0, 96), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_tensor_new(&t, MK_F32, 5, -1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_tensor_new(&t, MK_F32, INT32_MAX, INT32_MAX), MK_ERR_MEMORY);
    CHECK_EQUAL(mk_tensor_new(NULL, MK_F32, 1, 1), MK_ERR_ARGUMENT);
    CHECK(t.type == MK_F16 && t.rows == 7 && t.cols == 9 && !t.data);
}

TEST(weights_lie_in_one_block_that_is_the_models)
{
    mk_model *m;
    mk_tensor first = { MK_Q4_1, 20, 96, NULL }, second = { MK_F16, 3, 5, NULL }, third = { MK_Q8_0, 16, 32, NULL };
    mk_tensor *all[] = { &first, &second, &third };
    CHECK_EQUAL(mk_model_new(&m, &quantised_config), MK_OK);
    CHECK_EQUAL(mk_weights_new(m, all, 3), MK_OK);
    CHECK(first.data == m->weights && first.data < second.data && second.data < third.data);
    for (int i = 0; i < 3; i++) {
        CHECK_EQUAL((uintptr_t)all[i]->data % 64, 0);
        for (int32_t r = 0; r < all[i]->rows; r++) {
            float row[96], back[96];
            for (int c = 0; c < 96; c++)
                row[c] = (float)(i + 1);
            CHECK_EQUAL(mk_pack(all[i], MK_F32, row, r, 1), MK_OK);
            CHECK_EQUAL(mk_dequantize_row(all[i], r, back), MK_OK);
        }
    }
    for (int i = 0; i < 3; i++) /* nobody wrote into another's */
        for (int32_t r = 0; r < all[i]->rows; r++) {
            float back[96];
            CHECK_EQUAL(mk_dequantize_row(all[i], r, back), MK_OK);
            CHECK(fabsf(back[0] - (float)(i + 1)) < 0.01f && fabsf(back[all[i]->cols - 1] - (float)(i + 1)) < 0.01f);
        }
    CHECK_EQUAL(mk_weights_new(m, all, 3), MK_ERR_ARGUMENT); /* once */
    m->embed = m->output = first;                            /* freed with the block, not by themselves */
    m->layers[0].wq = second;
    mk_model_free(m);
}

TEST(weights_that_cannot_be_leave_the_model_without)
{
    mk_model *m;
    mk_tensor good = { MK_F32, 4, 4, NULL }, huge = { MK_F32, INT32_MAX, INT32_MAX, NULL };
    mk_tensor bad[] = {
        { MK_Q4_1, 4, 33, NULL }, { MK_Q4_K, 4, 256, NULL }, { MK_F32, 0, 4, NULL }, { 77, 4, 32, NULL }
    };
    CHECK_EQUAL(mk_model_new(&m, &quantised_config), MK_OK);
    for (int i = 0; i < 4; i++)
        CHECK_EQUAL(mk_weights_new(m, (mk_tensor *[]){ &good, &bad[i] }, 2), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_weights_new(m, (mk_tensor *[]){ &huge, &huge, &huge, &huge }, 4), MK_ERR_MEMORY);
    CHECK_EQUAL(mk_weights_new(m, NULL, 1), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_weights_new(m, (mk_tensor *[]){ &good }, 0), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_weights_new(NULL, (mk_tensor *[]){ &good }, 1), MK_ERR_ARGUMENT);
    CHECK(!m->weights && !good.data && !huge.data);
    mk_model_free(m);
}

TEST(a_copy_of_bytes_ends_with_nul)
{
    char *copy = mk_bytes_copy("a\0bc", 4), *empty = mk_bytes_copy(NULL, 0);
    CHECK(memcmp(copy, "a\0bc", 5) == 0);
    CHECK(empty && !*empty);
    CHECK(!mk_bytes_copy("a", -1));
    CHECK(!mk_bytes_copy(NULL, 1));
    CHECK(!mk_bytes_copy("a", INT64_MAX));
    free(copy);
    free(empty);
}

static void check_config_refused(mk_config config)
{
    mk_model *m = (mk_model *)1;
    CHECK_EQUAL(mk_model_new(&m, &config), MK_ERR_ARGUMENT);
    CHECK(!m);
}

TEST(a_config_that_contradicts_itself_is_refused)
{
    mk_config c = quantised_config;
    int32_t *const sizes[] = { &c.n_layers, &c.dim, &c.n_heads, &c.n_kv_heads, &c.head_dim, &c.ffn_dim, &c.n_vocab };
    for (int i = 0; i < 7; i++)
        for (int32_t value = -1; value <= 0; value++) {
            c = quantised_config, *sizes[i] = value, check_config_refused(c);
        }
    c = quantised_config, c.n_kv_heads = 4, check_config_refused(c);
    c = quantised_config, c.n_heads = c.n_kv_heads = INT32_MAX, check_config_refused(c);
    c = quantised_config, c.rope_dim = 15, check_config_refused(c);
    c = quantised_config, c.rope_dim = 18, check_config_refused(c);
    c = quantised_config, c.rope_dim = -2, check_config_refused(c);
    c = quantised_config, c.rope_neox = 2, check_config_refused(c);
    c = quantised_config, c.rope_theta = 0, check_config_refused(c);
    c = quantised_config, c.rope_theta = NAN, check_config_refused(c);
    c = quantised_config, c.norm_eps = -1, check_config_refused(c);
    c = quantised_config, c.norm_eps = INFINITY, check_config_refused(c);
    mk_model *m;
    CHECK_EQUAL(mk_model_new(&m, NULL), MK_ERR_ARGUMENT);
    CHECK_EQUAL(mk_model_new(NULL, &quantised_config), MK_ERR_ARGUMENT);
}

/* `t` of `m`, damaged in every way that matters, must be named. */
static void check_named(const mk_model *m, mk_tensor *t, const char *name)
{
    mk_tensor good = *t;
    mk_tensor bad[] = { { MK_Q6_K, good.rows, good.cols, good.data },
                        { good.type, good.rows + 1, good.cols, good.data },
                        { good.type, good.rows, good.cols + 32, good.data },
                        { 99, good.rows, good.cols, good.data },
                        { good.type, good.rows, good.cols, NULL } };
    for (int i = 0; i < 5; i++) {
        char what[160];
        mk_timeline *timeline;
        mk_workspace *workspace;
        *t = bad[i];
        CHECK_EQUAL(mk_model_check(m, what), MK_ERR_ARGUMENT);
        CHECK(strncmp(what, name, strlen(name)) == 0);
        CHECK_EQUAL(mk_model_check(m, NULL), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_timeline_new(&timeline, m, 8, MK_I16), MK_ERR_ARGUMENT);
        CHECK_EQUAL(mk_workspace_new(&workspace, m, 8), MK_ERR_ARGUMENT);
    }
    *t = good;
    CHECK_EQUAL(mk_model_check(m, NULL), MK_OK);
}

/* The vector, when it is absent. */
static void check_absence_named(const mk_model *m, float **vector, const char *expected)
{
    float *good = *vector;
    char what[160];
    *vector = NULL;
    CHECK_EQUAL(mk_model_check(m, what), MK_ERR_ARGUMENT);
    CHECK(strcmp(what, expected) == 0);
    CHECK_EQUAL(mk_model_check(m, NULL), MK_ERR_ARGUMENT);
    *vector = good;
    CHECK_EQUAL(mk_model_check(m, NULL), MK_OK);
}

TEST(a_tensor_of_the_wrong_shape_is_named)
{
    mk_model *m = quantised_model();
    mk_layer *l = &m->layers[1];
    check_named(m, &m->embed, "embed");
    check_absence_named(m, &m->out_norm, "out_norm: absent, expected 64 values");
    check_named(m, &m->output, "output");
    check_absence_named(m, &l->attn_norm, "layer 1 attn_norm: absent, expected 64 values");
    check_named(m, &l->wq, "layer 1 wq");
    check_named(m, &l->wk, "layer 1 wk");
    check_named(m, &l->wv, "layer 1 wv");
    check_named(m, &l->wo, "layer 1 wo");
    check_absence_named(m, &l->ffn_norm, "layer 1 ffn_norm: absent, expected 64 values");
    check_named(m, &l->w_gate, "layer 1 w_gate");
    check_named(m, &l->w_up, "layer 1 w_up");
    check_named(m, &l->w_down, "layer 1 w_down");
    mk_model_free(m);
}

TEST(what_is_found_and_what_was_expected_are_said)
{
    mk_model *m = odd_model();
    char what[160];
    m->layers[0].wk.cols++;
    CHECK_EQUAL(mk_model_check(m, what), MK_ERR_ARGUMENT);
    CHECK(strcmp(what, "layer 0 wk: found 27 x 22 of type 1, expected 27 x 21") == 0);
    m->layers[0].wk.cols--;
    CHECK_EQUAL(mk_model_check(NULL, what), MK_ERR_ARGUMENT);
    mk_model_free(m);
}

TEST(a_model_frees_all_that_hangs_on_it)
{
    mk_model *m;
    CHECK_EQUAL(mk_model_new(&m, &odd_config), MK_OK); /* the leak checker of the sanitized build is the judge */
    m->tokens[3].bytes = mk_bytes_copy("abc", 3);
    m->name = mk_bytes_copy("n", 1);
    m->tokenizer = mk_bytes_copy("llama", 5);
    m->pre_tokenizer = mk_bytes_copy("", 0);
    m->chat_template = mk_bytes_copy("", 0);
    m->tokenizer_blob = mk_bytes_copy("x", 1);
    CHECK_EQUAL(mk_tensor_new(&m->embed, MK_F32, 37, 21), MK_OK);
    m->output = m->embed;
    mk_model_free(m);
    mk_model_free(NULL);
}

TEST(kernels_are_chosen_by_name)
{
    CHECK_EQUAL(mk_isa_choose("scalar"), MK_OK);
    CHECK(strcmp(mk_isa_name(), "scalar") == 0);
    CHECK_EQUAL(mk_isa_choose("abacus"), MK_ERR_ARGUMENT);
    CHECK(strcmp(mk_isa_name(), "scalar") == 0);
    CHECK_EQUAL(mk_isa_choose(NULL), MK_OK);
}

/* A directory of cgroup files for one case. */
static char root[] = "/tmp/test_kernels_cgroup_XXXXXX";

static void put(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", root, name);
    if (!text) {
        CHECK_EQUAL(mkdir(path, 0700), 0);
        return;
    }
    FILE *out = fopen(path, "w");
    CHECK(out && fputs(text, out) >= 0 && fclose(out) == 0);
}

static int32_t quota(const char *membership)
{
    char path[256];
    put("membership", membership);
    snprintf(path, sizeof path, "%s/membership", root);
    return mki_quota_cpus(path, root);
}

TEST(the_least_quota_on_the_way_to_the_root_counts)
{
    char command[300];
    CHECK(mkdtemp(root));
    put("a", NULL), put("a/b", NULL), put("a/b/c", NULL), put("cpu", NULL), put("cpu/x", NULL);
    put("a/cpu.max", "250000 100000\n");
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/c/cpu.max", "400000 100000\n");
    put("cpu/cpu.cfs_quota_us", "-1\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    put("cpu/x/cpu.cfs_quota_us", "50000\n");
    put("cpu/x/cpu.cfs_period_us", "100000\n");
    CHECK_EQUAL(quota("0::/a/b/c\n"), 3);
    CHECK_EQUAL(quota("0::/a/b/gone/further\n"), 3);
    CHECK_EQUAL(quota("0::/\n"), INT32_MAX);
    CHECK_EQUAL(quota("4:memory:/a\n2:cpu,cpuacct:/x/y\n1:name=systemd:/a\n"), 1);
    CHECK_EQUAL(quota("2:cpuacct,cpu:/elsewhere\n"), INT32_MAX);
    CHECK_EQUAL(quota("2:cpuset:/x\n"), INT32_MAX);
    CHECK_EQUAL(quota("2:cpu:/x\n0::/a\n"), 1);
    CHECK_EQUAL(quota("nonsense\n::\n\n0:\n"), INT32_MAX);
    put("a/cpu.max", "garbage");
    CHECK_EQUAL(quota("0::/a\n"), INT32_MAX);
    CHECK_EQUAL(mki_quota_cpus("/nonexistent", root), INT32_MAX);
    snprintf(command, sizeof command, "rm -r %s", root);
    CHECK_EQUAL(system(command), 0);
}

TEST(this_process_may_use_a_cpu) { CHECK(mk_cpu_count() >= 1); }

int main(int argc, char **argv) { return harness_main(argc, argv); }
