/* vector.h - vectors of floats and integers for a source that is compiled once per instruction set.
 *
 * Sums of products are written with these vectors, since only such sums may be fused, and their tiles must stay in
 * registers. So are the operations beside such sums, and computations that must be interleaved, since each step waits
 * for the one before (exp2.h). All other code is plain C over arrays, which the compiler turns into the same vectors.
 * Except for multiply_add nothing is contracted: every instruction set gives the same bits.
 *
 * MKI_VECTOR, which the build defines, is the header of one: vector_portable.h, or one of a CPU's folder. It defines
 *   vector, pairs                    LANES floats; as many pairs of 16-bit integers, or sums of 32 bits
 *   TILE_ROWS, TILE_VECTORS          sums that are computed at once: as many as the registers hold
 *   MKI_ISA                          the names that the source defines
 *   total_of_lanes, peak_of_lanes    of sixteen lanes, 64-byte aligned, folded in halves: one order everywhere
 * and the operations that are not the compiler's own.
 */
#ifndef MK_VECTOR_H
#define MK_VECTOR_H
#include MKI_VECTOR

INLINE vector load(const float *from)
{
    vector v;
    memcpy(&v, from, sizeof v);
    return v;
}

INLINE void store(float *to, vector v) { memcpy(to, &v, sizeof v); }
INLINE vector broadcast(float x) { return x - (vector){ 0 }; } /* not +: it would lose the sign of -0 */

INLINE pairs load_pairs(const void *from)
{
    pairs p;
    memcpy(&p, from, sizeof p);
    return p;
}

INLINE void store_pairs(void *to, pairs p) { memcpy(to, &p, sizeof p); }

INLINE pairs broadcast_pair(const int16_t *from)
{
    typedef int32_t lanes __attribute__((vector_size(sizeof(pairs))));
    int32_t both;
    memcpy(&both, from, sizeof both);
    return (pairs)(both - (lanes){ 0 });
}

INLINE float sum_of_squares(const float *x, int32_t n)
{
    _Alignas(64) float lane[16] = { 0 };
    vector sum[16 / LANES] = { 0 };
    int32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int j = 0; j < 16 / LANES; j++) {
            vector v = load(x + i + j * LANES);
            sum[j] += v * v;
        }
    for (int j = 0; j < 16 / LANES; j++)
        store(lane + j * LANES, sum[j]);
    for (int j = 0; i + j < n; j++)
        lane[j] += x[i + j] * x[i + j];
    return total_of_lanes(lane);
}
#endif
