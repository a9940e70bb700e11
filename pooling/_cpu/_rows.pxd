"""The shape of every row loop: what the nest hands over, whatever the element type."""

from libc.stdint cimport uint64_t


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
# grad[index] += g over a row of windows, in order; `apart` is the distance of an index step in bytes.
ctypedef void (*scatter_t)(char* grad, Py_ssize_t apart, Py_ssize_t inner_apart, const char* g, Py_ssize_t cell_stride,
                           Py_ssize_t inner_stride, const char* index, Py_ssize_t index_stride, Py_ssize_t index_inner_stride,
                           Py_ssize_t cells, Py_ssize_t inner) noexcept nogil
