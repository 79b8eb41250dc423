/* checksum.h - the one checksum of the file: XXH64 under our own seed.
 *
 * Freestanding: needs no libc. The seed keeps accidental matches out: a hole of zeros, an empty range beside a zero,
 * data with another program's XXH64.
 */
#ifndef MHI_CHECKSUM_H
#define MHI_CHECKSUM_H
#include <stddef.h>
#include <stdint.h>

#define MHI_CHECKSUM_SEED 0x61642e636967616dull /* "magic.da": arbitrary, but not zero */

enum { MHI_STRIPE = 32 };

typedef struct {
    uint64_t lane[4];
    uint64_t seed;
    uint64_t total_bytes;
} mhi_checksum_state;

/* A checksum in pieces: begin, then any number of whole stripes (multiples of 32 bytes), then end with the rest. */
void mhi_checksum_begin(mhi_checksum_state *state, uint64_t seed);
void mhi_checksum_stripes(mhi_checksum_state *state, const void *data, size_t size);
uint64_t mhi_checksum_end(const mhi_checksum_state *state, const void *rest, size_t rest_bytes);

/* The checksum of one range, under MHI_CHECKSUM_SEED. */
uint64_t mhi_checksum(const void *data, size_t size);

#endif
