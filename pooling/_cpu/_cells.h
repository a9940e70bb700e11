/* One cell: the 16-bit floats, and conversions that round once (half to even) and saturate.
 *
 * The 16-bit types are distinct structs, so that no arithmetic on their bits compiles by accident.
 * Conversions are written on the bits, without tables or branches that would keep loops from vectorising.
 */
#ifndef POOLING_CELLS_H
#define POOLING_CELLS_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __F16C__
#include <immintrin.h>
#endif

/* Loops over rows whose results share memory with their own operands at most, cell by cell: no check for aliases is needed. */
#if defined(__clang__)
#define POOLING_SAME_CELLS _Pragma("clang loop vectorize(assume_safety)")
#define POOLING_PIECE _Pragma("clang loop vectorize(assume_safety) unroll(disable)")
#define POOLING_UNROLLED _Pragma("clang loop unroll(full)")
#define POOLING_INLINE static inline __attribute__((always_inline))
#elif defined(__GNUC__)
#define POOLING_SAME_CELLS _Pragma("GCC ivdep")
#define POOLING_PIECE _Pragma("GCC ivdep") _Pragma("GCC unroll 1")
#define POOLING_UNROLLED _Pragma("GCC unroll 4")
#define POOLING_INLINE static inline __attribute__((always_inline))
#else
#define POOLING_SAME_CELLS
#define POOLING_PIECE
#define POOLING_UNROLLED
#define POOLING_INLINE static inline
#endif

/* A function that knows nothing of its arguments but their types: GCC multiplies in as few bits as these have. */
#ifdef __GNUC__
#define POOLING_OPAQUE static __attribute__((noinline))
#else
#define POOLING_OPAQUE static
#endif

/* 64 bytes that will be read soon. */
POOLING_INLINE void prefetch(const char* place) {
#ifdef __GNUC__
    __builtin_prefetch(place);
#endif
    (void)place;
}

/* All of so many bytes. A compiler takes a function of calls ahead for one that does nothing, but for the empty statement. */
POOLING_INLINE void prefetch_all(const char* place, Py_ssize_t bytes) {
#ifdef __GNUC__
    Py_ssize_t k;
    for (k = 0; k < bytes; k += 64) prefetch(place + k);
    __asm__ volatile("");
#endif
    (void)place; (void)bytes;
}

/* Windows of many rows as sums of rows of a few levels, each of which has the sums of four rows of the one below. */
enum { POOLING_LEVELS = 16 };   /* for any kernel below 2**31 */
typedef struct {
    char* to;            /* the row that is made, or NULL, */
    const char* of[4];   /* and of what */
    int rows;            /* of the window, from this level: at most four */
    const char* row[4];
} level_t;
typedef struct { int levels; level_t level[POOLING_LEVELS]; } pile_t;

enum { POOLING_SIDE = 16 }; /* rows, and cells of a row, of a plane that is combined at once */

/* The bytes of the machine's vectors; every_second_BITS: of two vectors of such cells the even ones, or (from = 1) the odd ones. */
#if defined(__AVX512BW__)
#define POOLING_VECTOR 64
#elif defined(__AVX2__)
#define POOLING_VECTOR 32
#else
#define POOLING_VECTOR 16
#endif
/* A vector stays in its register: read once more by each instruction that needs it, it would be two lines of the cache each time. */
#if defined(__AVX2__) && defined(__GNUC__)
#define POOLING_HELD(x) __asm__("" : "+v"(x))
#else
#define POOLING_HELD(x) (void)0
#endif
#if defined(__GNUC__) && !defined(__clang__)
#define POOLING_EVERY_SECOND(BITS)                                                                              \
    typedef uint##BITS##_t pooling_v##BITS __attribute__((vector_size(POOLING_VECTOR)));                        \
    POOLING_INLINE void every_second_##BITS(void* dst, const void* both, int from) {                            \
        pooling_v##BITS low, high, which;                                                                       \
        int j;                                                                                                  \
        memcpy(&low, both, sizeof(low));                                                                        \
        memcpy(&high, (const char*)both + sizeof(low), sizeof(low));                                            \
        for (j = 0; j < (int)(8 * POOLING_VECTOR / BITS); j++) which[j] = (uint##BITS##_t)(2 * j + from);       \
        low = __builtin_shuffle(low, high, which);                                                              \
        memcpy(dst, &low, sizeof(low));                                                                         \
    }
