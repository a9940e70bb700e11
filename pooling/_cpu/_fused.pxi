"""Small windows over planes, each row of them from its lines of cells in one go. (Part of _nest.pyx.)"""


cdef bint plan_fused(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether these are windows of two or three lines, and of as many cells along W, that lie dense; their loop, and blocks."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef const Axis* deep = &job.axis[0]
    cdef Py_ssize_t k, last = job.outers - 1, line = across.n * job.inner * job.cell
    cdef Py_ssize_t windows = across.out * job.inner * job.size
    cdef Py_ssize_t size[3]
    cdef bint keys = not job.copied and job.size == job.cell
    cdef fuse_t* fuses = &job.fuses[0]
    job.deep = not idle(deep)
    job.prepared = job.deep or job.quotient != NULL
    if job.prepared:
        fuses = &job.plains[0]
    if fuses[0] == NULL or job.i != NULL:
        return False
    if job.inner > 1 and keys and down.kernel > 2:   # long runs of them are faster
        return False
    if job.inner > 1 and (job.inner * job.size < job.vector or job.x_inner != job.cell or job.quotient != NULL):
        return False
    if job.deep and (not job.copied or job.quotient != NULL or deep.kernel > 3 or deep.spacing > 1 or deep.sparse
                     or deep.starts != NULL or job.x_axis[0] % job.size or job.x_axis[1] % job.size):
        return False
    if not 2 <= across.kernel <= 3 or down.kernel != across.kernel:
        return False
    if across.stride > 2 or not 0 <= across.before <= 1 or across.dilation > 1:
        return False
    for k in range(1, 3):
        if job.axis[k].spacing > 1 or job.axis[k].sparse or job.axis[k].starts != NULL \
                or (job.axis[k].out - 1) * job.axis[k].stride - job.axis[k].before >= job.axis[k].n:
            return False
    if (across.n > 1 and job.x_axis[2] != job.inner * job.cell) or max(line, windows) > FUSED:
        return False
    size[0], size[1], size[2] = job.outer[last], job.axis[0].out, down.out
    if (down.n > 1 and job.x_axis[1] < line) or (size[0] > 1 and job.x_outer[last] < line) or \
            (size[1] > 1 and job.x_axis[0] < line):
        return False
    job.fuse = fuses[4 * (across.kernel - 2) + 2 * across.before + across.stride - 1]
    job.straight = job.copied
    if job.prepared or job.form == POOLING_PARTIAL:
        job.onto = job.exact and (job.finish == NULL or (job.divides and job.uniform))
    else:   # sums are rounded by divisors that allow it
        job.onto = job.finish == NULL or (job.uniform and (job.form == POOLING_FINISHED or job.divides or job.round != NULL))
    if job.inner > 1:
        job.onto = job.onto and job.y_inner == job.result
    else:
        job.onto = job.onto and (across.out == 1 or job.y_axis[2] == job.result)
    if keys and not job.onto:
        return False
    for k in range(3):
        job.block[k] = max(1, (size[k] + pieces - 1) // pieces)
        job.grid[k] = (size[k] + job.block[k] - 1) // job.block[k]
        pieces = (pieces + job.grid[k] - 1) // job.grid[k]
    job.block[3], job.block[4], job.grid[3], job.grid[4] = across.out, job.inner, 1, 1
    job.slab = job.block[2]
    job.group = job.block[0]
    line = across.n * job.inner * job.size
    if not job.onto or job.prepared:   # as many as have both their lines and their windows in a core's first-level cache
        while job.slab > 1 and (windows * job.slab > LANE or (job.prepared and line * lines_of(down, job.slab) > LANE)):
            job.slab = (job.slab + 1) // 2
        k = max(windows * job.slab, line * lines_of(down, job.slab) if job.prepared else 0)
        job.group = min(job.group, max(1, LANE // k)) if job.slab == job.block[2] else 1
    job.capacity = job.group * job.slab * across.out if not job.onto else 1
    # Beside that a line, and copies of three where as many accumulators have room twice.
    k = job.group * lines_of(down, job.slab) * across.n if job.prepared else 3 * (across.n + 3 * 64) // 2
    job.capacity = max(job.capacity, k)
    job.capacity = job.capacity * job.inner + 3 * 64
    job.capacity = (job.capacity + 63) & ~63
    return True


cdef inline Py_ssize_t lines_of(const Axis* axis, Py_ssize_t windows) noexcept nogil:
    return min(axis.n, (windows - 1) * axis.stride + axis.extent)


cdef inline double divisor_of(const Job* job) noexcept nogil:
    cdef float single
    cdef double wide
    memcpy(&single, &job.divisor, sizeof(float))
    memcpy(&wide, &job.divisor, sizeof(double))
    return single if job.finished == sizeof(float) else wide


cdef void prepare(const Job* job, const char* x, Py_ssize_t window, Py_ssize_t low, Py_ssize_t lines, char* dst) noexcept nogil:
    """Lines of a plane: each divided, or combined down D."""
    cdef Cells to = NONE
    cdef Py_ssize_t cells = job.axis[2].n
    to.value = dst
    if job.deep:
        combine_rows(job, window, x + low * job.x_axis[1], lines, cells, job.inner, to, NONE)
    else:
        x += window * job.x_axis[0] + low * job.x_axis[1]
        if job.x_axis[1] == cells * job.x_axis[2]:
            cells, lines = cells * lines, 1
        job.quotient(dst, cells * job.inner * job.size, x, job.x_axis[1], job.x_axis[2], job.cell, lines, cells, job.inner,
                     <const char*> &job.divisor, 0, 0)


cdef void run_fused(const Job* job, const Tile* t, const char* x, char* y, Py_ssize_t batch, char* scratch) noexcept nogil:
    """Some planes, and rows of them, at a time: to the result, or to a buffer, and finished and stored from there."""
    cdef Py_ssize_t g, d, h, i, j, k, low, high, last = job.outers - 1
    cdef fused_t f
    cdef Tile part[3]
    cdef Cells buffer = NONE
    cdef char* target
    cdef const char* source
    cdef const Axis* down = &job.axis[1]
    buffer.value = scratch
    f.none, f.identity = scratch + job.capacity * job.size, <const char*> &job.identity
    f.form, f.size = job.form if job.onto else POOLING_PARTIAL, job.result if job.onto else job.size
    f.divisor = divisor_of(job) if job.onto and job.finish != NULL else 0
    f.spare, f.wide = scratch + 2 * job.capacity * job.size, job.axis[2].n * job.inner * (job.size if job.prepared else job.cell)
    f.apart = f.wide + 3 * 64
    CHECK(job.prepared or job.inner > 1 or 3 * f.apart <= 2 * job.capacity * job.size)
    if down.before > 0 or (down.out - 1) * down.stride - down.before + down.extent > down.n:
        repeat(<char*> f.none, <const char*> (&job.identity if job.prepared else &job.neutral),
               job.size if job.prepared else job.cell, job.axis[2].n * job.inner + 3 * 64)
    part[0], part[1], part[2] = t[0], t[1], t[2]
    part[0].outs = 1
    f.windows, f.cells, f.lines = t[2].outs, job.axis[2].n, down.n
    f.stride, f.dilation, f.pitch, f.line = down.stride, down.dilation, job.x_outer[last], job.x_axis[1]
    f.ahead = down.stride * f.line
    if f.ahead > 0:
        f.ahead *= max(1, AHEAD // f.ahead)
    if job.prepared:
        f.line, f.ahead = f.cells * job.inner * job.size, 0
    f.inner, f.step = job.inner, job.inner * (job.size if job.prepared else job.cell)
    for d in range(t[0].outs):
        part[0].first = t[0].first + d
        for i in range((batch + job.group - 1) // job.group):
            g = i * job.group
            f.planes = min(job.group, batch - g)
            source = x + g * job.x_outer[last] + part[0].first * job.x_axis[0]
            f.end = source + (batch - g - 1) * f.pitch + (f.lines - 1) * f.line + f.cells * job.inner * job.cell
            for j in range((t[1].outs + job.slab - 1) // job.slab):
                h = j * job.slab
                part[1].first, part[1].outs = t[1].first + h, min(job.slab, t[1].outs - h)
                f.rows, f.first = part[1].outs, part[1].first * f.stride - down.before
                target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1]
                f.dstep = job.inner * f.size
                f.dpitch, f.drow, f.dense = f.rows * f.windows * f.dstep, f.windows * f.dstep, True
                if job.onto:
                    f.dense = f.drow == job.y_axis[1] and (f.planes == 1 or job.y_outer[last] == f.dpitch)
                    f.dpitch, f.drow, f.dstep = job.y_outer[last], job.y_axis[1], job.y_axis[2]
                if job.prepared:   # what is read behind them is of no use, and no harm
                    low, high = max(0, f.first), min(f.lines, f.first + (f.rows - 1) * f.stride + down.extent)
                    f.pitch, f.end = (high - low) * f.line, scratch + 3 * job.capacity * job.size
                    CHECK(f.planes * f.pitch + 3 * 64 * job.size <= job.capacity * job.size)
                    source = scratch + 2 * job.capacity * job.size
                    for k in range(f.planes):
                        prepare(job, x + (g + k) * job.x_outer[last], part[0].first, low, high - low,
                                <char*> source + k * f.pitch)
                    source -= low * f.line
                job.fuse(target if job.onto else buffer.value, source, &f)
                if not job.onto:
                    store_block(job, part, target, NULL, f.planes, job.y_outer[last], 0, job.inner, buffer,
                                scratch + 3 * job.capacity * job.size, scratch + job.scratch - job.capacity * job.finished)
