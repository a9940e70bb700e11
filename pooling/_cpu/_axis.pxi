"""One axis of one block: its windows, from a buffer or from rows of the array. (Part of _nest.pyx.)"""


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
    walk.more = NULL
    return walk


cdef inline void pick_more(const Job* job, Walk* walk, Cells dst, Cells a, Cells b, Cells d, Cells c) noexcept nogil:
    """dst = (a . b) . (d . c)."""
    cdef Walk same
    walk.more = NULL if job.indexed else d.value
    job.pick(walk, dst, a, b, c)
    walk.more = NULL
    if job.indexed:
        same = walk[0]
        same.cpitch, same.cstep = walk.dpitch, walk.dstep
        job.pick(&same, dst, d, NONE, dst)


cdef void direct(const Job* job, Walk* walk, Cells dst, Cells src, Py_ssize_t kernel, Py_ssize_t apart, Cells spare) noexcept nogil:
    """S(kernel, i) by its definition, `apart` cells between taps; `spare` takes one result per level of the recursion."""
    cdef Cells b = NONE, c = NONE
    cdef Walk same
    cdef Py_ssize_t half = 2, k
    walk.cpitch, walk.cstep = walk.pitch, walk.step
    if kernel <= 4 or job.idempotent:
        if kernel > 1:
            b = at(job, src, apart)
        if kernel > 2:
            c = at(job, src, (min(kernel, 4) - 1) * apart)
        if kernel > 3:
            pick_more(job, walk, dst, src, b, at(job, src, 2 * apart), c)
        else:
            job.pick(walk, dst, src, b, c)
        walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
        for k in range(4, kernel, 3):
            b = at(job, src, (k + 1) * apart) if k + 1 < kernel else NONE
            if k + 2 < kernel:
                pick_more(job, walk, dst, at(job, src, k * apart), b, at(job, src, (k + 2) * apart), dst)
            else:
                job.pick(walk, dst, at(job, src, k * apart), b, dst)
        return
    while half * 2 < kernel:
        half *= 2
    direct(job, walk, dst, src, half, apart, spare)
    if half + 1 == kernel and (walk.step == walk.dstep or walk.inner > 1):
        same = walk[0]
        same.pitch, same.step, same.cpitch, same.cstep = walk.dpitch, walk.dstep, walk.pitch, walk.step
        job.pick(&same, dst, dst, NONE, at(job, src, half * apart))
        return
    direct(job, walk, spare, at(job, src, half * apart), kernel - half, apart, at(job, spare, walk.planes * walk.dpitch))
    join(job, walk, dst, dst, spare)


cdef void join(const Job* job, const Walk* walk, Cells dst, Cells a, Cells c) noexcept nogil:
    """dst = a . c, all three laid out as the results of `walk`."""
    cdef Walk same = walk[0]
    same.pitch = same.cpitch = same.dpitch
    same.step = same.cstep = same.dstep
    job.pick(&same, dst, a, NONE, c)


cdef void quadruple(const Job* job, Cells dst, Cells src, Py_ssize_t count, Py_ssize_t apart) noexcept nogil:
    """P(4h) from P(h): every position with those 1, 2 and 3 times `apart` cells on; the last ones lack some and are not read
    again."""
    cdef Walk flat = walks(1, 1, count - 3 * apart)
    if flat.inner > 0:
        pick_more(job, &flat, dst, src, at(job, src, apart), at(job, src, 2 * apart), at(job, src, 3 * apart))


cdef void doubling(const Job* job, Walk* walk, Cells dst, Cells src, Cells spare, Py_ssize_t kernel, Py_ssize_t apart) noexcept nogil:
    """S(kernel, i) for kernel >= 4 from P(1), P(4), P(16) ...: two doublings in one pass."""
    cdef Py_ssize_t block = 1, digit, count = walk.planes * walk.pitch
    cdef bint begun = False
    cdef Cells first, second, third
    while True:
        # src holds P(block). A digit of the kernel, to base 4, takes its blocks from here, behind all larger blocks.
        digit = 0 if job.idempotent else kernel // block % 4
        first = at(job, src, (kernel // block - digit) * block * apart)
        second, third = at(job, first, block * apart), at(job, first, 2 * block * apart)
        if digit == 3 and not begun:
            walk.cpitch, walk.cstep = walk.pitch, walk.step
            job.pick(walk, dst, first, second, third)
        elif digit:
            walk.cpitch, walk.cstep = walk.dpitch, walk.dstep
            if digit == 3:
                pick_more(job, walk, dst, first, second, third, dst)
            else:
                job.pick(walk, dst, first, second if digit == 2 else NONE, dst if begun else NONE)
        begun = begun or digit > 0
        if kernel <= 4 * block:
            break
        quadruple(job, spare, src, count, apart * block)
        src, spare = spare, src
        block *= 4
    if job.idempotent or kernel == 4 * block:   # up to four blocks, the last one ending where the window ends, and made only here
        walk.cpitch, walk.cstep = walk.pitch, walk.step
        first, second = at(job, src, block * apart), at(job, src, 2 * block * apart)
        third = at(job, src, (kernel - block) * apart)
        if kernel > 3 * block:
            pick_more(job, walk, dst, src, first, second, third)
        else:
            job.pick(walk, dst, src, first if kernel > 2 * block else NONE, third)


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
    """Whether a pick for every few taps costs less than doubling: its passes over all positions, and a pick for each block."""
    cdef Py_ssize_t kernel = axis.kernel, block = 1, taps = 0, passes = 0, blocks = 0
    if kernel <= 4 or axis.starts != NULL:
        return True
    while 4 * block < kernel:
        blocks += kernel // block % 4 > 0
        passes += 1
        block *= 4
    if job.idempotent:
        taps, blocks = (kernel + 1) // 3, 1
    else:
        blocks += 1
        while kernel > 4:
            block = 4
            while 2 * block < kernel:
                block *= 2
            taps += block // 2
            kernel -= block
        taps += kernel > 1
    return taps * (windows + CALL) <= passes * (positions + CALL) + blocks * (windows + CALL)


cdef inline bint tapped(const Job* job, const Axis* axis, const Tile* t, Py_ssize_t planes, Py_ssize_t inner) noexcept nogil:
    """Whether these windows take a pick per tap, which leaves their cells as they are."""
    return not t.clipped and few(job, axis, <double> planes * t.total * inner, <double> planes * t.outs * inner)


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
        if array or tapped(job, axis, t, walk.planes, walk.inner):
            direct(job, walk, dst, src, axis.kernel, apart, spare)
        else:
            doubling(job, walk, dst, src, spare, axis.kernel, apart)
