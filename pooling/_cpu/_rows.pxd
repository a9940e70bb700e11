"""The shape of every row loop: what the nest hands over, whatever the element type."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "_back.h":
    enum:
        MARGIN "POOLING_MARGIN"
    ctypedef struct windows_t:
        int64_t n[3]
        int64_t start[3]
        int64_t extent[3]
        int64_t dilation[3]
        int64_t plane, stride, before
        double by_row, by_height
        int deep
        const int64_t* starts
        const int64_t* counts
        Py_ssize_t inner, apart, inner_apart, g_cell, g_inner, i_cell, i_inner
    ctypedef struct spread_t:
        Py_ssize_t cells, inner, windows, kernel, stride, lead
        int64_t first
        const int64_t* firsts
        const int64_t* covers

cdef extern from "_chosen.h":
    ctypedef struct taps_t:
        Py_ssize_t cells, run, step
        int count, more
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


# dst = a;  a . b;  a . c;  (a . b) . c   (b and c may be NULL)
ctypedef void (*pick_t)(const Walk*, Cells dst, Cells a, Cells b, Cells c) noexcept nogil
# A row of the caller's array, cells x inner with strides in bytes, to dense accumulators.
ctypedef void (*load_t)(char* dst, const char* src, Py_ssize_t cells, Py_ssize_t cell_stride, Py_ssize_t inner,
                        Py_ssize_t inner_stride, double p) noexcept nogil
# Dense accumulators to dense finished values, n[cell] being the divisors.
ctypedef void (*finish_t)(char* dst, const char* src, Py_ssize_t cells, Py_ssize_t inner, const char* n, double p) noexcept nogil
# Dense finished values to a row of the result.
ctypedef void (*store_t)(char* dst, Py_ssize_t cell_stride, Py_ssize_t inner_stride, const char* src, Py_ssize_t cells,
                         Py_ssize_t inner) noexcept nogil
# grad[index] += g or = g over a row of windows from `first` on, in order; 1 where it meets an index that is not of its window.
ctypedef int (*scatter_t)(char* grad, const char* g, const char* index, const windows_t*, Py_ssize_t first,
                          Py_ssize_t cells) noexcept nogil
# dst = g / n, or dst += with `more`: n per cell (each = 1), or one (0), or NULL.
ctypedef void (*quotient_t)(char* dst, const char* g, Py_ssize_t cell_stride, Py_ssize_t inner_stride, Py_ssize_t cells,
                            Py_ssize_t inner, const char* n, Py_ssize_t each, int more) noexcept nogil
# A row of cells from the one to three rows of windows that cover it (y and z may be NULL); sum: space for a row of windows.
ctypedef void (*spreads_t)(char* dst, const char* x, const char* y, const char* z, char* sum, const spread_t*) noexcept nogil
# Windows with the distances of their cells, tap by tap in the order of the indices.
ctypedef void (*take_t)(char* dst, char* index, const char* src, const taps_t*) noexcept nogil
# Rows of dense distances to indices, and rows of dense cells, `size` bytes each, to the result.
ctypedef void (*place_t)(char* dst, const char* src, const put_t*) noexcept nogil
ctypedef void (*put_cells_t)(char* dst, const char* src, const put_t*, Py_ssize_t size) noexcept nogil
# Rows of cells, `size` bytes each, to every slot of them.
ctypedef void (*split_rows_t)(char* dst, const char* src, const split_t*, Py_ssize_t size) noexcept nogil
# What went past the caches is there for all.
ctypedef void (*streamed_t)() noexcept nogil
