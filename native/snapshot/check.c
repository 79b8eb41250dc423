/* check.c - believes nothing that a file says about itself.
 *
 * A checksum detects accidental damage. An attacker repairs the checksum, so each field is checked as if there were
 * none. Any layout but the exact one that this library writes is refused: no gap, no overlap, no other order, no byte
 * in a reserved place. Every function returns NULL, or the defect as the end of a sentence.
 */
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "base/memory.h"
#include "base/pages.h"
#include "heap/arena.h"
#include "snapshot/checksum.h"
#include "snapshot/image.h"
#include "snapshot/kind.h"
#include "sys/sys.h"

static const char *check_arena(const mhi_file_header *header)
{
    uint64_t data_end, end;
    if (!mhi_is_paged(header->hd_meta_bytes) || !mhi_is_paged(header->hd_data_offset) ||
        !mhi_is_paged(header->hd_data_bytes) || !mhi_is_paged(header->hd_capacity_bytes))
        return "the sizes of its arena are not whole pages";
    if (header->hd_address < MHI_REGION_START || header->hd_address % MHI_SLOT_BYTES != 0 ||
        __builtin_add_overflow(header->hd_address, header->hd_capacity_bytes, &end) || end > MHI_REGION_END)
        return "its arena lies outside the region of arenas";
    if (header->hd_meta_bytes == 0 || header->hd_meta_bytes > header->hd_data_offset ||
        __builtin_add_overflow(header->hd_data_offset, header->hd_data_bytes, &data_end) ||
        data_end > header->hd_capacity_bytes)
        return "the parts of its arena do not fit into it";
    uint64_t place = header->hd_root - header->hd_address;
    if (header->hd_root != 0 &&
        (header->hd_root < header->hd_address || place < header->hd_data_offset || place >= data_end))
        return "its root lies outside its data";
    return NULL;
}

const char *mhi_check_header(const mhi_file_header *header, const mhi_file_kind *kind)
{
    if (header->hd_state != MHI_STATE_COMPLETE)
        return "it is incomplete: its writer did not finish";
    if (header->hd_n_tables != kind->n_tables)
        return "the number of its tables is wrong";
    size_t unused = (MHI_TABLES_MAX - header->hd_n_tables) * sizeof(mhi_file_table);
    if (!mhi_is_zero((const uint8_t *)&header->hd_tables[header->hd_n_tables], unused) ||
        !mhi_is_zero(header->hd_reserved, sizeof header->hd_reserved))
        return "its header has something where nothing belongs";
    return kind->check_header(header);
}

/* The directory: each kind once and in order, each table directly behind the one before, the last one up to the end. */
const char *mhi_check_directory(const struct mh_image *image)
{
    static const uint64_t entry_bytes[] = { MHI_ENTRY_BYTES };
    const mhi_file_header *header = &image->header;
    uint64_t start = header->hd_tables[0].tb_offset, place = start;
    for (uint32_t i = 0; i < header->hd_n_tables; i++) {
        const mhi_file_table *table = &header->hd_tables[i];
        uint64_t bytes, end, next;
        if (table->tb_kind != i + 1)
            return "its tables are not in order";
        if (__builtin_mul_overflow(table->tb_count, entry_bytes[i], &bytes) || bytes != table->tb_bytes)
            return "a table's size does not follow from its count";
        if (table->tb_offset != place || __builtin_add_overflow(place, bytes, &end) ||
            __builtin_add_overflow(end, 7, &next))
            return "a table lies where none belongs";
        bool is_last = i + 1 == header->hd_n_tables;
        place = is_last ? end : next & ~(uint64_t)7;
    }
    return place == header->hd_file_bytes && place - start == image->tables_bytes
               ? NULL
               : "its tables do not end where the file does";
}

static const char *check_arena_segments(const struct mh_image *image)
{
    const mhi_file_header *header = &image->header;
    const mhi_file_segment *data = &image->segments[0], *meta = &image->segments[1];
    uint64_t meta_offset, end;
    if (image->n_segments != 2 || data->sg_kind != MH_SEGMENT_ARENA || meta->sg_kind != MH_SEGMENT_PAGES)
        return "its segments are not those of an arena";
    if (data->sg_prot != (PROT_READ | PROT_WRITE) || meta->sg_prot != (PROT_READ | PROT_WRITE))
        return "a segment has an access right that no heap needs";
    if (data->sg_address != header->hd_address + header->hd_data_offset || data->sg_bytes != header->hd_data_bytes ||
        meta->sg_address != header->hd_address || meta->sg_bytes != header->hd_meta_bytes)
        return "a segment contradicts the header about the arena";
    if (data->sg_offset != MHI_SEGMENTS_OFFSET ||
        __builtin_add_overflow(data->sg_offset, data->sg_bytes, &meta_offset) || meta->sg_offset != meta_offset ||
        __builtin_add_overflow(meta_offset, meta->sg_bytes, &end) || end != header->hd_tables[0].tb_offset)
        return "a segment lies where none belongs";
    return NULL;
}

