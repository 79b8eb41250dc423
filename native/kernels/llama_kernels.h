/* llama_kernels.h - a LLaMA-family model as one C structure, and inference over it.
 *
 * The parts: a *model* is all data that is only read (config, vocabulary, weights), a *timeline* is the memory of past
 * tokens (keys, values, length), a *workspace* is scratch, a *pool* is the threads. The first three are pure data
 * behind ordinary malloc: no thread handle, no lock, no function pointer, so that a process may keep them anywhere.
 * Which kernels run is decided per process, at first use, from CPUID.
 *
 *   mk_model --> mk_layer[n_layers] --> mk_tensor{rows x cols, type, data}, packed as packed.h draws it
 *           \--> mk_token[n_vocab] --> bytes
 *
 * Shapes are (rows, cols), row-major; a weight maps a vector of cols to a vector of rows.
 * Every function returns MK_OK or a negative MK_ERR_*; outputs come first and are NULL on failure.
 */
#ifndef MK_LLAMA_KERNELS_H
#define MK_LLAMA_KERNELS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* cffi:begin */
enum {
    MK_OK = 0,
    MK_ERR_MEMORY = -1,   /* malloc failed; nothing was allocated */
    MK_ERR_ARGUMENT = -2, /* a shape, type, token or position that the model does not have */
    MK_ERR_CONTEXT = -3,  /* the timeline's context is full; the timeline is unchanged */
    MK_ERR_VALUE = -4,    /* a weight or logit is not finite, or too large for its target type */
};

/* Weight types, numbered as in GGUF (ggml.h, enum ggml_type). The K types are read, and packed as mk_packed_type says.
 * */
enum {
    MK_F32 = 0,
    MK_F16 = 1,
    MK_Q4_0 = 2,
    MK_Q4_1 = 3,
    MK_Q8_0 = 8,
    MK_Q4_K = 12,
    MK_Q5_K = 13,
    MK_Q6_K = 14,
    MK_BF16 = 30
};
/* A cache type that no weight has; ggml's number for such integers. */
enum { MK_I16 = 25 };

/* Token kinds, numbered as in GGUF's tokenizer.ggml.token_type. */
enum {
    MK_TOKEN_NORMAL = 1,
    MK_TOKEN_UNKNOWN = 2,
    MK_TOKEN_CONTROL = 3,
    MK_TOKEN_USER = 4,
    MK_TOKEN_UNUSED = 5,
    MK_TOKEN_BYTE = 6
};

typedef struct {
    int32_t type; /* MK_F32 ..., none of the K types */
    int32_t rows; /* outputs */
    int32_t cols; /* inputs; a multiple of the type's block size */
    void *data;   /* packed, 64-byte aligned; NULL when absent */
} mk_tensor;

typedef struct {
    int32_t n_layers;
    int32_t dim;        /* width of the residual stream */
    int32_t n_heads;    /* query heads */
    int32_t n_kv_heads; /* key and value heads; divides n_heads */
    int32_t head_dim;
    int32_t ffn_dim;
    int32_t n_vocab;
    int32_t n_ctx_train; /* longest context the model was trained for, tokens */
    int32_t rope_dim;    /* leading dimensions of a head that RoPE rotates */
    int32_t rope_neox;   /* 0: pairs (2i, 2i+1), as Meta and GGUF-llama store; 1: pairs (i, i + rope_dim/2) */
    float rope_theta;
    float norm_eps;
} mk_config;

typedef struct {
    float *attn_norm;         /* (dim) */
    mk_tensor wq, wk, wv, wo; /* (n_heads*head_dim, dim) (n_kv_heads*head_dim, dim) same (dim, n_heads*head_dim) */
    float *ffn_norm;          /* (dim) */
    mk_tensor w_gate, w_up, w_down; /* (ffn_dim, dim) same (dim, ffn_dim) */
} mk_layer;

typedef struct {
    char *bytes;     /* the token's text as the tokenizer file spells it, NUL-terminated */
    int32_t n_bytes; /* without the NUL */
    int32_t kind;    /* MK_TOKEN_* */
} mk_token;

