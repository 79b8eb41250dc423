/* tables.h - lays the tables of a snapshot out in memory, as they will be in the file. */
#ifndef MHI_TABLES_H
#define MHI_TABLES_H
#include "format.h"
#include "audit/audit.h"
#include "snapshot/inputs.h"

/* What only a process snapshot has. Names are pointers here, offsets of strings in the file. */
typedef struct mhi_process_tables {
    const char *names;        /* sg_input of a FILE segment is an offset in here, of its path */
    mhi_file_process process; /* pr_program and pr_command are set when the tables are made, from */
    const char *program, *command;
    const mhi_file_descriptor *descriptors; /* ds_name: from */
    const char *const *descriptor_names;
    size_t n_descriptors;
    const mhi_file_signal *signals;
    size_t n_signals;
    const mhi_file_touched *touched;
    size_t n_touched;
} mhi_process_tables;

typedef struct {
    const mhi_file_segment *segments;
    size_t n_segments;
    const mhi_inputs *inputs;
    const mhi_audit *audit;
    const mhi_process_tables *process; /* NULL: of a heap */
} mhi_tables_source;

typedef struct {
    uint8_t *bytes; /* all tables, as from the first one's offset to the end of the file */
    uint64_t size;
    uint32_t n; /* of tables */
    mhi_file_table directory[MHI_TABLES_OF_PROCESS];
} mhi_tables;

/* `start` is where in the file they will begin, a multiple of 8. MH_ERR_UNSUPPORTED: they are larger than a reader
 * takes. */
int mhi_tables_build(mhi_tables *tables, uint64_t start, const mhi_tables_source *from, mh_error *err);
void mhi_tables_release(mhi_tables *tables);

#endif
