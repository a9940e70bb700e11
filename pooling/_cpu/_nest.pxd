"""What the nest shares with the other extension: a pooled axis as the loops read it."""

from libc.stdint cimport int64_t


cdef enum:
    OUTERS = 5                # carried axes of an array, at most
    THREADED = 1 << 16        # cells below which one thread is faster


cdef struct Axis:
    Py_ssize_t n, spacing, out, kernel, stride, dilation, before, extent
    Py_ssize_t sparse         # the spacing, where the zeros between the cells are too many to hold; else 0
    const int64_t* starts     # adaptive windows: first cell and number of cells, else NULL
    const int64_t* counts
    const int64_t* divisors   # taps that count, per window, else NULL


cdef int lay(Axis* axis, row) except -1