#else
#define POOLING_EVERY_SECOND(BITS)                                                                              \
    POOLING_INLINE void every_second_##BITS(void* dst, const void* both, int from) {                            \
        int j;                                                                                                  \
        for (j = 0; j < (int)(8 * POOLING_VECTOR / BITS); j++)                                                  \
            memcpy((uint##BITS##_t*)dst + j, (const uint##BITS##_t*)both + 2 * j + from, BITS / 8);             \
    }
#endif
POOLING_EVERY_SECOND(8)
POOLING_EVERY_SECOND(16)
POOLING_EVERY_SECOND(32)
POOLING_EVERY_SECOND(64)

/* Of cells that lie dense those that are wanted, in any order: as many as `some_SIZE` out of `all_SIZE`, in one instruction. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX2__)
#define POOLING_GATHERS(BYTES) ((BYTES) == 1 || POOLING_VECTOR == 64)
#else
#define POOLING_GATHERS(BYTES) 0
#endif
#if POOLING_GATHERS(1)
enum { some_1 = 16, all_1 = 16 };
POOLING_INLINE void gather_1(void* dst, const void* all, const uint8_t* which) {
    _mm_storeu_si128((__m128i*)dst, _mm_shuffle_epi8(_mm_loadu_si128((const __m128i*)all), _mm_loadu_si128((const __m128i*)which)));
}
#endif
#if POOLING_GATHERS(2)
#define POOLING_GATHER(BYTES, BITS)                                                                                \
    enum { some_##BYTES = 64 / BYTES, all_##BYTES = 128 / BYTES };                                                 \
    POOLING_INLINE void gather_##BYTES(void* dst, const void* all, const uint##BITS##_t* which) {                  \
        _mm512_storeu_si512(dst, _mm512_permutex2var_epi##BITS(_mm512_loadu_si512(all), _mm512_loadu_si512(which), \
            _mm512_loadu_si512((const char*)all + 64)));                                                           \
    }
POOLING_GATHER(2, 16)
POOLING_GATHER(4, 32)
POOLING_GATHER(8, 64)
#endif

#define POOLING_ROOM 1024  /* bytes of cells of which only some are wanted, */
#define POOLING_BETWEEN 12 /* at most every so manieth: beyond, one by one is faster */

typedef struct { uint8_t bits; } truth_t;
typedef struct { uint16_t bits; } half_t;
typedef struct { uint16_t bits; } brain_t;

static inline uint32_t float_bits(float x) { uint32_t u; memcpy(&u, &x, 4); return u; }
static inline float bits_float(uint32_t u) { float x; memcpy(&x, &u, 4); return x; }

static inline float half_to_float(half_t h) {
    uint32_t sign = (uint32_t)(h.bits & 0x8000u) << 16, shifted = (uint32_t)(h.bits & 0x7fffu) << 13;
    /* A subnormal is read as a number in [2**-14, 2**-13) and set back: no step meets a subnormal float. */
    uint32_t subnormal = float_bits(bits_float(shifted + 0x38800000u) - 0x1p-14f);
    uint32_t finite = shifted < 0x00800000u ? subnormal : shifted + 0x38000000u;
    return bits_float(sign | (shifted >= 0x0f800000u ? shifted | 0x7f800000u : finite));
}

static inline half_t float_to_half(float x) {
    uint32_t u = float_bits(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu, normal, result;
    half_t h;
    /* Below 2**-14 the sum with 0.5 leaves the rounded subnormal in the low bits. */
    uint32_t subnormal = float_bits(bits_float(magnitude) + 0.5f) - 0x3f000000u;
    normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    result = magnitude < 0x38800000u ? subnormal : normal;
    result = magnitude >= 0x477ff000u ? 0x7c00u : result;
    result = magnitude > 0x7f800000u ? 0x7e00u : result;
    h.bits = (uint16_t)(sign | result);
    return h;
}

/* The same for as many cells of a row as the machine's own conversions take at a time; how many that were. */
#ifdef __F16C__
#define POOLING_HALVES_AT_ONCE 8
static inline ptrdiff_t halves_to_floats(float* dst, const half_t* src, ptrdiff_t n) {
    ptrdiff_t i;
    for (i = 0; i + 8 <= n; i += 8) _mm256_storeu_ps(dst + i, _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(src + i))));
    return i;
}
static inline ptrdiff_t floats_to_halves(half_t* dst, const float* src, ptrdiff_t n) {
    ptrdiff_t i;
    for (i = 0; i + 8 <= n; i += 8)
        _mm_storeu_si128((__m128i*)(dst + i), _mm256_cvtps_ph(_mm256_loadu_ps(src + i), _MM_FROUND_TO_NEAREST_INT));
    return i;
}
#else
#define POOLING_HALVES_AT_ONCE 0
static inline ptrdiff_t halves_to_floats(float* dst, const half_t* src, ptrdiff_t n) { (void)dst; (void)src; (void)n; return 0; }
static inline ptrdiff_t floats_to_halves(half_t* dst, const float* src, ptrdiff_t n) { (void)dst; (void)src; (void)n; return 0; }
#endif

