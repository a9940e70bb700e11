/* What loops with indices need whatever the element type: vectors of cells, every so manieth cell of a row, results stored.
 *
 * An index is chosen beside its value as its distance from the window's first cell, in as many bits as a comparison's
 * mask has; the distances become indices when they are stored.
 */
#ifndef POOLING_CHOSEN_H
#define POOLING_CHOSEN_H

#include "_cells.h"
#if defined(__SSE2__) && defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define POOLING_STREAMS 1
#endif
#ifdef __AVX2__
#define POOLING_HALVES(a, b) _mm256_inserti128_si256(_mm256_castsi128_si256(_mm_loadu_si128((const __m128i*)(a))), \
    _mm_loadu_si128((const __m128i*)(b)), 1)
#endif

typedef struct {
    Py_ssize_t cells, run, step;   /* windows of `run` cells; from one to the next in the source; dense in the result */
    int count, more;               /* taps; whether they follow on those whose results are there already */
    const Py_ssize_t* at;          /* of each tap: its place in the source, */
    const int64_t* offset;         /* and its distance from the window's first cell */
    Py_ssize_t ahead;              /* bytes to what will be read soon of the taps that no window has read yet, */
    uint64_t fresh;                /* a bit for each; or 0 */
    const char* begin;             /* each window's distance to the first cell that is data, or NULL: the first tap's */
} taps_t;

typedef struct {
    Py_ssize_t planes, bands, slots, run, step;      /* a slot has `run` cells out of every step * run */
    Py_ssize_t src_plane, src_row;                   /* of the source, in bytes: to the next plane, and row of a band, */
    Py_ssize_t ahead, length;                        /* to what will be read next; and of a row */
    Py_ssize_t dst_plane, dst_row, dst_slot;         /* in cells; each band has its slots, one after the other */
    const Py_ssize_t *band, *begin, *end;            /* of each band: where its row 0 is in the source, in bytes, and its rows */
    const Py_ssize_t *first, *entry, *count;         /* of each slot: its first run, where that is, how many there are */
} split_t;

typedef struct {
    Py_ssize_t planes, rows, cells, inner;           /* planes of rows of cells x inner, */
    Py_ssize_t area, pitch;                          /* so far apart, in cells */
    Py_ssize_t plane_stride, row_stride, cell_stride, inner_stride; /* of the result, in bytes */
    int stream;                                      /* past the caches */
    const char* origin;                              /* the index of each window's first cell: of the row's first one, */
    int64_t base, apart;                             /* and of the first row, and from row to row */
} put_t;

/* A vector of cells at any address, or where the compiler has none, a cell. A comparison of vectors is a mask of their width. */
#if defined(__GNUC__)
#define POOLING_VECTOR_OF(T, NAME, BYTES) typedef T NAME __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias))
#define POOLING_LANES(SIZE) (POOLING_VECTOR / (SIZE))
#define POOLING_CONVERT(x, T) __builtin_convertvector(x, T)
#define POOLING_CHOOSE(T, MASK, later, b, a) ((T)(((MASK)(b) & (MASK)(later)) | ((MASK)(a) & ~(MASK)(later))))
#define POOLING_EACH_LANE(T, x) ((T){0} + (x))
#else
#define POOLING_VECTOR_OF(T, NAME, BYTES) typedef T NAME
#define POOLING_LANES(SIZE) 1
#define POOLING_CONVERT(x, T) ((T)(x))
#define POOLING_CHOOSE(T, MASK, later, b, a) ((later) ? (b) : (a))
#define POOLING_EACH_LANE(T, x) (x)
#endif

