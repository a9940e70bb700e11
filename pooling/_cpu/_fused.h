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
    int dense;                              /* rows of results lie one after the other */
    Py_ssize_t form, size;                  /* of results, and their bytes */
    double divisor;                         /* of all windows; 0 where results are not divided */
    const char *end;                        /* of the last plane's last line */
    const char *none, *identity;            /* a line of cells that change nothing, and such an accumulator */
    char* spare;                            /* three lines' copies, */
    Py_ssize_t wide, apart;                 /* each of so many bytes, and so many from one to the next */
    Py_ssize_t beside;                      /* bytes from a value to its index */
    char* kept;                             /* four rows: values and places of two lines */
} fused_t;
/* What the loops of gradients are told: rows of cells, each the sum of the shares of the windows that cover it. */
typedef struct {
    Py_ssize_t cells, windows, inner;   /* of a row; of each cell and window */
    Py_ssize_t line, drow;              /* bytes from row to row: of windows, and of cells */
    double by;                          /* shares are products, or quotients, */
    char* ring;                         /* four rows of them, */
    Py_ssize_t apart;                   /* so many bytes from one to the next */
    const char* inside;                 /* a row of ones, for as many windows, and then zeros */
} shares_t;
typedef void (*shared_loop)(char* dst, const char* const* x, const char* g, const shares_t*, Py_ssize_t count, Py_ssize_t last);
/* What is written: accumulators, or results: of avg in float32 or their own type, or in the cells' own narrow type. */
enum { POOLING_PARTIAL, POOLING_FINISHED, POOLING_NARROWED };
typedef void (*fuse_loop)(char* dst, const char* src, const fused_t*);

typedef struct {
    int divides;             /* sums are divided by n; or multiplied by its reciprocal, where that is exact, or by 1 */
    double n, reciprocal;
    int16_t whole, inverse;  /* what rounded quotients are made of; */
    int shift;               /* or n is two to this power, not to that of 0 */
} divided_t;

/* Lines are read as whole vectors, whose cells move between the vectors: where two of them make one in an instruction or two. */
#if defined(__GNUC__) && !defined(__clang__) && POOLING_VECTOR >= 32
#define POOLING_FUSES 1
/* Of 0: they are not divided. It is a call, so that loops keep what it found, and do not find it again. */
POOLING_OPAQUE divided_t divided_by(double n) {
    const int16_t whole = (int16_t)(n > 0 && n <= 8192 ? n : 0);
    divided_t by = {n != 0 && !power_of_two(n), n != 0 ? n : 1, n != 0 ? 1 / n : 1, whole, (int16_t)(whole > 1 ? 65535 / whole : 0), 0};
    while (whole > 1 && !by.divides && 1 << by.shift < whole) by.shift++;
    return by;
}
/* Where it is known to, sums are rounded by a shift. */
POOLING_INLINE fused_t rounded_by(const fused_t* told, int shifts) {
    fused_t own = *told;
    if (shifts) own.form = POOLING_NARROWED;
    return own;
}
#define POOLING_ALL(T, x) ((T){0} + (x))
/* b > a ? b : a is what the instruction does, with a where one is NaN: b != b ? b : that. As an expression it becomes more. */
#if POOLING_VECTOR == 64
#define POOLING_JOINED(a, b, OP, T) \
    _mm512_mask_mov_##T(_mm512_##OP##_##T(b, a), _mm512_cmp_##T##_mask(b, b, _CMP_UNORD_Q), b)
#else
#define POOLING_JOINED(a, b, OP, T) \
    _mm256_blendv_##T(_mm256_##OP##_##T(b, a), b, _mm256_cmp_##T(b, b, _CMP_UNORD_Q))
#endif
/* The later cell, b, wins if it is greater, or less, or a NaN: the first one keeps a tie. NUMBER: where there is no NaN. */
#if POOLING_VECTOR == 64
#define POOLING_PICK_float32(best, which, b, place, OP) { \
    const __mmask16 later = _mm512_cmp_ps_mask(b, best, OP) | _mm512_cmp_ps_mask(b, b, _CMP_UNORD_Q); \
    best = _mm512_mask_mov_ps(best, later, b); \
    which = (move_float32)_mm512_mask_mov_epi32((__m512i)which, later, (__m512i)(place)); }
#define POOLING_PICK_NUMBER_float32(best, which, b, place, OP, COMBINE) { \
    const __mmask16 later = _mm512_cmp_ps_mask(b, best, OP); \
    best = _mm512_##COMBINE##_ps(b, best); \
    which = (move_float32)_mm512_mask_mov_epi32((__m512i)which, later, (__m512i)(place)); }
