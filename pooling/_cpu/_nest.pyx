# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The loop nest: one walk over (outer, D, H, W, inner) for every mode, element type, rank and layout.

A call is cut into blocks of windows. For each block the cells that its windows touch are loaded into a dense buffer of
accumulators, padded with identities (pad the buffer, not the data: no later loop has a branch), then one axis after
the other is reduced, D, H, W, and the result is finished and stored. Reducing an axis is written once, for
planes x cells x inner: down the rows it is the same work as along a row with a larger `inner`.

Sums are added in one order, S(k, i) = S(h, i) + S(k-h, i+h) with h the largest power of two below k, so that every
algorithm here gives the same bits:
    direct    the recursion itself, for few taps or far strides
    doubling  P(2h, i) = P(h, i) + P(h, i+h) for all i at once: log2(k) passes whatever the kernel
    clipped   doubling for kernels that reach far beyond the data, without buffering what they reach
This file never sees an element type: it moves bytes and calls the loops of _rows.pyx through their addresses.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from numpy cimport PyArray_DATA, ndarray

from pooling._cpu._rows cimport Cells, Walk, finish_t, load_t, pick_t, store_t

from pooling._cpu._rows import ROWS


cdef extern from "_build.h":
    void CHECK "POOLING_CHECK"(bint fact) noexcept nogil
    const char* COMPILER "POOLING_COMPILER"
    int OPENMP "POOLING_OPENMP"
    int DEBUGGING "POOLING_DEBUGGING"


cdef enum:
    TARGET = 1 << 17          # bytes of one block's buffer: three of them stay in a core's second-level cache
    SCRATCH_LIMIT = 1 << 20   # bytes of one buffer above which a block is cut even where that repeats work
    CALL = 32                 # what calling a row loop costs, in cells
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
    bint idempotent, uniform
    Py_ssize_t size, finished  # bytes of an accumulator, of a finished value
    uint64_t identity
    double p
    # Blocks: (last outer, D, H, W, inner) of each, how many there are, and the scratch memory of one thread.
    Py_ssize_t block[5]
    Py_ssize_t grid[5]
    Py_ssize_t capacity, scratch


cdef Cells NONE   # no operand
NONE.value = NULL
NONE.index = NULL


cdef inline Cells at(Cells cells, Py_ssize_t offset, Py_ssize_t size) noexcept nogil:
    cells.value += offset * size
    if cells.index != NULL:
        cells.index += offset
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
        memset(cells.index, 0xff, count * sizeof(uint64_t))


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


cdef void direct(const Job* job, Walk* walk, Cells dst, Cells src, Py_ssize_t kernel, Py_ssize_t apart, Cells spare) noexcept nogil:
    """S(kernel, i) by its definition, `apart` cells between taps; `spare` takes one result per level of the recursion."""
    cdef Cells b = NONE, c = NONE
    cdef Py_ssize_t half = 2
    walk.cpitch, walk.cstep = walk.pitch, walk.step
    if kernel <= 3:
        if kernel > 1:
            b = at(src, apart, job.size)
        if kernel > 2:
            c = at(src, 2 * apart, job.size)
        job.pick(walk, dst, src, b, c)
        return
    while half * 2 < kernel:
        half *= 2
    direct(job, walk, dst, src, half, apart, spare)
    direct(job, walk, spare, at(src, half * apart, job.size), kernel - half, apart,
           at(spare, walk.planes * walk.dpitch, job.size))
    join(job, walk, dst, dst, spare)


cdef void join(const Job* job, const Walk* walk, Cells dst, Cells a, Cells c) noexcept nogil:
    """dst = a . c, all three dense results."""
    cdef Walk dense
    dense.planes, dense.cells, dense.inner = walk.planes, 1, walk.cells * walk.inner
    dense.dpitch = dense.pitch = dense.cpitch = walk.dpitch
    dense.step = dense.cstep = dense.inner
    job.pick(&dense, dst, a, NONE, c)


