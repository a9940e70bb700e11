"""Rows of windows, a few at a time: combined from their rows, then across, then stored. (Part of _nest.pyx.)"""


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
        stamp(job, at(job, rows, row * width), lead)
        stamp(job, at(job, rows, row * width + lead + cells), width - lead - cells)


cdef void finish_rows(const Job* job, const Tile* t, char* y, Py_ssize_t batch, Py_ssize_t inner, Cells rows, Cells dst,
                      Cells spare, char* scratch) noexcept nogil:
    """W of padded rows, and their windows to where the result has them."""
    cdef Walk walk = walks(batch * t[0].outs * t[1].outs, t[2].outs, inner)
    cdef bint onto = job.onto and t[2].total > 0 and not t[2].clipped
    walk.pitch = t[2].total * inner
    CHECK(onto or walk.planes * walk.dpitch <= job.capacity)
    if onto:
        dst.value, walk.dpitch, walk.dstep = y, job.y_axis[1] // job.size, job.y_axis[2] // job.size
    reduce_axis(job, &job.axis[2], &t[2], &walk, dst, rows, spare, False)
    if not onto:
        store_block(job, t, y, NULL, batch, job.y_outer[job.outers - 1], 0, inner, dst, scratch + 3 * job.capacity * job.size,
                    scratch + job.scratch - job.capacity * job.finished)


cdef inline void walk_ahead(const Job* job, Walk* walk) noexcept nogil:
    """Let a walk over the array ask for what comes next."""
    if job.straight:
        walk.ahead, walk.fresh = job.ahead, job.axis[1].stride


cdef void load_rows(const Job* job, const char* x, char* rows, Py_ssize_t count, Py_ssize_t cells, Py_ssize_t inner) noexcept nogil:
    """Rows of the array as accumulators, one after the other."""
    cdef Py_ssize_t j
    if job.x_axis[1] == cells * job.x_axis[2]:
        cells, count = cells * count, 1
    for j in range(count):
        job.load(rows + j * cells * inner * job.size, x + j * job.x_axis[1], cells, job.x_axis[2], inner, job.x_inner, job.p)


