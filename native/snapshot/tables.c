/* tables.c - lays lists in memory out as the tables of the file. */
#define _GNU_SOURCE
#include "snapshot/tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "snapshot/checksum.h"
#include "snapshot/identity.h"

/* The strings table while it is filled; strings_bytes has made room for all of them. */
typedef struct {
    char *bytes;
    uint64_t used;
} string_pool;

static uint64_t append_string(string_pool *strings, const char *text)
{
    if (*text == '\0')
        return 0; /* the byte that the strings begin with */
    uint64_t offset = strings->used;
    size_t size = strlen(text) + 1;
    memcpy(strings->bytes + offset, text, size);
    strings->used += size;
    return offset;
}

/* By the cost of the comparison, so that a run which can't attach learns it early; then by name, then in the order of
 * recording. */
static int by_kind_and_name(const void *a, const void *b)
{
    const mhi_input *x = *(const mhi_input *const *)a, *y = *(const mhi_input *const *)b;
    if (x->entry.in_kind != y->entry.in_kind)
        return x->entry.in_kind < y->entry.in_kind ? 1 : -1;
    int order = strcmp(x->name, y->name);
    if (order == 0 && x->entry.in_kind == MH_INPUT_LISTING && x->entry.in_bytes != y->entry.in_bytes)
        return x->entry.in_bytes < y->entry.in_bytes ? -1 : 1; /* different questions */
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* Whether the same file was also recorded as a library: then examining it once is enough. */
static bool is_library(const mhi_input *file, const mhi_input *const *inputs, size_t n)
{
    const mhi_file_input *is = &file->entry;
    for (size_t i = 0; i < n && is->in_kind == MH_INPUT_FILE; i++) {
        const mhi_file_input *was = &inputs[i]->entry;
        if (was->in_kind == MH_INPUT_LIBRARY && mhi_is_unwritten_input(was, is) &&
            strcmp(file->name, inputs[i]->name) == 0)
            return true;
    }
    return false;
}

/* Sorts pointers to the inputs, libraries before files, and leaves out those whose kind and name were recorded before.
 * */
static size_t sort_inputs(const mhi_inputs *inputs, const mhi_input **sorted)
{
    for (size_t i = 0; i < inputs->n; i++)
        sorted[i] = &inputs->items[i];
    qsort(sorted, inputs->n, sizeof *sorted, by_kind_and_name);
    size_t kept = 0;
    for (size_t i = 0; i < inputs->n; i++) {
        const mhi_input *last = kept == 0 ? NULL : sorted[kept - 1];
        bool is_other_listing = last != NULL && last->entry.in_kind == MH_INPUT_LISTING &&
                                last->entry.in_bytes != sorted[i]->entry.in_bytes;
        bool is_again = last != NULL && last->entry.in_kind == sorted[i]->entry.in_kind &&
                        strcmp(last->name, sorted[i]->name) == 0 && !is_other_listing;
        if (!is_again && !is_library(sorted[i], sorted, kept))
            sorted[kept++] = sorted[i];
    }
    return kept;
}

/* The index of the input with this kind and name, or n. */
static size_t find_sorted(const mhi_input *const *inputs, size_t n, uint32_t kind, const char *name, size_t length)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        const mhi_input *at = inputs[middle];
        int order = at->entry.in_kind != kind ? (at->entry.in_kind > kind ? -1 : 1) : strncmp(at->name, name, length);
        if (order == 0 && at->name[length] != '\0')
            order = 1;
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return n;
}

/* in_bytes of an absent path: index + 1 of the directory that, while unchanged, shows that the path has not appeared;
 * 0: none. */
static uint64_t directory_of(const mhi_input *absent, const mhi_input *const *inputs, size_t n)
{
    const char *slash = strrchr(absent->name, '/');
    if (slash == NULL || absent->entry.in_bytes == 0)
        return 0;
    size_t length = slash == absent->name ? 1 : (size_t)(slash - absent->name),
           i = find_sorted(inputs, n, MH_INPUT_DIRECTORY, absent->name, length);
    return i == n ? 0 : i + 1;
}

static void fill_inputs(string_pool *strings, mhi_file_input *to, const mhi_input **inputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = inputs[i]->entry;
        if (to[i].in_kind == MH_INPUT_ABSENT)
            to[i].in_bytes = directory_of(inputs[i], inputs, n);
        to[i].in_name = append_string(strings, inputs[i]->name);
        to[i].in_text = append_string(strings, inputs[i]->text);
    }
}

static const mhi_audit *audit_of(const mhi_tables_source *from)
{
    static const mhi_audit none;
    return from->audit == NULL ? &none : from->audit;
}

static void fill_modules(string_pool *strings, mhi_file_module *to, const mhi_audit *audit)
{
    for (uint32_t i = 0; i < audit->n_modules; i++) {
        const mhi_module *from = &audit->modules[i];
        to[i] = (mhi_file_module){
            .mo_path = append_string(strings, from->path),
            .mo_bytes = from->size_bytes,
            .mo_relocations = from->n_relocations,
            .mo_build_id_bytes = from->build_id_bytes,
        };
        memcpy(to[i].mo_build_id, from->build_id, from->build_id_bytes);
    }
}

static void fill_relocations(mhi_file_relocation *to, const mhi_audit *audit)
{
    for (uint64_t i = 0; i < audit->n_relocations; i++) {
        const mhi_relocation *from = &audit->relocations[i];
        to[i] = (mhi_file_relocation){ .rl_place = from->place, .rl_target = from->target, .rl_module = from->module };
    }
}