/* Cells of one byte as 32 bits and back: what compilers make of eight bytes is one at a time. */
#if defined(__AVX2__) && POOLING_VECTOR == 32
POOLING_INLINE void narrow_bytes(void* dst, __m256i x) {
    const __m256i low = _mm256_shuffle_epi8(x, _mm256_set1_epi32(0x0c080400));
    _mm_storel_epi64((__m128i*)dst, _mm_unpacklo_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1)));
}
#define POOLING_WIDE_uint8(x, T) ((T)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)&(x))))
#define POOLING_WIDE_int8(x, T) ((T)_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)&(x))))
#define POOLING_NARROW_BYTES(dst, x, T) narrow_bytes(&(dst), (__m256i)(x))
#else
#define POOLING_WIDE_uint8(x, T) POOLING_CONVERT(x, T)
#define POOLING_WIDE_int8(x, T) POOLING_CONVERT(x, T)
#define POOLING_NARROW_BYTES(dst, x, T) (dst) = POOLING_CONVERT(x, T)
#endif

/* Cells of so many bits that stand for whole runs of smaller ones: of any type, at any address. */
#ifdef __GNUC__
#define POOLING_LOOSE(BITS) typedef uint##BITS##_t loose##BITS __attribute__((aligned(1), may_alias));
#else
#define POOLING_LOOSE(BITS) typedef uint##BITS##_t loose##BITS;
#endif

