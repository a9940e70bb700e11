"""Small windows over planes, each row of them from its lines of cells in one go. (Part of _nest.pyx.)"""


cdef enum:
    FAR = 1 << 13   # bytes by which lines are asked for before they are read, at least,
    NEAR = 1 << 14  # and at most, where windows are read one by one: more would fill a core's first-level cache
    SMALL = 1 << 10   # bytes of planes that are taken together out of their order
    SOME_PLANES = 8   # that windows with indices have along D, at most
    ROUND = 15      # rows of windows with indices are rounded up to as many more: whole vectors


cdef int small(const Job* job) noexcept nogil:
    """Which loop takes windows of two or three lines, and of as many cells along W, that lie dense; -1: these are others."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t k, last = job.outers - 1, line = across.n * job.inner * job.cell
    if not 2 <= across.kernel <= 3 or down.kernel != across.kernel:
        return -1
    if across.stride > 2 or not 0 <= across.before <= 1 or across.dilation > 1:
        return -1
    for k in range(1, 3):
        if job.axis[k].spacing > 1 or job.axis[k].sparse or job.axis[k].starts != NULL \
                or (job.axis[k].out - 1) * job.axis[k].stride - job.axis[k].before >= job.axis[k].n:
            return -1
    if (across.n > 1 and job.x_axis[2] != job.inner * job.cell) or max(line, across.out * job.inner * job.size) > FUSED:
        return -1
    if (down.n > 1 and job.x_axis[1] < line) or (job.outer[last] > 1 and job.x_outer[last] < line) or \
            (job.axis[0].out > 1 and job.x_axis[0] < line):
        return -1
    return 4 * (across.kernel - 2) + 2 * across.before + across.stride - 1


cdef void deal(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Blocks of whole rows."""
    cdef Py_ssize_t k, size
    for k in range(3):
        size = job.axis[k - 1].out if k else job.outer[job.outers - 1]
        job.block[k] = max(1, (size + pieces - 1) // pieces)
        job.grid[k] = (size + job.block[k] - 1) // job.block[k]
        pieces = (pieces + job.grid[k] - 1) // job.grid[k]
        while pieces & (pieces - 1):   # three planes in three pieces each are nine, of which one of two threads has five
            pieces += 1
    job.block[3], job.block[4], job.grid[3], job.grid[4] = job.axis[2].out, job.inner, 1, 1


cdef fused_t told(const Job* job, const Tile* t, char* none) noexcept nogil:
    """What the loops are told of the lines, and a line of none."""
    cdef const Axis* down = &job.axis[1]
    cdef fused_t f
    f.none, f.identity = none, <const char*> &job.identity
    if down.before > 0 or (down.out - 1) * down.stride - down.before + down.extent > down.n:
        repeat(none, <const char*> (&job.identity if job.deep else &job.neutral), job.size if job.deep else job.cell,
               job.axis[2].n * job.inner + 3 * 64)
    f.windows, f.cells, f.lines, f.inner = t[2].outs, job.axis[2].n, down.n, job.inner
    f.stride, f.dilation, f.pitch, f.line = down.stride, down.dilation, job.x_outer[job.outers - 1], job.x_axis[1]
    f.wide = job.axis[2].n * job.inner * (job.size if job.deep else job.cell)
    f.apart = f.wide + 3 * 64
    f.ahead = down.stride * f.line
    if f.ahead > NEAR and job.inner * job.size >= job.vector:   # what lies further on in the line is still there when it is read
        f.ahead = FAR // 2
    elif f.ahead > 0:
        f.ahead *= max(1, FAR // f.ahead)
    return f


cdef bint plan_fused(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether small windows that lie dense are made in one go; their loop, and blocks."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef const Axis* deep = &job.axis[0]
    cdef Py_ssize_t k, line, windows = across.out * job.inner * job.size
    cdef int number
    cdef bint divided, keys = not job.copied and job.size == job.cell
    cdef fuse_t* fuses = &job.fuses[0]
    job.deep = not idle(deep)
    if job.deep:
        fuses = &job.plains[0]
    if fuses[0] == NULL or job.i != NULL:
        return False
    if job.inner > 1 and job.x_inner != job.cell:
        return False
    if job.deep and (not job.copied or deep.kernel > 3 or deep.spacing > 1 or deep.sparse or deep.starts != NULL
                     or job.x_axis[0] % job.size or job.x_axis[1] % job.size):
        return False
    number = small(job)
    if number < 0:
        return False
    job.straight = job.copied
    divided = job.uniform and divisor_of(job) != 0   # 0: windows without a cell, all of them, whose average is NaN
    if job.deep or job.form == POOLING_PARTIAL:
        job.onto = job.exact and (job.finish == NULL or (job.divides and divided))
    else:   # sums are rounded by divisors that allow it
        job.onto = job.finish == NULL or (divided and (job.form == POOLING_FINISHED or job.divides or job.round != NULL))
    if job.inner > 1:
        job.onto = job.onto and job.y_inner == job.result
    if job.inner * job.size < job.vector:
        job.onto = job.onto and (across.out == 1 or job.y_axis[2] == job.inner * job.result)
    if keys and not job.onto:
        return False
    job.fuse = fuses[number]
    deal(job, pieces)
    job.slab = job.block[2]
    job.group = job.block[0]
    line = across.n * job.inner * job.size
    if not job.onto or job.deep:   # as many as have both their lines and their windows in a core's first-level cache
        while job.slab > 1 and (windows * job.slab > LANE or (job.deep and line * lines_of(down, job.slab) > LANE)):
            job.slab = (job.slab + 1) // 2
        k = max(windows * job.slab, line * lines_of(down, job.slab) if job.deep else 0)
        # The planes of D follow one another in memory, and are read as they do: but that many calls for little cost more.
        job.group = min(job.group, max(1, (SMALL if job.deep else LANE) // k)) if job.slab == job.block[2] else 1
    job.capacity = job.group * job.slab * across.out if not job.onto else 1
    # Beside that a line, and copies of three where as many accumulators have room twice.
    k = job.group * lines_of(down, job.slab) * across.n if job.deep else 3 * (across.n + 3 * 64) // 2
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


cdef void run_fused(const Job* job, const Tile* t, const char* x, char* y, Py_ssize_t batch, char* scratch) noexcept nogil:
    """Some planes, and rows of them, at a time: to the result, or to a buffer, and finished and stored from there."""
    cdef Py_ssize_t g, d, h, i, j, k, low, high, soon, last = job.outers - 1, slabs = (t[1].outs + job.slab - 1) // job.slab
    cdef fused_t f = told(job, t, scratch + job.capacity * job.size)
    cdef Tile part[3]
    cdef Cells buffer = NONE, lines = NONE
    cdef char* target
    cdef const char* source
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* deep = &job.axis[0]
    buffer.value = scratch
    f.form, f.size = job.form if job.onto else POOLING_PARTIAL, job.result if job.onto else job.size
    f.divisor = divisor_of(job) if job.onto and job.finish != NULL else 0
    f.spare = scratch + 2 * job.capacity * job.size
    CHECK(job.deep or job.inner * job.size >= job.vector or 3 * f.apart <= 2 * job.capacity * job.size)
    part[0], part[1], part[2] = t[0], t[1], t[2]
    part[0].outs = 1
    if job.deep:
        f.line, f.ahead = f.cells * job.inner * job.size, 0
    f.step = job.inner * (job.size if job.deep else job.cell)
    for i in range((batch + job.group - 1) // job.group):
        g = i * job.group
        f.planes = min(job.group, batch - g)
        for d in range(t[0].outs):   # what windows of D share is still in the cache
            part[0].first = t[0].first + d
            for j in range(slabs):
                h = j * job.slab
                part[1].first, part[1].outs = t[1].first + h, min(job.slab, t[1].outs - h)
                f.rows, f.first = part[1].outs, part[1].first * f.stride - down.before
                source = x + g * job.x_outer[last] + part[0].first * job.x_axis[0]
                target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1]
                f.end = source + (batch - g - 1) * f.pitch + (f.lines - 1) * f.line + f.cells * job.inner * job.cell
                f.dstep = job.inner * f.size
                f.dpitch, f.drow, f.dense = f.rows * f.windows * f.dstep, f.windows * f.dstep, True
                if job.onto:
                    f.dense = f.drow == job.y_axis[1]
                    f.dpitch, f.drow, f.dstep = job.y_outer[last], job.y_axis[1], job.y_axis[2]
                if job.deep:   # what is read behind them is of no use, and no harm
                    low, high = max(0, f.first), min(f.lines, f.first + (f.rows - 1) * f.stride + down.extent)
                    f.pitch, f.end = (high - low) * f.line, scratch + 3 * job.capacity * job.size
                    CHECK(f.planes * f.pitch + 3 * 64 * job.size <= job.capacity * job.size)
                    soon = (job.slab if j + 1 < slabs else -h) * f.stride * job.x_axis[1]
                    if j + 1 == slabs:
                        soon += deep.stride * job.x_axis[0]
                    source = scratch + 2 * job.capacity * job.size
                    for k in range(f.planes):   # lines, combined down D
                        lines.value = <char*> source + k * f.pitch
                        combine_rows(job, part[0].first, x + (g + k) * job.x_outer[last] + low * job.x_axis[1], high - low, f.cells,
                                     job.inner, lines, NONE, soon)
                    source -= low * f.line
                    k = part[0].first * deep.stride - deep.before + max(0, deep.kernel - deep.stride)
                    f.ahead = (x + g * job.x_outer[last] + k * job.x_axis[0] + soon) - source if f.planes == 1 else 0
                job.fuse(target if job.onto else buffer.value, source, &f)
                if not job.onto:
                    store_block(job, part, target, NULL, f.planes, job.y_outer[last], 0, job.inner, buffer,
                                scratch + 3 * job.capacity * job.size, scratch + job.scratch - job.capacity * job.finished)


cdef bint plan_taken(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether small windows that lie dense get their indices in one go; their loop, blocks, and memory."""
    cdef const Axis* deep = &job.axis[0]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t width = (across.out + ROUND) & ~ROUND, line = across.n * job.size + 3 * 64, row, k
    cdef int number = small(job)
    job.deep = not idle(deep)
    if job.takes[0] == NULL or number < 0 or job.inner > 1 or not job.copied:
        return False
    if job.deep and (deep.kernel > SOME_PLANES or deep.spacing > 1 or deep.sparse or deep.starts != NULL):
        return False
    job.taken, job.straight = job.takes[number], True
    job.onto = job.exact and job.y_axis[2] == job.size
    deal(job, pieces)
    row = width * (job.size + sizeof(int32_t))
    k = 1 + job.deep * deep.kernel    # each plane of a window, and their results
    job.slab, job.group = job.block[2], job.block[0]
    while job.slab > 1 and k * row * job.slab > LANE:
        job.slab = (job.slab + 1) // 2
    job.group = min(job.group, max(1, LANE // (row * job.slab))) if job.slab == job.block[2] and not job.deep else 1
    job.part[0] = job.group * job.slab * width * job.size    # values, and then their distances, of each
    job.part[1] = 2 * k * job.part[0]                        # where the windows of a row start
    job.part[2] = job.part[1] + width * sizeof(int32_t)      # a line of none, and three copies
    job.part[3] = job.part[2] + ((across.n * job.size + 3 * 64 * job.size + 63) & ~63)
    job.part[4] = job.part[3] + 3 * ((line + 63) & ~63)      # lines that rows share
    job.capacity = job.part[4] + 2 * row
    return True


cdef void take_planes(const Job* job, const fused_t* f, Py_ssize_t window, const char* x, int64_t* held,
                      char* scratch) noexcept nogil:
    """Rows of windows of several planes: each plane's, unless they are there, and of those the winners; `held`: which are."""
    cdef const Axis* deep = &job.axis[0]
    cdef Py_ssize_t start, begin, end, k, slot, each = 2 * job.part[0]
    cdef Walk flat
    cdef Cells cells[2]
    cdef Cells found
    found.value, found.index, found.base = scratch, scratch + job.part[0], 0
    flat.planes = flat.cells = 1
    flat.inner = f.rows * (f.drow // job.size)
    flat.dpitch = flat.dstep = flat.pitch = flat.step = flat.cpitch = flat.cstep = flat.inner
    flat.ahead, flat.fresh, flat.more = 0, 0, NULL
    span(deep, window, &start, &begin, &end)
    CHECK(begin < end)
    for k in range(begin, end):
        slot = k if deep.dilation > 1 else (start + k) % deep.kernel
        cells[k > begin].value = scratch + (1 + slot) * each
        cells[k > begin].index = cells[k > begin].value + job.part[0]
        cells[k > begin].base = k * deep.dilation * job.axis[1].n * job.axis[2].n
        if held[slot] != start + k * deep.dilation:
            held[slot] = start + k * deep.dilation
            job.taken(cells[k > begin].value, x + held[slot] * job.x_axis[0], f)
        if k == begin and end == begin + 1:
            job.pick(&flat, found, cells[0], NONE, NONE)
        elif k > begin:
            job.pick(&flat, found, cells[0] if k == begin + 1 else found, cells[1], NONE)


cdef void run_taken(const Job* job, const Tile* t, const char* x, char* y, char* i, Py_ssize_t batch,
                    char* scratch) noexcept nogil:
    """Some planes, and rows of them, at a time: to buffers, and from there to the results."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* deep = &job.axis[0]
    cdef Py_ssize_t g, d, h, j, k, rows, planes, first, last = job.outers - 1
    cdef fused_t f = told(job, t, scratch + job.part[2])
    cdef int64_t held[SOME_PLANES]
    cdef put_t put
    f.spare, f.kept, f.beside = scratch + job.part[3], scratch + job.part[4], job.part[0]
    f.drow = ((f.windows + ROUND) & ~ROUND) * job.size
    origins(job, t[2].first, t[2].outs, 1, scratch + job.part[1])
    put.cells, put.inner, put.pitch, put.stream = f.windows, 1, f.drow // job.size, job.stream
    put.origin, put.apart = scratch + job.part[1], down.stride * job.axis[2].n
    for k in range((batch + job.group - 1) // job.group):
        g = k * job.group
        planes = f.planes = min(job.group, batch - g)
        f.end = x + (batch - 1) * f.pitch + (deep.n - 1) * job.x_axis[0] + (f.lines - 1) * f.line + f.wide
        for j in range((t[1].outs + job.slab - 1) // job.slab):
            h = j * job.slab
            rows = min(job.slab, t[1].outs - h)
            f.rows, f.first, f.dpitch = rows, (t[1].first + h) * down.stride - down.before, rows * f.drow
            put.planes, put.rows, put.area = planes, rows, rows * put.pitch
            memset(held, 0xff, sizeof(held))   # -1: none
            for d in range(t[0].outs):
                first = (t[0].first + d) * deep.stride - deep.before
                if job.deep:
                    take_planes(job, &f, t[0].first + d, x + g * job.x_outer[last], held, scratch)
                else:
                    job.taken(scratch, x + g * job.x_outer[last] + first * job.x_axis[0], &f)
                put.base = (first * down.n + f.first) * job.axis[2].n
                put_rows(job, &put, y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1],
                         i + g * job.i_outer[last] + d * job.i_axis[0] + h * job.i_axis[1], scratch, scratch + job.part[0])