static inline float brain_to_float(brain_t h) { return bits_float((uint32_t)h.bits << 16); }

static inline brain_t float_to_brain(float x) {
    uint32_t u = float_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
    brain_t h;
    h.bits = (uint16_t)((u & 0x7fffffffu) > 0x7f800000u ? ((u >> 16) | 0x40u) : rounded);
    return h;
}

/* 16-bit floats as ints of the same order, in which every NaN is the highest, for max, or the lowest, for min; and back. */
static inline int16_t ordered_key(uint16_t bits) {
    int16_t sign = (int16_t)((int16_t)bits >> 15);
    return (int16_t)(bits ^ (sign & 0x7fff));
}
#define POOLING_KEYS(T, INFINITE)                                                                                \
    static inline int16_t T##_high(T h) { return (h.bits & 0x7fff) > (INFINITE) ? 0x7fff : ordered_key(h.bits); }      \
    static inline int16_t T##_low(T h) { return (h.bits & 0x7fff) > (INFINITE) ? -0x8000 : ordered_key(h.bits); }      \
    static inline T T##_of_key(int16_t key) { T h; h.bits = (uint16_t)ordered_key((uint16_t)key); return h; }
POOLING_KEYS(half_t, 0x7c00)
POOLING_KEYS(brain_t, 0x7f80)

/* A double as a float rounded to odd: rounding that once more to fewer bits gives the double's correct rounding. */
static inline float odd_float(double x) {
    float near = (float)x;
    uint32_t u = float_bits(near);
    if ((double)near == x || x != x) return near;
    u -= fabs((double)near) > fabs(x);
    return bits_float(u | 1u);
}

/* A 64-bit magnitude as a double rounded to odd. */
static inline double odd_double(uint64_t u) {
    uint64_t low = u & 0x7ffu;
    return (double)(u >> 53 ? (u - low) | (low ? 0x800u : 0u) : u);
}

/* The finished value to a result, rounded once. Each FROM has one way to every floating type and to every integer type. */
static inline half_t half_t_from_float(float x) { return float_to_half(x); }
static inline half_t half_t_from_double(double x) { return float_to_half(odd_float(x)); }
static inline brain_t brain_t_from_float(float x) { return float_to_brain(x); }
static inline brain_t brain_t_from_double(double x) { return float_to_brain(odd_float(x)); }
static inline float float_from_float(float x) { return x; }
static inline float float_from_double(double x) { return (float)x; }
static inline double double_from_float(float x) { return x; }
static inline double double_from_double(double x) { return x; }

static inline double odd_from_int64_t(int64_t x) { return x < 0 ? -odd_double(0 - (uint64_t)x) : odd_double((uint64_t)x); }
static inline double odd_from_uint64_t(uint64_t x) { return odd_double(x); }
static inline half_t half_t_from_int64_t(int64_t x) { return half_t_from_double(odd_from_int64_t(x)); }
static inline half_t half_t_from_uint64_t(uint64_t x) { return half_t_from_double(odd_from_uint64_t(x)); }
static inline brain_t brain_t_from_int64_t(int64_t x) { return brain_t_from_double(odd_from_int64_t(x)); }
static inline brain_t brain_t_from_uint64_t(uint64_t x) { return brain_t_from_double(odd_from_uint64_t(x)); }
static inline float float_from_int64_t(int64_t x) { return (float)x; }
static inline float float_from_uint64_t(uint64_t x) { return (float)x; }
static inline double double_from_int64_t(int64_t x) { return (double)x; }
static inline double double_from_uint64_t(uint64_t x) { return (double)x; }

/* Whether a divisor is a power of two, whose reciprocal has no more bits than it. */
static inline int power_of_two(double n) { int power; return n > 0 && frexp(n, &power) == 0.5; }

/* u / n rounded half to even, for n from 2 to 2**13 and by = 65535 / n, all in 16 bits. As u * by / 65536 falls short of u / n by
 * less than 1/2, q does by less than 3/2, and the rounded quotient is q or one more; near is no more than 3 * n.
 * The quotient in float32 rounds alike: where u / n is no tie, it is at least 1 / (2 * n) away from one, and float32's quotient
 * is at most 2**-9 / n away from u / n.
 */
