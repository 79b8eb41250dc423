/* questions.c - the table of questions: append-only, read and written without locks.
 *
 * A question is added in three steps: its name goes to the pool, a record is filled, and last a slot of the hash table
 * gets the record's number. Two threads that ask the same at once may both add it: a duplicate changes nothing.
 */
#define _GNU_SOURCE
#include "route/questions.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/identity.h"
#include "route/streams.h"
#include "sys/sys.h"

enum {
    QUESTIONS_MAX = 24576, /* an import of torch asks about 3,000 paths */
    /* output files get no place beyond this: they must not crowd out files that are read */
    OUTPUTS_MAX = QUESTIONS_MAX / 2,
    SLOTS = 1 << 16,      /* a power of two, at least twice QUESTIONS_MAX: probing stays short */
    POOL_BYTES = 4 << 20, /* 170 bytes for each name; untouched pages cost nothing */
};

static char pool[POOL_BYTES]; /* names, one after the other */
static mhi_question questions[QUESTIONS_MAX];
static atomic_uint hashes[QUESTIONS_MAX];          /* never 0; stored last: 0 while a thread is filling the record */
static atomic_uint slots[SLOTS];                   /* number of a question + 1 */
static atomic_uint n_questions, pool_used, n_lost; /* n_questions may exceed QUESTIONS_MAX */
static atomic_bool is_noting;
static _Thread_local unsigned n_pauses;
static char left_out[PATH_MAX]; /* "": nothing */

static uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }

static uint32_t hash_of(mhi_asked kind, const char *name)
{
    uint32_t hash = 2166136261u ^ (uint32_t)kind; /* FNV-1a */
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return hash | 1;
}

static const char *copy_to_pool(const char *name)
{
    uint32_t size = (uint32_t)strlen(name) + 1; /* at most PATH_MAX */
    uint32_t used = atomic_load(&pool_used);
    do
        if (POOL_BYTES - used < size)
            return NULL;
    while (!atomic_compare_exchange_weak(&pool_used, &used, used + size));
    return memcpy(pool + used, name, size);
}

static mhi_question *find(mhi_asked kind, const char *name, uint32_t hash, uint32_t *free_slot)
{
    uint32_t slot = hash % SLOTS, entered;
    for (; (entered = atomic_load_explicit(&slots[slot], memory_order_acquire)) != 0; slot = (slot + 1) % SLOTS) {
        mhi_question *question = &questions[entered - 1];
        if (atomic_load(&hashes[entered - 1]) == hash && question->kind == kind && strcmp(question->name, name) == 0)
            return question;
    }
    *free_slot = slot;
    return NULL;
}

static void add(mhi_asked kind, const char *name, uint32_t hash, uint32_t slot, const struct stat *found, unsigned uses,
                uint64_t digest)
{
    bool is_output = uses & MHI_FILE_OUTPUT;
    const char *copy =
        atomic_load(&n_questions) < (is_output ? OUTPUTS_MAX : QUESTIONS_MAX) ? copy_to_pool(name) : NULL;
    uint32_t i = copy == NULL ? QUESTIONS_MAX : atomic_fetch_add(&n_questions, 1);
    if (i >= QUESTIONS_MAX) {
        atomic_fetch_add(&n_lost, !is_output);
        return;
    }
    questions[i].kind = kind;
    questions[i].name = copy;
    questions[i].digest = digest;
    questions[i].found = found == NULL ? (struct stat){ 0 } : *found;
    atomic_store(&questions[i].uses, uses);
    atomic_store(&hashes[i], hash);
    for (uint32_t empty = 0; !atomic_compare_exchange_strong(&slots[slot], &empty, i + 1); empty = 0)
        slot = (slot + 1) % SLOTS;
}

bool mhi_questions_are_noted(void) { return atomic_load_explicit(&is_noting, memory_order_relaxed) && n_pauses == 0; }
void mhi_questions_pause(bool is_paused) { n_pauses += is_paused ? 1 : n_pauses == 0 ? 0 : -1u; }

bool mhi_question_is_asked(mhi_asked kind, const char *name)
{
    uint32_t slot;
    return find(kind, name, hash_of(kind, name), &slot) != NULL;
}

