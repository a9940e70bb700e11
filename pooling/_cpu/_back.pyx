# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The way back: gradients to the cells that indices name (scatter), and to every cell of a window alike (share).

Both fill a new result in one pass. A scatter reads each index once: it checks it and adds. The cells that its next windows can
reach are set to zero just before, while they are in cache; where sums are wider than the result's cells, they are made in a
band of scratch memory that follows the windows, and are rounded when no later window can reach them. So an error leaves a
result behind that nobody has seen. A share is for windows of which at most three cover a cell on each axis (`__init__`
decides): rows of shares are divided once, kept while they are needed, added down, and then along the row.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memmove, memset
from numpy cimport PyArray_DATA, PyArray_ITEMSIZE, ndarray

from pooling._cpu._nest cimport OUTERS, THREADED, Axis, lay
from pooling._cpu._rows cimport MARGIN, quotient_t, scatter_t, spread_t, spreads_t, store_t, windows_t


cdef extern from "_build.h":
    void CHECK "POOLING_CHECK"(bint fact) noexcept nogil


cdef enum:
    PIECE = 4096              # windows of a row that are scattered before the next ones, where a plane is one row
    BAND = 1 << 14            # cells of a band, at least
    ROW = 1 << 13             # bytes of a row of shares: four of them and their sum stay in a core's first-level cache
    KEPT = 4                  # rows of shares that are kept, a power of two above three


# ---- scatter -------------------------------------------------------------------------------------------------


cdef struct Scatter:
    scatter_t loop
    store_t store             # rounds sums to the result; NULL where they are made in the result itself
    char* grad
    const char* g
    const char* i
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t grad_outer[OUTERS]
    Py_ssize_t g_outer[OUTERS]
    Py_ssize_t i_outer[OUTERS]
    Py_ssize_t inner, grad_inner, g_inner, i_inner, block
    Py_ssize_t g_axis[3]
    Py_ssize_t i_axis[3]
    Py_ssize_t apart, size, sum
    Py_ssize_t capacity       # cells of a band
    Axis axis[3]
    int level                 # the axis along which a band moves


cdef inline int64_t begin(const Axis* axis, int64_t o) noexcept nogil:
    return axis.starts[o] if axis.starts != NULL else o * axis.stride - axis.before


cdef inline int64_t end(const Axis* axis, int64_t o) noexcept nogil:
    """Where the axis or the window ends."""
    return min(axis.n, begin(axis, o) + (axis.counts[o] if axis.counts != NULL else axis.extent))


cdef void zero(char* place, Py_ssize_t apart, Py_ssize_t inner_apart, Py_ssize_t size, Py_ssize_t inner, Py_ssize_t cells) noexcept nogil:
    """Zeros in cells x inner."""
    cdef Py_ssize_t c, i
    if inner == 1 or inner_apart == size:
        if apart == inner * size:
            memset(place, 0, cells * apart)
        else:
            for c in range(cells):
                memset(place + c * apart, 0, inner * size)
    else:
        for c in range(cells):
            for i in range(inner):
                memset(place + c * apart + i * inner_apart, 0, size)


