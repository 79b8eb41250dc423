/* tables.h - lays the tables of a snapshot out in memory, as they will be in the file. */
#ifndef MHI_TABLES_H
#define MHI_TABLES_H
#include "format.h"
#include "heap/audit.h"
#include "snapshot/inputs.h"

typedef struct {
    uint8_t *bytes; /* all tables, as from the first one's offset to the end of the file */
    uint64_t size;
    mhi_file_table directory[MHI_TABLES_OF_HEAP];
} mhi_tables;

/* `start` is where in the file they will begin, a multiple of 8. MH_ERR_UNSUPPORTED: they are larger than a reader takes. */
int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_file_segment *segments, size_t n_segments,
                     const mhi_inputs *inputs, const mhi_audit *audit, mh_error *err);
void mhi_tables_release(mhi_tables *tables);

#endif