static void *table(const mhi_tables *tables, int kind)
{
    return tables->bytes + (tables->directory[kind - 1].tb_offset - tables->directory[0].tb_offset);
}

/* Index of a mapped file's input, of kind LIBRARY or else FILE. */
static uint64_t input_of(const char *path, const mhi_input **inputs, size_t n_inputs)
{
    uint64_t i = 0;
    for (; i < n_inputs; i++) {
        bool is_file = inputs[i]->entry.in_kind == MH_INPUT_FILE || inputs[i]->entry.in_kind == MH_INPUT_LIBRARY;
        if (is_file && strcmp(inputs[i]->name, path) == 0)
            break;
    }
    return i;
}

static void fill_segments(mhi_file_segment *to, const mhi_tables_source *from, const mhi_input **inputs,
                          size_t n_inputs)
{
    memcpy(to, from->segments, from->n_segments * sizeof *to);
    uint64_t last = 0, input = 0;
    for (size_t i = 0; i < from->n_segments; i++) {
        if (to[i].sg_kind != MH_SEGMENT_FILE)
            continue;
        if (to[i].sg_input != last) /* the segments of a library stand side by side */
            input = input_of(from->mapped->text + (last = to[i].sg_input), inputs, n_inputs);
        to[i].sg_input = input;
    }
}

/* Copies the kind's own tables. The offsets of their strings go into the entries first. */
static void fill_own(string_pool *strings, mhi_tables *tables, const mhi_tables_source *from)
{
    for (size_t i = 0; i < from->n_strings; i++)
        *from->strings[i].offset = append_string(strings, from->strings[i].text);
    for (uint32_t i = 0; i < from->n_tables; i++) {
        int kind = MHI_TABLES_OF_HEAP + 1 + (int)i;
        if (from->tables[i].n > 0)
            memcpy(table(tables, kind), from->tables[i].entries, tables->directory[kind - 1].tb_bytes);
    }
}

static uint64_t strings_bytes(const mhi_tables_source *from, const mhi_input **inputs, size_t n_inputs)
{
    uint64_t size = 1;
    for (size_t i = 0; i < from->n_strings; i++)
        size += strlen(from->strings[i].text) + 1;
    for (size_t i = 0; i < n_inputs; i++)
        size += strlen(inputs[i]->name) + strlen(inputs[i]->text) + 2;
    for (uint32_t i = 0; i < audit_of(from)->n_modules; i++)
        size += strlen(audit_of(from)->modules[i].path) + 1;
    return size;
}

/* Places the tables and returns where the last one ends. */
static uint64_t place_tables(mhi_tables *tables, uint64_t start, const uint64_t *counts)
{
    static const uint64_t entry_bytes[] = { MHI_ENTRY_BYTES };
    uint64_t end = start;
    for (uint32_t i = 0; i < tables->n; i++) {
        uint64_t offset = (end + 7) & ~(uint64_t)7;
        tables->directory[i] = (mhi_file_table){ i + 1, counts[i], offset, counts[i] * entry_bytes[i], 0 };
        end = offset + tables->directory[i].tb_bytes;
    }
    return end;
}

static void fill(mhi_tables *tables, const mhi_tables_source *from, const mhi_input **inputs, size_t n_inputs)
{
    string_pool strings = { .bytes = table(tables, MHI_TABLE_STRINGS), .used = 1 };
    fill_segments(table(tables, MHI_TABLE_SEGMENTS), from, inputs, n_inputs);
    fill_inputs(&strings, table(tables, MHI_TABLE_INPUTS), inputs, n_inputs);
    fill_modules(&strings, table(tables, MHI_TABLE_MODULES), audit_of(from));
    fill_relocations(table(tables, MHI_TABLE_RELOCATIONS), audit_of(from));
    fill_own(&strings, tables, from);
    for (uint32_t kind = 1; kind <= tables->n; kind++) {
        mhi_file_table *entry = &tables->directory[kind - 1];
        entry->tb_checksum = mhi_checksum(table(tables, (int)kind), entry->tb_bytes);
    }
}

int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_tables_source *from, mh_error *err)
{
    *tables = (mhi_tables){ .n = MHI_TABLES_OF_HEAP + from->n_tables };
    const mhi_input **sorted = calloc(from->inputs->n + 1, sizeof *sorted);
    if (sorted == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    size_t n_inputs = sort_inputs(from->inputs, sorted);
    uint64_t counts[MHI_TABLES_MAX] = { from->n_segments, n_inputs, audit_of(from)->n_modules,
                                        audit_of(from)->n_relocations, strings_bytes(from, sorted, n_inputs) };
    for (uint32_t i = 0; i < from->n_tables; i++)
        counts[MHI_TABLES_OF_HEAP + i] = from->tables[i].n;
    tables->size = place_tables(tables, start, counts) - start;

    int status = MH_OK;
    if (tables->size > MHI_TABLES_BYTES_MAX)
        status = mhi_fail(err, MH_ERR_UNSUPPORTED, 0,
                          "the tables would take %" PRIu64 " bytes (%" PRIu64 " relocations), at most %llu are read",
                          tables->size, audit_of(from)->n_relocations, MHI_TABLES_BYTES_MAX);
    else if ((tables->bytes = calloc(1, tables->size)) == NULL)
        status = mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for %" PRIu64 " bytes of tables", tables->size);
    else
        fill(tables, from, sorted, n_inputs);
    free(sorted);
    return status;
}

void mhi_tables_release(mhi_tables *tables)
{
    free(tables->bytes);
    *tables = (mhi_tables){ 0 };
}