#define POOLING_NUMBERS_float32(x) (!_mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q))
#else
#define POOLING_PICK_float32(best, which, b, place, OP) { \
    const __m256 later = _mm256_or_ps(_mm256_cmp_ps(b, best, OP), _mm256_cmp_ps(b, b, _CMP_UNORD_Q)); \
    best = _mm256_blendv_ps(best, b, later); \
    which = (move_float32)_mm256_blendv_ps((__m256)which, (__m256)(place), later); }
#define POOLING_PICK_NUMBER_float32(best, which, b, place, OP, COMBINE) { \
    const __m256 later = _mm256_cmp_ps(b, best, OP); \
    best = _mm256_##COMBINE##_ps(b, best); \
    which = (move_float32)_mm256_blendv_ps((__m256)which, (__m256)(place), later); }
#define POOLING_NUMBERS_float32(x) (!_mm256_movemask_ps(_mm256_cmp_ps(x, x, _CMP_UNORD_Q)))
#endif
#define POOLING_JOINED_max_float32(a, b) POOLING_JOINED(a, b, max, ps)
#define POOLING_JOINED_min_float32(a, b) POOLING_JOINED(a, b, min, ps)
#define POOLING_JOINED_max_float64(a, b) POOLING_JOINED(a, b, max, pd)
#define POOLING_JOINED_min_float64(a, b) POOLING_JOINED(a, b, min, pd)
/* 16-bit floats as ints of the same order, but for NaN; and back. */
#define POOLING_ORDERED(bits) ((bits) ^ (((bits) >> 15) & 0x7fff))
#if POOLING_VECTOR == 64   /* what the compiler makes of conversions between vectors is half a one at a time */
#define POOLING_INTS __m512i
#define POOLING_FLOATS __m512
#define POOLING_HALF __m256i
#define POOLING_HALF_LINE(x) _mm256_loadu_si256((const __m256i*)(x))
#define POOLING_HALVES_LINE(x) _mm512_cvtph_ps(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint8(x) _mm512_cvtepu8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int8(x) _mm512_cvtepi8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint16(x) _mm512_cvtepu16_epi32(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int16(x) _mm512_cvtepi16_epi32(POOLING_HALF_LINE(x))
#define POOLING_AS_HALVES(x) _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)
#define POOLING_HIGH_HALVES(x) _mm512_cvtepi32_epi16(_mm512_srli_epi32(x, 16))
#define POOLING_LOW_FLOATS(x) _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_castsi512_si256(x)))
#define POOLING_UPPER_FLOATS(x) _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64(x, 1)))
#define POOLING_UPPER_PRODUCT(x, y) _mm512_mulhi_epi16(x, y)
#define POOLING_SATURATED_uint8(x) _mm512_cvtusepi16_epi8(x)
#define POOLING_SATURATED_int8(x) _mm512_cvtsepi16_epi8(x)
#else
#define POOLING_INTS __m256i
#define POOLING_FLOATS __m256
#define POOLING_HALF __m128i
#define POOLING_HALF_LINE(x) _mm_loadu_si128((const __m128i*)(x))
#define POOLING_HALVES_LINE(x) _mm256_cvtph_ps(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint8(x) _mm256_cvtepu8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int8(x) _mm256_cvtepi8_epi16(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_uint16(x) _mm256_cvtepu16_epi32(POOLING_HALF_LINE(x))
#define POOLING_WIDEN_int16(x) _mm256_cvtepi16_epi32(POOLING_HALF_LINE(x))
#define POOLING_PACKED(x, OP) _mm256_castsi256_si128(_mm256_permute4x64_epi64(_mm256_##OP(x, x), 0x08))
#define POOLING_AS_HALVES(x) _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)
#define POOLING_HIGH_HALVES(x) POOLING_PACKED(_mm256_srli_epi32(x, 16), packus_epi32)
#define POOLING_LOW_FLOATS(x) _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(x)))
#define POOLING_UPPER_FLOATS(x) _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm256_extracti128_si256(x, 1)))
#define POOLING_UPPER_PRODUCT(x, y) _mm256_mulhi_epi16(x, y)
#define POOLING_SATURATED_uint8(x) POOLING_PACKED(x, packus_epi16)
#define POOLING_SATURATED_int8(x) POOLING_PACKED(x, packs_epi16)
#endif
/* Small sums divided. What a quotient lacks that is two units off at most is known exactly, and no sum below 2**15 over a divisor up
 * to 2**13 lies so near the middle between two floats that what is added then, itself rounded, could end on the wrong side. */