static void note(mhi_asked kind, const char *name, const struct stat *found, unsigned uses, uint64_t digest)
{
    if (!mhi_questions_are_noted())
        return;
    uint32_t hash = hash_of(kind, name), slot;
    mhi_question *known = find(kind, name, hash, &slot);
    if (known == NULL)
        add(kind, name, hash, slot, found, uses, digest);
    else if (uses != 0)
        atomic_fetch_or(&known->uses, MHI_FILE_CHANGED);
}

void mhi_question_note(mhi_asked kind, const char *name, const struct stat *found, unsigned uses)
{
    note(kind, name, found, uses, 0);
}

void mhi_question_note_listing(mhi_asked kind, const char *path, const struct stat *found, uint64_t digest)
{
    note(kind, path, found, 0, digest);
}

/* Makes `path` absolute, relative to a directory descriptor or AT_FDCWD; false if that directory is unknown. */
static bool make_absolute(char *absolute, int directory, const char *path)
{
    char link[64] = "/proc/self/cwd", base[PATH_MAX] = "";
    if (directory != AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    if (path[0] != '/' && mhi_sys_readlink(link, base, sizeof base) < 0)
        return false;
    return snprintf(absolute, PATH_MAX, path[0] == '/' ? "%s%s" : "%s/%s", base, path) < PATH_MAX;
}

/* Notes a question about an absolute path. */
static void note_absolute(mhi_asked kind, const char *path, const struct stat *found, unsigned uses)
{
    const char *stream = mhi_stream_name(path);
    if (stream == NULL)
        mhi_question_note(kind, path, found, uses);
    else
        mhi_see_named_stream(kind, stream, found);
}

void mhi_question_note_rights(int directory, const char *path, uint64_t granted)
{
    char absolute[PATH_MAX];
    int saved_errno = errno;
    if (mhi_questions_are_noted() && make_absolute(absolute, directory, path)) {
        const char *stream = mhi_stream_name(absolute);
        note(MHI_ASKED_RIGHTS, stream == NULL ? absolute : stream, NULL, 0, granted);
    }
    errno = saved_errno;
}

void mhi_question_note_path(mhi_asked kind, int directory, const char *path, const struct stat *found, unsigned uses)
{
    char absolute[PATH_MAX];
    int saved_errno = errno;
    if (path == NULL || !mhi_questions_are_noted() || strcmp(path, left_out) == 0)
        return;
    if (path[0] == '/') {
        if (strnlen(path, PATH_MAX) < PATH_MAX)
            note_absolute(kind, path, found, uses);
    } else {
        if (directory == AT_FDCWD)
            mhi_question_note(MHI_ASKED_PLACE, "", NULL, 0);
        if (make_absolute(absolute, directory, path))
            note_absolute(kind, absolute, found, uses);
        else if (found != NULL && found->st_mode != 0)
            atomic_fetch_add(&n_lost, 1);
    }
    errno = saved_errno;
}

void mhi_questions_leave_out(const char *path) { snprintf(left_out, sizeof left_out, "%s", path == NULL ? "" : path); }

void mhi_questions_begin(void)
{
    if (atomic_load(&is_noting))
        return;
    uint32_t n = mhi_questions_count();
    memset(hashes, 0, n * sizeof *hashes); /* not all of them: untouched pages stay untouched */
    for (uint32_t i = 0; n > 0 && i < SLOTS; i++)
        if (atomic_load_explicit(&slots[i], memory_order_relaxed) != 0)
            atomic_store_explicit(&slots[i], 0, memory_order_relaxed);
    n_questions = pool_used = n_lost = 0;
    atomic_store(&is_noting, true);
}

void mhi_questions_end(void) { atomic_store(&is_noting, false); }

void mhi_questions_mark_output(const struct stat *found)
{
    for (uint32_t i = 0; i < mhi_questions_count(); i++) {
        const mhi_question *each = mhi_question_at(i);
        if (each != NULL && each->kind == MHI_ASKED_PATH &&
            mhi_is_same_file(mhi_file_id_of(&each->found), mhi_file_id_of(found)))
            atomic_fetch_or(&questions[i].uses, MHI_FILE_OUTPUT);
    }
}

uint32_t mhi_questions_count(void) { return smaller(n_questions, QUESTIONS_MAX); }
const mhi_question *mhi_question_at(uint32_t i)
{
    return i < QUESTIONS_MAX && atomic_load(&hashes[i]) != 0 ? &questions[i] : NULL;
}
uint32_t mhi_questions_lost(void) { return n_lost; }
