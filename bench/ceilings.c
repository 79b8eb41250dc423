/* ceilings.c - the most this machine can do: what kernels are compared with.
 *
 *     cc -O3 -pthread -I"$(uname -m)" ceilings.c -o ceilings && ./ceilings FILE THREADS
 *
 * Prints a line "NAME VALUE" for each of
 *
 *     int8_INSTRUCTIONS  10^9 operations a second, a product being one and its addition another, of dot products in
 *                        registers
 *     read_file          GB/s read from FILE, mapped, from the page cache
 *     read_huge          GB/s read from anonymous memory, of huge pages where the kernel gives them
 *
 * with THREADS threads at once, each value the best of PASSES: a ceiling is what was reached once. Every thread reads a
 * part of its own from front to back, in one place and, in every other pass, in four: which is faster depends on how
 * the places share the banks of memory.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#include "dots.h"

enum {
    PASSES = 14,          /* arbitrary: more find nothing better on a quiet machine */
    MAX_THREADS = 256,    /* arbitrary */
    HUGE_BYTES = 1 << 29, /* far beyond any cache; a file is read as often as that needs */
};

typedef struct {
    const uint64_t *data; /* to be read; NULL: dot products */
    size_t n_words, times;
    bool in_one_place;
} work;

typedef struct {
    work work;
    const dots *dots;
    pthread_barrier_t *start;
    double began_s, ended_s;
} part;

static volatile uint64_t sink; /* takes what would else be optimised away */

/* ---- what is measured ---- */

static uint64_t read_one(const uint64_t *data, size_t n)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum ^= data[i];
    return sum;
}

static uint64_t read_four(const uint64_t *a, size_t n)
{
    const uint64_t *b = a + n / 4, *c = b + n / 4, *d = c + n / 4;
    uint64_t sum = 0;
    for (size_t i = 0; i < n / 4; i++)
        sum ^= a[i] ^ b[i] ^ c[i] ^ d[i];
    return sum;
}

static void read_words(const work *work)
{
    for (size_t time = 0; time < work->times; time++)
        sink ^= work->in_one_place ? read_one(work->data, work->n_words) : read_four(work->data, work->n_words);
}

/* ---- threads ---- */

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec * 1e-9;
}

static void *run_part(void *argument)
{
    part *part = argument;
    pthread_barrier_wait(part->start);
    part->began_s = now_s();
    if (part->work.data)
        read_words(&part->work);
    else
        part->dots->run();
    part->ended_s = now_s();
    return NULL;
}

/* Returns the seconds from the first thread's begin to the last one's end. */
static double run_parts(part *parts, int n_threads)
{
    pthread_t threads[MAX_THREADS];
    pthread_barrier_t start;
    pthread_barrier_init(&start, NULL, n_threads);
    for (int i = 0; i < n_threads; i++) {
        parts[i].start = &start;
        if (pthread_create(&threads[i], NULL, run_part, &parts[i]) != 0) {
            perror("ceilings: pthread_create");
            exit(1);
        }
    }
    for (int i = 0; i < n_threads; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&start);
    double began = parts[0].began_s, ended = parts[0].ended_s;
    for (int i = 1; i < n_threads; i++) {
        began = parts[i].began_s < began ? parts[i].began_s : began;
        ended = parts[i].ended_s > ended ? parts[i].ended_s : ended;
    }
    return ended - began;
}

static double best_s(part *parts, int n_threads)
{
    double best = 0;
    for (int pass = 0; pass < PASSES; pass++) {
        for (int i = 0; i < n_threads; i++)
            parts[i].work.in_one_place = pass % 2;
        double seconds = run_parts(parts, n_threads);
        best = pass > 0 && best < seconds ? best : seconds;
    }
    return best;
}

/* ---- ceilings ---- */

static void print_dots(int n_threads)
{
    const dots *dots = dots_choose();
    part parts[MAX_THREADS] = { 0 };
    for (int i = 0; i < n_threads; i++)
        parts[i].dots = dots;
    if (dots)
        printf("int8_%s %.1f\n", dots->name, dots->operations * n_threads / best_s(parts, n_threads) * 1e-9);
}

static void print_read(const char *name, const void *data, size_t n_bytes, int n_threads)
{
    part parts[MAX_THREADS] = { 0 };
    size_t n_words = n_bytes / sizeof(uint64_t) / n_threads, times = (HUGE_BYTES + n_bytes - 1) / n_bytes;
    for (int i = 0; i < n_threads; i++)
        parts[i].work = (work){ (const uint64_t *)data + i * n_words, n_words, times, false };
    double seconds = best_s(parts, n_threads);
    printf("%s %.1f\n", name, (double)n_words * sizeof(uint64_t) * n_threads * times / seconds * 1e-9);
}

static void *fail(const char *what)
{
    perror(what);
    exit(1);
}

static void *map_file(const char *path, size_t *n_bytes)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat status;
    if (fd < 0 || fstat(fd, &status) != 0)
        return fail(path);
    *n_bytes = status.st_size;
    void *data = mmap(NULL, *n_bytes, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
    return data == MAP_FAILED ? fail(path) : data;
}

static void *map_huge(void)
{
    const size_t page = 2 << 20; /* the mapping must begin at a multiple, or the kernel starts with small pages */
    char *data = mmap(NULL, HUGE_BYTES + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return fail("ceilings: mmap");
    data += -(uintptr_t)data % page;
    madvise(data, HUGE_BYTES, MADV_HUGEPAGE);
    for (size_t i = 0; i < HUGE_BYTES; i += 4096)
        data[i] = 1;
    return data;
}

int main(int argc, char **argv)
{
    int n_threads = argc == 3 ? atoi(argv[2]) : 0;
    if (n_threads < 1 || n_threads > MAX_THREADS) {
        fprintf(stderr, "usage: ceilings FILE THREADS (1 to %d)\n", MAX_THREADS);
        return 2;
    }
    size_t n_bytes;
    const void *file = map_file(argv[1], &n_bytes);
    print_dots(n_threads);
    print_read("read_file", file, n_bytes, n_threads);
    print_read("read_huge", map_huge(), HUGE_BYTES, n_threads);
    return 0;
}
