/* folds.h - sixteen lanes folded in halves, for each vector_*.h: whatever the width of its vectors, in these. */
#ifndef MK_FOLDS_H
#define MK_FOLDS_H
#include <immintrin.h>

#define INLINE static inline __attribute__((always_inline))

INLINE float total_of_lanes(const float *lane)
{
    __m128 four = (_mm_load_ps(lane) + _mm_load_ps(lane + 8)) + (_mm_load_ps(lane + 4) + _mm_load_ps(lane + 12));
    __m128 two = four + _mm_movehl_ps(four, four);
    return two[0] + two[1];
}

INLINE float peak_of_lanes(const float *lane)
{
    __m128 four = _mm_max_ps(_mm_max_ps(_mm_load_ps(lane), _mm_load_ps(lane + 8)),
                             _mm_max_ps(_mm_load_ps(lane + 4), _mm_load_ps(lane + 12)));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return two[0] > two[1] ? two[0] : two[1];
}

#endif
