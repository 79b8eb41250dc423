/* info.c - reports the process data of an open image. */
#include <stdio.h>

#include "resumable/tables.h"

int mh_image_read_process(const mh_image *image, mh_process_info *process)
{
    const mhi_file_process *from = mhi_image_process(image);
    if (from == NULL)
        return MH_ERR_ARGUMENT;
    *process = (mh_process_info){
        .parent_checksum = from->pr_parent_checksum,
        .n_descriptors = (uint32_t)mhi_image_n_descriptors(image),
        .n_signals = (uint32_t)mhi_image_n_signals(image),
    };
    for (uint64_t i = 0; i < mhi_image_n_touched(image); i++)
        process->touched_bytes += mhi_image_touched(image)[i].to_bytes;
    snprintf(process->command, sizeof process->command, "%s", mhi_image_string(image, from->pr_command));
    snprintf(process->program, sizeof process->program, "%s", mhi_image_string(image, from->pr_program));
    return MH_OK;
}