POOLING_INLINE POOLING_FLOATS quotients(POOLING_FLOATS x, const divided_t* by) {
#if POOLING_VECTOR == 64
    const __m512 n = _mm512_set1_ps((float)by->n), inverse = _mm512_set1_ps((float)by->reciprocal), q = _mm512_mul_ps(x, inverse);
    if (!by->whole) return _mm512_div_ps(x, n);
    return _mm512_fmadd_ps(_mm512_fnmadd_ps(q, n, x), inverse, q);
#else
    return by->divides ? x / (float)by->n : x * (float)by->reciprocal;
#endif
}
/* Bytes of combined cells that are kept from window to window, three times; and of accumulators of a few channels that are made
 * together, beside their results. All of these stay in a core's first-level cache. */
enum { POOLING_KEPT = 4096, POOLING_FEW = 4096 };
/* Of runs of cells that lie side by side every so manieth: how many of them 16 bytes have, and where; and two vectors, where
 * one instruction takes cells of two bytes or more out of both. */
typedef struct { Py_ssize_t run, step, runs, many; __m128i bytes; uint16_t pairs[32]; } run_mask_t;
POOLING_INLINE run_mask_t every_run(Py_ssize_t run, Py_ssize_t step) {
    run_mask_t m = {run, step, run >= 16 ? 1 : (16 - run) / step + 1, 0, _mm_setzero_si128(), {0}};
    char which[16];
    int j;
    if (POOLING_GATHERS(2) && run % 2 == 0 && run <= 32) {
        m.many = (128 - run) / step + 1 < 64 / run ? (128 - run) / step + 1 : 64 / run;
        for (j = 0; j < m.many * run / 2; j++) m.pairs[j] = (uint16_t)(j / (run / 2) * (step / 2) + j % (run / 2));
    }
    for (j = 0; j < 16; j++) which[j] = (char)(j < m.runs * run ? j / run * step + j % run : 0);
    memcpy(&m.bytes, which, 16);
    return m;
}
/* Those runs, one after the other. It reads and writes 16 bytes at a time, or a vector. */
POOLING_INLINE void pick_runs(char* dst, const char* src, Py_ssize_t count, const run_mask_t* m) {
    const Py_ssize_t runs = m->runs, run = m->run, step = m->step;
    const __m128i which = m->bytes;
    const char* end = dst + count * run;
#if POOLING_GATHERS(2)
    const Py_ssize_t many = m->many;
    if (many > 1) {
        for (; dst < end; dst += many * run, src += many * step) gather_2(dst, src, m->pairs);
        return;
    }
#endif
    if (runs > 1)
        for (; dst < end; dst += runs * run, src += runs * step)
            _mm_storeu_si128((__m128i*)dst, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)src), which));
    else if (run <= 16)
        for (; dst < end; dst += run, src += step) _mm_storeu_si128((__m128i*)dst, _mm_loadu_si128((const __m128i*)src));
    else if (run <= POOLING_VECTOR)
        for (; dst < end; dst += run, src += step) memcpy(dst, src, POOLING_VECTOR);
    else
        for (; dst < end; dst += run, src += step) memcpy(dst, src, run);
}
/* Pieces of 16 bytes each, so far apart, as a vector; bytes moved within each; and their neighbours added. */
#if POOLING_VECTOR == 64
#define POOLING_PIECES(x, step) _mm512_inserti64x4(_mm512_castsi256_si512(POOLING_PIECE_PAIR(x, step)), \
    POOLING_PIECE_PAIR((x) + 2 * (step), step), 1)
#define POOLING_EVERY_PIECE(x) _mm512_broadcast_i32x4(x)
#define POOLING_BYTES(x) _mm512_loadu_si512(x)
#define POOLING_SHUFFLED(x, which) _mm512_shuffle_epi8(x, which)
#define POOLING_PAIRS_uint8(x) _mm512_maddubs_epi16(x, _mm512_set1_epi8(1))
#define POOLING_PAIRS_int8(x) _mm512_maddubs_epi16(_mm512_set1_epi8(1), x)
#else
#define POOLING_PIECES(x, step) POOLING_PIECE_PAIR(x, step)
#define POOLING_EVERY_PIECE(x) _mm256_broadcastsi128_si256(x)
#define POOLING_BYTES(x) _mm256_loadu_si256((const __m256i*)(x))
#define POOLING_SHUFFLED(x, which) _mm256_shuffle_epi8(x, which)
#define POOLING_PAIRS_uint8(x) _mm256_maddubs_epi16(x, _mm256_set1_epi8(1))
#define POOLING_PAIRS_int8(x) _mm256_maddubs_epi16(_mm256_set1_epi8(1), x)
#endif
#define POOLING_PIECE_PAIR(x, step) _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)(x))), \
    _mm_loadu_si128((const __m128i*)((x) + (step))), 1)