/* dst = every step'th cell of src, n of them; nothing is read behind the last one. */
#if defined(__GNUC__) && !defined(__clang__)
#define POOLING_PAIR(BITS)                                                                                               \
    POOLING_LOOSE(BITS)                                                                                                  \
    typedef uint##BITS##_t pooling_half##BITS __attribute__((vector_size(16), aligned(1), may_alias));                   \
    POOLING_INLINE void every_pair_##BITS(void* dst, const void* src, int from) {                                        \
        const pooling_half##BITS low = ((const pooling_half##BITS*)src)[0], high = ((const pooling_half##BITS*)src)[1];  \
        pooling_half##BITS which;                                                                                        \
        int j;                                                                                                           \
        for (j = 0; j < 128 / BITS; j++) which[j] = (uint##BITS##_t)(2 * j + from);                                      \
        *(pooling_half##BITS*)dst = __builtin_shuffle(low, high, which);                                                 \
    }
#else
#define POOLING_PAIR(BITS)                                                                                               \
    POOLING_LOOSE(BITS)                                                                                                  \
    POOLING_INLINE void every_pair_##BITS(void* dst, const void* src, int from) {                                        \
        int j;                                                                                                           \
        for (j = 0; j < 128 / BITS; j++) ((loose##BITS*)dst)[j] = ((const loose##BITS*)src)[2 * j + from];               \
    }
#endif
#define POOLING_SPLIT(BITS)                                                                                              \
    POOLING_PAIR(BITS)                                                                                                   \
    POOLING_INLINE void split_##BITS(loose##BITS* dst, const loose##BITS* src, Py_ssize_t step, Py_ssize_t n) {          \
        const Py_ssize_t lanes = 8 * POOLING_VECTOR / BITS, half = 128 / BITS;                                           \
        Py_ssize_t i;                                                                                                    \
        if (step == 2 && n > lanes) {                                                                                    \
            for (i = 0; i < n - lanes; i += lanes) every_second_##BITS(dst + i, src + 2 * i, 0);                         \
            every_second_##BITS(dst + n - lanes, src + 2 * (n - lanes) - 1, 1);                                          \
        } else if (step == 2 && n > half) {                                                                              \
            for (i = 0; i < n - half; i += half) every_pair_##BITS(dst + i, src + 2 * i, 0);                             \
            every_pair_##BITS(dst + n - half, src + 2 * (n - half) - 1, 1);                                              \
        } else if (step == 2) for (i = 0; i < n; i++) dst[i] = src[2 * i];                                               \
        else if (step == 3) for (i = 0; i < n; i++) dst[i] = src[3 * i];                                                 \
        else for (i = 0; i < n; i++) dst[i] = src[i * step];                                                             \
    }
POOLING_SPLIT(8)
POOLING_SPLIT(16)
POOLING_SPLIT(32)
POOLING_SPLIT(64)

/* n runs of `bytes`, dense, from every `step` bytes; short ones in pieces whose excess the next run overwrites. */
POOLING_INLINE void split_runs(char* dst, const char* src, Py_ssize_t step, Py_ssize_t n, Py_ssize_t bytes, int piece) {
    Py_ssize_t i = 0;
    const Py_ssize_t exact = bytes > piece ? n : (piece - 1) / bytes;
    for (; i < n - exact; i++) memcpy(dst + i * bytes, src + i * step, piece);
    for (; i < n; i++) memcpy(dst + i * bytes, src + i * step, bytes);
}

/* The even and the odd cells of n pairs, n at least a vector's. */
#ifdef __AVX2__
POOLING_INLINE void unpair_piece_32(uint32_t* even, uint32_t* odd, const uint32_t* src) {
    const __m256 low = _mm256_castsi256_ps(POOLING_HALVES(src, src + 8));
    const __m256 high = _mm256_castsi256_ps(POOLING_HALVES(src + 4, src + 12));
    _mm256_storeu_ps((float*)even, _mm256_shuffle_ps(low, high, 0x88));
    _mm256_storeu_ps((float*)odd, _mm256_shuffle_ps(low, high, 0xdd));
}
POOLING_INLINE void unpair_piece_64(uint64_t* even, uint64_t* odd, const uint64_t* src) {
    const __m256i low = POOLING_HALVES(src, src + 4), high = POOLING_HALVES(src + 2, src + 6);
    _mm256_storeu_si256((__m256i*)even, _mm256_unpacklo_epi64(low, high));
    _mm256_storeu_si256((__m256i*)odd, _mm256_unpackhi_epi64(low, high));
}
#define POOLING_PAIRS(BITS) (256 / BITS)
#else
POOLING_INLINE void unpair_piece_32(uint32_t* even, uint32_t* odd, const uint32_t* src) {
    every_pair_32(even, src, 0);
    every_pair_32(odd, src, 1);
}
POOLING_INLINE void unpair_piece_64(uint64_t* even, uint64_t* odd, const uint64_t* src) {
    every_pair_64(even, src, 0);
    every_pair_64(odd, src, 1);
}
#define POOLING_PAIRS(BITS) (128 / BITS)
#endif
#define POOLING_UNPAIR(BITS)                                                                                             \
    POOLING_INLINE void unpair_##BITS(uint##BITS##_t* even, uint##BITS##_t* odd, const uint##BITS##_t* src, Py_ssize_t n) { \
        const Py_ssize_t lanes = POOLING_PAIRS(BITS), half = 128 / BITS;                                                 \
        Py_ssize_t i;                                                                                                    \
        if (n >= lanes) {                                                                                                \
            for (i = 0; i < n - lanes; i += lanes) unpair_piece_##BITS(even + i, odd + i, src + 2 * i);                  \
            i = n - lanes;                                                                                               \
            unpair_piece_##BITS(even + i, odd + i, src + 2 * i);                                                         \
        } else if (n >= half) {                                                                                          \
            for (i = 0; ; i = n - half) {                                                                                \
                every_pair_##BITS(even + i, src + 2 * i, 0);                                                             \
                every_pair_##BITS(odd + i, src + 2 * i, 1);                                                              \
                if (i == n - half) break;                                                                                \
            }                                                                                                            \
        } else for (i = 0; i < n; i++) { even[i] = src[2 * i]; odd[i] = src[2 * i + 1]; }                                \
    }
POOLING_UNPAIR(32)
POOLING_UNPAIR(64)

