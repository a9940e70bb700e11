/* What the loops of the way back are told: which cells a window has, and where a row of windows lies. */
#ifndef POOLING_BACK_H
#define POOLING_BACK_H

#include "_cells.h"
#include <stddef.h>
#include <stdint.h>

enum { POOLING_MARGIN = 4 }; /* zeros at both ends of a row of sums: more than the windows that cover one cell */

/* How indices are checked: all at once in vectors of 32 bits, by as little as decides; or one by one. */
enum { POOLING_BY_SPAN, POOLING_BY_FEW, POOLING_BY_ROWS, POOLING_BY_DEPTH, POOLING_SINGLY };
enum { POOLING_EXACT = 1 << 21 }; /* numbers below it are divided exactly in float */

enum { POOLING_SOON = 4096 };   /* bytes of indices that are asked for before they are read */
enum { POOLING_TAPS = 9 };   /* cells of a window that are each compared with all its indices: for more, one by one is faster */

/* Windows in row-major order: one row of them, or several that lie dense. Strides in bytes; [3] is D, H, W. */
typedef struct {
    int64_t n[3], start[3], extent[3], dilation[3]; /* the first row's cells: start, start + dilation ... below start + extent */
    int64_t plane;
    int64_t stride, before;         /* window o begins at cell o * stride - before, */
    const int64_t *starts, *counts; /* or at starts[o] and has counts[o] cells, where these are not NULL */
    ptrdiff_t inner, apart, inner_apart; /* apart: from one cell of a plane to the next */
    ptrdiff_t g_cell, g_inner, i_cell, i_inner;
    ptrdiff_t ahead, fresh;   /* bytes to the indices that are read next; lines of the result, from `soon` on, */
    const char* soon;         /* to call for beside each line of indices */
    double by_row, by_height; /* 1 / n[2], 1 / n[1] */
    /* All for vectors: legal cells lie in base .. base + span, whose first cell is in row `row` and depth `depth` of a window
     * that has `high` rows. Of each window, or each index where `flat`: its first row, counted from the first window's one,
     * its first cell in the row, and the number of cells from there on. */
    int kind, flat; /* BY_FEW, up to three rows: `second` and `third` cells behind the first, which lies at `lefts` from base */
    uint32_t base, span, high, second, third;
    int32_t row, depth, width, height, gap[3];
    float by_width, by_rows, by_gap[3];
    const int32_t *tops, *lefts, *widths;
} windows_t;

/* A row of cells, each the sum of the windows that cover it: the row holds those from window `first` on. */
typedef struct {
    ptrdiff_t cells, inner;
    ptrdiff_t windows;              /* in the row */
    ptrdiff_t kernel, stride, lead; /* lead: from the start of window `first` to the row's first cell */
    int64_t first;
    const int64_t *firsts, *covers; /* of each cell, where the windows are adaptive, else NULL */
} spread_t;

/* a / n for 0 <= a < 2**50 and by = 1 / n: half a cell is more than the rounding can lose. */
static inline int64_t pooling_quotient(int64_t a, double by) { return (int64_t)(((double)a + 0.5) * by); }

static inline int pooling_within(int64_t place, int64_t start, int64_t extent, int64_t dilation) {
    return (uint64_t)place - (uint64_t)start < (uint64_t)extent && (dilation == 1 || (place - start) % dilation == 0);
}

/* Whether a flat index is a cell of its window, which covers start .. start + extent along W. */
static inline int pooling_legal(const windows_t* w, int64_t at, int64_t start, int64_t extent) {
    int64_t row, depth;
    if ((uint64_t)at >= (uint64_t)w->plane) return 0;
    row = pooling_quotient(at, w->by_row);
    at -= row * w->n[2];
    depth = pooling_quotient(row, w->by_height);
    return pooling_within(at, start, extent, w->dilation[2]) &&
        pooling_within(row - depth * w->n[1], w->start[1], w->extent[1], w->dilation[1]) &&
        pooling_within(depth, w->start[0], w->extent[0], w->dilation[0]);
}

/* cell / n by a product with 1 / n. What is not below POOLING_EXACT gives some small number. */
static inline int32_t pooling_part(uint32_t cell, float by) {
    return (int32_t)(((float)(int32_t)(cell & (2 * POOLING_EXACT - 1)) + 0.5f) * by);
}

/* The same as pooling_legal, or -1, in 32 bits and without a branch. */
static inline int pooling_allowed(const windows_t* w, uint32_t at, int32_t top, int32_t left, uint32_t width, int kind) {
    uint32_t cell = at - w->base;
    int legal;
    if (kind == POOLING_BY_FEW) { /* and below the plane's end */
        cell -= (uint32_t)left;
        return (cell < width) | (cell - w->second < width) | (cell - w->third < width) | (at == 0xffffffffu);
    }
    legal = cell < w->span;
    if (kind >= POOLING_BY_ROWS) {
        int32_t row = pooling_part(cell, w->by_width), depth = 0;
        const uint32_t column = cell - (uint32_t)row * (uint32_t)w->width - (uint32_t)left;
        if (kind == POOLING_BY_DEPTH) {
            depth = pooling_part((uint32_t)row, w->by_rows);
            row -= depth * w->height;
            depth += w->depth;
        }
        row += w->row - top;
        legal &= (column < width) & ((uint32_t)row < w->high);
        if (kind == POOLING_BY_DEPTH) {
            legal &= pooling_part((uint32_t)depth, w->by_gap[0]) * w->gap[0] == depth;
            legal &= pooling_part((uint32_t)row, w->by_gap[1]) * w->gap[1] == row;
            legal &= pooling_part(column, w->by_gap[2]) * w->gap[2] == (int32_t)column;
        }
    }
    return legal | (at == 0xffffffffu);
}

#endif
