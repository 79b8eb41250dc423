/* tables.h - lays out the tables of a snapshot in memory, as they will be in the file. */
#ifndef MHI_TABLES_H
#define MHI_TABLES_H
#include "format.h"
#include "audit/audit.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"

/* Paths, one behind the other with their NUL bytes; the first begins at 1, so that none is at 0. */
typedef struct {
    const char *text;
    uint64_t bytes;
} mhi_names;

/* A string of a kind's own table: its offset in the strings table goes into an entry. */
typedef struct {
    const char *text;
    uint64_t *offset;
} mhi_own_string;

typedef struct {
    const mhi_file_segment *segments;
    size_t n_segments;
    /* sg_input of a FILE segment is the offset of its path in these names; NULL: there are none */
    const mhi_names *mapped;
    mhi_inputs *inputs;
    const mhi_audit *audit;      /* NULL: no modules, no relocations */
    const mhi_own_table *tables; /* of this kind alone, in their order, behind the tables that every kind has */
    uint32_t n_tables;
    const mhi_own_string *strings; /* in their entries */
    size_t n_strings;
} mhi_tables_source;

typedef struct {
    uint8_t *bytes; /* all tables, as from the first one's offset to the end of the file */
    uint64_t size;
    uint32_t n; /* of tables */
    mhi_file_table directory[MHI_TABLES_MAX];
} mhi_tables;

/* `start` is the tables' offset in the file, a multiple of 8. MH_ERR_UNSUPPORTED: the tables are larger than a reader
 * accepts. */
int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_tables_source *from, mh_error *err);
void mhi_tables_release(mhi_tables *tables);

#endif
