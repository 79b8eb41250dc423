/* trace.c - the models. Sizes and lifetimes are drawn as the comments say; all but `load` leave no net growth behind.
 * */
#include "trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    trace t;
    size_t room;
    uint64_t random;
} maker;

/* splitmix64 */
static uint64_t next(maker *m)
{
    uint64_t z = m->random += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

static uint32_t below(maker *m, uint64_t bound) { return (uint32_t)(next(m) % bound); }

/* Small ones far more often than large ones: every magnitude up to `max` is equally likely. */
static uint32_t any_magnitude(maker *m, uint32_t min, uint32_t max)
{
    uint32_t limit = min;
    while (limit < max && next(m) % 3 != 0)
        limit *= 2;
    return min + below(m, limit < max ? limit : max);
}

static void add(maker *m, op_kind kind, size_t slot, uint32_t size_bytes)
{
    if (m->t.n_ops == m->room) {
        m->room = m->room * 2 + 1024;
        m->t.ops = realloc(m->t.ops, m->room * sizeof *m->t.ops);
        if (m->t.ops == NULL)
            exit(1);
    }
    m->t.ops[m->t.n_ops++] = (op){ .kind = kind, .slot = (uint32_t)slot, .size_bytes = size_bytes };
}

/* Objects of a running program: 50,000 live, 16 to 512 bytes, one at random dies and another is born. */
static void make_churn(maker *m)
{
    for (int i = 0; i < 1000000; i++)
        add(m, OP_REPLACE, below(m, 50000), any_magnitude(m, 16, 512));
    m->t.n_slots = 50000;
    m->t.n_passes = 5;
}

/* A server (Larson and Krishnan): 1000 live objects of 10 to 500 bytes in a table; threads hand their tables on after
 * each pass, so that everyone frees what another one allocated. */
static void make_server(maker *m)
{
    for (int i = 0; i < 200000; i++)
        add(m, OP_REPLACE, below(m, 1000), 10 + below(m, 490));
    m->t.n_slots = 1000;
    m->t.n_passes = 30;
}

/* cfrac, espresso: numbers and lists of 16 to 64 bytes that live for a few calls, last in, first out for the most part.
 * */
static void make_short(maker *m)
{
    int depth = 0;
    for (int i = 0; i < 1000000; i++) {
        if (depth < 64 && (depth == 0 || below(m, 2) == 0))
            add(m, OP_ALLOCATE, (size_t)depth++, 16 + below(m, 48));
        else
            add(m, OP_FREE, (size_t)--depth, 0);
    }
    while (depth > 0)
        add(m, OP_FREE, (size_t)--depth, 0);
    m->t.n_slots = 64;
    m->t.n_passes = 20;
}

/* Loading a vocabulary: 400,000 strings of 2 to 25 bytes, each with a node of 40 and a table that doubles. Kept: fresh
 * memory counts. */
static void make_load(maker *m)
{
    const size_t n = 400000;
    uint32_t table_bytes = 1024;
    add(m, OP_ALLOCATE, 2 * n, table_bytes);
    for (size_t i = 0; i < n; i++) {
        add(m, OP_ALLOCATE, 2 * i, 2 + below(m, 12) + below(m, 12));
        add(m, OP_ALLOCATE, 2 * i + 1, 40);
        if (i * 8 >= table_bytes)
            add(m, OP_RESIZE, 2 * n, table_bytes *= 2);
    }
    m->t.n_slots = 2 * n + 1;
    m->t.n_passes = 1;
}

/* Vectors that grow by realloc, half of them by half their size, half by a line at a time, to between 1 KiB and 4 MiB.
 * */
static void make_vectors(maker *m)
{
    enum { VECTORS = 32 };
    uint32_t size[VECTORS] = { 0 }, limit[VECTORS] = { 0 };
    for (int i = 0; i < 100000; i++) {
        uint32_t v = below(m, VECTORS);
        if (size[v] == 0) {
            add(m, OP_ALLOCATE, v, size[v] = 64);
            limit[v] = any_magnitude(m, 1024, 4 << 20);
        } else if (size[v] > limit[v]) {
            add(m, OP_FREE, v, size[v] = 0);
        } else {
            size[v] += v % 2 == 0 ? size[v] / 2 : 80 + below(m, 200);
            add(m, OP_RESIZE, v, size[v]);
        }
    }
    for (uint32_t v = 0; v < VECTORS; v++)
        if (size[v] != 0)
            add(m, OP_FREE, v, 0);
    m->t.n_slots = VECTORS;
    m->t.n_passes = 10;
}

/* Arrays of numbers: 24 live, 32 KiB to 4 MiB, all pages touched. */
static void make_buffers(maker *m)
{
    for (int i = 0; i < 4000; i++)
        add(m, OP_REPLACE, below(m, 24), any_magnitude(m, 32768, 4 << 20));
    m->t.n_slots = 24;
    m->t.n_passes = 5;
}

/* A bit of everything at once, as in an interpreter with extension modules. */
static void make_mixed(maker *m)
{
    for (int i = 0; i < 500000; i++) {
        uint32_t kind = below(m, 1000), slot = below(m, 20000);
        if (kind < 3)
            add(m, OP_REPLACE, 20000 + slot % 16, any_magnitude(m, 32768, 1 << 20));
        else if (kind < 100)
            add(m, OP_REPLACE, 20100 + slot % 1000, any_magnitude(m, 512, 16384));
        else
            add(m, OP_REPLACE, slot, any_magnitude(m, 8, 512));
    }
    m->t.n_slots = 21100;
    m->t.n_passes = 8;
}

static const struct {
    const char *name;
    void (*make)(maker *m);
} models[] = { { "churn", make_churn },     { "server", make_server },   { "short", make_short }, { "load", make_load },
               { "vectors", make_vectors }, { "buffers", make_buffers }, { "mixed", make_mixed } };

trace trace_make(const char *name, uint64_t seed)
{
    maker m = { .t.name = name, .random = seed };
    for (size_t i = 0; i < sizeof models / sizeof *models; i++)
        if (strcmp(models[i].name, name) == 0)
            models[i].make(&m);
    if (m.t.n_ops == 0) {
        fprintf(stderr, "no trace is called %s\n", name);
        exit(2);
    }
    return m.t;
}

void trace_release(trace *t) { free(t->ops); }