cdef void double(const Job* job, Cells dst, Cells src, Py_ssize_t count, Py_ssize_t apart) noexcept nogil:
    """P(2h) from P(h): every position with the one `apart` cells on; the last ones have no partner and are not read again."""
    cdef Walk flat
    flat.planes, flat.cells, flat.inner = 1, 1, count - apart
    flat.dpitch = flat.pitch = flat.cpitch = 0
    flat.step = flat.cstep = flat.inner
    if flat.inner > 0:
        job.pick(&flat, dst, src, at(src, apart, job.size), NONE)


cdef void doubling(const Job* job, Walk* walk, Cells dst, Cells src, Cells spare, Py_ssize_t kernel, Py_ssize_t apart) noexcept nogil:
    """S(kernel, i) for kernel >= 4 from P(1), P(2), P(4) ...; the last doubling is made only where a window begins."""
    cdef Py_ssize_t level = 0, top = 1, count = walk.planes * walk.pitch
    cdef bint begun = False
    while kernel >> (top + 1):
        top += 1
    while True:
        # src holds P(2**level). A bit of the kernel takes its block from here, behind all larger blocks.
        if not job.idempotent and kernel >> level & 1:
            walk.cpitch, walk.cstep = walk.dpitch, walk.inner
            job.pick(walk, dst, at(src, (kernel >> (level + 1) << (level + 1)) * apart, job.size), NONE, dst if begun else NONE)
            begun = True
        if level == top - 1:
            break
        double(job, spare, src, count, apart << level)
        src, spare = spare, src
        level += 1
    if not job.idempotent:
        walk.cpitch, walk.cstep = walk.dpitch, walk.inner
        job.pick(walk, dst, src, at(src, apart << level, job.size), dst if begun else NONE)
    elif kernel <= 3 << level:   # blocks may overlap: two, and a third that ends where the window ends
        walk.cpitch, walk.cstep = walk.pitch, walk.step
        job.pick(walk, dst, src, at(src, apart << level, job.size), at(src, (kernel - (1 << level)) * apart, job.size))
    else:
        double(job, spare, src, count, apart << level)
        job.pick(walk, dst, spare, at(spare, (kernel - (2 << level)) * apart, job.size), NONE)


cdef void clipped(const Job* job, const Axis* axis, const Tile* t, Walk* walk, Cells dst, Cells src, Cells spare) noexcept nogil:
    """Windows that reach far beyond the data: blocks of taps that miss it are identities and are left out."""
    cdef Py_ssize_t levels = doublings(axis, t.stop - t.start), level, o, begin, position, block, apart
    cdef Py_ssize_t inner = walk.inner, size = job.size
    cdef Walk one = walk[0]
    fill(job, dst, walk.planes * walk.dpitch)
    one.cells, one.step, one.cpitch, one.cstep = 1, inner, walk.dpitch, inner
    for level in range(levels):
        if axis.kernel >> level & 1:
            for o in range(t.outs):
                position = t.origin + o * axis.stride + (axis.kernel >> (level + 1) << (level + 1)) * axis.dilation
                if 0 <= position < t.total:
                    job.pick(&one, at(dst, o * inner, size), at(src, position * inner, size), NONE, at(dst, o * inner, size))
        apart = min(axis.dilation << level, t.total)
        one.dpitch = walk.pitch
        one.inner = (t.total - apart) * inner
        one.step = one.cstep = one.inner
        if one.inner > 0:
            job.pick(&one, spare, src, at(src, apart * inner, size), NONE)
        one.inner = apart * inner
        one.step = one.cstep = one.inner
        job.pick(&one, at(spare, (t.total - apart) * inner, size), at(src, (t.total - apart) * inner, size), NONE, NONE)
        one.dpitch, one.inner = walk.dpitch, inner
        one.step = one.cstep = inner
        src, spare = spare, src
    # Blocks of 2**levels taps are as long as the data: at most two neighbours of a window's blocks meet it.
    apart = axis.dilation << levels
    for o in range(t.outs):
        begin = t.origin + o * axis.stride
        block = 0 if begin >= 0 else (-begin + apart - 1) // apart
        for block in range(block + 1, block - 1, -1):
            position = begin + block * apart
            if block < axis.kernel >> levels and 0 <= position < t.total:
                job.pick(&one, at(dst, o * inner, size), at(src, position * inner, size), NONE, at(dst, o * inner, size))


