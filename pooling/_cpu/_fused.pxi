"""Small windows over planes, each row of them from its lines of cells in one go. (Part of _nest.pyx.)"""


cdef bint plan_fused(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether these are windows of two or three lines, and of as many cells along W, that lie dense; then their loop, and blocks."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t k, last = job.outers - 1, line = across.n * job.cell, windows = across.out * job.size
    cdef Py_ssize_t size[3]
    if job.fuses[0] == NULL or job.inner > 1 or job.i != NULL or not idle(&job.axis[0]):
        return False
    if not 2 <= across.kernel <= 3 or across.stride > 2 or not 0 <= across.before <= 1 or across.dilation > 1 or down.kernel != across.kernel:
        return False
    for k in range(1, 3):
        if job.axis[k].spacing > 1 or job.axis[k].sparse or job.axis[k].starts != NULL \
                or (job.axis[k].out - 1) * job.axis[k].stride - job.axis[k].before >= job.axis[k].n:
            return False
    if (across.n > 1 and job.x_axis[2] != job.cell) or max(line, windows) > FUSED:
        return False
    size[0], size[1], size[2] = job.outer[last], job.axis[0].out, down.out
    if (down.n > 1 and job.x_axis[1] < line) or (size[0] > 1 and job.x_outer[last] < line) or (size[1] > 1 and job.x_axis[0] < line):
        return False
    job.fuse = job.fuses[4 * (across.kernel - 2) + 2 * across.before + across.stride - 1]
    job.straight = job.copied
    job.onto = job.exact and (job.finish == NULL or (job.divides and job.uniform)) and (across.out == 1 or job.y_axis[2] == job.result)
    for k in range(3):
        job.block[k] = max(1, (size[k] + pieces - 1) // pieces)
        job.grid[k] = (size[k] + job.block[k] - 1) // job.block[k]
        pieces = (pieces + job.grid[k] - 1) // job.grid[k]
    job.block[3], job.block[4], job.grid[3], job.grid[4] = across.out, 1, 1, 1
    job.slab = job.block[2]
    job.group = job.block[0]
    if not job.onto:
        job.slab = min(job.slab, max(1, LANE // windows))
        job.group = min(job.group, max(1, LANE // (job.slab * windows))) if job.slab == job.block[2] else 1
    job.capacity = max(job.group * job.slab * across.out if not job.onto else 1, across.n) + 3 * 64
    job.capacity = (job.capacity + 63) & ~63
    return True


cdef void run_fused(const Job* job, const Tile* t, const char* x, char* y, Py_ssize_t batch, char* scratch) noexcept nogil:
    """Some planes, and rows of them, at a time: to the result, or to a buffer, and finished and stored from there."""
    cdef Py_ssize_t g, d, h, i, j, last = job.outers - 1
    cdef fused_t f
    cdef Tile part[3]
    cdef Cells buffer = NONE
    cdef char* target
    cdef const char* source
    cdef const Axis* down = &job.axis[1]
    buffer.value = scratch
    f.none, f.identity = scratch + job.capacity * job.size, <const char*> &job.identity
    f.divisor = <const char*> &job.divisor if job.onto and job.finish != NULL else NULL
    if down.before > 0 or (down.out - 1) * down.stride - down.before + down.extent > down.n:
        for h in range(job.axis[2].n + 3 * 64):
            memcpy(<char*> f.none + h * job.cell, &job.neutral, job.cell)
    part[0], part[1], part[2] = t[0], t[1], t[2]
    part[0].outs = 1
    f.windows, f.cells, f.lines = t[2].outs, job.axis[2].n, down.n
    f.stride, f.dilation, f.pitch, f.line = down.stride, down.dilation, job.x_outer[last], job.x_axis[1]
    f.ahead = down.stride * f.line
    if f.ahead > 0:
        f.ahead *= max(1, AHEAD // f.ahead)
    for d in range(t[0].outs):
        part[0].first = t[0].first + d
        for i in range((batch + job.group - 1) // job.group):
            g = i * job.group
            f.planes = min(job.group, batch - g)
            source = x + g * f.pitch + (t[0].first + d) * job.x_axis[0]
            f.end = source + (batch - g - 1) * f.pitch + (f.lines - 1) * f.line + f.cells * job.cell
            for j in range((t[1].outs + job.slab - 1) // job.slab):
                h = j * job.slab
                part[1].first, part[1].outs = t[1].first + h, min(job.slab, t[1].outs - h)
                f.rows, f.first = part[1].outs, part[1].first * f.stride - down.before
                target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1]
                f.dpitch, f.drow, f.dense = f.rows * f.windows * job.size, f.windows * job.size, True
                if job.onto:
                    f.dense = f.drow == job.y_axis[1] and (f.planes == 1 or job.y_outer[last] == f.dpitch)
                    f.dpitch, f.drow = job.y_outer[last], job.y_axis[1]
                job.fuse(target if job.onto else buffer.value, source, &f)
                if not job.onto:
                    store_block(job, part, target, NULL, f.planes, job.y_outer[last], 0, 1, buffer,
                                scratch + 3 * job.capacity * job.size, scratch + job.scratch - job.capacity * job.finished)