/* A row to its place in every slot. */
static inline void split_row(char* dst, const char* src, const split_t* s, Py_ssize_t size) {
    const Py_ssize_t bytes = s->run * size, step = s->step;
    Py_ssize_t k;
    for (k = 0; k < s->slots; k++) {
        const Py_ssize_t n = s->count[k];
        char* to = dst + k * s->dst_slot * size + s->entry[k] * bytes;
        const char* from = src + s->first[k] * bytes;
        if (step == 1) memcpy(to, from, n * bytes);
        else if (bytes == 4) split_32((loose32*)to, (const loose32*)from, step, n);
        else if (bytes == 8) split_64((loose64*)to, (const loose64*)from, step, n);
        else if (bytes == 2) split_16((loose16*)to, (const loose16*)from, step, n);
        else if (bytes == 1) split_8((loose8*)to, (const loose8*)from, step, n);
        else if (bytes <= 16) split_runs(to, from, step * bytes, n, bytes, 16);
        else split_runs(to, from, step * bytes, n, bytes, 32);
    }
}
POOLING_INLINE void split_rows(char* dst, const char* src, const split_t* s, Py_ssize_t size, int pairs) {
    const Py_ssize_t bands = s->bands, slot = s->dst_slot, dst_band = s->slots * slot * size, dst_row = s->dst_row * size;
    const Py_ssize_t src_row = s->src_row, src_plane = s->src_plane, dst_plane = s->dst_plane * size, planes = s->planes;
    const Py_ssize_t *begin = s->begin, *end = s->end, *place = s->band;
    const Py_ssize_t even = s->entry[0], even_end = even + s->count[0];
    const Py_ssize_t odd = pairs ? s->entry[1] : 0, odd_end = pairs ? odd + s->count[1] : 0;
    const Py_ssize_t start = even > odd ? even : odd, n = (even_end < odd_end ? even_end : odd_end) - start;
    const Py_ssize_t first = s->first[0] - 2 * even;
    const Py_ssize_t ahead = s->ahead, length = s->length;
    Py_ssize_t plane, row, band, i, low = begin[0], high = end[0];
    for (band = 1; band < bands; band++) {
        low = begin[band] < low ? begin[band] : low;
        high = end[band] > high ? end[band] : high;
    }
    for (plane = 0; plane < planes; plane++, dst += dst_plane, src += src_plane)
        for (row = low; row < high; row++)
            for (band = 0; band < bands; band++) {
                char* to = dst + row * dst_row + band * dst_band;
                const char* from = src + row * src_row + place[band];
                if (row < begin[band] || row >= end[band]) continue;
                if (ahead) for (i = 0; i < length; i += 64) prefetch(from + ahead + i);
                if (!pairs) split_row(to, from, s, size);
                /* two slots, the even and the odd cells, and perhaps one before and after the pairs */
                #define POOLING_HALVE(T, UNPAIR) {                                                                       \
                    T *evens = (T*)to, *odds = evens + slot;                                                             \
                    const T* cells = (const T*)from + first;                                                             \
                    UNPAIR(evens + start, odds + start, cells + 2 * start, n);                                           \
                    if (even < start) evens[even] = cells[2 * even];                                                     \
                    if (odd < start) odds[odd] = cells[2 * odd + 1];                                                     \
                    if (even_end > odd_end) evens[even_end - 1] = cells[2 * even_end - 2];                               \
                    if (odd_end > even_end) odds[odd_end - 1] = cells[2 * odd_end - 1]; }
                else if (size == 4) POOLING_HALVE(uint32_t, unpair_32)
                else POOLING_HALVE(uint64_t, unpair_64)
                #undef POOLING_HALVE
            }
}
/* Rows of planes, in the order of the source, each to its place in every slot. */
static inline void split(char* dst, const char* src, const split_t* s, Py_ssize_t size) {
    const int pairs = s->run == 1 && s->step == 2 && s->slots == 2 && size >= 4 && s->count[0] && s->count[1] &&
        s->first[1] - 2 * s->entry[1] == s->first[0] - 2 * s->entry[0] + 1;
    if (pairs && size == 4) split_rows(dst, src, s, 4, 1);
    else if (pairs) split_rows(dst, src, s, 8, 1);
    else split_rows(dst, src, s, size, 0);
}

