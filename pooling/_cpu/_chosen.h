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

typedef struct {
    Py_ssize_t cells, run, step;   /* windows of `run` cells; from one to the next in the source; dense in the result */
    int count, more;               /* taps; whether they follow on those whose results are there already */
    const Py_ssize_t* at;          /* of each tap: its place in the source, */
    const int64_t* offset;         /* and its distance from the window's first cell */
    const char* begin;             /* each window's distance to the first cell that is data, or NULL: the first tap's */
} taps_t;

typedef struct {
    Py_ssize_t rows, cells, inner, pitch;            /* rows of cells x inner, `pitch` apart */
    Py_ssize_t row_stride, cell_stride, inner_stride; /* of the result, in bytes */
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

/* dst = every step'th cell of src, n of them. The last two vectors read up to the last cell, no further. */
#define POOLING_SPLIT(BITS)                                                                                              \
    static inline void split_##BITS(void* dst_, const void* src_, Py_ssize_t step, Py_ssize_t n) {                       \
        uint##BITS##_t* dst = (uint##BITS##_t*)dst_;                                                                     \
        const uint##BITS##_t* src = (const uint##BITS##_t*)src_;                                                         \
        const Py_ssize_t lanes = 8 * POOLING_VECTOR / BITS;                                                              \
        Py_ssize_t i = 0;                                                                                                \
        if (step == 2 && n > lanes) {                                                                                    \
            for (; i < n - lanes; i += lanes) every_second_##BITS(dst + i, src + 2 * i, 0);                              \
            every_second_##BITS(dst + n - lanes, src + 2 * (n - lanes) - 1, 1);                                          \
        } else for (; i < n; i++) dst[i] = src[i * step];                                                                \
    }
POOLING_SPLIT(8)
POOLING_SPLIT(16)
POOLING_SPLIT(32)
POOLING_SPLIT(64)

/* n runs of `bytes`, dense, from every `step` bytes; short ones in pieces whose excess the next run overwrites. */
POOLING_INLINE void split_runs(char* dst, const char* src, Py_ssize_t step, Py_ssize_t n, Py_ssize_t bytes, int piece) {
    Py_ssize_t i = 0, exact = (piece - 1) / bytes;
    if (step < bytes) exact = n;
    for (; i < n - exact; i++) memcpy(dst + i * bytes, src + i * step, piece);
    for (; i < n; i++) memcpy(dst + i * bytes, src + i * step, bytes);
}

/* dst = `run` cells of `size` bytes out of every step * run, n times. */
static inline void split(char* dst, const char* src, Py_ssize_t size, Py_ssize_t run, Py_ssize_t step, Py_ssize_t n) {
    const Py_ssize_t bytes = run * size;
    Py_ssize_t i;
    if (step == 1) memcpy(dst, src, n * bytes);
    else if (bytes == 1) split_8(dst, src, step, n);
    else if (bytes == 2) split_16(dst, src, step, n);
    else if (bytes == 4) split_32(dst, src, step, n);
    else if (bytes == 8) split_64(dst, src, step, n);
    else if (bytes <= 16) split_runs(dst, src, step * bytes, n, bytes, 16);
    else if (bytes <= 32) split_runs(dst, src, step * bytes, n, bytes, 32);
    else for (i = 0; i < n; i++) memcpy(dst + i * bytes, src + i * step * bytes, bytes);
}

#ifdef POOLING_STREAMS
/* Whole lines are written without being read first: cells until dst is aligned, then vectors. */
#define POOLING_STREAM_HEAD(dst, n) ((n) < 4 ? (n) : (Py_ssize_t)((32 - ((size_t)(dst) & 31)) & 31) / (Py_ssize_t)sizeof(*(dst)))
static inline void stream_int64(int64_t* dst, const int32_t* src, const int32_t* origin, int32_t base, Py_ssize_t n) {
    Py_ssize_t i = 0, head = POOLING_STREAM_HEAD(dst, n);
    for (; i < head; i++) _mm_stream_si64((long long*)dst + i, (int32_t)((uint32_t)src[i] + (uint32_t)origin[i] + (uint32_t)base));
    for (; i + 4 <= n; i += 4) {
        int32_t four[4];
        int64_t wide[4];
        __m128i pair;
        int j;
        for (j = 0; j < 4; j++) four[j] = (int32_t)((uint32_t)src[i + j] + (uint32_t)origin[i + j] + (uint32_t)base);
        for (j = 0; j < 4; j++) wide[j] = four[j];
        memcpy(&pair, wide, 16); _mm_stream_si128((__m128i*)(dst + i), pair);
        memcpy(&pair, wide + 2, 16); _mm_stream_si128((__m128i*)(dst + i + 2), pair);
    }
    for (; i < n; i++) _mm_stream_si64((long long*)dst + i, (int32_t)((uint32_t)src[i] + (uint32_t)origin[i] + (uint32_t)base));
}
static inline void stream_32(int32_t* dst, const int32_t* src, Py_ssize_t n) {
    Py_ssize_t i = 0, head = POOLING_STREAM_HEAD(dst, n);
    for (; i < head && i < n; i++) _mm_stream_si32(dst + i, src[i]);
    for (; i + 4 <= n; i += 4) _mm_stream_si128((__m128i*)(dst + i), _mm_loadu_si128((const __m128i*)(src + i)));
    for (; i < n; i++) _mm_stream_si32(dst + i, src[i]);
}
static inline void streamed(void) { _mm_sfence(); }
#else
static inline void streamed(void) {}
#endif

#endif
