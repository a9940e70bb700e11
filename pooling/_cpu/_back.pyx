# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The way back: gradients to the cells that indices name (scatter), and to every cell of a window alike (share).

Both fill a new result in one pass. A scatter checks some indices, in vectors of 32 bits, and adds while they are in cache; where
windows have a few cells, and their channels lie dense, each of these cells takes what names it, and nothing else is checked. The
cells that its next windows can reach are set to zero just before; where sums are wider than the result's cells, they are made
in a band of scratch memory that follows the windows, and are rounded when no later window can reach them. So an error leaves a
result behind that nobody has seen. A share is for windows of which at most three cover a cell on each axis (`__init__`
decides): rows of shares are divided once, kept while they are needed, added down, and then along the row, in runs of rows; or,
of small windows that slide and lie dense, all of that in one go, a vector at a time (_share.pyx.in).
"""

from cython.parallel cimport prange, threadid
from libc.math cimport frexp
from libc.stdint cimport int32_t, int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset
from numpy cimport PyArray_DATA, PyArray_ITEMSIZE, ndarray

from pooling._cpu._nest cimport OUTERS, THREADED, Axis, lay
from pooling._cpu._rows cimport BY_DEPTH, BY_FEW, BY_ROWS, BY_SPAN, EXACT, MARGIN, SINGLY, TAPS
from pooling._cpu._rows cimport along_t, check_t, down_t, match_t, quotient_t, scatter_t, shared_t, shares_t, spread_t, store_t, windows_t


cdef extern from "_build.h":
    void CHECK "POOLING_CHECK"(bint fact) noexcept nogil

cdef extern from "_cells.h":
    void prefetch_all(const char*, Py_ssize_t) noexcept nogil


cdef enum:
    GROUP = 1 << 10           # indices that are checked, and then scattered, while they are in a core's first-level cache
    CHUNK = 1 << 15           # cells that a thread takes at a time, about
    APART = 64                # bytes between what two threads write, so that no cache line has some of both
    FEW = 16                  # inner cells, below which several windows are checked at once
    BAND = 1 << 14            # cells of a band, at least
    ROW = 1 << 12             # bytes of a piece of a row of shares, or twice as many in one: four and their sum stay in that cache
    KEPT = 1 << 14            # bytes of rows of shares that are kept, or four rows; half as many of their sums, or one row
    LINE = 64                 # bytes of a cache line
    SUMS = 32                 # rows of cells that are made together, at most
    LONG = 1 << 16            # bytes of a row of shares, of which four are kept where rows are made in one go, at most


cdef struct Scatter:
    check_t check             # NULL where the indices are known to be good
    scatter_t loop            # NULL where they are checked, and that is all
    match_t match             # does both in one, or NULL
    store_t store             # rounds sums to the result; NULL where they are made in the result itself
    char* grad
    const char* g
    const char* i
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t grad_outer[OUTERS]
    Py_ssize_t g_outer[OUTERS]
    Py_ssize_t i_outer[OUTERS]
    Py_ssize_t inner, grad_inner, block, blocks
    Py_ssize_t g_axis[3]
    Py_ssize_t i_axis[3]
    Py_ssize_t apart, size, sum
    Py_ssize_t capacity       # cells of a band
    Py_ssize_t rows, piece    # windows that are checked together, and scattered: rows of them, or some of a row
    Py_ssize_t wide           # entries of their tables: `each` for a window
    Py_ssize_t each
    Py_ssize_t index          # bytes
    bint ahead                # the result's next cells lie right behind the ones that are filled
    bint kept                 # the tables are of all windows of a row, made once for all planes
    Axis axis[3]
    int level                 # the axis along which a band moves
    windows_t row             # what all windows have in common


cdef inline int64_t begin(const Axis* axis, int64_t o) noexcept nogil:
    return axis.starts[o] if axis.starts != NULL else o * axis.stride - axis.before


cdef inline int64_t end(const Axis* axis, int64_t o) noexcept nogil:
    """Where the axis or the window ends."""
    return min(axis.n, begin(axis, o) + (axis.counts[o] if axis.counts != NULL else axis.extent))


cdef inline int64_t inside(const Axis* axis, int64_t o) noexcept nogil:
    """A window's first cell that is not padding, or where the window ends."""
    cdef int64_t start = begin(axis, o)
    return start if start >= 0 else min(end(axis, o), start + (axis.dilation - 1 - start) // axis.dilation * axis.dilation)


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


cdef int kind_of(const Scatter* s, Py_ssize_t rows) noexcept nogil:
    """How the indices of so many rows of windows can be checked."""
    cdef const Axis* axis
    cdef Py_ssize_t k, cells = 1
    cdef bint gaps = False, lines, long = False
    cdef bint whole[3]
    for k in range(3):
        axis = &s.axis[k]
        gaps |= axis.dilation > 1 and axis.kernel > 1
        whole[k] = axis.starts == NULL and begin(axis, axis.out - 1) <= 0 and end(axis, 0) == axis.n
        long |= min(axis.n, axis.extent) >= EXACT
    lines = s.axis[0].n > 1 or min(s.axis[1].n, s.axis[1].extent + (rows - 1) * s.axis[1].stride) > 1
    cells = min(s.axis[0].n, s.axis[0].extent) * s.axis[2].n * (
        s.axis[1].n if s.axis[0].n > 1 else min(s.axis[1].n, s.axis[1].extent + (rows - 1) * s.axis[1].stride))
    if s.row.plane >= <int64_t> 1 << 31:
        return SINGLY
    if whole[2] and not gaps and (whole[1] or (rows == 1 and s.axis[0].n == 1)):
        return BY_SPAN
    if s.axis[0].n == 1 and not gaps and s.axis[1].extent <= 3 and s.row.plane < 1 << 29:
        return BY_FEW
    if (lines and cells >= EXACT) or (gaps and long):
        return SINGLY
    return BY_DEPTH if gaps or s.axis[0].n > 1 else BY_ROWS


cdef bint matched(const Scatter* s, Py_ssize_t g_size, Py_ssize_t i_size) noexcept nogil:
    """Whether a window's cells, few, can each take what names it, in vectors of inner cells."""
    cdef Py_ssize_t k, taps = 1
    for k in range(3):
        if s.axis[k].starts != NULL or s.axis[k].kernel > TAPS:
            return False
        taps *= s.axis[k].kernel
    return s.inner >= FEW and taps <= TAPS and s.row.plane < <int64_t> 1 << 31 and s.row.g_inner == g_size and (
        s.row.i_inner == i_size) and (s.store != NULL or s.grad_inner == s.size)


cdef void tabulate(const Scatter* s, int32_t* tops, Py_ssize_t first, Py_ssize_t cells) noexcept nogil:
    """The tables of these windows of a row, `wide` apart, repeated for the rows that are checked together."""
    cdef int32_t* lefts = tops + s.wide
    cdef int32_t* widths = lefts + s.wide
    cdef const Axis* axis = &s.axis[2]
    cdef Py_ssize_t r, o, c, n = 0
    cdef int32_t left, width, stride = <int32_t> axis.stride
    cdef int32_t down = <int32_t> (s.axis[1].stride * axis.n) if s.row.kind == BY_FEW else 0
    cdef bint plain = s.each == 1 and axis.starts == NULL
    for o in range(first, first + cells):
        if n > 0 and plain and begin(axis, first + n) >= 0 and begin(axis, first + cells - 1) + axis.extent <= axis.n:
            break
        left = <int32_t> inside(axis, o)
        width = <int32_t> max(0, end(axis, o) - left)
        for _ in range(s.each):
            tops[n], lefts[n], widths[n] = 0, left, width
            n += 1
    if n < cells * s.each:   # all others lie inside
        left, width = <int32_t> begin(axis, first + n), <int32_t> axis.extent
        for c in range(cells - n):
            tops[n + c], lefts[n + c], widths[n + c] = 0, left + <int32_t> c * stride, width
        n = cells
    for r in range(1, s.rows):
        for c in range(n):
            tops[r * n + c], widths[r * n + c] = <int32_t> (r * s.axis[1].stride), widths[c]
            lefts[r * n + c] = lefts[c] + down * <int32_t> r


cdef inline void aim(const Scatter* s, windows_t* row, Py_ssize_t d, Py_ssize_t h, Py_ssize_t rows) noexcept nogil:
    """Tells the check of some rows of windows."""
    cdef int64_t low = inside(&s.axis[1], h), stop = end(&s.axis[1], h + rows - 1), front = inside(&s.axis[0], d)
    row.start[0], row.start[1] = begin(&s.axis[0], d), begin(&s.axis[1], h)
    row.extent[0], row.extent[1] = end(&s.axis[0], d) - row.start[0], end(&s.axis[1], h) - row.start[1]
    if rows > 1:
        low = max(0, row.start[1])
    if row.n[0] > 1:
        row.base = <uint32_t> (front * row.n[1] * row.n[2])
        row.span = <uint32_t> ((end(&s.axis[0], d) - front) * row.n[1] * row.n[2])
        row.row = 0
    else:
        row.base, row.span, row.row = <uint32_t> (low * row.n[2]), <uint32_t> (max(0, stop - low) * row.n[2]), <int32_t> low
    if row.kind == BY_FEW and rows > 1:
        row.base = <uint32_t> (row.start[1] * row.n[2])
    # Several rows: those of a window are told by the table, whose first entry is the first window's start.
    row.row -= <int32_t> (low if rows == 1 else row.start[1])
    row.high = <uint32_t> (max(0, stop - low) if rows == 1 else s.axis[1].extent)
    row.second = <uint32_t> row.n[2] if row.high > 1 else 0
    row.third = <uint32_t> (2 * row.n[2]) if row.high > 2 else row.second


cdef int scatter_block(const Scatter* s, Py_ssize_t item, char* scratch) noexcept nogil:
    """One plane, or a block of its inner cells: its windows in row-major order. 1 where an index is not of its window.

    scratch: what the thread knows of the windows, their tables where they are not kept, and the band.
    """
    cdef char* grad = s.grad
    cdef const char* g = s.g
    cdef const char* i = s.i
    cdef const char* index
    cdef const char* from_g
    cdef windows_t* row = <windows_t*> scratch
    cdef int32_t* tables = <int32_t*> (scratch + sizeof(windows_t))
    cdef Py_ssize_t k, d, h, o, rows, cells, at
    cdef Py_ssize_t low, high, base = 0, top = 0   # of the windows' cells; of the cells that the band holds
    cdef char* sums
    if s.blocks > 1:
        at, item = item % s.blocks * s.block, item // s.blocks
        row.inner = min(s.block, s.inner - at)
        grad += at * s.grad_inner
        g += at * row.g_inner
        i += at * row.i_inner
    for k in range(s.outers - 1, -1, -1):
        at = item
        if k > 0:
            at, item = item % s.outer[k], item // s.outer[k]
        grad += at * s.grad_outer[k]
        g += at * s.g_outer[k]
        i += at * s.i_outer[k]
    scratch += sizeof(windows_t)
    if not s.kept:
        scratch += 12 * s.wide
        row.tops, row.lefts, row.widths = tables, tables + s.wide, tables + 2 * s.wide
    sums = grad
    if s.store != NULL:
        row.apart, row.inner_apart, sums = row.inner * s.sum, s.sum, scratch
    for d in range(s.axis[0].out):
        for k in range((s.axis[1].out + s.rows - 1) // s.rows):
            h, o = k * s.rows, 0
            rows = min(s.rows, s.axis[1].out - h)
            aim(s, row, d, h, rows)
            while o < s.axis[2].out:
                cells = min(s.piece, s.axis[2].out - o)
                index = i + d * s.i_axis[0] + h * s.i_axis[1] + o * s.i_axis[2]
                if s.check != NULL and s.match == NULL:
                    if s.kept:
                        row.tops, row.lefts = s.row.tops + o * s.each, s.row.lefts + o * s.each
                        row.widths = s.row.widths + o * s.each
                    elif row.kind != SINGLY and row.kind != BY_SPAN:
                        tabulate(s, tables, o, cells)
                    if s.check(index, row, o, cells * rows):
                        return 1
                if s.loop != NULL:
                    if s.level == 2:
                        low, high = max(0, begin(&s.axis[2], o)), end(&s.axis[2], o + cells - 1)
                    elif s.level == 1:
                        low, high = max(0, row.start[1]) * row.n[2], end(&s.axis[1], h + rows - 1) * row.n[2]
                    else:
                        low, high = max(0, row.start[0]) * row.n[1] * row.n[2], end(&s.axis[0], d) * row.n[1] * row.n[2]
                    if s.store != NULL and high - base > s.capacity:
                        at = min(low, top)
                        s.store(grad + base * s.apart, s.apart, s.grad_inner, scratch, at - base, row.inner)
                        memmove(scratch, scratch + (at - base) * row.apart, (top - at) * row.apart)
                        zero(grad + at * s.apart, s.apart, s.grad_inner, s.size, row.inner, low - at)
                        base, top = low, max(low, top)
                    CHECK(s.store == NULL or (base <= low and high - base <= s.capacity))
                    row.ahead = cells * rows * row.inner * s.index
                    if high > top:
                        zero(sums + (top - base) * row.apart, row.apart, row.inner_apart, s.sum, row.inner, high - top)
                        row.fresh = (high - top) * row.apart // row.ahead if s.ahead else 0
                        top = high
                    row.soon = sums + (top - base) * row.apart
                    from_g = g + d * s.g_axis[0] + h * s.g_axis[1] + o * s.g_axis[2]
                    if s.match == NULL:
                        s.loop(sums - base * row.apart, from_g, index, row, cells * rows)
                    elif s.match(sums - base * row.apart, from_g, index, row, o, cells):
                        return 1
                o += cells
    if s.loop != NULL:
        if s.store != NULL:
            s.store(grad + base * s.apart, s.apart, s.grad_inner, scratch, top - base, row.inner)
        zero(grad + top * s.apart, s.apart, s.grad_inner, s.size, row.inner, row.plane - top)
    return 0


def scatter(loops, view, list axes, Py_ssize_t apart, Py_ssize_t wide, ndarray grad, ndarray g, ndarray i, Py_ssize_t threads):
    """Zeros with grad[index] += g or = g, as the loop at that address does; False where an index is not of its window.

    loops: addresses of check, loop, store and match, or 0. The cells of a plane of grad are `apart` bytes apart. `wide`: bytes
    of a sum. Where grad is None, indices are checked, and that is all.
    """
    cdef Scatter s
    cdef windows_t* row = &s.row
    cdef Py_ssize_t k, item, items = 1, windows = 1, reach, wrong = 0, size, many, chunk
    cdef char* scratch
    cdef int32_t* tables
    cdef bint dense
    s.check, s.loop = <check_t> <size_t> loops[0], <scatter_t> <size_t> loops[1]
    s.store, s.match = <store_t> <size_t> loops[2], <match_t> <size_t> loops[3]
    s.grad = NULL if grad is None else <char*> PyArray_DATA(grad)
    s.g, s.i, s.apart = <char*> PyArray_DATA(g), <char*> PyArray_DATA(i), apart
    s.size, s.sum = 0 if grad is None else PyArray_ITEMSIZE(grad), wide
    outers, (s.inner, s.grad_inner, row.g_inner, row.i_inner), pooled = view
    s.outers = len(outers)
    for k in range(s.outers):
        s.outer[k], s.grad_outer[k], s.g_outer[k], s.i_outer[k] = outers[k]
        items *= s.outer[k]
    row.plane = 1
    for k in range(3):
        lay(&s.axis[k], axes[k])
        _, s.g_axis[k], s.i_axis[k] = pooled[k]
        windows *= s.axis[k].out
        row.n[k], row.extent[k], row.dilation[k] = s.axis[k].n, s.axis[k].extent, s.axis[k].dilation
        row.gap[k] = s.axis[k].dilation if s.axis[k].kernel > 1 else 1
        row.by_gap[k] = 1 / <float> row.gap[k]
        row.plane *= row.n[k]
    s.level = 0
    while s.level < 2 and s.axis[s.level].n == 1 and s.axis[s.level].out == 1:
        s.level += 1
    if items * max(windows, row.plane) * s.inner < THREADED:
        threads = 1
    # Few planes: their inner cells are shared out, a cache line or more to each.
    s.blocks = min(max(1, 4 * threads // items), max(1, s.inner // 32)) if threads > 1 else 1
    s.block = min(s.inner, ((s.inner + s.blocks - 1) // s.blocks + FEW - 1) // FEW * FEW)
    # Many windows are checked at once: short rows together, where they lie one after the other.
    dense = s.g_axis[1] == s.axis[2].out * s.g_axis[2] and s.i_axis[1] == s.axis[2].out * s.i_axis[2]
    s.rows = 1
    if dense and s.level < 2 and s.axis[1].starts == NULL and max(s.axis[1].extent, s.axis[1].stride, s.axis[1].before) < EXACT:
        s.rows = min(s.axis[1].out, max(1, GROUP // (s.axis[2].out * s.inner)))
    if not matched(&s, PyArray_ITEMSIZE(g), PyArray_ITEMSIZE(i)):
        s.match = NULL
    if s.match != NULL or kind_of(&s, s.rows) == SINGLY:
        s.rows = 1
    row.kind = SINGLY if s.match != NULL else kind_of(&s, s.rows)
    s.piece = min(s.axis[2].out, max(1, GROUP // s.block)) if s.rows == 1 else s.axis[2].out
    s.capacity = 0
    if s.store != NULL:
        reach = s.axis[s.level].extent
        if s.level == 2:   # adaptive windows begin up to ceil(n / out) apart, which is one cell less than the longest has
            reach += (s.piece - 1) * (s.axis[2].stride if s.axis[2].starts == NULL else s.axis[2].kernel - 1)
        elif s.level == 1:
            reach += (s.rows - 1) * s.axis[1].stride
        reach = min(reach, s.axis[s.level].n)
        for k in range(s.level + 1, 3):
            reach *= s.axis[k].n
        s.block = min(s.block, max(32, BAND // reach // 32 * 32))
        s.capacity = min(row.plane, max(2 * reach, BAND // s.block))
    s.blocks = (s.inner + s.block - 1) // s.block
    row.inner, row.apart, row.inner_apart = s.block, s.apart, s.grad_inner
    row.stride, row.before, row.starts, row.counts = s.axis[2].stride, s.axis[2].before, s.axis[2].starts, s.axis[2].counts
    row.g_cell, row.i_cell = s.g_axis[2], s.i_axis[2]
    row.by_row, row.by_height = 1.0 / row.n[2], 1.0 / row.n[1]
    row.width, row.height = <int32_t> row.n[2], <int32_t> row.n[1]
    row.by_width = 0 if row.n[0] == 1 and row.n[1] == 1 else 1 / <float> row.n[2]
    row.by_rows = 0 if row.n[0] == 1 else 1 / <float> row.n[1]
    row.depth = 0
    s.index = size = PyArray_ITEMSIZE(i)
    s.ahead = s.store == NULL and s.blocks == 1
    row.ahead = row.fresh = 0
    row.flat = row.kind != SINGLY and (s.inner == 1 or (s.inner < FEW and row.i_inner == size and row.i_cell == s.inner * size))
    s.each = s.inner if row.flat else 1
    s.kept = s.axis[2].out * s.rows * s.each <= 4 * GROUP or row.kind == SINGLY or row.kind == BY_SPAN
    many = s.axis[2].out if s.kept else s.piece
    s.wide = 1 if row.kind == SINGLY or row.kind == BY_SPAN else many * s.rows * s.each
    items *= s.blocks
    threads = max(1, min(threads, items))
    size = (sizeof(windows_t) + s.capacity * s.block * wide + (0 if s.kept else 12 * s.wide) + APART + 63) & ~63
    scratch = <char*> malloc(threads * size + 12 * s.wide)
    if scratch == NULL:
        raise MemoryError(f"{threads * size} bytes for the sums of a gradient")
    tables = <int32_t*> (scratch + threads * size)
    row.tops, row.lefts, row.widths = tables, tables + s.wide, tables + 2 * s.wide
    for k in range(threads):
        memcpy(scratch + k * size, row, sizeof(windows_t))
    # Small planes are taken together: threads that write side by side, or take turns for little, wait for one another.
    chunk = min(max(1, items // (4 * threads)), 1 + CHUNK // (max(windows, row.plane) * s.block))
    with nogil:
        if s.kept and row.kind != SINGLY and row.kind != BY_SPAN:
            tabulate(&s, tables, 0, s.axis[2].out)
        if threads == 1:
            for item in range(items):
                wrong |= scatter_block(&s, item, scratch)
                if wrong:
                    break
        else:
            for item in prange(items, schedule="dynamic", chunksize=chunk, num_threads=threads):
                wrong |= scatter_block(&s, item, scratch + threadid() * size)
    free(scratch)
    return wrong == 0


include "_share.pxi"
