/* What the loops that combine rows and cells in one go are told, and the moves of their vectors. */
#ifndef POOLING_FUSED_H
#define POOLING_FUSED_H

#include "_cells.h"

typedef struct {
    Py_ssize_t planes, rows, windows;       /* of results: windows in a row */
    Py_ssize_t lines, cells;                /* of a plane: lines of cells */
    Py_ssize_t first, stride, dilation;     /* the first window's first line; to the next window's; between its lines */
    Py_ssize_t pitch, line, dpitch, drow;   /* bytes: from plane to plane and line to line, plane to plane and row to row */
    Py_ssize_t ahead;                       /* bytes to what will be read soon */
    Py_ssize_t inner, step, dstep;          /* of each cell and window, a vector or more; bytes from one to the next */
    int dense;                              /* results lie one after the other */
    const char *end;                        /* of the last plane's last line */
    const char *none, *identity;            /* a line of cells that change nothing, and such an accumulator */
    const char* divisor;                    /* of all windows, an accumulator, where results are divided at once; or NULL */
} fused_t;
typedef void (*fuse_loop)(char* dst, const char* src, const fused_t*);

/* Lines are read as whole vectors, whose cells move between the vectors: where two of them make one in an instruction or two. */
#if defined(__GNUC__) && !defined(__clang__) && POOLING_VECTOR >= 32
#define POOLING_FUSES 1
#define POOLING_ALL(T, x) ((T){0} + (x))
/* b > a ? b : a is what the instruction does, with a where one is NaN: b != b ? b : that. As an expression it becomes more. */
#if POOLING_VECTOR == 64
#define POOLING_JOINED(a, b, OP, T) \
    _mm512_mask_mov_##T(_mm512_##OP##_##T(b, a), _mm512_cmp_##T##_mask(b, b, _CMP_UNORD_Q), b)
#else
#define POOLING_JOINED(a, b, OP, T) \
    _mm256_blendv_##T(_mm256_##OP##_##T(b, a), b, _mm256_cmp_##T(b, b, _CMP_UNORD_Q))
#endif
#define POOLING_JOINED_max_float32(a, b) POOLING_JOINED(a, b, max, ps)
#define POOLING_JOINED_min_float32(a, b) POOLING_JOINED(a, b, min, ps)
#define POOLING_JOINED_max_float64(a, b) POOLING_JOINED(a, b, max, pd)
#define POOLING_JOINED_min_float64(a, b) POOLING_JOINED(a, b, min, pd)
#if POOLING_VECTOR == 64   /* what the compiler makes of conversions between vectors is half a one at a time */
#define POOLING_HALF_LINE(x) _mm256_loadu_si256((const __m256i*)(x))
#define POOLING_HALVES_LINE(x) _mm512_cvtph_ps(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint8(x) _mm512_cvtepu8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int8(x) _mm512_cvtepi8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint16(x) _mm512_cvtepu16_epi32(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int16(x) _mm512_cvtepi16_epi32(POOLING_HALF_LINE(x))
#else
#define POOLING_HALF_LINE(x) _mm_loadu_si128((const __m128i*)(x))
#define POOLING_HALVES_LINE(x) _mm256_cvtph_ps(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint8(x) _mm256_cvtepu8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int8(x) _mm256_cvtepi8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint16(x) _mm256_cvtepu16_epi32(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int16(x) _mm256_cvtepi16_epi32(POOLING_HALF_LINE(x))
#endif
#define POOLING_MOVES(T, KEY, NAME)                                                                             \
    typedef T line_##NAME __attribute__((vector_size(POOLING_VECTOR)));                                         \
    typedef KEY move_##NAME __attribute__((vector_size(POOLING_VECTOR)));                                       \
    enum { lanes_##NAME = POOLING_VECTOR / sizeof(T) };                                                         \
    /* A vector out of two: from cell `from` of the first on, every step-th. */                                 \
    POOLING_INLINE line_##NAME moved_##NAME(line_##NAME a, line_##NAME b, int from, int step) {                 \
        move_##NAME which;                                                                                      \
        int j;                                                                                                  \
        for (j = 0; j < lanes_##NAME; j++) which[j] = (KEY)(from + step * j);                                   \
        return __builtin_shuffle(a, b, which);                                                                  \
    }                                                                                                           \
    /* The first cells of a vector, and others behind them. */                                                  \
    POOLING_INLINE line_##NAME ended_##NAME(line_##NAME a, line_##NAME b, Py_ssize_t cells) {                   \
        move_##NAME lane, inside;                                                                               \
        int j;                                                                                                  \
        for (j = 0; j < lanes_##NAME; j++) lane[j] = (KEY)j;                                                    \
        inside = lane < (KEY)cells;                                                                             \
        return (line_##NAME)(((move_##NAME)a & inside) | ((move_##NAME)b & ~inside));                           \
    }
#else
#define POOLING_FUSES 0
#endif

#endif