cdef bint sparse(const Job* job, const Axis* axis, Walk* one, Cells dst, Cells src, Py_ssize_t position, Py_ssize_t kernel,
                 Cells spare) noexcept nogil:
    """S(kernel, position) over cells that stand far apart, `axis.sparse` from one to the next; False where no cell is met."""
    cdef Py_ssize_t half = 1, apart = axis.sparse, size = job.size
    cdef Py_ssize_t low = max(0, (position + apart - 1) // apart if position > 0 else 0)
    cdef Py_ssize_t last = position + (kernel - 1) * axis.dilation
    cdef Py_ssize_t high = min(axis.n - 1, last // apart) if last >= 0 else -1
    cdef bint left, right
    if low > high or (low == high and (low * apart - position) % axis.dilation):
        return False
    if low == high:
        job.pick(one, dst, at(src, low * one.inner, size), NONE, NONE)
        return True
    while half * 2 < kernel:
        half *= 2
    left = sparse(job, axis, one, dst, src, position, half, spare)
    right = sparse(job, axis, one, spare if left else dst, src, position + half * axis.dilation, kernel - half,
                   at(spare, one.planes * one.inner, size) if left else spare)
    if left and right:
        join(job, one, dst, dst, spare)
    return left or right


cdef void reduce_axis(const Job* job, const Axis* axis, const Tile* t, Py_ssize_t planes, Py_ssize_t inner, Cells dst, Cells src,
                      Cells spare) noexcept nogil:
    """[planes][total][inner] cells to [planes][outs][inner] windows. The one place that chooses the algorithm."""
    cdef Walk walk, one
    cdef Py_ssize_t o, top = 1, bits = 0, kernel = axis.kernel, wide, narrow, apart = axis.dilation * inner
    walk.planes, walk.cells, walk.inner = planes, t.outs, inner
    walk.dpitch, walk.pitch, walk.step = t.outs * inner, t.total * inner, axis.stride * inner
    if t.total == 0:
        fill(job, dst, planes * walk.dpitch)
    elif t.clipped:
        clipped(job, axis, t, &walk, dst, src, spare)
    elif axis.sparse:
        fill(job, dst, planes * walk.dpitch)
        one, walk.cells, walk.pitch, walk.step = walk, 1, inner, inner
        one.cells, one.step, one.dpitch = 1, inner, inner
        for o in range(t.outs):
            if sparse(job, axis, &one, spare, src, t.origin + o * axis.stride, kernel, at(spare, planes * inner, job.size)):
                job.pick(&walk, at(dst, o * inner, job.size), spare, NONE, NONE)
    elif axis.starts != NULL:
        walk.cells, walk.step = 1, inner
        for o in range(t.outs):
            direct(job, &walk, at(dst, o * inner, job.size),
                   at(src, (axis.starts[t.first + o] - t.start) * inner, job.size), axis.counts[t.first + o], inner, spare)
    else:
        CHECK((t.outs - 1) * axis.stride + axis.extent <= t.total)
        while kernel >> (top + 1):
            top += 1
        for o in range(top):
            bits += kernel >> o & 1
        wide, narrow = planes * walk.pitch + CALL, planes * walk.dpitch + CALL
        # Every pass over all positions, and every pick, against one pick per tap.
        if kernel <= 3 or (kernel - 1) * narrow <= (top - 1) * wide + (1 + (1 if job.idempotent else bits)) * narrow:
            direct(job, &walk, dst, src, kernel, apart, spare)
        else:
            doubling(job, &walk, dst, src, spare, kernel, apart)


# ---- one block -----------------------------------------------------------------------------------------------

cdef void load_block(const Job* job, const Tile* t, const char* x, Py_ssize_t batch, Py_ssize_t batch_stride, Py_ssize_t inner,
                     Cells buffer, char* row) noexcept nogil:
    """The cells of a block's windows, as accumulators, where the tiles say; all else identities."""
    cdef Py_ssize_t g, d, h, w, c, size = job.size, place, flat
    cdef Py_ssize_t low[3]
    cdef Py_ssize_t high[3]
    cdef Py_ssize_t lead[3]
    cdef Py_ssize_t axis, spacing, whole = batch
    cdef Py_ssize_t count[3]
    cdef Py_ssize_t rows = 1, row_cells, planes = 1
    cdef const char* source
    for axis in range(3):
        spacing = job.axis[axis].spacing
        low[axis] = (t[axis].start + spacing - 1) // spacing
        high[axis] = (t[axis].stop + spacing - 1) // spacing
        lead[axis] = t[axis].lead + low[axis] * spacing - t[axis].start
        count[axis] = high[axis] - low[axis]
        whole *= t[axis].total
        x += low[axis] * job.x_axis[axis]
    if count[0] * count[1] * count[2] * batch != whole:
        fill(job, buffer, whole * inner)
    if whole == 0:
        return
    # Rows that follow each other in the array and in the buffer are loaded as one.
    row_cells = count[2]
    rows, planes = count[1], count[0]
    if count[2] == t[2].total and job.axis[2].spacing == 1 and job.x_axis[1] == count[2] * job.x_axis[2] \
            and (rows == 1 or job.axis[1].spacing == 1):
        row_cells, rows = row_cells * rows, 1
        if count[1] == t[1].total and job.x_axis[0] == row_cells * job.x_axis[2] and (planes == 1 or job.axis[0].spacing == 1):
            row_cells, planes = row_cells * planes, 1
            if count[0] == t[0].total and batch_stride == row_cells * job.x_axis[2]:
                row_cells, batch = row_cells * batch, 1
    for g in range(batch):
        for d in range(planes):
            for h in range(rows):
                place = ((g * t[0].total + lead[0] + d * job.axis[0].spacing) * t[1].total + lead[1] + h * job.axis[1].spacing)
                place = (place * t[2].total + lead[2]) * inner
                source = x + g * batch_stride + d * job.x_axis[0] + h * job.x_axis[1]
                CHECK(0 <= place and place + ((row_cells - 1) * job.axis[2].spacing + 1) * inner <= job.capacity)
                if job.axis[2].spacing == 1:
                    job.load(buffer.value + place * size, source, row_cells, job.x_axis[2], inner, job.x_inner, job.p)
                else:
                    job.load(row, source, row_cells, job.x_axis[2], inner, job.x_inner, job.p)
                    for w in range(row_cells):
                        memcpy(buffer.value + (place + w * job.axis[2].spacing * inner) * size, row + w * inner * size, inner * size)
    if buffer.index == NULL:
        return
    for g in range(whole // (t[0].total * t[1].total * t[2].total)):
        for d in range(count[0]):
            for h in range(count[1]):
                place = (((g * t[0].total + lead[0] + d) * t[1].total + lead[1] + h) * t[2].total + lead[2]) * inner
                flat = ((low[0] + d) * job.axis[1].n + low[1] + h) * job.axis[2].n + low[2]
                for w in range(count[2]):
                    for c in range(inner):
                        buffer.index[place + w * inner + c] = flat + w


cdef void store_block(const Job* job, const Tile* t, char* y, char* i, Py_ssize_t batch, Py_ssize_t batch_y, Py_ssize_t batch_i,
                      Py_ssize_t inner, Cells buffer, char* row, char* divisors) noexcept nogil:
    """A block's combined values, finished, to where the result has them."""
    cdef Py_ssize_t g, d, h, w, c, cells = t[2].outs, rows = t[1].outs, planes = t[0].outs
    cdef int64_t count
    cdef char* source
    cdef char* target
    if job.uniform and cells * rows * inner <= job.capacity and job.y_axis[1] == cells * job.y_axis[2] and i == NULL:
        cells, rows = cells * rows, 1
        if cells * planes * inner <= job.capacity and job.y_axis[0] == cells * job.y_axis[2]:
            cells, planes = cells * planes, 1
            if cells * batch * inner <= job.capacity and batch_y == cells * job.y_axis[2]:
                cells, batch = cells * batch, 1
    for g in range(batch):
        for d in range(planes):
            for h in range(rows):
                source = buffer.value + ((g * planes + d) * rows + h) * cells * inner * job.size
                if job.finish != NULL:
                    if not job.uniform:
                        count = job.axis[0].divisors[t[0].first + d] * job.axis[1].divisors[t[1].first + h]
                        for w in range(cells):
                            if job.finished == 4:
                                (<float*> divisors)[w] = <float> (count * job.axis[2].divisors[t[2].first + w])
                            else:
                                (<double*> divisors)[w] = <double> (count * job.axis[2].divisors[t[2].first + w])
                    job.finish(row, source, cells, inner, divisors, job.p)
                    source = row
                target = y + g * batch_y + d * job.y_axis[0] + h * job.y_axis[1]
                job.store(target, job.y_axis[2], job.y_inner, source, cells, inner)
                if i != NULL:
                    target = i + g * batch_i + d * job.i_axis[0] + h * job.i_axis[1]
                    for w in range(cells):
                        for c in range(inner):
                            (<uint64_t*> (target + w * job.i_axis[2] + c * job.i_inner))[0] = \
                                buffer.index[(((g * planes + d) * rows + h) * cells + w) * inner + c]


cdef void run_block(const Job* job, Py_ssize_t item, char* scratch) noexcept nogil:
    """Block number `item`: load, reduce D, H and W, finish and store."""
    cdef Py_ssize_t first[5]
    cdef Py_ssize_t count[5]
    cdef Tile t[3]
    cdef Cells buffers[3]
    cdef Py_ssize_t axis, k, index, planes, inner
    cdef Py_ssize_t last = job.outers - 1
    cdef char* end = scratch + job.scratch
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
        t[axis] = tile(&job.axis[axis], first[axis + 1], min(count[axis + 1], job.axis[axis].out - first[axis + 1]))
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
    for k in range(3):
        buffers[k].value = scratch + k * job.capacity * job.size
        buffers[k].index = NULL
        if i != NULL:
            buffers[k].index = <uint64_t*> (scratch + 3 * job.capacity * job.size) + k * job.capacity
    scratch += 3 * job.capacity * (job.size + (sizeof(uint64_t) if i != NULL else 0))
    load_block(job, t, x, count[0], job.x_outer[last], count[4], buffers[0], scratch)
    planes, inner = count[0], t[1].total * t[2].total * count[4]
    for axis in range(3):
        if job.axis[axis].kernel > 1 or t[axis].total != t[axis].outs or t[axis].lead > 0 or t[axis].clipped:
            CHECK(planes * t[axis].total * inner <= job.capacity and planes * t[axis].outs * inner <= job.capacity)
            reduce_axis(job, &job.axis[axis], &t[axis], planes, inner, buffers[1], buffers[0], buffers[2])
            buffers[0], buffers[1] = buffers[1], buffers[0]
        planes *= t[axis].outs
        if axis < 2:
            inner = count[4] * (t[2].total if axis == 0 else 1)
    store_block(job, t, y, i, count[0], job.y_outer[last], job.i_outer[last], count[4], buffers[0], scratch,
                end - job.capacity * job.finished)


# ---- cutting a call into blocks ------------------------------------------------------------------------------

cdef double needed(const Job* job, const Py_ssize_t* block) noexcept nogil:
    """The cells of the largest buffer that a block passes through; a double, which no shape overflows."""
    cdef double most = 1, cells
    cdef Py_ssize_t axis, k
    for k in range(4):   # before axis k: the axes left of it are reduced
        cells = <double> block[0] * block[4]
        for axis in range(3):
            cells *= block[axis + 1] if axis < k else longest(&job.axis[axis], block[axis + 1])
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


# ---- from Python ---------------------------------------------------------------------------------------------

cdef class Loops:
    """The row loops of one mode on one combination of types, found once."""

    cdef load_t load
    cdef pick_t pick
    cdef finish_t finish
    cdef store_t store
    cdef Py_ssize_t size, finished
    cdef uint64_t identity
    cdef bint idempotent

    def __init__(self, str combine, bint idempotent, str cell, str finish, types, bint indexed, bytes identity, Py_ssize_t finished):
        self.load = <load_t> <size_t> ROWS["load", cell, types.cell, types.accumulate]
        self.pick = <pick_t> <size_t> ROWS["choose" if indexed else "pick", combine, types.accumulate]
        self.finish = NULL
        if finish != "s":
            self.finish = <finish_t> <size_t> ROWS["finish", finish, types.accumulate, types.finish]
        self.store = <store_t> <size_t> ROWS["store", types.finish, types.result]
        self.size, self.finished, self.idempotent = len(identity), finished, idempotent
        self.identity = 0
        memcpy(&self.identity, <const char*> identity, len(identity))


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


def reduce(Loops loops, list axes, view, ndarray x, ndarray y, ndarray i, double p, int64_t divisor, bint uniform,
           Py_ssize_t threads):
    """Pools x into y, and the indices into i (or None). axes: (Axis, ranges, divisors) of D, H and W; view: a View of x, y, i."""
    cdef Job job
    cdef Py_ssize_t k, item, items = 1, work = 1
    cdef char* scratch
    cdef char* row
    memset(&job, 0, sizeof(Job))
    job.load, job.pick, job.finish, job.store = loops.load, loops.pick, loops.finish, loops.store
    job.size, job.finished, job.idempotent, job.identity = loops.size, loops.finished, loops.idempotent, loops.identity
    job.x, job.y, job.p, job.uniform = <char*> PyArray_DATA(x), <char*> PyArray_DATA(y), p, uniform
    job.i = <char*> PyArray_DATA(i) if i is not None else NULL
    outer, (job.inner, job.x_inner, job.y_inner, job.i_inner), pooled = view
    job.outers = len(outer)
    for k in range(job.outers):
        job.outer[k], job.x_outer[k], job.y_outer[k], job.i_outer[k] = outer[k]
        items *= job.outer[k] if k < job.outers - 1 else 1
        work *= job.outer[k]
    for k in range(3):
        lay(&job.axis[k], axes[k])
        job.x_axis[k], job.y_axis[k], job.i_axis[k] = pooled[k]
        work *= max(job.axis[k].n, job.axis[k].out)
    if work * job.inner < THREADED:
        threads = 1
    cut(&job, TARGET, 1 if threads == 1 else max(1, 4 * threads // items))
    for k in range(5):
        items *= job.grid[k]
    threads = max(1, min(threads, items))
    job.capacity = (<Py_ssize_t> needed(&job, job.block) + 15) & ~15
    job.scratch = job.capacity * (3 * (job.size + (sizeof(uint64_t) if job.i != NULL else 0)) + max(job.size, job.finished) + job.finished)
    job.scratch = (job.scratch + 63) & ~63
    scratch = <char*> malloc(threads * job.scratch)
    if scratch == NULL:
        raise MemoryError(f"{threads * job.scratch} bytes of row buffers")
    if uniform and job.finish != NULL:   # one divisor for all windows: a row of it per thread
        for item in range(threads):
            row = scratch + (item + 1) * job.scratch - job.capacity * job.finished
            for k in range(job.capacity):
                if job.finished == sizeof(float):
                    (<float*> row)[k] = <float> divisor
                else:
                    (<double*> row)[k] = <double> divisor
    with nogil:
        if threads == 1:
            for item in range(items):
                run_block(&job, item, scratch)
        else:
            for item in prange(items, schedule="dynamic", num_threads=threads):
                run_block(&job, item, scratch + threadid() * job.scratch)
    free(scratch)


def info():
    """How this extension was built."""
    return {"openmp": bool(OPENMP), "compiler": (<bytes> COMPILER).decode(), "debug": bool(DEBUGGING)}
