# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The loop nest: one walk over (outer, D, H, W, inner) for every mode, element type, rank and layout.

Where a pick for each row of a window is cheap, a few rows of windows are made at a time (run_lanes): combined from their
rows, then across, then stored, before the next ones are read. All else goes axis by axis (run_tile): a call is cut into
blocks of windows, and for each block one axis after the other is reduced, D, H, W, in dense buffers of accumulators that are
padded with identities (pad the buffer, not the data: no later loop has a branch). Reducing an axis is written once, for
planes x cells x inner: down the rows it is the same work as along a row with a larger `inner`. Where cells need no
conversion, the first axis reads the array itself, row by row, and the last one writes the result itself; else the cells that
the windows touch are loaded into the first buffer, and the last one is finished and stored.

Sums are added in one order, S(k, i) = S(h, i) + S(k-h, i+h) with h the largest power of two below k, so that every
algorithm here gives the same bits:
    direct    the recursion itself, for few taps or far strides
    doubling  P(2h, i) = P(h, i) + P(h, i+h) for all i at once: log2(k) passes whatever the kernel
    sweeping  for max and min over many rows: three picks for each row, whatever the kernel
    clipped   doubling for kernels that reach far beyond the data, without buffering what they reach
    gathering the recursion itself over whole rows of the array, where those outside the data are left out
This file never sees an element type: it moves bytes and calls the loops of _rows.pyx through their addresses.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from numpy cimport PyArray_DATA, ndarray

from pooling._cpu._rows cimport Cells, Walk, finish_t, load_t, pick_t, store_t


cdef extern from "_build.h":
    void CHECK "POOLING_CHECK"(bint fact) noexcept nogil
    const char* COMPILER "POOLING_COMPILER"
    int OPENMP "POOLING_OPENMP"
    int DEBUGGING "POOLING_DEBUGGING"
    int level "pooling_level"() noexcept nogil


cdef enum:
    ROW = 1 << 15             # bytes of a piece of a row, so that a row of windows stays in a core's first-level cache
    TARGET = 1 << 17          # bytes of one block's buffer: three of them stay in a core's second-level cache
    SCRATCH_LIMIT = 1 << 20   # bytes of one buffer above which a block is cut even where that repeats work
    LANE = 1 << 15            # bytes of the rows of windows that are made together
    SWEEP = 3 << 17           # bytes of the rows that a kernel spans, to stay in a core's second-level cache
    SWEPT_LIMIT = 3 << 18     # bytes of one of their buffers, of which there are five
    SWEPT = 1 << 9            # bytes of a row from which on three calls for each are little
    CALL = 32                 # what calling a row loop costs, in cells
    AHEAD = 1 << 12           # bytes by which memory is asked for before it is read, at least
    PIECE = 2048              # cells of a row that are combined before the next ones, all partial results in that cache
    SPARES = 32               # results that a recursion over 2**31 taps keeps aside


cdef struct Tile:
    # One axis of one block. Positions count the cells of the axis, spaced ones with the zeros between them.
    Py_ssize_t first, outs    # windows
    Py_ssize_t start, stop    # positions of the data that is loaded
    Py_ssize_t lead, total    # where the data begins in the buffer, and the buffer's length
    Py_ssize_t origin         # where the first window begins in the buffer
    bint clipped


cdef struct Job:
    Axis axis[3]
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t inner
    # Strides in bytes: of x, of the result, of its indices.
    char* x
    char* y
    char* i
    Py_ssize_t x_outer[OUTERS]
    Py_ssize_t y_outer[OUTERS]
    Py_ssize_t i_outer[OUTERS]
    Py_ssize_t x_axis[3]
    Py_ssize_t y_axis[3]
    Py_ssize_t i_axis[3]
    Py_ssize_t x_inner, y_inner, i_inner
    # Loops and types.
    load_t load
    pick_t pick
    finish_t finish
    store_t store
    store_t store_index
    bint idempotent, uniform, copied, exact   # copied, exact: load and store change nothing
    Py_ssize_t size, finished, indexed  # bytes of an accumulator, of a finished value, of an index (or 0)
    Py_ssize_t first           # the first axis that has anything to reduce, or 3
    Py_ssize_t slab            # windows of that axis that pass through the buffers together
    bint lanes                 # H and W in one go, a few rows of windows at a time
    bint swept                 # by blocks of rows as long as the kernel
    Py_ssize_t lane            # windows of W of such a row that are reduced together
    Py_ssize_t ahead           # bytes by which rows of the array are asked for before they are read
    bint straight, onto        # it reads the array itself; the last axis writes the result itself
    uint64_t identity
    double p
    # Blocks: (last outer, D, H, W, inner) of each, how many there are, and the scratch memory of one thread.
    Py_ssize_t block[5]
    Py_ssize_t grid[5]
    Py_ssize_t capacity, scratch


cdef Cells NONE   # no operand
NONE.value = NULL
NONE.index = NULL
NONE.base = 0


cdef inline Cells at(const Job* job, Cells cells, Py_ssize_t offset) noexcept nogil:
    cells.value += offset * job.size
    if cells.index != NULL:
        cells.index += offset * job.indexed
    return cells


cdef void fill(const Job* job, Cells cells, Py_ssize_t count) noexcept nogil:
    """Identities, with the index that loses every tie."""
    cdef Py_ssize_t done = 1
    if count <= 0:
        return
    memcpy(cells.value, &job.identity, job.size)
    while done < count:   # doubling copies: the element's size does not matter
        memcpy(cells.value + done * job.size, cells.value, min(done, count - done) * job.size)
        done *= 2
    if cells.index != NULL:
        memset(cells.index, 0xff, count * job.indexed)


# ---- one axis of one block -----------------------------------------------------------------------------------

cdef inline Py_ssize_t doublings(const Axis* axis, Py_ssize_t cells) noexcept nogil:
    """The levels after which one block of taps spans all cells, no more than the kernel has."""
    cdef Py_ssize_t level = 0
    while (axis.kernel >> level) > 1 and (axis.dilation << level) < cells:
        level += 1
    return level


cdef Tile tile(const Axis* axis, Py_ssize_t first, Py_ssize_t outs) noexcept nogil:
    """Which cells the windows [first, first + outs) touch, and how the buffer holds them."""
    cdef Tile t
    cdef Py_ssize_t low, high
    t.first, t.outs, t.clipped = first, outs, False
    if axis.sparse:
        t.start, t.stop, t.lead, t.total, t.origin = 0, axis.n, 0, max(axis.n, SPARES), first - axis.before
        return t
    if axis.starts != NULL:
        low = axis.starts[first]
        high = axis.starts[first + outs - 1] + axis.counts[first + outs - 1]
    else:
        low = first * axis.stride - axis.before
        high = low + (outs - 1) * axis.stride + axis.extent
    t.start = min(max(low, 0), axis.n)
    t.stop = min(max(high, t.start), axis.n)
    t.lead, t.total, t.origin = t.start - low, high - low, 0
    if t.start == t.stop:
        t.lead, t.total = 0, 0
    elif t.total > 4 * (t.stop - t.start) + 64:
        t.clipped = True
        t.lead = min(t.lead, (axis.dilation << doublings(axis, t.stop - t.start)) - axis.dilation)
        t.total = t.lead + t.stop - t.start
        t.origin = t.lead - (t.start - low)
    return t


