/* tables.c - from lists in memory to the tables of the file. */
#define _GNU_SOURCE
#include "snapshot/tables.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "error.h"
#include "snapshot/checksum.h"

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

/* Cheap comparisons first, so that a run which can't attach knows early; then by name, then as recorded. */
static int by_kind_and_name(const void *a, const void *b)
{
    const mhi_input *x = *(const mhi_input *const *)a, *y = *(const mhi_input *const *)b;
    if (x->entry.in_kind != y->entry.in_kind)
        return x->entry.in_kind < y->entry.in_kind ? 1 : -1;
    int order = strcmp(x->name, y->name);
    return order != 0 ? order : x < y ? -1 : x > y;
}

/* Sorts pointers to the inputs and leaves out those whose kind and name were recorded before. */
static size_t sort_inputs(const mhi_inputs *inputs, const mhi_input **sorted)
{
    for (size_t i = 0; i < inputs->n; i++)
        sorted[i] = &inputs->items[i];
    qsort(sorted, inputs->n, sizeof *sorted, by_kind_and_name);
    size_t kept = 0;
    for (size_t i = 0; i < inputs->n; i++) {
        const mhi_input *last = kept == 0 ? NULL : sorted[kept - 1];
        if (last == NULL || last->entry.in_kind != sorted[i]->entry.in_kind || strcmp(last->name, sorted[i]->name) != 0)
            sorted[kept++] = sorted[i];
    }
    return kept;
}

static void fill_inputs(string_pool *strings, mhi_file_input *to, const mhi_input **inputs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        to[i] = inputs[i]->entry;
        to[i].in_name = append_string(strings, inputs[i]->name);
        to[i].in_text = append_string(strings, inputs[i]->text);
    }
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

static uint64_t strings_bytes(const mhi_input **inputs, size_t n_inputs, const mhi_audit *audit)
{
    uint64_t size = 1;
    for (size_t i = 0; i < n_inputs; i++)
        size += strlen(inputs[i]->name) + strlen(inputs[i]->text) + 2;
    for (uint32_t i = 0; i < audit->n_modules; i++)
        size += strlen(audit->modules[i].path) + 1;
    return size;
}

/* Places the tables and returns where the last one ends. */
static uint64_t place_tables(mhi_file_table *directory, uint64_t start, const uint64_t *counts)
{
    static const uint64_t entry_bytes[] = { sizeof(mhi_file_segment), sizeof(mhi_file_input), sizeof(mhi_file_module),
                                            sizeof(mhi_file_relocation), 1 };
    uint64_t end = start;
    for (uint32_t i = 0; i < MHI_TABLES_OF_HEAP; i++) {
        uint64_t offset = (end + 7) & ~(uint64_t)7;
        directory[i] = (mhi_file_table){ i + 1, counts[i], offset, counts[i] * entry_bytes[i], 0 };
        end = offset + directory[i].tb_bytes;
    }
    return end;
}

static void *table(const mhi_tables *tables, int kind)
{
    return tables->bytes + (tables->directory[kind - 1].tb_offset - tables->directory[0].tb_offset);
}

static void fill(mhi_tables *tables, const mhi_file_segment *segments, const mhi_input **inputs, size_t n_inputs, const mhi_audit *audit)
{
    string_pool strings = { .bytes = table(tables, MHI_TABLE_STRINGS), .used = 1 };
    memcpy(table(tables, MHI_TABLE_SEGMENTS), segments, tables->directory[MHI_TABLE_SEGMENTS - 1].tb_bytes);
    fill_inputs(&strings, table(tables, MHI_TABLE_INPUTS), inputs, n_inputs);
    fill_modules(&strings, table(tables, MHI_TABLE_MODULES), audit);
    fill_relocations(table(tables, MHI_TABLE_RELOCATIONS), audit);
    for (int kind = 1; kind <= MHI_TABLES_OF_HEAP; kind++) {
        mhi_file_table *entry = &tables->directory[kind - 1];
        entry->tb_checksum = mhi_checksum(table(tables, kind), entry->tb_bytes);
    }
}

int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_file_segment *segments, size_t n_segments,
                     const mhi_inputs *inputs, const mhi_audit *audit, mh_error *err)
{
    *tables = (mhi_tables){ 0 };
    const mhi_input **sorted = calloc(inputs->n + 1, sizeof *sorted);
    if (sorted == NULL)
        return mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "out of memory");
    size_t n_inputs = sort_inputs(inputs, sorted);
    uint64_t counts[] = { n_segments, n_inputs, audit->n_modules, audit->n_relocations, strings_bytes(sorted, n_inputs, audit) };
    tables->size = place_tables(tables->directory, start, counts) - start;

    int status = MH_OK;
    if (tables->size > MHI_TABLES_BYTES_MAX)
        status = mhi_fail(err, MH_ERR_UNSUPPORTED, 0, "the tables would take %" PRIu64 " bytes (%" PRIu64 " relocations), at most %llu are read",
                          tables->size, audit->n_relocations, MHI_TABLES_BYTES_MAX);
    else if ((tables->bytes = calloc(1, tables->size)) == NULL)
        status = mhi_fail(err, MH_ERR_SYSTEM, ENOMEM, "no memory for %" PRIu64 " bytes of tables", tables->size);
    else
        fill(tables, segments, sorted, n_inputs, audit);
    free(sorted);
    return status;
}

void mhi_tables_release(mhi_tables *tables)
{
    free(tables->bytes);
    *tables = (mhi_tables){ 0 };
}
