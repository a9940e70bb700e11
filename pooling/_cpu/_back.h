/* What the loops of the way back are told: which cells a window has, and where a row of windows lies. */
#ifndef POOLING_BACK_H
#define POOLING_BACK_H

#include "_cells.h"
#include <stddef.h>
#include <stdint.h>

enum { POOLING_MARGIN = 4 }; /* zeros at both ends of a row of shares: more than the windows that cover one cell */

/* One row of windows, which differ along W alone. Strides in bytes; [3] is D, H, W. */
typedef struct {
    int64_t n[3], start[3], extent[3], dilation[3]; /* the cells start, start + dilation ... below start + extent */
    int64_t plane;
    double by_row, by_height;       /* 1 / n[2], 1 / n[1] */
    int deep;                       /* D has cells, or a window gaps */
    int64_t stride, before;         /* window o begins at cell o * stride - before, */
    const int64_t *starts, *counts; /* or at starts[o] and has counts[o] cells, where these are not NULL */
    ptrdiff_t inner, apart, inner_apart; /* apart: from one cell of a plane to the next */
    ptrdiff_t g_cell, g_inner, i_cell, i_inner;
} windows_t;

/* A row of cells, each the sum of the windows that cover it: the row holds those from window `first` on. */
typedef struct {
    ptrdiff_t cells, inner;
    ptrdiff_t windows;              /* in the row, with a margin at both ends */
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
    if (!w->deep) return (uint64_t)(at - start) < (uint64_t)extent && (uint64_t)(row - w->start[1]) < (uint64_t)w->extent[1];
    depth = pooling_quotient(row, w->by_height);
    return pooling_within(at, start, extent, w->dilation[2]) &&
        pooling_within(row - depth * w->n[1], w->start[1], w->extent[1], w->dilation[1]) &&
        pooling_within(depth, w->start[0], w->extent[0], w->dilation[0]);
}

/* The same for a row of windows without gaps or depth: rows of cells found by a product, exact while
 * cell * width < 2**32; one row needs none. */
typedef struct {
    uint64_t magic, width, base, span, extent;
} pooling_rows;

static inline int pooling_simple(const windows_t* w, pooling_rows* r) {
    const int64_t top = w->start[1] < 0 ? 0 : w->start[1], rows = w->start[1] + w->extent[1] - top;
    if (w->deep || w->starts || (rows > 1 && rows * w->n[2] >= ((int64_t)1 << 32) / w->n[2])) return 0;
    r->width = (uint64_t)w->n[2];
    r->magic = rows > 1 ? (((uint64_t)1 << 32) + r->width - 1) / r->width : 0;
    r->base = (uint64_t)top * r->width;
    r->span = (uint64_t)rows * r->width;
    r->extent = (uint64_t)w->extent[2];
    return 1;
}

#endif