cdef int scatter_block(const Scatter* s, Py_ssize_t item, char* scratch) noexcept nogil:
    """One plane, or a block of its inner cells: its windows in row-major order. 1 where an index is not of its window."""
    cdef char* grad = s.grad
    cdef const char* g = s.g
    cdef const char* i = s.i
    cdef windows_t row
    cdef Py_ssize_t k, d, h, o, piece, wrong, blocks = (s.inner + s.block - 1) // s.block
    cdef Py_ssize_t low, high, base = 0, top = 0   # of the windows' cells; of the cells that the band holds
    cdef char* sums
    row.inner = min(s.block, s.inner - item % blocks * s.block)
    grad += item % blocks * s.block * s.grad_inner
    g += item % blocks * s.block * s.g_inner
    i += item % blocks * s.block * s.i_inner
    item //= blocks
    for k in range(s.outers - 1, -1, -1):
        grad += item % s.outer[k] * s.grad_outer[k]
        g += item % s.outer[k] * s.g_outer[k]
        i += item % s.outer[k] * s.i_outer[k]
        item //= s.outer[k]
    row.deep = s.axis[0].n > 1
    for k in range(3):
        row.n[k], row.extent[k], row.dilation[k] = s.axis[k].n, s.axis[k].extent, s.axis[k].dilation
        row.deep |= row.dilation[k] > 1
    row.plane = row.n[0] * row.n[1] * row.n[2]
    row.by_row, row.by_height = 1.0 / row.n[2], 1.0 / row.n[1]
    row.stride, row.before, row.starts, row.counts = s.axis[2].stride, s.axis[2].before, s.axis[2].starts, s.axis[2].counts
    row.g_cell, row.g_inner, row.i_cell, row.i_inner = s.g_axis[2], s.g_inner, s.i_axis[2], s.i_inner
    row.apart, row.inner_apart, sums = row.inner * s.sum, s.sum, scratch
    if s.store == NULL:
        row.apart, row.inner_apart, sums = s.apart, s.grad_inner, grad
    piece = s.axis[2].out if s.level < 2 else PIECE
    for d in range(s.axis[0].out):
        row.start[0] = begin(&s.axis[0], d)
        row.extent[0] = end(&s.axis[0], d) - row.start[0]
        for h in range(s.axis[1].out):
            row.start[1] = begin(&s.axis[1], h)
            row.extent[1] = end(&s.axis[1], h) - row.start[1]
            o = 0
            while o < s.axis[2].out:
                if s.grad != NULL:
                    if s.level == 2:
                        low, high = max(0, begin(&s.axis[2], o)), end(&s.axis[2], min(s.axis[2].out, o + piece) - 1)
                    elif s.level == 1:
                        low, high = max(0, row.start[1]) * row.n[2], (row.start[1] + row.extent[1]) * row.n[2]
                    else:
                        low = max(0, row.start[0]) * row.n[1] * row.n[2]
                        high = (row.start[0] + row.extent[0]) * row.n[1] * row.n[2]
                    if s.store != NULL and high - base > s.capacity:
                        k = min(low, top)
                        s.store(grad + base * s.apart, s.apart, s.grad_inner, scratch, k - base, row.inner)
                        memmove(scratch, scratch + (k - base) * row.apart, (top - k) * row.apart)
                        zero(grad + k * s.apart, s.apart, s.grad_inner, s.size, row.inner, low - k)
                        base, top = low, max(low, top)
                    CHECK(s.store == NULL or (base <= low and high - base <= s.capacity))
                    if high > top:
                        zero(sums + (top - base) * row.apart, row.apart, row.inner_apart, s.sum, row.inner, high - top)
                        top = high
                wrong = s.loop(sums - base * row.apart, g + d * s.g_axis[0] + h * s.g_axis[1] + o * s.g_axis[2],
                               i + d * s.i_axis[0] + h * s.i_axis[1] + o * s.i_axis[2], &row, o, min(piece, s.axis[2].out - o))
                if wrong:
                    return 1
                o += piece
    if s.grad != NULL:
        if s.store != NULL:
            s.store(grad + base * s.apart, s.apart, s.grad_inner, scratch, top - base, row.inner)
        zero(grad + top * s.apart, s.apart, s.grad_inner, s.size, row.inner, row.plane - top)
    return 0


