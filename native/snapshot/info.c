/* info.c - reports the contents of an open image. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>

#include "error.h"
#include "snapshot/image.h"
#include "snapshot/inputs.h"
#include "snapshot/kind.h"
#include "snapshot/transaction.h"
#include "snapshot/trust.h"

void mh_image_read_info(const mh_image *image, mh_image_info *info)
{
    const mhi_file_header *header = &image->header;
    *info = (mh_image_info){
        .kind = (int)header->hd_kind,
        .format_version = header->hd_version,
        .file_bytes = header->hd_file_bytes,
        /* 512: the unit of st_blocks, whatever the file system's block size */
        .stored_bytes = (uint64_t)image->status.st_blocks * 512,
        .address = header->hd_address,
        .root = header->hd_root,
        .created_ns = header->hd_created_ns,
        .n_segments = (uint32_t)image->n_segments,
        .n_inputs = (uint32_t)image->n_inputs,
        .n_modules = (uint32_t)image->n_modules,
        .n_relocations = image->n_relocations,
        .live_blocks = header->hd_live_blocks,
        .checksum = header->hd_checksum,
    };
}

int mh_image_read_segment(const mh_image *image, uint32_t i, mh_segment_info *segment)
{
    if (i >= image->n_segments)
        return MH_ERR_ARGUMENT;
    const mhi_file_segment *from = &image->segments[i];
    *segment = (mh_segment_info){
        .kind = (int)from->sg_kind,
        .prot = from->sg_prot,
        .address = from->sg_address,
        .size_bytes = from->sg_bytes,
        .file_offset = from->sg_offset,
        .checksum = from->sg_checksum,
        .input = (uint32_t)from->sg_input,
    };
    return MH_OK;
}

int mh_image_read_input(const mh_image *image, uint32_t i, mh_input_info *input)
{
    if (i >= image->n_inputs)
        return MH_ERR_ARGUMENT;
    const mhi_file_input *from = &image->inputs[i];
    *input = (mh_input_info){
        .kind = (int)from->in_kind,
        .size_bytes = from->in_bytes,
        .inode = from->in_inode,
        .device = from->in_device,
        .mtime_ns = from->in_mtime_ns,
        .digest = from->in_digest,
    };
    const char *name = mhi_image_string(image, from->in_name), *text = mhi_image_string(image, from->in_text);
    if (from->in_kind == MH_INPUT_NOTE)
        name = ""; /* a note's name repeats its text */
    snprintf(input->name, sizeof input->name, "%s%s%s", name, *name != '\0' && *text != '\0' ? " " : "", text);
    return MH_OK;
}

uint64_t mh_image_read_key(const mh_image *image, char *key, uint64_t size)
{
    const char *text = "";
    for (uint64_t i = 0; i < image->n_inputs; i++)
        if (image->inputs[i].in_kind == MH_INPUT_KEY)
            text = mhi_image_string(image, image->inputs[i].in_text);
    snprintf(key, size, "%s", text);
    return strlen(text);
}

bool mh_image_is_gone(const mh_image *image) { return mhi_inputs_are_gone(image); }

int mh_image_read_module(const mh_image *image, uint32_t i, mh_module_info *module)
{
    if (i >= image->n_modules)
        return MH_ERR_ARGUMENT;
    const mhi_file_module *from = &image->modules[i];
    *module = (mh_module_info){ .n_relocations = from->mo_relocations };
    snprintf(module->path, sizeof module->path, "%s", mhi_image_string(image, from->mo_path));
    for (uint32_t byte = 0; byte < from->mo_build_id_bytes; byte++)
        sprintf(module->build_id + 2 * byte, "%02x", from->mo_build_id[byte]);
    return MH_OK;
}

int mh_image_check_inputs(const mh_image *image, const mh_options *options, mh_error *err)
{
    bool is_any = options == NULL || (options->key == NULL && mhi_kind_of(options)->may_lack_key);
    mhi_run run = mhi_options_run(options, is_any ? NULL : options->key == NULL ? "" : options->key);
    bool is_variant;
    run.is_any = is_any;
    int status = mhi_trust_process(err);
    if (status == MH_OK)
        status = mhi_trust_directories(image->path, err);
    if (status == MH_OK)
        status = mhi_trust_file(image->path, &image->status, err);
    if (status == MH_OK)
        status = mhi_inputs_check(image, &run, &is_variant, err);
    return status;
}