typedef struct {
    mk_config config;
    mk_tensor embed;   /* (n_vocab, dim) */
    float *out_norm;   /* (dim) */
    mk_tensor output;  /* (n_vocab, dim); .data == embed.data when the head is tied */
    float *rope_freqs; /* (rope_dim/2) frequency divisors, or NULL */
    mk_layer *layers;  /* n_layers */
    mk_token *tokens;  /* n_vocab */
    void *weights;     /* the block of mk_weights_new, or NULL */
    int32_t n_merges;
    int32_t bos_id, eos_id, eot_id, unk_id; /* -1 where the model has none */
    int32_t add_bos;                        /* whether a prompt begins with bos_id */
    int32_t add_space_prefix;
    char *name;           /* for people; never NULL */
    char *tokenizer;      /* "gpt2" (byte-level BPE) or "llama" (sentencepiece) */
    char *pre_tokenizer;  /* GGUF's tokenizer.ggml.pre, "" when absent */
    char *chat_template;  /* jinja2 source, "" when absent */
    char *tokenizer_blob; /* "llama": a sentencepiece model; "gpt2": tables to look n_merges up in; or NULL */
    int64_t n_tokenizer_blob;
} mk_model;

typedef struct mk_timeline mk_timeline;   /* the memory of past tokens: keys, values, length */
typedef struct mk_workspace mk_workspace; /* scratch of a forward pass; no call reads the data of another */
typedef struct mk_pool mk_pool;           /* threads; never part of the others */

typedef struct {
    float temperature; /* 0: greedy */
    int32_t top_k;     /* 0: off */
    float top_p;       /* 1: off; 0: the likeliest alone */
    float min_p;       /* 0: off */
    uint64_t rng;      /* state of the generator; seed it, then pass the same struct each time */
} mk_sampler;

/* Bytes of one row of `cols` values of `type` in a file, or 0 if the type is unknown or cols is no multiple of its
 * block. */
int64_t mk_row_bytes(int32_t type, int64_t cols);
/* The type that rows of `type` are packed as: Q4_K as Q4_1, to the rounding of its scales to halves; Q5_K and Q6_K as
 * Q8_0, rounded to 1/254 of the largest magnitude in 32; any other as itself. */
int32_t mk_packed_type(int32_t type);

/* An empty model for `config`: layers and tokens allocated and zeroed, tensors and strings absent. All memory that a
 * caller adds to the model must come from mk_weights_new, mk_tensor_new, mk_vector_new, mk_bytes_copy or malloc, and
 * belong to one pointer only; the one exception is output.data == embed.data. */
int mk_model_new(mk_model **model, const mk_config *config);
/* Frees the model with all it points to; NULL is allowed. */
void mk_model_free(mk_model *model);
/* Gives the n tensors of a model, whose type, rows and cols are set, storage in one block of memory, which the model
 * owns. Call this once, for all matrices. The block lies on pages of 2 MiB where the kernel has them, both in a process
 * that loads and in one that maps its snapshot: since the weights lie together, they share no such page with memory
 * that every process writes to. */
int mk_weights_new(mk_model *model, mk_tensor *const *tensors, int32_t n);
/* Gives `tensor` storage of its own for rows x cols of `type`, to be filled by mk_pack; its old storage is not freed.
 * Unchanged on failure. */
int mk_tensor_new(mk_tensor *tensor, int32_t type, int32_t rows, int32_t cols);
/* n zeros; *vector is NULL on failure. */
int mk_vector_new(float **vector, int32_t n);
/* A NUL-terminated copy of n bytes, from malloc; NULL when out of memory or n is negative. */
char *mk_bytes_copy(const char *bytes, int64_t n_bytes);
/* MK_OK if every tensor has the shape config demands; else MK_ERR_ARGUMENT and, in what[160], the name of the one that
 * has not, and why. `what` may be NULL. */
int mk_model_check(const mk_model *model, char *what);

/* Packs n_rows rows of `type`, in the file's layout, into rows first_row .. of `tensor`, whose type is either
 * mk_packed_type(type) or, from F32, F16 and BF16, any: the rows are then quantised or converted. MK_ERR_VALUE as
 * above: rows before the bad one have been packed. */
