/* kinds.c - the kinds of snapshots there are: above the rooms that make them, since no other place may know all. */
#include "process/process.h"
#include "resumable/tables.h"
#include "snapshot/kind.h"

const mhi_file_kind *const mhi_file_kinds[MHI_N_KINDS] = { &mhi_file_kind_heap, &mhi_file_kind_process };

const mhi_kind *mhi_kind_of(const mh_options *options) { return options->process ? &mhi_kind_process : &mhi_kind_heap; }