/* int32 distances to int64 indices. */
POOLING_INLINE int64_t place_of(int32_t distance, int32_t origin, int32_t base) {
    return (int32_t)((uint32_t)distance + (uint32_t)origin + (uint32_t)base);
}
POOLING_INLINE void widen_piece(int64_t* dst, const int32_t* src, const int32_t* origin, int32_t base, int lanes) {
    int j;
    POOLING_PIECE
    for (j = 0; j < lanes; j++) dst[j] = place_of(src[j], origin[j], base);
}
static inline void widen(int64_t* dst, const int32_t* src, const int32_t* origin, int32_t base, Py_ssize_t n) {
    Py_ssize_t i;
    if (n >= 8) {
        for (i = 0; i < n - 8; i += 8) widen_piece(dst + i, src + i, origin + i, base, 8);
        widen_piece(dst + n - 8, src + n - 8, origin + n - 8, base, 8);
    } else if (n >= 4) {
        widen_piece(dst, src, origin, base, 4);
        widen_piece(dst + n - 4, src + n - 4, origin + n - 4, base, 4);
    } else for (i = 0; i < n; i++) dst[i] = place_of(src[i], origin[i], base);
}

/* A row's bytes: short ones without a call. */
POOLING_INLINE void put_row(char* dst, const char* src, Py_ssize_t bytes) {
    Py_ssize_t i;
    if (bytes > 256) memcpy(dst, src, bytes);
    else if (bytes >= 16) {
        for (i = 0; i < bytes - 16; i += 16) memcpy(dst + i, src + i, 16);
        memcpy(dst + bytes - 16, src + bytes - 16, 16);
    } else if (bytes >= 8) { memcpy(dst, src, 8); memcpy(dst + bytes - 8, src + bytes - 8, 8); }
    else if (bytes >= 4) { memcpy(dst, src, 4); memcpy(dst + bytes - 4, src + bytes - 4, 4); }
    else for (i = 0; i < bytes; i++) dst[i] = src[i];
}

#ifdef POOLING_STREAMS
/* Past the caches: cells until dst is aligned, then vectors. */
#define POOLING_STREAM_HEAD(dst) ((Py_ssize_t)((0 - (size_t)(dst)) & 15) / (Py_ssize_t)sizeof(*(dst)))
static inline void stream_int64(int64_t* dst, const int32_t* src, const int32_t* origin, int32_t base, Py_ssize_t n) {
    Py_ssize_t i = 0, head = POOLING_STREAM_HEAD(dst);
    for (; i < head && i < n; i++) _mm_stream_si64((long long*)dst + i, place_of(src[i], origin[i], base));
    for (; i + 4 <= n; i += 4) {
        int64_t wide[4];
        widen_piece(wide, src + i, origin + i, base, 4);
        _mm_stream_si128((__m128i*)(dst + i), _mm_loadu_si128((const __m128i*)wide));
        _mm_stream_si128((__m128i*)(dst + i + 2), _mm_loadu_si128((const __m128i*)(wide + 2)));
    }
    for (; i < n; i++) _mm_stream_si64((long long*)dst + i, place_of(src[i], origin[i], base));
}
static inline void stream_32(int32_t* dst, const int32_t* src, Py_ssize_t n) {
    Py_ssize_t i = 0, head = POOLING_STREAM_HEAD(dst);
    for (; i < head && i < n; i++) _mm_stream_si32(dst + i, src[i]);
    for (; i + 4 <= n; i += 4) _mm_stream_si128((__m128i*)(dst + i), _mm_loadu_si128((const __m128i*)(src + i)));
    for (; i < n; i++) _mm_stream_si32(dst + i, src[i]);
}
static inline void streamed(void) { _mm_sfence(); }
#else
static inline void streamed(void) {}
#endif

#endif
