/* tables.h - lays the tables of a snapshot out in memory, as they will be in the file. */
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

/* A string of a table that only a kind has: its offset in the file goes into the entry at hand. */
typedef struct {
    const char *text;
    uint64_t *offset;
} mhi_own_string;

typedef struct {
    const mhi_file_segment *segments;
    size_t n_segments;
    const mhi_names *mapped; /* sg_input of a FILE segment is an offset in here, of its path; NULL: there are none */
    mhi_inputs *inputs;
    const mhi_audit *audit;      /* NULL: no modules, no relocations */
    const mhi_own_table *tables; /* of the kind alone, in their order, behind those that every kind has */
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

/* `start` is where in the file they will begin, a multiple of 8. MH_ERR_UNSUPPORTED: they are larger than a reader
 * takes. */
int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_tables_source *from, mh_error *err);
void mhi_tables_release(mhi_tables *tables);

#endif
