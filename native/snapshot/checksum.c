/* checksum.c - XXH64, from its specification (xxHash fast digest algorithm, doc/xxhash_spec.md, version 0.2.0).
 *
 * Four lanes take 8 bytes each of every 32-byte stripe; at the end they are merged, the total length is added, the rest
 * is taken 8, 4 and 1 bytes at a time, and the bits are mixed.
 */
#include "snapshot/checksum.h"

#define PRIME_1 0x9E3779B185EBCA87ull
#define PRIME_2 0xC2B2AE3D27D4EB4Full
#define PRIME_3 0x165667B19E3779F9ull
#define PRIME_4 0x85EBCA77C2B2AE63ull
#define PRIME_5 0x27D4EB2F165667C5ull

static uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static uint64_t load_64(const uint8_t *from)
{
    uint64_t value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

static uint32_t load_32(const uint8_t *from)
{
    uint32_t value;
    __builtin_memcpy(&value, from, sizeof value);
    return value;
}

static uint64_t round_64(uint64_t lane, uint64_t word) { return rotate(lane + word * PRIME_2, 31) * PRIME_1; }

void mhi_checksum_begin(mhi_checksum_state *state, uint64_t seed)
{
    *state = (mhi_checksum_state){
        .lane = { seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1 },
        .seed = seed,
    };
}

void mhi_checksum_stripes(mhi_checksum_state *state, const void *data, size_t size)
{
    uint64_t a = state->lane[0], b = state->lane[1], c = state->lane[2], d = state->lane[3];
    const uint8_t *p = data, *end = p + size;
    for (; p < end; p += MHI_STRIPE) {
        a = round_64(a, load_64(p));
        b = round_64(b, load_64(p + 8));
        c = round_64(c, load_64(p + 16));
        d = round_64(d, load_64(p + 24));
    }
    state->lane[0] = a, state->lane[1] = b, state->lane[2] = c, state->lane[3] = d;
    state->total_bytes += size;
}

static uint64_t merge(const mhi_checksum_state *state)
{
    if (state->total_bytes == 0)
        return state->seed + PRIME_5;
    const uint64_t *lane = state->lane;
    uint64_t sum = rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    for (int i = 0; i < 4; i++)
        sum = (sum ^ round_64(0, lane[i])) * PRIME_1 + PRIME_4;
    return sum;
}

static uint64_t mix(uint64_t sum)
{
    sum = (sum ^ sum >> 33) * PRIME_2;
    sum = (sum ^ sum >> 29) * PRIME_3;
    return sum ^ sum >> 32;
}

uint64_t mhi_checksum_end(const mhi_checksum_state *state, const void *rest, size_t rest_bytes)
{
    mhi_checksum_state all = *state;
    size_t whole = rest_bytes / MHI_STRIPE * MHI_STRIPE;
    mhi_checksum_stripes(&all, rest, whole);

    const uint8_t *p = (const uint8_t *)rest + whole, *end = (const uint8_t *)rest + rest_bytes;
    uint64_t sum = merge(&all) + all.total_bytes + (rest_bytes - whole);
    for (; end - p >= 8; p += 8)
        sum = rotate(sum ^ round_64(0, load_64(p)), 27) * PRIME_1 + PRIME_4;
    for (; end - p >= 4; p += 4)
        sum = rotate(sum ^ load_32(p) * PRIME_1, 23) * PRIME_2 + PRIME_3;
    for (; p < end; p++)
        sum = rotate(sum ^ *p * PRIME_5, 11) * PRIME_1;
    return mix(sum);
}

uint64_t mhi_checksum(const void *data, size_t size)
{
    mhi_checksum_state state;
    mhi_checksum_begin(&state, MHI_CHECKSUM_SEED);
    return mhi_checksum_end(&state, data, size);
}
