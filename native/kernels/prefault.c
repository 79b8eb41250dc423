/* prefault.c - maps a model's pages before they are wanted, beside whatever else the program does.
 *
 * Where the weights are pages of a file that others have read, a process still has to map them, 0.08 s for each GiB. Asking for
 * them in one go (here, or by MAP_POPULATE without the right to write) costs as much as meeting them one by one, but not the
 * thread that computes; with the right to write, MAP_POPULATE would copy them all.
 */
#define _GNU_SOURCE
#include "packed.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>

enum {
    PAGE = 4096,
    PIECE = 4 << 20, /* bytes asked for at once: a millisecond, in which nobody else can change the mappings */
    PER_LAYER = 7,
};

typedef struct { char *start; int64_t n_bytes; } range;

typedef struct {
    int64_t n;
    range ranges[];
} ranges;

static void add(ranges *list, const mk_tensor *t)
{
    list->ranges[list->n++] = (range){t->data, mki_n_strips(t) * mki_strip_bytes(t->type, t->cols)};
}

/* In the order of a forward pass. The embedding is left out: a prompt wants a few rows of it. */
static ranges *list_ranges(const mk_model *m)
{
    ranges *list = calloc(1, sizeof *list + ((size_t)m->config.n_layers * PER_LAYER + 1) * sizeof *list->ranges);
    for (int32_t i = 0; list && i < m->config.n_layers; i++) {
        const mk_layer *l = &m->layers[i];
        const mk_tensor *const tensors[PER_LAYER] = {&l->wq, &l->wk, &l->wv, &l->wo, &l->w_gate, &l->w_up, &l->w_down};
        for (int k = 0; k < PER_LAYER; k++)
            add(list, tensors[k]);
    }
    if (list)
        add(list, &m->output);
    return list;
}

/* What fails is left to be mapped when it is met: an older kernel, or a model that was freed in the meantime. */
static void *map_pages(void *arg)
{
    ranges *list = arg;
    for (int64_t i = 0; i < list->n; i++) {
        char *end = list->ranges[i].start + list->ranges[i].n_bytes;
        for (char *at = (char *)((uintptr_t)list->ranges[i].start & -(uintptr_t)PAGE); at < end; at += PIECE)
            madvise(at, (size_t)(end - at < PIECE ? end - at : PIECE), MADV_POPULATE_READ);
    }
    free(list);
    return NULL;
}

int mk_model_prefault(const mk_model *model)
{
    if (mk_model_check(model, NULL))
        return MK_ERR_ARGUMENT;
    ranges *list = list_ranges(model);
    if (!list)
        return MK_ERR_MEMORY;
    pthread_attr_t detached;
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &detached, map_pages, list);
    pthread_attr_destroy(&detached);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!failed)
        return MK_OK;
    free(list);
    return MK_ERR_MEMORY;
}