static const char *check_inputs(const struct mh_image *image)
{
    for (uint64_t i = 0; i < image->n_inputs; i++) {
        const mhi_file_input *input = &image->inputs[i];
        if (input->in_kind < MH_INPUT_FILE || input->in_kind > MH_INPUT_DISPOSITIONS)
            return "an input is of an unknown kind";
        if (input->in_kind == MH_INPUT_ABSENT && input->in_bytes != 0 &&
            (input->in_bytes > image->n_inputs || image->inputs[input->in_bytes - 1].in_kind != MH_INPUT_DIRECTORY))
            return "an input names no directory";
        if (input->in_kind == MH_INPUT_LISTING && input->in_bytes > MH_LISTING_METADATA)
            return "an input is a listing of an unknown kind";
        if (!mhi_is_string(image, input->in_name) || !mhi_is_string(image, input->in_text))
            return "an input's name lies outside the strings";
        if (input->in_build_id_bytes > MHI_FILE_BUILD_ID_MAX)
            return "an input's build-id is too long";
    }
    return NULL;
}

static const char *check_modules(const struct mh_image *image)
{
    uint64_t n_relocations = 0;
    for (uint64_t i = 0; i < image->n_modules; i++) {
        const mhi_file_module *module = &image->modules[i];
        if (!mhi_is_string(image, module->mo_path))
            return "a module's path lies outside the strings";
        if (module->mo_build_id_bytes > MHI_FILE_BUILD_ID_MAX || module->mo_reserved != 0)
            return "a module's build-id is too long";
        if (__builtin_add_overflow(n_relocations, module->mo_relocations, &n_relocations))
            return "the modules' relocations overflow";
    }
    return n_relocations == image->n_relocations ? NULL : "the modules' relocations do not add up";
}

static const char *check_relocations(const struct mh_image *image)
{
    const mhi_file_header *header = &image->header;
    uint64_t next = header->hd_data_offset, data_end = next + header->hd_data_bytes;
    for (uint64_t i = 0; i < image->n_relocations; i++) {
        const mhi_file_relocation *relocation = &image->relocations[i];
        uint64_t place = relocation->rl_place;
        if (place < next || place >= data_end || place % 8 != 0)
            return "a relocation lies outside the data, or out of order";
        if (relocation->rl_module >= image->n_modules || relocation->rl_reserved != 0)
            return "a relocation names no module";
        if (relocation->rl_target >= image->modules[relocation->rl_module].mo_bytes)
            return "a relocation points outside its module";
        next = place + 8;
    }
    return NULL;
}

/* The directory was checked, so it has exactly the tables of its kind. */
static void take_table(struct mh_image *image, const mhi_file_table *table, const void *bytes)
{
    switch (table->tb_kind) {
    case MHI_TABLE_SEGMENTS: image->segments = bytes, image->n_segments = table->tb_count; break;
    case MHI_TABLE_INPUTS: image->inputs = bytes, image->n_inputs = table->tb_count; break;
    case MHI_TABLE_MODULES: image->modules = bytes, image->n_modules = table->tb_count; break;
    case MHI_TABLE_RELOCATIONS: image->relocations = bytes, image->n_relocations = table->tb_count; break;
    case MHI_TABLE_STRINGS: image->strings = bytes, image->strings_bytes = table->tb_count; break;
    default: image->own[table->tb_kind - MHI_TABLES_OF_HEAP - 1] = (mhi_own_table){ bytes, table->tb_count };
    }
}

static const char *check_heap(const struct mh_image *image)
{
    const char *wrong = check_arena_segments(image);
    if (wrong == NULL)
        wrong = check_modules(image);
    return wrong == NULL ? check_relocations(image) : wrong;
}

const mhi_file_kind mhi_file_kind_heap = {
    .number = MH_KIND_HEAP,
    .name = "heap",
    .n_tables = MHI_TABLES_OF_HEAP,
    .check_header = check_arena,
    .check_tables = check_heap,
};

/* The tables that show whether a run could take the file. */
static bool is_front(uint64_t kind) { return kind == MHI_TABLE_INPUTS || kind >= MHI_TABLE_STRINGS; }

static const char *take_tables(struct mh_image *image, bool of_front)
{
    const mhi_file_table *tables = image->header.hd_tables;
    for (uint32_t i = 0; i < image->header.hd_n_tables; i++) {
        const uint8_t *bytes = image->tables + (tables[i].tb_offset - tables[0].tb_offset);
        if (is_front(tables[i].tb_kind) != of_front)
            continue;
        if (mhi_checksum(bytes, tables[i].tb_bytes) != tables[i].tb_checksum)
            return "the checksum of a table does not match";
        take_table(image, &tables[i], bytes);
    }
    return NULL;
}

const char *mhi_check_front(struct mh_image *image)
{
    const char *wrong = take_tables(image, true);
    if (wrong != NULL)
        return wrong;
    if (image->strings_bytes == 0 || image->strings[0] != '\0' || image->strings[image->strings_bytes - 1] != '\0')
        return "its strings do not begin and end with NUL";
    if ((wrong = check_inputs(image)) != NULL)
        return wrong;
    return image->kind->check_front == NULL ? NULL : image->kind->check_front(image);
}

const char *mhi_check_tables(struct mh_image *image)
{
    const char *wrong = take_tables(image, false);
    if (wrong != NULL)
        return wrong;
    return image->kind->check_tables(image);
}