/* Of windows of two bytes, in runs side by side: the bytes of each beside one another, of as many windows as 16 bytes have. */
POOLING_INLINE __m128i beside(Py_ssize_t run) {
    char which[16];
    __m128i bytes;
    int j;
    for (j = 0; j < 16; j++) {
        const Py_ssize_t at = j / 2 / run * 2 * run + j / 2 % run + j % 2 * run;
        which[j] = (char)(at < 16 ? at : -1);
    }
    memcpy(&bytes, which, 16);
    return bytes;
}
/* The first bytes of either half of 16, one behind the other. */
POOLING_INLINE __m128i side_by_side(Py_ssize_t each) {
    char which[16];
    __m128i bytes;
    int j;
    for (j = 0; j < 16; j++) which[j] = (char)(j < each ? j : j < 2 * each ? 8 + j - each : -1);
    memcpy(&bytes, which, 16);
    return bytes;
}
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
    /* The even and the odd cells of two vectors. With 256 bits no instruction takes them out of both at once: first  \
     * the halves that will stand side by side are brought there, then cells move within them. */               \
    POOLING_INLINE void parted_##NAME(line_##NAME a, line_##NAME b, line_##NAME* even, line_##NAME* odd) {      \
        enum { lanes = lanes_##NAME, side = POOLING_VECTOR == 64 ? lanes : lanes / 2, few = side / 2 };         \
        move_##NAME low, high, sorted, left, right;                                                             \
        line_##NAME first, second;                                                                              \
        int j;                                                                                                  \
        if (POOLING_VECTOR == 64) {                                                                             \
            *even = moved_##NAME(a, b, 0, 2);                                                                   \
            *odd = moved_##NAME(a, b, 1, 2);                                                                    \
            return;                                                                                             \
        }                                                                                                       \
        _Pragma("GCC unroll 64")                                                                                \
        for (j = 0; j < lanes; j++) {                                                                           \
            const int at = j % side, from = j - at;                                                             \
            low[j] = (KEY)(j < side ? j : lanes + j - side);                                                    \
            high[j] = (KEY)(low[j] + side);                                                                     \
            sorted[j] = (KEY)(from + (at < few ? 2 * at : 2 * (at - few) + 1));                                 \
            left[j] = (KEY)(at < few ? from + at : lanes + from + at - few);                                    \
            right[j] = (KEY)(left[j] + few);                                                                    \
            if (lanes <= 8) left[j] = (KEY)(at < few ? from + 2 * at : lanes + from + 2 * (at - few));          \
            if (lanes <= 8) right[j] = (KEY)(left[j] + 1);                                                      \
        }                                                                                                       \
        first = __builtin_shuffle(a, b, low);                                                                   \
        second = __builtin_shuffle(a, b, high);                                                                 \
        if (lanes > 8) {                                                                                        \
            first = __builtin_shuffle(first, sorted);                                                           \
            second = __builtin_shuffle(second, sorted);                                                         \
        }                                                                                                       \
        *even = __builtin_shuffle(first, second, left);                                                         \
        *odd = __builtin_shuffle(first, second, right);                                                         \
    }                                                                                                           \
    /* Two vectors' cells by turns, as two vectors. */                                                          \
    POOLING_INLINE void mixed_##NAME(line_##NAME* a, line_##NAME* b) {                                          \
        enum { lanes = lanes_##NAME, side = 16 / sizeof(T), few = side / 2 };                                   \
        move_##NAME low, high, left, right;                                                                     \
        line_##NAME first, second;                                                                              \
        int j;                                                                                                  \
        _Pragma("GCC unroll 64")                                                                                \
        for (j = 0; j < lanes; j++) {                                                                           \
            low[j] = (KEY)(POOLING_VECTOR == 64 ? j / 2 + j % 2 * lanes : j / side * side + j % side / 2 + j % 2 * lanes); \
            high[j] = (KEY)(low[j] + (POOLING_VECTOR == 64 ? lanes / 2 : few));                                 \
            left[j] = (KEY)(j < lanes / 2 ? j : j + lanes / 2);                                                 \
            right[j] = (KEY)(left[j] + lanes / 2);                                                              \
        }                                                                                                       \
        first = __builtin_shuffle(*a, *b, low);                                                                 \
        second = __builtin_shuffle(*a, *b, high);                                                               \
        *a = POOLING_VECTOR == 64 ? first : __builtin_shuffle(first, second, left);                             \
        *b = POOLING_VECTOR == 64 ? second : __builtin_shuffle(first, second, right);                           \
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
