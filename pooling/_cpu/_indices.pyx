# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""Indices: scattering along them (gradients of max and min, unpooling), and checking those that a caller gives."""

from cython.parallel cimport prange
from libc.stdint cimport int64_t
from numpy cimport PyArray_DATA, ndarray

from pooling._cpu._nest cimport OUTERS, THREADED, Axis, lay
from pooling._cpu._rows cimport scatter_t


cdef struct Scatter:
    scatter_t loop
    char* grad
    const char* g
    const char* i
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t grad_outer[OUTERS]
    Py_ssize_t g_outer[OUTERS]
    Py_ssize_t i_outer[OUTERS]
    Py_ssize_t inner, grad_inner, g_inner, i_inner
    Py_ssize_t cells[3]
    Py_ssize_t g_axis[3]
    Py_ssize_t i_axis[3]
    Py_ssize_t apart


cdef void scatter_plane(const Scatter* s, Py_ssize_t item) noexcept nogil:
    """One place of the outer axes: its windows in row-major order, each to the cell its index names."""
    cdef char* grad = s.grad
    cdef const char* g = s.g
    cdef const char* i = s.i
    cdef Py_ssize_t k, d, h
    for k in range(s.outers - 1, -1, -1):
        grad += item % s.outer[k] * s.grad_outer[k]
        g += item % s.outer[k] * s.g_outer[k]
        i += item % s.outer[k] * s.i_outer[k]
        item //= s.outer[k]
    for d in range(s.cells[0]):
        for h in range(s.cells[1]):
            s.loop(grad, s.apart, s.grad_inner, g + d * s.g_axis[0] + h * s.g_axis[1], s.g_axis[2], s.g_inner,
                   i + d * s.i_axis[0] + h * s.i_axis[1], s.i_axis[2], s.i_inner, s.cells[2], s.inner)


def scatter(Py_ssize_t loop, view, cells, Py_ssize_t apart, ndarray grad, ndarray g, ndarray i, Py_ssize_t threads):
    """grad[index] += g or = g, as the loop at that address does, window by window; planes never share a cell."""
    cdef Scatter s
    cdef Py_ssize_t k, item, items = 1
    s.loop = <scatter_t> <size_t> loop
    s.grad, s.g, s.i, s.apart = <char*> PyArray_DATA(grad), <char*> PyArray_DATA(g), <char*> PyArray_DATA(i), apart
    outers, inner, pooled = view
    s.inner, s.grad_inner, s.g_inner, s.i_inner = inner
    s.outers = len(outers)
    for k in range(s.outers):
        s.outer[k], s.grad_outer[k], s.g_outer[k], s.i_outer[k] = outers[k]
        items *= s.outer[k]
    for k in range(3):
        _, s.g_axis[k], s.i_axis[k] = pooled[k]
        s.cells[k] = cells[k]
    threads = max(1, min(threads, items))
    if items * s.cells[0] * s.cells[1] * s.cells[2] * s.inner < THREADED:
        threads = 1
    with nogil:
        if threads == 1:
            for item in range(items):
                scatter_plane(&s, item)
        else:
            for item in prange(items, schedule="static", num_threads=threads):
                scatter_plane(&s, item)


def misplaced(axes, const int64_t[:, :, :, :, :] indices):
    """The position in (outer, D, H, W, inner) of the first index that is neither -1 nor a cell of its window, or None."""
    cdef Axis axis[3]
    cdef Py_ssize_t k, outer, inner, start, count
    cdef Py_ssize_t o[3]
    cdef Py_ssize_t place[3]
    cdef int64_t index, rest
    cdef bint wrong
    for k in range(3):
        lay(&axis[k], axes[k])
    for outer in range(indices.shape[0]):
        for o[0] in range(indices.shape[1]):
            for o[1] in range(indices.shape[2]):
                for o[2] in range(indices.shape[3]):
                    for inner in range(indices.shape[4]):
                        index = indices[outer, o[0], o[1], o[2], inner]
                        if index == -1:
                            continue
                        wrong, rest = index < 0, index
                        for k in range(2, -1, -1):
                            place[k] = rest % axis[k].n
                            rest = rest // axis[k].n
                        wrong = wrong or rest != 0
                        for k in range(3):
                            if axis[k].starts != NULL:
                                start, count = axis[k].starts[o[k]], axis[k].counts[o[k]]
                                wrong = wrong or not start <= place[k] < start + count
                            else:
                                start = place[k] - (o[k] * axis[k].stride - axis[k].before)
                                wrong = wrong or not 0 <= start < axis[k].extent or start % axis[k].dilation != 0
                        if wrong:
                            return outer, o[0], o[1], o[2], inner
    return None