int mk_pack(mk_tensor *tensor, int32_t type, const void *in, int32_t first_row, int32_t n_rows);
/* Converts one row of a tensor to float32; out has cols values. */
int mk_dequantize_row(const mk_tensor *tensor, int32_t row, float *out);
/* Converts n values of `type`, in the file's layout, to float32. */
int mk_read_floats(int32_t type, const void *in, int32_t n, float *out);

enum { MK_POOL_THREADS_MAX = 256 }; /* arbitrary, beyond any use of memory-bound loops */

/* A pool of n_threads, 1 (none are started) to MK_POOL_THREADS_MAX, but no more than mk_cpu_count(), as further threads
 * would only compete for the CPUs. Workers sleep on a futex after a short spin. Any number of threads may share a pool,
 * without gain. In a child of fork() a pool still works, on the caller's thread alone. */
int mk_pool_new(mk_pool **pool, int32_t n_threads);
void mk_pool_free(mk_pool *pool);
int32_t mk_pool_threads(const mk_pool *pool);
/* CPUs this process may use: affinity mask and cgroup quota (rounded up), at least 1. */
int32_t mk_cpu_count(void);

/* A timeline of at most n_ctx tokens, whose keys and values are kept as cache_type: MK_I16, integers of 16 bits with a
 * scale, on the whole no less exact than halves; MK_Q8_0, little more than half the size of MK_I16; MK_F32, exact. */
int mk_timeline_new(mk_timeline **timeline, const mk_model *model, int32_t n_ctx, int32_t cache_type);
void mk_timeline_free(mk_timeline *timeline);
int32_t mk_timeline_length(const mk_timeline *timeline);  /* tokens in the KV cache */
int32_t mk_timeline_context(const mk_timeline *timeline); /* n_ctx */
/* Forgets all tokens from `length` on. */
int mk_timeline_truncate(mk_timeline *timeline, int32_t length);
/* Bytes of the cache's part that holds n_tokens; 0 if the context is smaller. */
int64_t mk_timeline_state_bytes(const mk_timeline *timeline, int32_t n_tokens);
/* Copies that part out of a timeline, and into another one of the same model, context and cache type, which then
 * continues as if it had been given the same tokens. MK_ERR_ARGUMENT: n_bytes is not mk_timeline_state_bytes of the
 * timeline's length, or of n_tokens. */
int mk_timeline_save(const mk_timeline *timeline, void *out, int64_t n_bytes);
int mk_timeline_load(mk_timeline *timeline, const void *in, int64_t n_bytes, int32_t n_tokens);

/* Scratch for timelines of at most n_ctx tokens of this model: for one timeline at a time. */
int mk_workspace_new(mk_workspace **workspace, const mk_model *model, int32_t n_ctx);
void mk_workspace_free(mk_workspace *workspace);

/* Appends n tokens; logits (n_vocab float32 of the last token) may be NULL. On error the timeline is unchanged.
 * pool may be NULL: one thread. The result does not depend on the number of threads. */
int mk_eval(mk_timeline *timeline, mk_workspace *workspace, const mk_model *model, mk_pool *pool, const int32_t *tokens,
            int32_t n_tokens, float *logits);
/* The same, with (n_tokens, n_vocab) logits, one row after each of the tokens: the bits of n calls for one token. */
int mk_eval_all(mk_timeline *timeline, mk_workspace *workspace, const mk_model *model, mk_pool *pool,
                const int32_t *tokens, int32_t n_tokens, float *logits);

/* Picks a token id from n_vocab logits: top_k, top_p, min_p, temperature, in that order. Scratch comes from malloc.
 * MK_ERR_VALUE if a logit is NaN or the greatest is infinite; -infinity is a token never picked. */
int mk_sample(mk_sampler *sampler, const float *logits, int32_t n_vocab, int32_t *token);

/* Name of the kernels in use: one of isas.c in the CPU's folder, or "portable". */
const char *mk_isa_name(void);
/* Chooses the kernels by name, for tests; MK_ERR_ARGUMENT if this CPU lacks them. NULL: the best this CPU has. */
int mk_isa_choose(const char *name);
/* Chooses whether weights of block types are multiplied by float32 activations (`exact`: slow, the reference for
 * measurements) or, the default, by activations rounded to 8 bits in blocks of 32. */
void mk_exact_choose(bool exact);
/* cffi:end */
#endif