def scatter(Py_ssize_t loop, Py_ssize_t store, view, list axes, Py_ssize_t apart, Py_ssize_t wide, ndarray grad, ndarray g,
            ndarray i, Py_ssize_t threads):
    """Zeros with grad[index] += g or = g, as the loop at that address does; False where an index is not of its window.

    The cells of a plane of grad are `apart` bytes apart. `wide`: bytes of a sum, which `store` rounds, where it is not 0.
    Where grad is None, indices are checked, and that is all.
    """
    cdef Scatter s
    cdef Py_ssize_t k, item, blocks, items = 1, windows = 1, plane = 1, reach, wrong = 0
    cdef char* scratch
    s.loop, s.store = <scatter_t> <size_t> loop, <store_t> <size_t> store
    s.grad = NULL if grad is None else <char*> PyArray_DATA(grad)
    s.g, s.i, s.apart = <char*> PyArray_DATA(g), <char*> PyArray_DATA(i), apart
    s.size, s.sum = 0 if grad is None else PyArray_ITEMSIZE(grad), wide
    outers, (s.inner, s.grad_inner, s.g_inner, s.i_inner), pooled = view
    s.outers = len(outers)
    for k in range(s.outers):
        s.outer[k], s.grad_outer[k], s.g_outer[k], s.i_outer[k] = outers[k]
        items *= s.outer[k]
    for k in range(3):
        lay(&s.axis[k], axes[k])
        _, s.g_axis[k], s.i_axis[k] = pooled[k]
        windows *= s.axis[k].out
        plane *= s.axis[k].n
    s.level = 0
    while s.level < 2 and s.axis[s.level].n == 1 and s.axis[s.level].out == 1:
        s.level += 1
    if items * max(windows, plane) * s.inner < THREADED:
        threads = 1
    # Few planes: their inner cells are shared out, a cache line or more to each.
    blocks = min(max(1, 4 * threads // items), max(1, s.inner // 32)) if threads > 1 else 1
    s.block = (s.inner + blocks - 1) // blocks
    s.capacity = 0
    if s.store != NULL:
        reach = s.axis[s.level].extent + (min(PIECE, s.axis[2].out) - 1) * s.axis[2].stride if s.level == 2 else s.axis[s.level].extent
        reach = min(reach, s.axis[s.level].n)
        for k in range(s.level + 1, 3):
            reach *= s.axis[k].n
        s.block = min(s.block, max(32, BAND // reach // 32 * 32))
        s.capacity = min(plane, max(2 * reach, BAND // s.block))
    items *= (s.inner + s.block - 1) // s.block
    threads = max(1, min(threads, items))
    scratch = <char*> malloc(threads * s.capacity * s.block * wide + 1)
    if scratch == NULL:
        raise MemoryError(f"{threads * s.capacity * s.block * wide} bytes for the sums of a gradient")
    with nogil:
        if threads == 1:
            for item in range(items):
                wrong |= scatter_block(&s, item, scratch)
                if wrong:
                    break
        else:
            for item in prange(items, schedule="dynamic", num_threads=threads):
                wrong |= scatter_block(&s, item, scratch + threadid() * s.capacity * s.block * s.sum)
    free(scratch)
    return wrong == 0


# ---- share ---------------------------------------------------------------------------------------------------


cdef struct Share:
    quotient_t quotient
    spreads_t spread
    store_t store
    char* grad
    const char* g
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t grad_outer[OUTERS]
    Py_ssize_t g_outer[OUTERS]
    Py_ssize_t inner, grad_inner, g_inner
    Py_ssize_t grad_axis[3]
    Py_ssize_t g_axis[3]
    Axis axis[3]
    const int64_t* firsts[3]  # adaptive: the windows of each cell, else NULL
    const int64_t* covers[3]
    Py_ssize_t size, sum      # bytes of a result's cell and of an accumulator
    bint exact                # the sums are the result
    bint divides, uniform
    int64_t divisor
    Py_ssize_t block, cells, rows           # of one item
    Py_ssize_t grid[3]                      # items of one plane: rows, cells, inner
    Py_ssize_t capacity                     # cells of a row of windows, with its margins, times inner


cdef Py_ssize_t covering(const Share* s, int k, int64_t cell, int64_t* first) noexcept nogil:
    """The first of the windows that cover a cell of an axis, and their number."""
    cdef const Axis* axis = &s.axis[k]
    cdef int64_t last
    if s.firsts[k] != NULL:
        first[0] = s.firsts[k][cell]
        return s.covers[k][cell]
    cell += axis.before
    last = min(cell // axis.stride, axis.out - 1)
    first[0] = 0 if cell < axis.kernel else (cell - axis.kernel) // axis.stride + 1
    return max(0, last - first[0] + 1)


cdef void divisors(const Share* s, char* n, int64_t factor, Py_ssize_t first, Py_ssize_t windows) noexcept nogil:
    """The divisors of a row of windows, each rounded to the type that divides."""
    cdef Py_ssize_t o
    for o in range(windows):
        if s.sum == sizeof(float):
            (<float*> n)[o] = <float> (factor * s.axis[2].divisors[first + o])
        else:
            (<double*> n)[o] = <double> (factor * s.axis[2].divisors[first + o])


cdef void share_block(const Share* s, Py_ssize_t item, char* scratch) noexcept nogil:
    """A band of the rows of one plane, some of their cells, some of their inner cells."""
    cdef char* grad = s.grad
    cdef const char* g = s.g
    cdef const char* place
    cdef char* sum = scratch + KEPT * s.capacity * s.sum
    cdef char* result = sum + s.capacity * s.sum
    cdef char* n = result + s.cells * s.block * s.sum
    cdef char* into
    cdef char* rows[3]
    cdef spread_t row
    cdef int64_t kept[KEPT]
    cdef int64_t first, last, d, h, depth, height, factor, divided = 0
    cdef Py_ssize_t b, c, r, k, j, deep, high, windows
    cdef bint dense
    b, item = item % s.grid[2], item // s.grid[2]
    c, item = item % s.grid[1], item // s.grid[1]
    r, item = item % s.grid[0], item // s.grid[0]
    row.inner, row.cells = min(s.block, s.inner - b * s.block), min(s.cells, s.axis[2].n - c * s.cells)
    grad += b * s.block * s.grad_inner + c * s.cells * s.grad_axis[2]
    g += b * s.block * s.g_inner
    for k in range(s.outers - 1, -1, -1):
        grad += item % s.outer[k] * s.grad_outer[k]
        g += item % s.outer[k] * s.g_outer[k]
        item //= s.outer[k]
    row.firsts, row.covers = NULL, NULL
    row.kernel, row.stride = s.axis[2].kernel, s.axis[2].stride
    if s.firsts[2] != NULL:
        row.firsts, row.covers = s.firsts[2] + c * s.cells, s.covers[2] + c * s.cells
    windows = covering(s, 2, (c * s.cells) + row.cells - 1, &last)
    last += windows - 1
    covering(s, 2, c * s.cells, &first)
    row.lead = 0
    if row.firsts == NULL:
        first = min(first, (c * s.cells + s.axis[2].before) // s.axis[2].stride)
        row.lead = c * s.cells + s.axis[2].before - first * s.axis[2].stride
    row.first, windows = first, max(0, min(last, s.axis[2].out - 1) - first + 1)
    row.windows = windows + 2 * MARGIN
    CHECK(row.windows * row.inner <= s.capacity)
    g += first * s.g_axis[2] if windows > 0 else 0
    memset(scratch, 0, KEPT * s.capacity * s.sum)
    if s.divides and s.uniform:
        if s.sum == sizeof(float):
            (<float*> n)[0] = <float> s.divisor
        else:
            (<double*> n)[0] = <double> s.divisor
    dense = s.exact and (row.inner == 1 or s.grad_inner == s.size) and (
        row.cells == 1 or s.grad_axis[2] == row.inner * s.size)
    for d in range(s.axis[0].n):
        deep = covering(s, 0, d, &depth)
        for k in range(KEPT):
            kept[k] = -1
        for h in range(r * s.rows, min((r + 1) * s.rows, s.axis[1].n)):
            high = covering(s, 1, h, &height) if deep > 0 else 0
            CHECK(deep <= 3 and high <= 3)
            rows[0] = rows[1] = rows[2] = NULL
            for k in range(high):
                rows[k] = scratch + ((height + k) & (KEPT - 1)) * s.capacity * s.sum
                if kept[(height + k) & (KEPT - 1)] == height + k:
                    continue
                kept[(height + k) & (KEPT - 1)] = height + k
                for j in range(deep):
                    if s.divides and not s.uniform:
                        factor = s.axis[0].divisors[depth + j] * s.axis[1].divisors[height + k] * s.divisor
                        if factor != divided:
                            divisors(s, n, factor, first, windows)
                            divided = factor
                    place = g + (depth + j) * s.g_axis[0] + (height + k) * s.g_axis[1]
                    s.quotient(rows[k] + MARGIN * row.inner * s.sum, place, s.g_axis[2], s.g_inner, windows, row.inner,
                               n if s.divides else NULL, not s.uniform, j > 0)
            place = grad + d * s.grad_axis[0] + h * s.grad_axis[1]
            into = <char*> place if dense else result
            if high > 0:
                s.spread(into, rows[0], rows[1], rows[2], sum, &row)
            else:
                memset(into, 0, row.cells * row.inner * s.sum)
            if not dense:
                s.store(<char*> place, s.grad_axis[2], s.grad_inner, into, row.cells, row.inner)


def share(loops, list axes, list covers, view, ndarray grad, ndarray g, Py_ssize_t wide, bint divides, int64_t divisor, bint uniform,
          Py_ssize_t threads):
    """Fills grad: each cell the sum of g / divisor over the windows that cover it, of which there are three at most on an axis.

    loops: addresses of quotient, spread and store; covers: per axis the ranges of windows over its cells, where adaptive.
    """
    cdef Share s
    cdef Py_ssize_t k, item, items = 1, each, reach
    cdef char* scratch
    cdef const int64_t[:] firsts, counts
    s.quotient, s.spread, s.store = <quotient_t> <size_t> loops[0], <spreads_t> <size_t> loops[1], <store_t> <size_t> loops[2]
    s.grad, s.g, s.size, s.sum = <char*> PyArray_DATA(grad), <char*> PyArray_DATA(g), PyArray_ITEMSIZE(grad), wide
    s.exact, s.divides, s.uniform, s.divisor = s.size == s.sum, divides, uniform, divisor
    outers, (s.inner, s.grad_inner, s.g_inner), pooled = view
    s.outers = len(outers)
    for k in range(s.outers):
        s.outer[k], s.grad_outer[k], s.g_outer[k] = outers[k]
        items *= s.outer[k]
    for k in range(3):
        lay(&s.axis[k], axes[k])
        s.grad_axis[k], s.g_axis[k] = pooled[k]
        s.firsts[k] = s.covers[k] = NULL
        if covers[k] is not None:
            firsts, counts = covers[k]
            s.firsts[k], s.covers[k] = &firsts[0], &counts[0]
    if items * s.axis[0].n * s.axis[1].n * s.axis[2].n * s.inner < THREADED:
        threads = 1
    s.block = min(s.inner, ROW // wide)
    s.cells = min(s.axis[2].n, max(1, ROW // (s.block * wide)))
    s.grid[1], s.grid[2] = (s.axis[2].n + s.cells - 1) // s.cells, (s.inner + s.block - 1) // s.block
    items *= s.grid[1] * s.grid[2]
    s.grid[0] = 1 if threads == 1 else min(s.axis[1].n, max(1, 4 * threads // items))
    s.rows = (s.axis[1].n + s.grid[0] - 1) // s.grid[0]
    s.grid[0] = (s.axis[1].n + s.rows - 1) // s.rows
    items *= s.grid[0]
    if s.firsts[2] != NULL:
        reach = s.axis[2].out if s.cells == s.axis[2].n else min(s.axis[2].out, 3 * s.cells)
    else:
        reach = min(s.axis[2].out, s.cells // s.axis[2].stride + 4)
    s.capacity = (reach + 2 * MARGIN) * s.block
    each = (((KEPT + 1) * s.capacity + s.cells * s.block + reach + 1) * wide + 63) & ~63
    threads = max(1, min(threads, items))
    scratch = <char*> malloc(threads * each)
    if scratch == NULL:
        raise MemoryError(f"{threads * each} bytes of row buffers")
    with nogil:
        if threads == 1:
            for item in range(items):
                share_block(&s, item, scratch)
        else:
            for item in prange(items, schedule="static", num_threads=threads):
                share_block(&s, item, scratch + threadid() * each)
    free(scratch)
