/* timeline.h - the keys and values of the tokens that a model was given. */
#ifndef MK_TIMELINE_H
#define MK_TIMELINE_H
#include "attention.h"

struct mk_timeline {
    mk_config config; /* of the model it was made for */
    int32_t n_ctx;    /* tokens the cache has room for */
    int32_t length;   /* tokens in it; what lies beyond was never written or is forgotten */
    mki_cache cache;  /* of layer 0; owns that of all layers, which follow each other */
    int64_t layer_bytes;
};
#endif