cdef inline Py_ssize_t longest(const Axis* axis, Py_ssize_t outs) noexcept nogil:
    """The most that a tile of so many windows takes in the buffer."""
    cdef Py_ssize_t reach
    if axis.sparse:
        return max(axis.n, SPARES)
    if axis.starts != NULL:
        return min(axis.n, outs * (axis.n // axis.out + 1) + 2) if axis.out < axis.n else min(axis.n, outs + 2)
    reach = (outs - 1) * axis.stride + axis.extent
    return min(reach, 4 * min(axis.n, reach) + 64)


cdef inline Walk walks(Py_ssize_t planes, Py_ssize_t cells, Py_ssize_t inner) noexcept nogil:
    """Dense results from dense operands."""
    cdef Walk walk
    walk.planes, walk.cells, walk.inner = planes, cells, inner
    walk.dpitch = walk.pitch = walk.cpitch = cells * inner
    walk.dstep = walk.step = walk.cstep = inner
    walk.ahead = walk.fresh = 0
    return walk


cdef void direct(const Job* job, Walk* walk, Cells dst, Cells src, Py_ssize_t kernel, Py_ssize_t apart, Cells spare) noexcept nogil:
    """S(kernel, i) by its definition, `apart` cells between taps; `spare` takes one result per level of the recursion."""
    cdef Cells b = NONE, c = NONE
    cdef Py_ssize_t half = 2
    walk.cpitch, walk.cstep = walk.pitch, walk.step
    if kernel <= 3 or job.idempotent:
        if kernel > 1:
            b = at(job, src, apart)
        if kernel > 2:
            c = at(job, src, 2 * apart)
        job.pick(walk, dst, src, b, c)
        walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
        for half in range(3, kernel, 2):
            job.pick(walk, dst, at(job, src, half * apart), at(job, src, (half + 1) * apart) if half + 1 < kernel else NONE, dst)
        return
    while half * 2 < kernel:
        half *= 2
    direct(job, walk, dst, src, half, apart, spare)
    direct(job, walk, spare, at(job, src, half * apart), kernel - half, apart, at(job, spare, walk.planes * walk.dpitch))
    join(job, walk, dst, dst, spare)


cdef void join(const Job* job, const Walk* walk, Cells dst, Cells a, Cells c) noexcept nogil:
    """dst = a . c, all three laid out as the results of `walk`."""
    cdef Walk same = walk[0]
    same.pitch = same.cpitch = same.dpitch
    same.step = same.cstep = same.dstep
    job.pick(&same, dst, a, NONE, c)


cdef void double(const Job* job, Cells dst, Cells src, Py_ssize_t count, Py_ssize_t apart) noexcept nogil:
    """P(2h) from P(h): every position with the one `apart` cells on; the last ones have no partner and are not read again."""
    cdef Walk flat = walks(1, 1, count - apart)
    if flat.inner > 0:
        job.pick(&flat, dst, src, at(job, src, apart), NONE)


cdef void doubling(const Job* job, Walk* walk, Cells dst, Cells src, Cells spare, Py_ssize_t kernel, Py_ssize_t apart) noexcept nogil:
    """S(kernel, i) for kernel >= 4 from P(1), P(2), P(4) ...; the last doubling is made only where a window begins."""
    cdef Py_ssize_t level = 0, top = 1, count = walk.planes * walk.pitch
    cdef bint begun = False
    while kernel >> (top + 1):
        top += 1
    while True:
        # src holds P(2**level). A bit of the kernel takes its block from here, behind all larger blocks.
        if not job.idempotent and kernel >> level & 1:
            walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
            job.pick(walk, dst, at(job, src, (kernel >> (level + 1) << (level + 1)) * apart), NONE, dst if begun else NONE)
            begun = True
        if level == top - 1:
            break
        double(job, spare, src, count, apart << level)
        src, spare = spare, src
        level += 1
    if not job.idempotent:
        walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
        job.pick(walk, dst, src, at(job, src, apart << level), dst if begun else NONE)
    elif kernel <= 3 << level:   # blocks may overlap: two, and a third that ends where the window ends
        walk.cpitch, walk.cstep = walk.pitch, walk.step
        job.pick(walk, dst, src, at(job, src, apart << level), at(job, src, (kernel - (1 << level)) * apart))
    else:
        double(job, spare, src, count, apart << level)
        job.pick(walk, dst, spare, at(job, spare, (kernel - (2 << level)) * apart), NONE)


cdef void clipped(const Job* job, const Axis* axis, const Tile* t, Walk* walk, Cells dst, Cells src, Cells spare) noexcept nogil:
    """Windows that reach far beyond the data: blocks of taps that miss it are identities and are left out."""
    cdef Py_ssize_t levels = doublings(axis, t.stop - t.start), level, o, begin, position, block, apart
    cdef Py_ssize_t inner = walk.inner
    cdef Walk one = walk[0], flat
    fill(job, dst, walk.planes * walk.dpitch)
    one.cells, one.cpitch = 1, walk.dpitch
    for level in range(levels):
        if axis.kernel >> level & 1:
            for o in range(t.outs):
                position = t.origin + o * axis.stride + (axis.kernel >> (level + 1) << (level + 1)) * axis.dilation
                if 0 <= position < t.total:
                    job.pick(&one, at(job, dst, o * inner), at(job, src, position * inner), NONE, at(job, dst, o * inner))
        apart = min(axis.dilation << level, t.total)
        flat = walks(walk.planes, 1, (t.total - apart) * inner)
        flat.dpitch = flat.pitch = walk.pitch
        if flat.inner > 0:
            job.pick(&flat, spare, src, at(job, src, apart * inner), NONE)
        flat.inner = apart * inner
        job.pick(&flat, at(job, spare, (t.total - apart) * inner), at(job, src, (t.total - apart) * inner), NONE, NONE)
        src, spare = spare, src
    # Blocks of 2**levels taps are as long as the data: at most two neighbours of a window's blocks meet it.
    apart = axis.dilation << levels
    for o in range(t.outs):
        begin = t.origin + o * axis.stride
        block = 0 if begin >= 0 else (-begin + apart - 1) // apart
        for block in range(block + 1, block - 1, -1):
            position = begin + block * apart
            if block < axis.kernel >> levels and 0 <= position < t.total:
                job.pick(&one, at(job, dst, o * inner), at(job, src, position * inner), NONE, at(job, dst, o * inner))


cdef struct Rows:
    # The cells of an axis, each a row: planes `pitch` apart of cells `step` apart. Between two rows `apart` positions.
    Cells first
    Py_ssize_t count, apart
    Py_ssize_t row, base      # from one row to the next one: in cells, and in their indices
    Py_ssize_t pitch, step


cdef inline Py_ssize_t over(Py_ssize_t position, Py_ssize_t apart) noexcept nogil:
    return position if apart == 1 else position // apart   # divisions are slow


cdef inline Cells tap(const Job* job, const Rows* rows, Py_ssize_t position) noexcept nogil:
    """The row at a position of the axis, or NONE: outside the data, or between two rows."""
    cdef Cells row = NONE
    cdef Py_ssize_t place = over(position, rows.apart)
    if position >= 0 and place * rows.apart == position and place < rows.count:
        row = rows.first
        row.value += place * rows.row * job.size
        row.base += <uint64_t> (place * rows.base)
    return row


cdef Rows gather(const Job* job, const Rows* rows, Walk* walk, Cells dst, Py_ssize_t position, Py_ssize_t kernel,
                 Py_ssize_t dilation, Cells spare) noexcept nogil:
    """S(kernel, position) over rows, as one row: in dst, or a row itself where it is the only one, or NONE."""
    cdef Rows left = rows[0], right
    cdef Walk dense = walks(walk.planes, walk.cells, walk.inner)
    cdef Cells found[3]
    cdef Py_ssize_t half = 2, j, count = 0, begin, end, last = position + (kernel - 1) * dilation
    cdef Py_ssize_t low = over(position + rows.apart - 1, rows.apart) if position > 0 else 0
    cdef Py_ssize_t high = min(rows.count - 1, over(last, rows.apart)) if last >= 0 else -1
    left.first = NONE
    if low >= high:   # a row at most
        if low == high and (dilation == 1 or (low * rows.apart - position) % dilation == 0):
            left.first = tap(job, rows, low * rows.apart)
        return left
    left.pitch, left.step = walk.dpitch, walk.dstep
    if kernel > 3 and not job.idempotent:
        while half * 2 < kernel:
            half *= 2
        if high * rows.apart < position + half * dilation:   # all rows on one side
            return gather(job, rows, walk, dst, position, half, dilation, spare)
        if low * rows.apart > position + (half - 1) * dilation:
            return gather(job, rows, walk, dst, position + half * dilation, kernel - half, dilation, spare)
        left = gather(job, rows, &dense, spare, position, half, dilation, at(job, spare, dense.planes * dense.dpitch))
        if left.first.value != NULL:
            spare = at(job, spare, dense.planes * dense.dpitch)
        right = gather(job, rows, &dense, spare, position + half * dilation, kernel - half, dilation,
                       at(job, spare, dense.planes * dense.dpitch))
        if left.first.value == NULL:
            return right
        if right.first.value == NULL:
            return left
        walk.pitch, walk.step, walk.cpitch, walk.cstep = left.pitch, left.step, right.pitch, right.step
        job.pick(walk, dst, left.first, NONE, right.first)
    else:   # three rows, and then two at a time
        begin = over(-position + dilation - 1, dilation) if position < 0 else 0
        end = min(kernel, over(high * rows.apart - position, dilation) + 1)
        found[0] = found[1] = found[2] = NONE
        for j in range(begin, min(begin + 3, end)):
            found[count] = tap(job, rows, position + j * dilation)
            count += found[count].value != NULL
        if count < 2:
            left = rows[0]
            left.first = found[0]
            return left
        walk.pitch, walk.step, walk.cpitch, walk.cstep = rows.pitch, rows.step, rows.pitch, rows.step
        job.pick(walk, dst, found[0], found[1], found[2])
        walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
        for j in range(begin + 3, end, 2):
            found[1] = tap(job, rows, position + (j + 1) * dilation) if j + 1 < end else NONE
            job.pick(walk, dst, tap(job, rows, position + j * dilation), found[1], dst)
    left.first, left.pitch, left.step = dst, walk.dpitch, walk.dstep
    return left


cdef void gathered(const Job* job, const Axis* axis, Py_ssize_t o, const Rows* rows, Walk* walk, Cells dst,
                   Cells spare) noexcept nogil:
    """Window o of an axis, gathered into dst."""
    cdef Py_ssize_t plane, position = o * axis.stride - axis.before, kernel = axis.kernel
    cdef Rows found
    if axis.starts != NULL:
        position, kernel = axis.starts[o], axis.counts[o]
    found = gather(job, rows, walk, dst, position, kernel, axis.dilation, spare)
    if found.first.value == NULL:
        # Cells that stand apart have identities between them: pad() has put them there, and here.
        for plane in range(walk.planes if walk.dstep == walk.inner or walk.cells == 1 else 0):
            fill(job, at(job, dst, plane * walk.dpitch), walk.cells * walk.inner)
    elif found.first.value != dst.value:
        walk.pitch, walk.step = found.pitch, found.step
        job.pick(walk, dst, found.first, NONE, NONE)


cdef bint few(const Job* job, const Axis* axis, double positions, double windows) noexcept nogil:
    """Whether a pick per tap costs less than doubling: its passes over all positions, and a pick per block of taps."""
    cdef Py_ssize_t k, top = 1, bits = 0, kernel = axis.kernel
    if kernel <= 3 or axis.starts != NULL:
        return True
    while kernel >> (top + 1):
        top += 1
    for k in range(top):
        bits += kernel >> k & 1
    if job.idempotent:
        return (kernel // 2 - 1) * (windows + CALL) <= (top - 1) * (positions + CALL)
    return (kernel - 2 - bits) * (windows + CALL) <= (top - 1) * (positions + CALL)


cdef void reduce_axis(const Job* job, const Axis* axis, const Tile* t, Walk* walk, Cells dst, Cells src, Cells spare,
                      bint array) noexcept nogil:
    """The windows of an axis; `array`: src is no buffer, and what is not dense there can only be read."""
    cdef Walk one
    cdef Rows rows
    cdef Py_ssize_t o, apart = axis.dilation * walk.step
    if t.total == 0:
        fill(job, dst, walk.planes * walk.dpitch)
    elif t.clipped:
        clipped(job, axis, t, walk, dst, src, spare)
    elif axis.sparse:
        one = walk[0]
        one.cells = 1
        rows.first, rows.count, rows.apart, rows.row, rows.base = src, axis.n, axis.sparse, walk.inner, 0
        rows.pitch, rows.step = walk.pitch, walk.inner
        for o in range(t.outs):
            gathered(job, axis, t.first + o, &rows, &one, at(job, dst, o * walk.dstep), spare)
    elif axis.starts != NULL:
        one = walk[0]
        one.cells = 1
        for o in range(t.outs):
            direct(job, &one, at(job, dst, o * walk.dstep), at(job, src, (axis.starts[t.first + o] - t.start) * walk.step),
                   axis.counts[t.first + o], walk.step, spare)
    else:
        CHECK((t.outs - 1) * axis.stride + axis.extent <= t.total)
        walk.step *= axis.stride
        if array or few(job, axis, walk.planes * walk.pitch, walk.planes * walk.dpitch):
            direct(job, walk, dst, src, axis.kernel, apart, spare)
        else:
            doubling(job, walk, dst, src, spare, axis.kernel, apart)


# ---- one block -----------------------------------------------------------------------------------------------

cdef struct Data:
    # Where the data of a block is among the cells of its windows: D, H, W.
    Py_ssize_t low[3]         # the first cell of the array
    Py_ssize_t count[3]       # cells of the array
    Py_ssize_t lead[3]        # where they begin in the buffer
    Py_ssize_t total[3]       # the buffer's cells
    Py_ssize_t spacing[3]     # of the data in the buffer


cdef Data data_of(const Job* job, const Tile* t) noexcept nogil:
    cdef Data data
    cdef Py_ssize_t k
    for k in range(3):
        data.spacing[k], data.total[k] = job.axis[k].spacing, t[k].total
        data.low[k] = (t[k].start + data.spacing[k] - 1) // data.spacing[k]
        data.count[k] = (t[k].stop + data.spacing[k] - 1) // data.spacing[k] - data.low[k]
        data.lead[k] = t[k].lead + data.low[k] * data.spacing[k] - t[k].start
    return data


cdef void pad(const Job* job, const Data* data, Py_ssize_t batch, Py_ssize_t inner, Cells buffer) noexcept nogil:
    """Identities where the buffer has no data."""
    cdef Py_ssize_t g, d, h, row = data.total[2] * inner, cells = data.count[0] * data.count[1] * data.count[2]
    cdef Py_ssize_t lead = data.lead[2] * inner, stop = lead + data.count[2] * inner
    cdef Cells plane
    if cells == data.total[0] * data.total[1] * data.total[2]:
        return
    if row < PIECE // 32 or data.spacing[0] > 1 or data.spacing[1] > 1 or data.spacing[2] > 1:
        fill(job, buffer, batch * data.total[0] * data.total[1] * row)
        return
    for g in range(batch):
        for d in range(data.total[0]):
            plane = at(job, buffer, (g * data.total[0] + d) * data.total[1] * row)
            if not data.lead[0] <= d < data.lead[0] + data.count[0]:
                fill(job, plane, data.total[1] * row)
                continue
            fill(job, plane, data.lead[1] * row)
            for h in range(data.lead[1], data.lead[1] + data.count[1]):
                fill(job, at(job, plane, h * row), lead)
                fill(job, at(job, plane, h * row + stop), row - stop)
            h = data.lead[1] + data.count[1]
            fill(job, at(job, plane, h * row), (data.total[1] - h) * row)


cdef void number(const Job* job, char* index, Py_ssize_t cells, Py_ssize_t inner) noexcept nogil:
    """The indices of a row whose first cell has index 0."""
    cdef Py_ssize_t w, c
    for w in range(cells):
        if job.indexed == sizeof(uint32_t):
            for c in range(inner):
                (<uint32_t*> index)[w * inner + c] = <uint32_t> w
        else:
            for c in range(inner):
                (<uint64_t*> index)[w * inner + c] = w


cdef void load_block(const Job* job, const Data* data, const char* x, Py_ssize_t batch, Py_ssize_t batch_stride, Py_ssize_t inner,
                     Cells buffer, Cells row) noexcept nogil:
    """The cells of a block's windows, as accumulators, where the tiles say; all else identities."""
    cdef Py_ssize_t g, d, h, place, cells = data.count[2], rows = data.count[1], planes = data.count[0]
    cdef Py_ssize_t spread = data.spacing[2]
    cdef const char* source
    cdef Walk walk = walks(1, cells, inner)
    pad(job, data, batch, inner, buffer)
    walk.dstep = spread * inner
    # Rows that follow each other in the array and in the buffer are loaded as one.
    if cells == data.total[2] and spread == 1 and job.x_axis[1] == cells * job.x_axis[2] and (rows == 1 or data.spacing[1] == 1) \
            and job.indexed == 0:
        cells, rows = cells * rows, 1
        if data.count[1] == data.total[1] and job.x_axis[0] == cells * job.x_axis[2] and (planes == 1 or data.spacing[0] == 1):
            cells, planes = cells * planes, 1
            if data.count[0] == data.total[0] and batch_stride == cells * job.x_axis[2]:
                cells, batch = cells * batch, 1
    for g in range(batch):
        for d in range(planes):
            for h in range(rows):
                place = (g * data.total[0] + data.lead[0] + d * data.spacing[0]) * data.total[1]
                place = ((place + data.lead[1] + h * data.spacing[1]) * data.total[2] + data.lead[2]) * inner
                source = x + g * batch_stride + d * job.x_axis[0] + h * job.x_axis[1]
                CHECK(0 <= place and place + ((cells - 1) * spread + 1) * inner <= job.capacity)
                if spread == 1 and job.indexed == 0:
                    job.load(buffer.value + place * job.size, source, cells, job.x_axis[2], inner, job.x_inner, job.p)
                else:
                    job.load(row.value, source, cells, job.x_axis[2], inner, job.x_inner, job.p)
                    row.base = <uint64_t> (((data.low[0] + d) * job.axis[1].n + data.low[1] + h) * job.axis[2].n + data.low[2])
                    job.pick(&walk, at(job, buffer, place), row, NONE, NONE)


cdef void reduce_rows(const Job* job, const Tile* t, Data data, const char* x, Py_ssize_t batch, Py_ssize_t batch_stride,
                      Py_ssize_t inner, Cells dst, Cells spare, char* numbers) noexcept nogil:
    """The first axis, D or H, straight from the rows of the array, into padded rows for the next one."""
    cdef const Axis* axis = &job.axis[job.first]
    cdef Py_ssize_t g, d, h, o, w, place, piece, k, together = 0 if job.first else 2
    cdef Py_ssize_t n[3]
    cdef Py_ssize_t strides[3]
    cdef Py_ssize_t pitch[3]
    cdef Rows rows
    cdef Walk walk
    data.low[job.first] = data.lead[job.first] = 0
    data.count[job.first] = data.total[job.first] = t[job.first].outs
    data.spacing[job.first] = 1
    pad(job, &data, batch, inner, dst)
    for k in range(3):
        x += data.low[k] * job.x_axis[k]
    n[0], n[1], n[2] = batch, data.count[0], data.count[1]
    strides[0], strides[1], strides[2] = batch_stride, job.x_axis[0], job.x_axis[1]
    strides[job.first + 1] = 0   # gathered, not walked
    pitch[2] = data.total[2] * inner
    pitch[1] = pitch[2] * data.total[1]
    pitch[0] = pitch[1] * data.total[0]
    dst = at(job, dst, data.lead[0] * pitch[1] + data.lead[1] * pitch[2] + data.lead[2] * inner)
    pitch[1] *= data.spacing[0]
    pitch[2] *= data.spacing[1]
    rows.count, rows.apart = (axis.n - 1) // axis.spacing + 1, axis.spacing
    if axis.sparse:
        rows.count, rows.apart = axis.n, axis.sparse
    rows.row, rows.base = job.x_axis[job.first] // job.size, job.axis[2].n * (1 if job.first else job.axis[1].n)
    rows.pitch, rows.step = strides[together] // job.size, job.x_axis[2] // job.size
    walk = walks(1, data.count[2], inner)
    walk.dpitch, walk.dstep = pitch[together], data.spacing[2] * inner
    if axis.kernel <= 3:
        walk.fresh = axis.stride
        walk.ahead = axis.stride * job.x_axis[job.first]
        walk.ahead *= max(1, AHEAD // max(1, walk.ahead if walk.ahead > 0 else -walk.ahead))
    if job.indexed == 0:   # the numbers of a row serve one plane
        walk.planes, n[together] = n[together], 1
    else:
        number(job, numbers, data.count[2], inner)
    piece = max(1, data.count[2] if axis.kernel <= 3 else PIECE // (inner * walk.planes))
    for g in range(n[0]):
        for d in range(n[1]):
            for h in range(n[2]):
                for k in range((data.count[2] + piece - 1) // piece):
                    w = k * piece
                    walk.cells = min(piece, data.count[2] - w)
                    rows.first.value = <char*> x + g * strides[0] + d * strides[1] + h * strides[2] + w * job.x_axis[2]
                    rows.first.index = numbers + w * inner * job.indexed if job.indexed else NULL
                    rows.first.base = (data.low[1] + h) * job.axis[2].n if job.first == 0 else \
                        (data.low[0] + d) * job.axis[1].n * job.axis[2].n
                    rows.first.base += data.low[2]
                    place = g * pitch[0] + d * pitch[1] + h * pitch[2] + w * walk.dstep
                    o = t[job.first].first + (h if job.first else d)
                    gathered(job, axis, o, &rows, &walk, at(job, dst, place), spare)


cdef void reduce_last(const Job* job, const Tile* t, Py_ssize_t batch, Py_ssize_t inner, Cells dst, const Py_ssize_t* to,
                      Cells src, const Py_ssize_t* source, Cells spare, bint array) noexcept nogil:
    """W, from where src has its cells to where dst has its windows: steps of batch, D, H and W."""
    cdef Py_ssize_t g, d, planes = t[1].outs, many = t[0].outs
    cdef Walk walk
    if source[1] == planes * source[2] and to[1] == planes * to[2]:
        planes, many = planes * many, 1
        if source[0] == planes * source[2] and to[0] == planes * to[2]:
            planes, batch = planes * batch, 1
    for g in range(batch):
        for d in range(many):
            walk = walks(planes, t[2].outs, inner)
            walk.dpitch, walk.dstep, walk.pitch, walk.step = to[2], to[3], source[2], source[3]
            reduce_axis(job, &job.axis[2], &t[2], &walk, at(job, dst, g * to[0] + d * to[1]),
                        at(job, src, g * source[0] + d * source[1]), spare, array)


cdef void store_block(const Job* job, const Tile* t, char* y, char* i, Py_ssize_t batch, Py_ssize_t batch_y, Py_ssize_t batch_i,
                      Py_ssize_t inner, Cells buffer, char* row, char* divisors) noexcept nogil:
    """A block's combined values, finished, to where the result has them."""
    cdef Py_ssize_t g, d, h, w, place, cells = t[2].outs, rows = t[1].outs, planes = t[0].outs
    cdef int64_t count
    cdef char* source
    cdef char* target
    cdef bint dense = job.exact and (job.y_inner == job.finished or inner == 1) and job.y_axis[2] == inner * job.finished
    if job.uniform and cells * rows * inner <= job.capacity and job.y_axis[1] == cells * job.y_axis[2] and i == NULL:
        cells, rows = cells * rows, 1
        if cells * planes * inner <= job.capacity and job.y_axis[0] == cells * job.y_axis[2]:
            cells, planes = cells * planes, 1
            if cells * batch * inner <= job.capacity and batch_y == cells * job.y_axis[2]:
                cells, batch = cells * batch, 1
    for g in range(batch):
        for d in range(planes):
            for h in range(rows):
                place = ((g * planes + d) * rows + h) * cells * inner
                source = buffer.value + place * job.size
                target = y + g * batch_y + d * job.y_axis[0] + h * job.y_axis[1]
                if job.finish != NULL:
                    if not job.uniform:
                        count = job.axis[0].divisors[t[0].first + d] * job.axis[1].divisors[t[1].first + h]
                        for w in range(cells):
                            if job.finished == 4:
                                (<float*> divisors)[w] = <float> (count * job.axis[2].divisors[t[2].first + w])
                            else:
                                (<double*> divisors)[w] = <double> (count * job.axis[2].divisors[t[2].first + w])
                    job.finish(target if dense else row, source, cells, inner, divisors, job.p)
                    source = row
                if job.finish == NULL or not dense:
                    job.store(target, job.y_axis[2], job.y_inner, source, cells, inner)
                if i != NULL:
                    target = i + g * batch_i + d * job.i_axis[0] + h * job.i_axis[1]
                    job.store_index(target, job.i_axis[2], job.i_inner, buffer.index + place * job.indexed, cells, inner)


cdef inline bint idle(const Axis* axis) noexcept nogil:
    """Whether every window of an axis is one cell, in order."""
    return axis.kernel == 1 and axis.stride == 1 and axis.before == 0 and axis.out == axis.n and axis.spacing == 1 \
        and axis.sparse == 0 and axis.starts == NULL


cdef void run_tile(const Job* job, const Tile* t, const char* x, char* y, char* i, Py_ssize_t batch, Py_ssize_t inner,
                   char* scratch) noexcept nogil:
    """Some windows: D, H and W reduced one after the other, in buffers or between the arrays."""
    cdef Py_ssize_t source[4]
    cdef Py_ssize_t to[4]
    cdef Data data = data_of(job, t)
    cdef Cells buffers[3]
    cdef Cells row = NONE, target
    cdef Walk walk
    cdef Py_ssize_t axis = job.first, k, planes, last = job.outers - 1
    cdef char* end = scratch + job.scratch
    cdef bint array = job.straight and axis == 2, onto = job.onto and t[2].total > 0 and not t[2].clipped
    for k in range(3):
        buffers[k] = NONE
        buffers[k].value = scratch + k * job.capacity * job.size
        if i != NULL:
            buffers[k].index = scratch + 3 * job.capacity * job.size + k * job.capacity * job.indexed
    scratch += 3 * job.capacity * (job.size + job.indexed)
    row.value = scratch
    if job.straight and axis < 2:
        reduce_rows(job, t, data, x, batch, job.x_outer[last], inner, buffers[0], buffers[1], scratch)
        axis += 1
    else:
        for k in range(3):
            x += data.low[k] * job.x_axis[k]
        if not array:
            if i != NULL:
                row.index = end - job.capacity * (job.finished + job.indexed)
                number(job, row.index, data.count[2], inner)
            load_block(job, &data, x, batch, job.x_outer[last], inner, buffers[0], row)
    for axis in range(axis, 2):
        if not idle(&job.axis[axis]):
            planes = batch * (t[0].outs if axis else 1)
            walk = walks(planes, t[axis].outs, inner * t[2].total * (1 if axis else t[1].total))
            walk.pitch = t[axis].total * walk.inner
            CHECK(planes * walk.pitch <= job.capacity and planes * walk.dpitch <= job.capacity)
            reduce_axis(job, &job.axis[axis], &t[axis], &walk, buffers[1], buffers[0], buffers[2], False)
            buffers[0], buffers[1] = buffers[1], buffers[0]
    if not idle(&job.axis[2]):
        target = buffers[1]
        source[3], source[2], source[1] = inner, t[2].total * inner, t[1].outs * t[2].total * inner
        source[0] = t[0].outs * source[1]
        if array:
            buffers[0].value = <char*> x
            source[0], source[1] = job.x_outer[last] // job.size, job.x_axis[0] // job.size
            source[2], source[3] = job.x_axis[1] // job.size, job.x_axis[2] // job.size
        to[3], to[2], to[1] = inner, t[2].outs * inner, t[1].outs * t[2].outs * inner
        to[0] = t[0].outs * to[1]
        if onto:
            target.value = y
            to[0], to[1] = job.y_outer[last] // job.size, job.y_axis[0] // job.size
            to[2], to[3] = job.y_axis[1] // job.size, job.y_axis[2] // job.size
        CHECK(onto or batch * to[0] <= job.capacity)
        reduce_last(job, t, batch, inner, target, to, buffers[0], source, buffers[2], array)
        if onto:
            return
        buffers[0] = buffers[1]
    store_block(job, t, y, i, batch, job.y_outer[last], job.i_outer[last], inner, buffers[0], scratch,
                end - job.capacity * job.finished)


# ---- rows of windows, a few at a time ------------------------------------------------------------------------

cdef inline Py_ssize_t reach_low(const Axis* axis, Py_ssize_t o) noexcept nogil:
    """The first cell of the data that a window, or one after it, covers."""
    return axis.starts[o] if axis.starts != NULL else max(0, o * axis.stride - axis.before)


cdef inline Py_ssize_t reach_high(const Axis* axis, Py_ssize_t o) noexcept nogil:
    """The end of what a window covers of the data."""
    return axis.starts[o] + axis.counts[o] if axis.starts != NULL else min(axis.n, o * axis.stride - axis.before + axis.extent)


cdef void pad_rows(const Job* job, Cells rows, Py_ssize_t count, Py_ssize_t width, Py_ssize_t lead, Py_ssize_t cells) noexcept nogil:
    """Identities before and after the cells of dense rows."""
    cdef Py_ssize_t row
    for row in range(count if cells < width else 0):
        fill(job, at(job, rows, row * width), lead)
        fill(job, at(job, rows, row * width + lead + cells), width - lead - cells)


cdef void finish_rows(const Job* job, const Tile* t, char* y, Py_ssize_t inner, Cells rows, Cells dst, Cells spare,
                      char* scratch) noexcept nogil:
    """W of padded rows, and their windows to where the result has them."""
    cdef Walk walk = walks(t[1].outs, t[2].outs, inner)
    cdef bint onto = job.onto and t[2].total > 0 and not t[2].clipped
    walk.pitch = t[2].total * inner
    if onto:
        dst.value, walk.dpitch, walk.dstep = y, job.y_axis[1] // job.size, job.y_axis[2] // job.size
    reduce_axis(job, &job.axis[2], &t[2], &walk, dst, rows, spare, False)
    if not onto:
        store_block(job, t, y, NULL, 1, 0, 0, inner, dst, scratch + 3 * job.capacity * job.size,
                    scratch + job.scratch - job.capacity * job.finished)


cdef void sweep(const Job* job, const Tile* t, const Rows* rows, const char* source, char* target, Py_ssize_t cells, Py_ssize_t inner,
                const Cells* buffers, char* scratch) noexcept nogil:
    """No more rows of windows than the kernel has, whatever it has, by three picks each (van Herk, Gil and Werman).

    All of these windows hold the last row of the first one: up to it they are combined from there backwards, and behind it
    forwards.
    """
    cdef const Axis* down = &job.axis[1]
    cdef Tile part[3]
    cdef Py_ssize_t width = t[2].total * inner, outs = t[1].outs, first = t[1].first, j, o
    cdef Py_ssize_t low = max(0, first - down.before), middle = min(first - down.before + down.kernel, down.n) - 1
    cdef Py_ssize_t lead = t[2].lead * inner, length = cells * inner
    cdef Cells back = buffers[1], ahead = at(job, buffers[1], down.kernel * length), row
    cdef Walk walk = walks(1, cells, inner), flat
    walk.step, walk.ahead, walk.fresh = rows.step, job.ahead if job.straight else 0, 1
    CHECK(outs <= down.kernel and (down.kernel + 1) * length <= job.capacity and 2 * width <= job.capacity)
    part[0], part[1], part[2] = t[0], t[1], t[2]
    part[1].outs = 1
    for j in range(middle, low - 1, -1):
        row = swept(job, rows, source, cells, inner, j, buffers[2])
        job.pick(&walk, at(job, back, (j - low) * length), row, NONE, at(job, back, (j + 1 - low) * length) if j < middle else NONE)
    for o in range(outs):
        j = first - down.before + o + down.kernel - 1   # the last row of the window
        if middle < j < down.n:
            row = swept(job, rows, source, cells, inner, j, buffers[2])
            job.pick(&walk, ahead, row, NONE, ahead if j > middle + 1 else NONE)
        part[1].first = first + o
        pad_rows(job, buffers[0], 1, width, lead, length)
        flat = walks(1, 1, length)
        job.pick(&flat, at(job, buffers[0], lead), at(job, back, (max(first - down.before + o, 0) - low) * length),
                 NONE if j <= middle or middle == down.n - 1 else ahead, NONE)
        finish_rows(job, part, target + o * job.y_axis[1], inner, buffers[0], at(job, buffers[0], width), buffers[2], scratch)


cdef void pile(const Job* job, const Tile* t, const Rows* rows, const char* source, char* target, Py_ssize_t cells, Py_ssize_t inner,
               const Cells* buffers, char* scratch) noexcept nogil:
    """Rows of windows by doubling all of their rows at once, in place, where three picks for each would add in another order."""
    cdef const Axis* down = &job.axis[1]
    cdef Tile part[3]
    cdef Py_ssize_t width = t[2].total * inner, length = cells * inner, lead = t[2].lead * inner, outs = t[1].outs
    cdef Py_ssize_t first = t[1].first, low = first * down.stride - down.before, count = (outs - 1) * down.stride + down.kernel, j
    cdef Py_ssize_t some = max(1, LANE // 2 // (width * job.size))
    cdef Walk walk = walks(1, cells, inner)
    cdef Cells row
    walk.step, walk.ahead, walk.fresh = rows.step, job.ahead if job.straight else 0, 1
    for j in range(count):
        row = at(job, buffers[1], j * length)
        if not 0 <= low + j < down.n:
            fill(job, row, length)
        elif job.straight:
            job.pick(&walk, row, at(job, rows.first, (low + j) * rows.row), NONE, NONE)
        else:
            job.load(row.value, source + (low + j) * job.x_axis[1], cells, job.x_axis[2], inner, job.x_inner, job.p)
    CHECK(count * length <= job.capacity and outs * width <= job.capacity)
    pad_rows(job, buffers[0], outs, width, lead, length)
    walk = walks(1, outs, length)
    walk.dstep, walk.step, walk.pitch = width, down.stride * length, count * length
    doubling(job, &walk, at(job, buffers[0], lead), buffers[1], buffers[1], down.kernel, length)
    part[0], part[1], part[2] = t[0], t[1], t[2]
    for j in range((outs + some - 1) // some):
        part[1].first, part[1].outs = first + j * some, min(some, outs - j * some)
        finish_rows(job, part, target + j * some * job.y_axis[1], inner, at(job, buffers[0], j * some * width), buffers[1],
                    buffers[2], scratch)


cdef inline Cells swept(const Job* job, const Rows* rows, const char* source, Py_ssize_t cells, Py_ssize_t inner, Py_ssize_t j,
                        Cells spare) noexcept nogil:
    """Row j of the array, as accumulators."""
    if job.straight:
        return at(job, rows.first, j * rows.row)
    job.load(spare.value, source + j * job.x_axis[1], cells, job.x_axis[2], inner, job.x_inner, job.p)
    return spare


cdef void run_lanes(const Job* job, const Tile* t, const char* x, char* y, Py_ssize_t batch, Py_ssize_t inner,
                    char* scratch) noexcept nogil:
    """H and W of a block: a few rows of windows are combined from their rows, then across, and stored before the next ones."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t plane, g, d, h, i, j, o, w, low, high, begin, end, cells, width, pitch, step, last = job.outers - 1
    cdef bint alone = job.onto and idle(across), padded = False
    cdef Cells buffers[3]
    cdef Cells dst
    cdef Tile part[3]
    cdef Rows rows
    cdef Walk walk
    cdef const char* source
    cdef char* target
    for o in range(3):
        buffers[o] = NONE
        buffers[o].value = scratch + o * job.capacity * job.size
    part[0], part[1], part[2] = t[0], t[1], t[2]
    rows.apart, rows.base, rows.pitch = 1, 0, 0
    rows.count, rows.first, rows.row, rows.step = down.n, NONE, job.x_axis[1] // job.size, job.x_axis[2] // job.size
    part[0].outs = 1
    for plane in range(batch * t[0].outs):
        g, d = plane // t[0].outs, plane % t[0].outs
        part[0].first = t[0].first + d
        for i in range((t[1].outs + job.slab - 1) // job.slab):
            h = i * job.slab
            part[1].first, part[1].outs = t[1].first + h, min(job.slab, t[1].outs - h)
            low, high = reach_low(down, part[1].first), reach_high(down, part[1].first + part[1].outs - 1)
            for j in range((t[2].outs + job.lane - 1) // job.lane):
                w = j * job.lane
                if job.lane < t[2].outs:
                    part[2] = tile(across, t[2].first + w, min(job.lane, t[2].outs - w))
                cells, width = part[2].stop - part[2].start, part[2].total * inner
                source = x + g * job.x_outer[last] + d * job.x_axis[0] + part[2].start * job.x_axis[2]
                target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1] + w * job.y_axis[2]
                dst, pitch, step = buffers[0], width, inner
                if alone:
                    dst.value, pitch, step = target, job.y_axis[1] // job.size, job.y_axis[2] // job.size
                CHECK(alone or part[1].outs * width <= job.capacity)
                if not padded and not alone and not job.swept:
                    pad_rows(job, dst, part[1].outs if job.lane < t[2].outs else job.slab, width, part[2].lead * inner, cells * inner)
                    padded = job.lane >= t[2].outs and across.kernel <= 3
                if cells > 0:
                    if not alone:
                        dst = at(job, dst, part[2].lead * inner)
                    rows.first.value = <char*> source
                    if job.swept:
                        if job.idempotent:
                            sweep(job, part, &rows, source, target, cells, inner, buffers, scratch)
                        else:
                            pile(job, part, &rows, source, target, cells, inner, buffers, scratch)
                        continue
                    if not job.straight:
                        rows.first.value = buffers[1].value - low * cells * inner * job.size
                        rows.row, rows.step = cells * inner, inner
                        for o in range(low, high):
                            job.load(rows.first.value + o * rows.row * job.size, source + o * job.x_axis[1], cells,
                                     job.x_axis[2], inner, job.x_inner, job.p)
                    walk = walks(1, cells, inner)
                    walk.dpitch, walk.dstep = pitch, step
                    if job.straight:
                        walk.ahead, walk.fresh = job.ahead, down.stride
                    # Windows whose rows all are data follow each other evenly; those at the ends are gathered one by one.
                    begin, end = 0, part[1].outs
                    if down.starts != NULL:
                        end = 0
                    while begin < end and (part[1].first + begin) * down.stride < down.before:
                        begin += 1
                    while begin < end and (part[1].first + end - 1) * down.stride - down.before + down.extent > down.n:
                        end -= 1
                    for o in range(part[1].outs):
                        if o == begin and begin < end:
                            walk.planes = end - begin
                            walk.pitch, walk.step = down.stride * rows.row, rows.step
                            direct(job, &walk, at(job, dst, o * pitch),
                                   at(job, rows.first, ((part[1].first + o) * down.stride - down.before) * rows.row),
                                   down.kernel, down.dilation * rows.row, buffers[2])
                            walk.planes = 1
                        elif not begin <= o < end:
                            gathered(job, down, part[1].first + o, &rows, &walk, at(job, dst, o * pitch), buffers[2])
                if not alone:
                    finish_rows(job, part, target, inner, buffers[0], buffers[1], buffers[2], scratch)


cdef void run_block(const Job* job, Py_ssize_t item, char* scratch) noexcept nogil:
    """Block number `item`, slab by slab: what the next slab needs again of the array is still in the cache."""
    cdef Py_ssize_t first[5]
    cdef Py_ssize_t count[5]
    cdef Tile t[3]
    cdef Py_ssize_t axis, k, index, begin, outs, last = job.outers - 1
    cdef const char* x = job.x
    cdef char* y = job.y
    cdef char* i = job.i
    for k in range(4, -1, -1):
        index = item % job.grid[k]
        item //= job.grid[k]
        first[k] = index * job.block[k]
        count[k] = job.block[k]
    count[0] = min(count[0], job.outer[last] - first[0])
    count[4] = min(count[4], job.inner - first[4])
    for axis in range(3):
        count[axis + 1] = min(count[axis + 1], job.axis[axis].out - first[axis + 1])
        t[axis] = tile(&job.axis[axis], first[axis + 1], count[axis + 1])
        y += first[axis + 1] * job.y_axis[axis]
        if i != NULL:
            i += first[axis + 1] * job.i_axis[axis]
    for k in range(last, -1, -1):
        if k < last:
            index = item % job.outer[k]
            item //= job.outer[k]
        else:
            index = first[0]
        x += index * job.x_outer[k]
        y += index * job.y_outer[k]
        if i != NULL:
            i += index * job.i_outer[k]
    x += first[4] * job.x_inner
    y += first[4] * job.y_inner
    if i != NULL:
        i += first[4] * job.i_inner
    if job.lanes:
        run_lanes(job, t, x, y, count[0], count[4], scratch)
        return
    if not job.straight or job.first == 2:
        run_tile(job, t, x, y, i, count[0], count[4], scratch)
        return
    axis = job.first
    begin, outs = first[axis + 1], count[axis + 1]
    for k in range((outs + job.slab - 1) // job.slab):
        index = k * job.slab
        t[axis] = tile(&job.axis[axis], begin + index, min(job.slab, outs - index))
        run_tile(job, t, x, y + index * job.y_axis[axis], i + index * job.i_axis[axis] if i != NULL else NULL, count[0], count[4],
                 scratch)


# ---- cutting a call into blocks ------------------------------------------------------------------------------

cdef double needed(const Job* job, const Py_ssize_t* block) noexcept nogil:
    """The cells of the largest buffer that a block passes through; a double, which no shape overflows."""
    cdef double most = 1, cells
    cdef Py_ssize_t axis, k, outs
    # Before axis k, when the axes left of it are reduced.
    for k in range(job.first + 1 if job.straight else 0, 3 if job.onto else 4):
        cells = <double> block[0] * block[4]
        for axis in range(3):
            outs = min(block[axis + 1], job.slab) if job.straight and axis == job.first else block[axis + 1]
            cells *= outs if axis < k else longest(&job.axis[axis], outs)
        most = max(most, cells)
    return most


cdef void cut(Job* job, Py_ssize_t target, Py_ssize_t pieces) noexcept nogil:
    """Halve the block, where that repeats the least work, until its buffer is small and there are enough pieces."""
    cdef Py_ssize_t k, best, axis
    cdef double cost, least, bytes_, parts, before, after
    cdef Py_ssize_t size[5]
    size[0], size[4] = job.outer[job.outers - 1], job.inner
    for axis in range(3):
        size[axis + 1] = job.axis[axis].out
    for k in range(5):
        job.block[k] = size[k]
    if job.straight and job.first < 2:   # planes side by side only where a whole one is small
        cost = job.size * job.inner
        for axis in range(3):
            cost *= longest(&job.axis[axis], size[axis + 1]) if axis > job.first else size[axis + 1]
        job.block[0] = min(size[0], max(1, <Py_ssize_t> (target / max(cost, 1.0))))
    while True:
        bytes_ = needed(job, job.block) * job.size
        parts = 1
        for k in range(5):
            parts *= (size[k] + job.block[k] - 1) // job.block[k]
        if bytes_ <= target and parts >= pieces:
            break
        best, least = -1, 1e300
        for k in range(5):
            if job.block[k] < 2 or (k == 4 and job.block[k] < 64):
                continue
            cost = 1
            if k == 4:
                cost = 1.02
            elif k > 0:
                before = longest(&job.axis[k - 1], job.block[k])
                after = longest(&job.axis[k - 1], (job.block[k] + 1) // 2)
                cost = 1 + 0.001 * k + max(0.0, 2.0 * after / before - 1)
            if cost < least:
                best, least = k, cost
        # A half that is hardly smaller repeats the whole: windows that reach further than the block.
        if best < 0 or least > 1.9 or (least > 1.5 and bytes_ <= SCRATCH_LIMIT):
            break
        job.block[best] = (job.block[best] + 1) // 2
    for k in range(5):
        job.grid[k] = (size[k] + job.block[k] - 1) // job.block[k]


cdef bint plan_lanes(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether rows of windows are made a few at a time, and how many: where a pick per row costs least, without indices."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t k, width, room, levels = 2, size = job.size
    cdef double row = <double> job.axis[2].n * job.inner
    cdef bint straight = job.straight, onto = job.onto
    if job.i != NULL or job.first == 0 or job.first == 3 or down.spacing > 1 or across.spacing > 1 or down.sparse or across.sparse:
        return False
    if job.straight and job.first == 2:
        return False
    job.swept = not few(job, down, down.n * row, down.out * row)
    if job.swept and (down.stride > 1 or down.dilation > 1 or down.kernel > down.n or row * size < SWEPT):
        return False
    job.straight = job.copied and (job.x_inner == size or job.inner == 1) and job.x_axis[1] % size == 0 and job.x_axis[2] % size == 0
    job.onto = job.exact and job.finish == NULL and (job.y_inner == size or job.inner == 1) and (across.kernel <= 3 or job.idempotent)
    job.onto = job.onto and job.y_axis[1] % size == 0 and job.y_axis[2] % size == 0 and across.starts == NULL
    cut(job, 1 << 60, pieces)
    while job.block[4] >= 128 and min(across.extent, across.n) * job.block[4] * size > ROW:
        job.block[4] = (job.block[4] + 1) // 2
    job.grid[4] = (job.inner + job.block[4] - 1) // job.block[4]
    job.lane = job.block[3]
    room = 4 * min(across.extent, across.n) * job.block[4] * size
    if job.swept:
        k = down.kernel if job.idempotent else 4 * down.kernel
        room = max(SWEEP // k, min(room, SWEPT_LIMIT // (2 * down.kernel)))
    while job.lane > 1 and longest(across, job.lane) * job.block[4] * size > max(0 if job.swept else LANE, room):
        job.lane = (job.lane + 1) // 2
    width = max(1, longest(across, job.lane)) * job.block[4]
    job.slab = 1
    if job.swept:
        job.slab = min(job.block[2], down.kernel if job.idempotent else max(down.kernel, 64))
    elif job.lane == job.block[3]:
        job.slab = min(job.block[2], max(1, LANE // (width * size)))
    while levels < SPARES and (max(down.kernel, across.kernel) >> (levels + 1)):
        levels += 1
    if down.starts != NULL or across.starts != NULL:
        levels = SPARES
    k = job.slab * levels
    if job.swept:
        k = down.kernel + 2 if job.idempotent else down.kernel + job.slab
    if not job.straight:
        k = max(k, longest(down, job.slab))
    job.capacity = (k * width + 15) & ~15
    if job.swept and job.capacity * size > SWEPT_LIMIT:   # rows too long for so many of them
        job.straight, job.onto, job.swept = straight, onto, False
        return False
    job.ahead = job.x_axis[1] * down.stride if down.out > 1 else 0
    if job.ahead:
        job.ahead *= max(1, AHEAD // (job.ahead if job.ahead > 0 else -job.ahead))
    return True


cdef void plan(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Which ends of the way through the buffers are left out, the blocks, and the memory that they take."""
    cdef Py_ssize_t k, target, size = job.size, cells = 1
    cdef const Axis* axis
    job.first = 0
    while job.first < 3 and idle(&job.axis[job.first]):
        job.first += 1
    job.straight = job.copied and job.first < 3 and (job.x_inner == size or job.inner == 1)
    job.onto = job.exact and job.finish == NULL and job.i == NULL and (job.y_inner == size or job.inner == 1)
    for k in range(3):
        job.straight = job.straight and job.x_axis[k] % size == 0
        job.onto = job.onto and job.y_axis[k] % size == 0
        cells *= job.axis[k].n if k != job.first else 1
    job.straight = job.straight and job.x_outer[job.outers - 1] % size == 0
    job.onto = job.onto and job.y_outer[job.outers - 1] % size == 0
    axis = &job.axis[2]
    job.onto = job.onto and not idle(axis) and axis.kernel <= 3 and axis.sparse == 0 and axis.starts == NULL
    if job.straight:
        if job.first == 2:
            job.straight = axis.spacing == 1 and axis.sparse == 0 and job.i == NULL and (axis.starts != NULL or
                (axis.before == 0 and (axis.out - 1) * axis.stride + axis.extent <= axis.n))
        else:
            job.straight = job.i == NULL or job.x_axis[2] == job.inner * size
        axis = &job.axis[job.first]
        cells *= job.inner
        job.straight = job.straight and (axis.sparse or few(job, axis, <double> axis.n * cells, <double> axis.out * cells))
    job.lanes = plan_lanes(job, pieces)
    if job.lanes:
        return
    target = TARGET
    job.slab = job.axis[job.first].out if job.first < 3 else 1
    if job.straight and job.first < 2:
        job.slab = 1
        if job.first == 1:   # a row for every row of the result, with its sources in the first-level cache
            target = min(TARGET, ROW + 8 * job.axis[2].extent * min(job.inner, 64) * size)
    cut(job, target, pieces)
    if job.straight and job.i != NULL and job.block[4] < job.inner:   # the numbers of a row are dense, its cells no more
        job.straight = False
        cut(job, TARGET, pieces)
    if job.straight and job.first < 2:
        job.slab = max(1, <Py_ssize_t> (target / (needed(job, job.block) * size)))
    job.capacity = <Py_ssize_t> needed(job, job.block)
    if job.straight and not job.idempotent:   # what a recursion over the array's cells keeps aside
        k = 1
        while k < SPARES and (axis.kernel if axis.starts == NULL else axis.n) >> (k + 1):
            k += 1
        if job.first == 2:
            job.capacity *= k
        else:
            cells = max(PIECE, job.block[4] * (job.block[0] if job.first else longest(&job.axis[1], job.block[2])))
            job.capacity = max(job.capacity, k * cells)
    job.capacity = (job.capacity + 15) & ~15


# ---- from Python ---------------------------------------------------------------------------------------------

cdef class Loops:
    """The row loops of one mode on one combination of types, found once: `rows` has their addresses."""

    cdef load_t load
    cdef pick_t pick
    cdef finish_t finish
    cdef store_t store
    cdef store_t wide          # indices to int64, or to int32
    cdef store_t narrow
    cdef Py_ssize_t size, finished, indexed
    cdef uint64_t identity
    cdef bint idempotent, copied, exact

    def __init__(self, dict rows, str combine, bint idempotent, str cell, str finish, types, str index, bytes identity,
                 Py_ssize_t finished):
        self.load = <load_t> <size_t> rows["load", cell, types.cell, types.accumulate]
        self.finish = NULL
        if finish != "s":
            self.finish = <finish_t> <size_t> rows["finish", finish, types.accumulate, types.finish]
        self.store = <store_t> <size_t> rows["store", types.finish, types.result]
        self.copied = cell == "x" and types.cell == types.accumulate
        self.exact = types.finish == types.result
        self.size, self.finished, self.idempotent = len(identity), finished, idempotent
        self.identity = 0
        memcpy(&self.identity, <const char*> identity, len(identity))
        if index:
            self.pick = <pick_t> <size_t> rows["choose", combine, types.accumulate, index]
            self.narrow = <store_t> <size_t> rows["index", index, "int32"]
            self.wide = <store_t> <size_t> rows["index", index, "int64"]
            self.indexed = sizeof(uint32_t) if index == "uint32" else sizeof(uint64_t)
        else:
            self.pick = <pick_t> <size_t> rows["pick", combine, types.accumulate]
            self.narrow = self.wide = NULL
            self.indexed = 0


cdef const int64_t* pointer(const int64_t[::1] numbers) noexcept:
    return &numbers[0]


cdef int lay(Axis* axis, row) except -1:
    """One axis of the caller's, as the nest reads it; `row` keeps the arrays alive."""
    geometry, ranges, divisors = row
    axis.n, axis.out, axis.kernel, axis.stride = geometry.n, geometry.out, geometry.kernel, geometry.stride
    axis.dilation, axis.before, axis.spacing = geometry.dilation, geometry.before, geometry.spacing
    axis.extent = axis.dilation * (axis.kernel - 1) + 1
    axis.sparse = 0
    if axis.spacing > 1 and axis.n > 8 * ((axis.n - 1) // axis.spacing + 1 + axis.out) + 64:
        axis.n, axis.sparse, axis.spacing = (axis.n - 1) // axis.spacing + 1, axis.spacing, 1
    axis.starts = axis.counts = axis.divisors = NULL
    if ranges is not None:
        axis.starts, axis.counts = pointer(ranges[0]), pointer(ranges[1])
    if divisors is not None:
        axis.divisors = pointer(divisors)
    return 0


cdef class Plan:
    """One reduction but for its data: made once, and run by any number of callers at once."""

    cdef Job job
    cdef Py_ssize_t items, threads
    cdef int64_t divisor
    cdef list axes             # keeps the arrays of the axes alive

    def __init__(self, Loops loops, list axes, view, Py_ssize_t index, double p, int64_t divisor, bint uniform,
                 Py_ssize_t threads):
        """axes: (Axis, ranges, divisors) of D, H and W; view: a View of x, y, i; index: bytes of an index in i, or 0."""
        cdef Job* job = &self.job
        cdef Py_ssize_t k, work = 1
        self.axes, self.divisor, self.items = axes, divisor, 1
        job.load, job.pick, job.finish, job.store = loops.load, loops.pick, loops.finish, loops.store
        job.size, job.finished, job.idempotent, job.identity = loops.size, loops.finished, loops.idempotent, loops.identity
        job.copied, job.exact, job.indexed, job.p, job.uniform = loops.copied, loops.exact, loops.indexed, p, uniform
        if index:
            job.i = <char*> job    # not NULL, until a run says where
            job.store_index = loops.wide if index == sizeof(int64_t) else loops.narrow
        outer, (job.inner, job.x_inner, job.y_inner, job.i_inner), pooled = view
        job.outers = len(outer)
        for k in range(job.outers):
            job.outer[k], job.x_outer[k], job.y_outer[k], job.i_outer[k] = outer[k]
            self.items *= job.outer[k] if k < job.outers - 1 else 1
            work *= job.outer[k]
        for k in range(3):
            lay(&job.axis[k], axes[k])
            job.x_axis[k], job.y_axis[k], job.i_axis[k] = pooled[k]
            work *= max(job.axis[k].n, job.axis[k].out)
        if work * job.inner < THREADED:
            threads = 1
        plan(job, 1 if threads == 1 else max(1, 4 * threads // self.items))
        for k in range(5):
            self.items *= job.grid[k]
        self.threads = max(1, min(threads, self.items))
        job.scratch = job.capacity * (3 * (job.size + job.indexed) + max(job.size, job.finished) + job.finished + job.indexed)
        job.scratch = (job.scratch + 63) & ~63

    def words(self):
        """How it will be done, for the log."""
        cdef const Job* job = &self.job
        cdef Py_ssize_t k
        ways = []
        for k in range(3):
            if not idle(&job.axis[k]):
                tapped = (job.lanes and k == 1) or few(job, &job.axis[k], job.axis[k].n, job.axis[k].out)
                ways.append("DHW"[k] + " by " + ("sweeping" if job.swept and job.idempotent and k == 1 else "taps" if tapped and not job.swept else "doubling"))
        rows = f"{job.slab} rows of windows at a time" if job.lanes else "axis by axis"
        ends = ("" if job.straight else "cells are loaded, ") + ("" if job.onto else "results are stored, ")
        return (f"{', '.join(ways) or 'a copy'}; {rows}; {ends}blocks {tuple([job.block[k] for k in range(5)])} of (outer, D, H, W, "
                f"inner), {self.items} of them on {self.threads} threads with {job.scratch} bytes each")

    def run(self, ndarray x, ndarray y, ndarray i=None):
        """Pools x into y, and the indices into i, which are of the plan's sizes, strides and types."""
        cdef Job job = self.job
        cdef Py_ssize_t k, item
        cdef char* scratch = <char*> malloc(self.threads * job.scratch)
        cdef char* row
        if scratch == NULL:
            raise MemoryError(f"{self.threads * job.scratch} bytes of row buffers")
        job.x, job.y = <char*> PyArray_DATA(x), <char*> PyArray_DATA(y)
        if i is not None:
            job.i = <char*> PyArray_DATA(i)
        with nogil:
            if job.uniform and job.finish != NULL:   # one divisor for all windows: a row of it per thread
                for item in range(self.threads):
                    row = scratch + (item + 1) * job.scratch - job.capacity * job.finished
                    for k in range(job.capacity):
                        if job.finished == sizeof(float):
                            (<float*> row)[k] = <float> self.divisor
                        else:
                            (<double*> row)[k] = <double> self.divisor
            if self.threads == 1:
                for item in range(self.items):
                    run_block(&job, item, scratch)
            else:
                for item in prange(self.items, schedule="dynamic", num_threads=self.threads):
                    run_block(&job, item, scratch + threadid() * job.scratch)
        free(scratch)


def info():
    """How this extension was built."""
    return {"openmp": bool(OPENMP), "compiler": (<bytes> COMPILER).decode(), "debug": bool(DEBUGGING), "level": level()}
