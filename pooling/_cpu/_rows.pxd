"""The shape of every row loop: what the nest hands over, whatever the element type."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "_back.h":
    enum:
        MARGIN "POOLING_MARGIN"
        BY_SPAN "POOLING_BY_SPAN"
        BY_FEW "POOLING_BY_FEW"
        BY_ROWS "POOLING_BY_ROWS"
        BY_DEPTH "POOLING_BY_DEPTH"
        SINGLY "POOLING_SINGLY"
        EXACT "POOLING_EXACT"
        TAPS "POOLING_TAPS"
    ctypedef struct windows_t:
        int64_t n[3]
        int64_t start[3]
        int64_t extent[3]
        int64_t dilation[3]
        int64_t plane, stride, before
        const int64_t* starts
        const int64_t* counts
        Py_ssize_t inner, apart, inner_apart, g_cell, g_inner, i_cell, i_inner
        Py_ssize_t ahead, fresh
        const char* soon
        double by_row, by_height
        int kind, flat
        uint32_t base, span, high, second, third
        int32_t row, depth, width, height
        int32_t gap[3]
        float by_width, by_rows
        float by_gap[3]
        const int32_t* tops
        const int32_t* lefts
        const int32_t* widths
    ctypedef struct spread_t:
        Py_ssize_t cells, inner, windows, kernel, stride, lead
        int64_t first
        const int64_t* firsts
        const int64_t* covers

cdef extern from "_cells.h":
    enum:
        SIDE "POOLING_SIDE"
        LEVELS "POOLING_LEVELS"
    ctypedef struct level_t:
        char* to
        const char* of[4]
        int rows
        const char* row[4]
    ctypedef struct pile_t:
        int levels
        level_t level[LEVELS]

cdef extern from "_fused.h":
    ctypedef struct fused_t:
        Py_ssize_t planes, rows, windows, lines, cells, first, stride, dilation, pitch, line, dpitch, drow, ahead, inner, step, dstep
        int dense
        Py_ssize_t form, size
        double divisor
        const char* end
        const char* none
        const char* identity
        char* spare
        Py_ssize_t wide, apart, beside
        char* kept
    ctypedef struct shares_t:
        Py_ssize_t cells, windows, inner, line, drow
        double by
        char* ring
        Py_ssize_t apart
        const char* inside
    int POOLING_PARTIAL, POOLING_FINISHED, POOLING_NARROWED

cdef extern from "_chosen.h":
    ctypedef struct taps_t:
        Py_ssize_t cells, run, step
        int count, more
        Py_ssize_t ahead
        uint64_t fresh
        const Py_ssize_t* at
        const int64_t* offset
        const char* begin
    ctypedef struct split_t:
        Py_ssize_t planes, bands, slots, run, step, src_plane, src_row, ahead, length, dst_plane, dst_row, dst_slot
        const Py_ssize_t* band
        const Py_ssize_t* begin
        const Py_ssize_t* end
        const Py_ssize_t* first
        const Py_ssize_t* entry
        const Py_ssize_t* count
    ctypedef struct put_t:
        Py_ssize_t planes, rows, cells, inner, area, pitch, plane_stride, row_stride, cell_stride, inner_stride
        int stream
        const char* origin
        int64_t base, apart


cdef struct Cells:
    # Accumulated cells; beside them, where a mode is asked for them (else NULL), their indices less `base`.
    char* value
    char* index
    uint64_t base


cdef struct Walk:
    # planes x cells x inner results; all in cells of the buffer.
    Py_ssize_t planes, cells, inner
    Py_ssize_t dpitch, dstep    # of dst: from plane to plane, from one result's cell to the next one's
    Py_ssize_t pitch, step      # of a and b
    Py_ssize_t cpitch, cstep    # of c
    Py_ssize_t ahead            # bytes to what will be read next of rows that come from memory, or 0
    Py_ssize_t fresh            # how many of a window's last rows the window before it has not read
    char* more                  # d, a fourth operand that lies as a does, or NULL


# dst = a;  a . b;  a . c;  (a . b) . c;  (a . b) . (d . c)   (b and c may be NULL; d only without indices)
ctypedef void (*pick_t)(const Walk*, Cells dst, Cells a, Cells b, Cells c) noexcept nogil
# Cells `begin` to `end` of a window of many rows, and of what the next ones need; dst may be NULL.
ctypedef void (*pile_rows_t)(char* dst, const pile_t*, Py_ssize_t begin, Py_ssize_t end) noexcept nogil
# Each of some dense planes of at most SIDE x SIDE accumulators, rows x cells, combined into one.
ctypedef void (*whole_t)(char* dst, const char* src, Py_ssize_t planes, Py_ssize_t rows, Py_ssize_t cells) noexcept nogil
# Windows of two or three lines, and of as many cells of them, one beside the other or every second one.
ctypedef void (*fuse_t)(char* dst, const char* src, const fused_t*) noexcept nogil
# A row of the caller's array, cells x inner with strides in bytes, to dense accumulators.
ctypedef void (*load_t)(char* dst, const char* src, Py_ssize_t cells, Py_ssize_t cell_stride, Py_ssize_t inner,
                        Py_ssize_t inner_stride, double p) noexcept nogil
# Rows of accumulators, each from one to three rows of the caller's cells, `apart` bytes from one to the next; pitch and step of
# the walk are bytes, its runs lie dense.
ctypedef void (*merge_t)(const Walk*, char* dst, const char* src, Py_ssize_t apart, Py_ssize_t taps) noexcept nogil
# Dense accumulators to dense finished values; n: their divisors, one for each (each = 1) or one for all (0).
ctypedef void (*finish_t)(char* dst, const char* src, Py_ssize_t cells, const char* n, Py_ssize_t each, double p) noexcept nogil
# Dense finished values to a row of the result.
ctypedef void (*store_t)(char* dst, Py_ssize_t cell_stride, Py_ssize_t inner_stride, const char* src, Py_ssize_t cells,
                         Py_ssize_t inner) noexcept nogil
# Whether an index is neither -1 nor a cell of its window; `first`: the first window's number in its row.
ctypedef int (*check_t)(const char* index, const windows_t*, Py_ssize_t first, Py_ssize_t cells) noexcept nogil
# grad[index] += g or = g over windows, in order; all indices are known to be good.
ctypedef void (*scatter_t)(char* grad, const char* g, const char* index, const windows_t*, Py_ssize_t cells) noexcept nogil
# grad[index] += g over windows of at most TAPS cells, whose inner cells lie dense; whether an index is neither -1 nor a cell
# of its window.
ctypedef int (*match_t)(char* grad, const char* g, const char* index, const windows_t*, Py_ssize_t first,
                        Py_ssize_t cells) noexcept nogil
# Rows of dst = g / n, or dst += with `more`, dense and `pitch` bytes apart: n per cell (each = 1), or one (0), or NULL.
ctypedef void (*quotient_t)(char* dst, Py_ssize_t pitch, const char* g, Py_ssize_t row_stride, Py_ssize_t cell_stride,
                            Py_ssize_t inner_stride, Py_ssize_t rows, Py_ssize_t cells, Py_ssize_t inner, const char* n,
                            Py_ssize_t each, int more) noexcept nogil
# Rows, each the sum of two or three (z may be NULL), of which all lie `pitch` bytes apart.
ctypedef void (*down_t)(char* dst, Py_ssize_t dst_pitch, const char* x, const char* y, const char* z, Py_ssize_t pitch,
                        Py_ssize_t rows, Py_ssize_t n) noexcept nogil
# Rows of cells, `step` bytes apart, each from the sum of the rows of windows that cover it, between margins of zeros.
ctypedef void (*along_t)(char* dst, Py_ssize_t step, const char** sums, Py_ssize_t rows, const spread_t*) noexcept nogil
# Rows of cells, each the sum of the shares of small windows that cover it: x are the rows of shares that the first one adds. The
# last of these, number `last`, and those of the rows of cells below, are made from g, and kept.
ctypedef void (*shared_t)(char* dst, const char* const* x, const char* g, const shares_t*, Py_ssize_t count,
                          Py_ssize_t last) noexcept nogil
# Windows with the distances of their cells, tap by tap in the order of the indices.
ctypedef void (*take_t)(char* dst, char* index, const char* src, const taps_t*) noexcept nogil
# Rows of dense distances to indices, and rows of dense cells, `size` bytes each, to the result.
ctypedef void (*place_t)(char* dst, const char* src, const put_t*) noexcept nogil
ctypedef void (*put_cells_t)(char* dst, const char* src, const put_t*, Py_ssize_t size) noexcept nogil
# Rows of cells, `size` bytes each, to every slot of them.
ctypedef void (*split_rows_t)(char* dst, const char* src, const split_t*, Py_ssize_t size) noexcept nogil
# What went past the caches is there for all.
ctypedef void (*streamed_t)() noexcept nogil