cdef void merge_rows(const Job* job, const Tile* t, const char* x, Py_ssize_t batch, Py_ssize_t cells, Py_ssize_t inner,
                     Cells dst, Py_ssize_t pitch, Py_ssize_t apart) noexcept nogil:
    """Windows of H from rows of cells; those whose rows all are data follow each other evenly."""
    cdef const Axis* down = &job.axis[1]
    cdef Py_ssize_t o = 0, g, position, begin, end, many, row = job.x_axis[1]
    cdef Walk walk
    while o < t.outs:
        position, many = (t.first + o) * down.stride - down.before, 1
        begin = over(-position + down.dilation - 1, down.dilation) if position < 0 else 0
        end = min(down.kernel, over(down.n - position + down.dilation - 1, down.dilation))
        if end - begin == down.kernel:
            many = min(t.outs - o, (down.n - down.extent - position) // down.stride + 1)
        if inner == job.inner:   # rows are runs
            walk = walks(batch, many, cells * inner)
            walk.dpitch, walk.dstep, walk.pitch, walk.step = apart, pitch, job.x_outer[job.outers - 1], down.stride * row
        else:
            walk = walks(many, cells, inner)
            walk.dpitch, walk.pitch, walk.step = pitch, down.stride * row, job.x_axis[2]
        if begin < end:
            job.merge(&walk, at(job, dst, o * pitch).value, x + (position + begin * down.dilation) * row, down.dilation * row,
                      end - begin)
        for g in range(batch if begin >= end else 0):
            fill(job, at(job, dst, g * apart + o * pitch), cells * inner)
        o += many


cdef void pick_rows(const Job* job, const Tile* t, const Rows* rows, Py_ssize_t batch, Py_ssize_t cells, Py_ssize_t inner,
                    Cells dst, Py_ssize_t pitch, Py_ssize_t apart, Cells spare) noexcept nogil:
    """The same from rows of accumulators; those at the ends are gathered one by one."""
    cdef const Axis* down = &job.axis[1]
    cdef Py_ssize_t o, begin = 0, end = 0 if down.starts != NULL else t.outs
    cdef Walk walk
    while begin < end and (t.first + begin) * down.stride < down.before:
        begin += 1
    while begin < end and (t.first + end - 1) * down.stride - down.before + down.extent > down.n:
        end -= 1
    for o in range(t.outs):
        if begin < o < end:
            continue
        walk = walks(batch, cells, inner)
        walk.dpitch = apart
        if o < begin or o >= end:
            walk_ahead(job, &walk)
            gathered(job, down, t.first + o, rows, &walk, at(job, dst, o * pitch), spare)
            continue
        if rows.step == inner:   # rows are runs
            walk = walks(batch, end - begin, cells * inner)
            walk.dpitch, walk.dstep, walk.pitch, walk.step = apart, pitch, rows.pitch, down.stride * rows.row
        else:
            walk = walks(end - begin, cells, inner)
            walk.dpitch, walk.pitch, walk.step = pitch, down.stride * rows.row, rows.step
        walk_ahead(job, &walk)
        direct(job, &walk, at(job, dst, o * pitch), at(job, rows.first, ((t.first + o) * down.stride - down.before) * rows.row),
               down.kernel, down.dilation * rows.row, spare)


cdef void combine_rows(const Job* job, Py_ssize_t o, const char* x, Py_ssize_t count, Py_ssize_t cells, Py_ssize_t inner,
                       Cells dst, Cells spare, Py_ssize_t ahead) noexcept nogil:
    """Some rows of window o of D, from those of its planes; `ahead`: bytes to those that come next."""
    cdef Walk walk = walks(count, cells, inner)
    cdef Rows planes
    planes.first, planes.count, planes.apart, planes.base = NONE, job.axis[0].n, 1, 0
    planes.first.value = <char*> x
    planes.row, planes.pitch, planes.step = job.x_axis[0] // job.size, job.x_axis[1] // job.size, job.x_axis[2] // job.size
    walk.ahead, walk.fresh = ahead, 1
    if 0 < ahead < AHEAD:
        walk.ahead *= max(1, AHEAD // ahead)
    if count > 0:
        gathered(job, &job.axis[0], o, &planes, &walk, dst, spare)


cdef void run_lanes(const Job* job, const Tile* t, const char* x, char* y, Py_ssize_t batch, Py_ssize_t inner,
                    char* scratch) noexcept nogil:
    """H and W of a block: a few rows of windows, of several planes where these are small, are combined from their rows, then
    across, and stored before the next ones."""
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t plane, deeps, beside, g, d, h, i, j, o, w, low, high, cells, width, pitch, apart, some, last = job.outers - 1
    cdef bint alone = job.alone, padded = False
    cdef Cells buffers[3]
    cdef Cells dst, kept = NONE
    cdef Tile part[3]
    cdef Rows rows
    cdef const char* source
    cdef char* target
    for o in range(3):
        buffers[o] = NONE
        buffers[o].value = scratch + o * job.capacity * job.size
    part[0], part[1], part[2] = t[0], t[1], t[2]
    kept.value = scratch + job.scratch
    rows.apart, rows.base, rows.count, rows.first = 1, 0, down.n, NONE
    part[0].outs = 1
    deeps = (t[0].outs + job.group - 1) // job.group if job.deep else t[0].outs
    for plane in range((batch if job.deep else (batch + job.group - 1) // job.group) * deeps):
        g, d = plane // deeps, plane % deeps
        if job.deep:   # a group of windows of D
            d *= job.group
            some, beside = min(job.group, t[0].outs - d), job.y_axis[0]
            part[0].outs = some
        else:
            g *= job.group
            some, beside = min(job.group, batch - g), job.y_outer[last]
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
                source = x + g * job.x_outer[last] + part[2].start * job.x_axis[2]
                if not job.deep:
                    source += part[0].first * job.x_axis[0]
                target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1] + w * job.y_axis[2]
                dst, pitch, apart = buffers[0], width, part[1].outs * width
                if alone:
                    dst.value, pitch, apart = target, job.y_axis[1] // job.size, beside // job.size
                CHECK(alone or job.swept or some * apart <= job.capacity)
                if not padded and not alone and not job.swept:
                    pad_rows(job, dst, job.group * (part[1].outs if job.lane < t[2].outs else job.slab), width,
                             part[2].lead * inner, cells * inner)
                if cells > 0:
                    if not alone:
                        dst = at(job, dst, part[2].lead * inner)
                    rows.first.value = <char*> source
                    rows.row, rows.step = job.x_axis[1] // job.size, job.x_axis[2] // job.size
                    rows.pitch = job.x_outer[last] // job.size
                    if job.swept:
                        if job.idempotent:
                            sweep(job, part, &rows, source, target, cells, inner, buffers, kept, scratch)
                        else:
                            pile_up(job, part, &rows, source, target, cells, inner, buffers, kept, scratch)
                        continue
                    if job.merged:
                        merge_rows(job, &part[1], source, some, cells, inner, dst, pitch, apart)
                    elif not job.straight:
                        rows.row, rows.step, rows.pitch = cells * inner, inner, max(0, high - low) * cells * inner
                        CHECK(some * rows.pitch <= job.capacity)
                        for o in range(some if high > low else 0):
                            if job.deep:
                                combine_rows(job, part[0].first + o, source + low * job.x_axis[1], high - low, cells, inner,
                                             at(job, buffers[1], o * rows.pitch), buffers[2], job.axis[0].stride * job.x_axis[0])
                            else:
                                load_rows(job, source + o * job.x_outer[last] + low * job.x_axis[1],
                                          buffers[1].value + o * rows.pitch * job.size, high - low, cells, inner)
                        rows.first.value = buffers[1].value - low * rows.row * job.size
                    if not job.merged:
                        pick_rows(job, &part[1], &rows, some, cells, inner, dst, pitch, apart, buffers[2])
                if not alone:
                    finish_rows(job, part, target, some // part[0].outs, inner, buffers[0], buffers[1], buffers[2], scratch)
                    padded = job.lane >= t[2].outs and tapped(job, across, &part[2], some * part[1].outs, inner)
