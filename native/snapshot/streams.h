/* streams.h - what a snapshot depends on of the three standard streams. */
#ifndef MHI_SNAPSHOT_STREAMS_H
#define MHI_SNAPSHOT_STREAMS_H
#include "base/stream.h"
#include "format.h"
#include "magicheap.h"

/* The input of a kind (TERMINAL, STREAM, POSITION, LENGTH) for such a stream. */
mhi_file_input mhi_stream_input(int kind, const mhi_stream *is);
/* MH_OK, or MH_ERR_STALE: the stream of this number is another one now. */
int mhi_stream_check(const mhi_file_input *was, const char *number, mh_error *err);
int mhi_stream_check_size(const mhi_file_input *was, const char *number, mh_error *err);
/* `open`: a bit for each stream that is open. */
int mhi_streams_check_open(const mhi_file_input *was, uint32_t open, mh_error *err);

#endif
