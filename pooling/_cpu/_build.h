/* What the build decided: how it was compiled, and the checks of a debug build. */
#ifndef POOLING_BUILD_H
#define POOLING_BUILD_H

#if defined(__clang__)
#define POOLING_COMPILER __VERSION__
#elif defined(__GNUC__)
#define POOLING_COMPILER "GCC " __VERSION__
#else
#define POOLING_COMPILER "unknown"
#endif

#ifdef _OPENMP
#define POOLING_OPENMP 1
#else
#define POOLING_OPENMP 0
#endif

/* The level of x86-64 whose vector instructions this machine has, as far as the row loops are compiled for it. */
#if (defined(__x86_64__) || defined(__i386__)) && defined(__GNUC__)
#include <cpuid.h>
static inline int pooling_f16c(void) {   /* not every compiler knows it by name */
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static inline int pooling_level(void) {
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !pooling_f16c()) return 1;
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") ? 4 : 3;
}
#else
static inline int pooling_level(void) { return 1; }
#endif

/* A fact about bounds that the nest relies on: a debug build ends the process where it is not true. */
#ifdef POOLING_DEBUG
#include <stdio.h>
#include <stdlib.h>
#define POOLING_DEBUGGING 1
#define POOLING_CHECK(fact) ((fact) ? (void)0 : (fprintf(stderr, "pooling: not true: %s (line %d)\n", #fact, __LINE__), abort()))
#else
#define POOLING_DEBUGGING 0
#define POOLING_CHECK(fact) ((void)0)
#endif

#endif