static inline int16_t rounded_quotient(int16_t u, int16_t n, int16_t by) {
    int16_t q = (int16_t)((int32_t)u * (int32_t)by >> 16), rest = (int16_t)(u - q * n), near = (int16_t)(2 * rest + (q & 1));
    return (int16_t)(q + (near > n));
}
/* The same of sums of either sign, but for -2**15, saturating. */
static inline uint8_t uint8_t_of_quotient(int16_t s, int16_t n, int16_t by) {
    uint16_t q = (uint16_t)rounded_quotient((int16_t)(s > 0 ? s : 0), n, by);
    return (uint8_t)(q < UINT8_MAX ? q : UINT8_MAX);
}
static inline int8_t int8_t_of_quotient(int16_t s, int16_t n, int16_t by) {
    int16_t sign = (int16_t)(s >> 15), q = (int16_t)((rounded_quotient((int16_t)((s ^ sign) - sign), n, by) ^ sign) - sign);
    q = q < INT8_MAX ? q : INT8_MAX;
    return (int8_t)(q > INT8_MIN ? q : INT8_MIN);
}

/* Sums that were made in fewer bits. */
static inline int64_t int64_t_from_int16_t(int16_t x) { return x; }
static inline int64_t int64_t_from_int32_t(int32_t x) { return x; }
static inline uint64_t uint64_t_from_int16_t(int16_t x) { return (uint64_t)x; }
static inline uint64_t uint64_t_from_int32_t(int32_t x) { return (uint64_t)x; }

/* To an integer type: half to even, saturating, NaN to 0. ABOVE is the first power of two beyond the type. */
#define POOLING_INTEGER(T, LOW, HIGH, ABOVE)                                                                     \
    static inline T T##_from_double(double x) {                                                                  \
        double r = rint(x);                                                                                      \
        return r != r ? (T)0 : r >= (ABOVE) ? (T)(HIGH) : r < (double)(LOW) ? (T)(LOW) : (T)r;                   \
    }

/* Below 2**22 a sum with 1.5 * 2**23 has no bits behind the point left. */
#define POOLING_SHORT(T, LOW, HIGH)                                                                              \
    static inline T T##_from_float(float x) {                                                                    \
        float r = x < (LOW) ? (float)(LOW) : x > (HIGH) ? (float)(HIGH) : x == x ? x : 0.0f;                     \
        return (T)(int32_t)((r + 0x1.8p23f) - 0x1.8p23f);                                                        \
    }
#define POOLING_LONG(T)                                                                                          \
    static inline T T##_from_float(float x) { return T##_from_double((double)x); }

#define POOLING_SIGNED(T, LOW, HIGH, ABOVE)                                                                      \
    POOLING_INTEGER(T, LOW, HIGH, ABOVE)                                                                         \
    static inline T T##_from_int64_t(int64_t x) { return x > (HIGH) ? (T)(HIGH) : x < (LOW) ? (T)(LOW) : (T)x; } \
    static inline T T##_from_uint64_t(uint64_t x) { return x > (uint64_t)(HIGH) ? (T)(HIGH) : (T)x; }

#define POOLING_UNSIGNED(T, HIGH, ABOVE)                                                                         \
    POOLING_INTEGER(T, 0, HIGH, ABOVE)                                                                           \
    static inline T T##_from_int64_t(int64_t x) {                                                                \
        return x < 0 ? (T)0 : (uint64_t)x > (uint64_t)(HIGH) ? (T)(HIGH) : (T)x;                                 \
    }                                                                                                            \
    static inline T T##_from_uint64_t(uint64_t x) { return x > (uint64_t)(HIGH) ? (T)(HIGH) : (T)x; }

POOLING_SIGNED(int8_t, INT8_MIN, INT8_MAX, 0x1p7)
POOLING_SIGNED(int16_t, INT16_MIN, INT16_MAX, 0x1p15)
POOLING_SIGNED(int32_t, INT32_MIN, INT32_MAX, 0x1p31)
POOLING_SIGNED(int64_t, INT64_MIN, INT64_MAX, 0x1p63)
POOLING_UNSIGNED(uint8_t, UINT8_MAX, 0x1p8)
POOLING_UNSIGNED(uint16_t, UINT16_MAX, 0x1p16)
POOLING_UNSIGNED(uint32_t, UINT32_MAX, 0x1p32)
POOLING_UNSIGNED(uint64_t, UINT64_MAX, 0x1p64)
POOLING_SHORT(int8_t, INT8_MIN, INT8_MAX)
POOLING_SHORT(int16_t, INT16_MIN, INT16_MAX)
POOLING_SHORT(uint8_t, 0, UINT8_MAX)
POOLING_SHORT(uint16_t, 0, UINT16_MAX)
POOLING_LONG(int32_t)
POOLING_LONG(int64_t)
POOLING_LONG(uint32_t)
POOLING_LONG(uint64_t)

#endif
