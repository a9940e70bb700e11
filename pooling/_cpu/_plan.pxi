"""Which way a call takes, and how it is cut into blocks: all by counting. (Part of _nest.pyx.)"""


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


cdef void cut(Job* job, Py_ssize_t target, Py_ssize_t pieces, double whole=0) noexcept nogil:
    """Halve the block, where that repeats the least work, until its buffer is small and there are enough pieces.

    `whole` is what half a row costs beside that: it fills half of a cache's sets where rows are a power of two long.
    """
    cdef Py_ssize_t k, best, axis
    cdef double work, repeated, cost, least, bytes_, parts, before, after
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
        best, least, repeated = -1, 1e300, 0
        for k in range(5):
            if job.block[k] < 2 or (k == 4 and job.block[k] < 64):
                continue
            work = 1
            if 0 < k < 4:
                before = longest(&job.axis[k - 1], job.block[k])
                after = longest(&job.axis[k - 1], (job.block[k] + 1) // 2)
                work = max(1.0, 2.0 * after / before)
            cost = work + 0.001 * k + (0.016 if k == 4 else 0) + (whole if k > 2 else 0)
            if cost < least:
                best, least, repeated = k, cost, work
        # A half that is hardly smaller repeats the whole: windows that reach further than the block.
        if best < 0 or repeated > 1.9 or (repeated > 1.5 and bytes_ <= SCRATCH_LIMIT):
            break
        job.block[best] = (job.block[best] + 1) // 2
    for k in range(5):
        job.grid[k] = (size[k] + job.block[k] - 1) // job.block[k]


cdef Py_ssize_t levels_of(const Axis* axis) noexcept nogil:
    """How many rows of partial sums a recursion over an axis has at a time."""
    cdef Py_ssize_t levels = 1, taps = axis.kernel if axis.starts == NULL else axis.n
    while levels < SPARES and taps >> (levels + 1):
        levels += 1
    return levels


cdef bint plan_lanes(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether rows of windows are made a few at a time, and how many: where a pick per row costs least, without indices."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t k, width, room, levels, size = job.size, last = job.outers - 1
    cdef double row = <double> job.axis[2].n * job.inner
    cdef bint straight = job.straight, onto = job.onto, tall
    if job.i != NULL or job.first == 3 or (job.straight and job.first == 2):
        return False
    for k in range(3):
        if job.axis[k].spacing > 1 or job.axis[k].sparse:
            return False
    job.deep = job.first == 0
    if job.deep and not (job.straight and few(job, &job.axis[0], job.axis[0].n * row, job.axis[0].out * row)):
        return False
    if job.axis[0].out == 1 and row * down.n < PIECE:   # planes that are pooled together
        row *= job.outer[last]
    tall = not (job.deep or down.stride > 1 or down.dilation > 1 or down.starts != NULL or down.kernel > down.n
                or job.axis[2].n * job.inner * size < SWEPT)
    job.swept = not few(job, down, down.n * row, down.out * row) or (tall and not job.idempotent and down.kernel > PILES)
    if job.swept and not tall:
        return False
    job.straight = job.copied and not job.deep and (job.x_inner == size or job.inner == 1) and job.x_axis[1] % size == 0 and job.x_axis[2] % size == 0
    job.merged = job.merge != NULL and not job.swept and down.kernel <= 3 and down.starts == NULL
    job.merged = job.merged and (job.x_inner == job.cell or job.inner == 1) and job.x_axis[2] == job.inner * job.cell
    job.merged = job.merged and job.axis[2].n * job.x_axis[2] >= MERGED
    job.onto = job.exact and job.finish == NULL and (job.y_inner == size or job.inner == 1) and (across.kernel <= 4 or job.idempotent)
    job.onto = job.onto and job.y_axis[1] % size == 0 and job.y_axis[2] % size == 0 and across.starts == NULL
    cut(job, 1 << 60, pieces, 0.1)
    while job.block[4] >= 128 and min(across.extent, across.n) * job.block[4] * size > 2 * ROW:   # shorter pieces are read slower
        job.block[4] = (job.block[4] + 1) // 2
    job.grid[4] = (job.inner + job.block[4] - 1) // job.block[4]
    job.lane = job.block[3]
    room = 4 * min(across.extent, across.n) * job.block[4] * size
    if job.swept:
        room = TALL // tall_rows(job) - 32 * size
    else:
        room = max(LANE, room)
    if job.deep:   # whole windows at a time, in five buffers at most
        k = longest(down, 1) * levels_of(&job.axis[0]) * max(size, job.finished)
        room = min(room, 4 * SCRATCH_LIMIT // (5 * k) * size)
    while job.lane > 1 and max(job.lane, longest(across, job.lane)) * job.block[4] * size > room:
        job.lane = (job.lane + 1) // 2
    width = max(job.lane, longest(across, job.lane)) * job.block[4]   # of cells, and of windows, which may be more
    job.slab = 1
    if job.swept:
        job.slab = min(job.block[2], down.kernel) if job.idempotent else job.block[2]
    elif job.lane == job.block[3]:
        job.slab = min(job.block[2], max(1, LANE // (width * size)))
    while job.deep and job.slab > 1 and longest(down, job.slab) * width * size > LANE:   # rows of which several are kept
        job.slab = (job.slab + 1) // 2
    levels = max(2, max(levels_of(down), levels_of(across)))
    # Where no row is left over, and no way across: results need no buffer. What sums keep aside is as far apart as these.
    job.alone = job.onto and idle(across) and job.y_axis[2] == job.block[4] * size and \
        (job.idempotent or down.kernel <= 4 and down.starts == NULL)
    job.group = 1   # small planes together
    k = job.y_axis[0] if job.deep else job.y_outer[last]
    if not job.swept and job.slab == down.out and job.lane == across.out and (job.deep or job.axis[0].out == 1) \
            and job.block[4] == job.inner and (not job.straight or job.x_axis[2] == job.inner * size) \
            and (not job.onto or k == down.out * job.y_axis[1]):
        k = job.slab if job.straight else max(job.slab, longest(down, job.slab))
        job.group = min(job.block[1 if job.deep else 0], max(1, LANE // (k * width * size)))
    k = job.group * job.slab * levels
    if job.swept:
        k = 2 if job.idempotent else rows_together(job, width, PILED) + rows_together(job, width, LANE // 2)
        job.kept = (tall_rows(job) * (width + 32) * size + 63) & ~63
    elif not job.straight and not job.merged:
        k = max(k, job.group * longest(down, job.slab) * (levels_of(&job.axis[0]) if job.deep else 1))
    job.capacity = (k * width + 63) & ~63
    if job.kept > TALL:   # windows too wide for so many rows
        job.kept = 0
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
    job.slab = 1
    job.kept = 0
    job.taken = NULL
    job.chosen = plan_chosen(job, pieces)
    job.lanes = False
    job.fuse = NULL
    if not plan_whole(job, pieces):
        job.combined = NULL
    if job.chosen or job.combined != NULL or plan_fused(job, pieces):
        return
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
    job.swept = False
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
        k = levels_of(axis)
        if job.first == 2:
            job.capacity *= k
        else:
            cells = max(PIECE, job.block[4] * (job.block[0] if job.first else longest(&job.axis[1], job.block[2])))
            job.capacity = max(job.capacity, k * cells)
    job.capacity = (job.capacity + 63) & ~63
