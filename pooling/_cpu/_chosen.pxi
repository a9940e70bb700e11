"""Windows with indices, tap by tap: every tap of a few windows in registers, then the next ones. (Part of _nest.pyx.)

Taps come in the order of the indices, so that two comparisons settle which of two cells wins, and an index is no more than
the constant that belongs to the tap: how far it is from the window's first cell. Where the windows of neighbouring cells
lie side by side (long runs, channels last), taps are read from the array itself. Else rows are split by the stride into
padded buffers in which the taps of neighbouring windows are neighbours: [D, phase of H, phase of W, plane, row, cell],
through which many rows and planes pass as one long run.
"""


cdef enum:
    TAPS = 64                 # of a call at most
    DIRECT = 64               # bytes of runs from which on they are read from the array: no vector is longer
    SPLIT = 1 << 14           # bytes of split rows, to stay in a core's first-level cache
    SPLIT_LIMIT = 1 << 18     # and where windows are large
    STREAM = 1 << 24          # bytes of results that are better written past the caches,
    STREAM_ROW = 1 << 7       # where their rows are this long


cdef struct Phases:
    # The cells of an axis by their distance from the first window, modulo the stride: a slot for each remainder that taps have.
    Py_ssize_t slots, furthest
    Py_ssize_t phase[TAPS]    # of each slot
    Py_ssize_t slot[TAPS]     # of each tap, and how many windows on its cell would be the first of that slot
    Py_ssize_t shift[TAPS]


cdef Phases phases_of(const Axis* axis) noexcept nogil:
    cdef Phases p
    cdef Py_ssize_t j, k, phase
    p.slots = 0
    for j in range(axis.kernel):
        p.shift[j], phase = j * axis.dilation // axis.stride, j * axis.dilation % axis.stride
        k = 0
        while k < p.slots and p.phase[k] != phase:
            k += 1
        p.slot[j], p.phase[k] = k, phase
        p.slots = max(p.slots, k + 1)
    p.furthest = p.shift[axis.kernel - 1]
    return p


cdef inline void span(const Axis* axis, Py_ssize_t o, Py_ssize_t* start, Py_ssize_t* begin, Py_ssize_t* end) noexcept nogil:
    """Where a window starts, and which of its taps are in the data."""
    if axis.starts != NULL:
        start[0], begin[0], end[0] = axis.starts[o], 0, axis.counts[o]
        return
    start[0] = o * axis.stride - axis.before
    begin[0] = (axis.dilation - 1 - start[0]) // axis.dilation if start[0] < 0 else 0
    end[0] = min(axis.kernel, (axis.n - 1 - start[0]) // axis.dilation + 1)


cdef inline void set_place(const Job* job, char* places, Py_ssize_t k, int64_t place) noexcept nogil:
    if job.indexed == sizeof(int32_t):
        (<int32_t*> places)[k] = <int32_t> place
    else:
        (<int64_t*> places)[k] = place


cdef void origins(const Job* job, Py_ssize_t first, Py_ssize_t outs, Py_ssize_t inner, char* origin) noexcept nogil:
    """Where in their row the windows start."""
    cdef const Axis* axis = &job.axis[2]
    cdef Py_ssize_t o, c
    for o in range(outs):
        for c in range(inner):
            set_place(job, origin, o * inner + c,
                      axis.starts[first + o] if axis.starts != NULL else (first + o) * axis.stride - axis.before)


cdef void put_rows(const Job* job, const put_t* put, char* y, char* i, const char* values, const char* places) noexcept nogil:
    """Rows of windows to the results."""
    cdef put_t p = put[0]
    cdef Py_ssize_t plane, row, last = job.outers - 1
    if values != NULL and job.onto:
        p.plane_stride, p.row_stride = job.y_outer[last], job.y_axis[1]
        job.put(y, values, &p, job.size)
    elif values != NULL:
        for plane in range(p.planes):
            for row in range(p.rows):
                job.store(y + plane * job.y_outer[last] + row * job.y_axis[1], job.y_axis[2], job.y_inner,
                          values + (plane * p.area + row * p.pitch) * job.size, p.cells, p.inner)
    p.plane_stride, p.row_stride, p.cell_stride, p.inner_stride = job.i_outer[last], job.i_axis[1], job.i_axis[2], job.i_inner
    job.place(i, places, &p)


cdef void take_direct(const Job* job, const Py_ssize_t* start, const Py_ssize_t* begin, const Py_ssize_t* end, taps_t* taps,
                      const char* source, char* values, char* places) noexcept nogil:
    """Windows whose taps are read from the array: those from `begin` to `end` of each axis."""
    cdef Py_ssize_t at[TAPS]
    cdef int64_t offset[TAPS]
    cdef Py_ssize_t step[3]
    cdef Py_ssize_t d, h, w, i, j, k
    taps.at, taps.offset, taps.begin, taps.count, taps.more = at, offset, NULL, 0, 0
    taps.ahead, taps.fresh = AHEAD, 0
    for k in range(3):
        step[k] = job.x_axis[k] // job.size
    for d in range(begin[0], end[0]):
        for h in range(begin[1], end[1]):
            for w in range(begin[2], end[2]):
                if taps.count == TAPS:
                    job.take(values, places, source, taps)
                    taps.count, taps.more, taps.fresh = 0, 1, 0
                i, j, k = d * job.axis[0].dilation, h * job.axis[1].dilation, w * job.axis[2].dilation
                at[taps.count] = (start[0] + i) * step[0] + (start[1] + j) * step[1] + (start[2] + k) * step[2]
                offset[taps.count] = (i * job.axis[1].n + j) * job.axis[2].n + k
                if h + job.axis[1].stride >= end[1] and w + job.axis[2].stride >= end[2]:
                    taps.fresh |= <uint64_t> 1 << taps.count
                taps.count += 1
    job.take(values, places, source, taps)


cdef void run_direct(const Job* job, const Tile* t, const char* x, char* y, char* i, Py_ssize_t batch, Py_ssize_t inner,
                     char* scratch) noexcept nogil:
    """Windows of long runs."""
    cdef const Axis* across = &job.axis[2]
    cdef Py_ssize_t g, d, h, o, w, j, outs, last = job.outers - 1
    cdef Py_ssize_t start[3]
    cdef Py_ssize_t begin[3]
    cdef Py_ssize_t end[3]
    cdef char* values
    cdef char* places = scratch + job.part[0]
    cdef char* target
    cdef taps_t taps
    cdef put_t put
    taps.run, taps.step = inner, across.stride * (job.x_axis[2] // job.size)
    put.planes, put.rows, put.inner, put.stream, put.origin = 1, 1, inner, job.stream, scratch + job.part[1]
    put.area = put.pitch = put.apart = 0
    for j in range((t[2].outs + job.lane - 1) // job.lane):
        w = t[2].first + j * job.lane
        outs = min(job.lane, t[2].outs - j * job.lane)
        origins(job, w, outs, inner, scratch + job.part[1])
        put.cells = outs
        for g in range(batch):
            for d in range(t[0].outs):
                span(&job.axis[0], t[0].first + d, &start[0], &begin[0], &end[0])
                for h in range(t[1].outs):
                    span(&job.axis[1], t[1].first + h, &start[1], &begin[1], &end[1])
                    target = y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1] + j * job.lane * job.y_axis[2]
                    values = target if job.onto and not job.stream else scratch
                    o = 0
                    while o < outs:
                        span(across, w + o, &start[2], &begin[2], &end[2])
                        taps.cells = 1
                        if across.starts == NULL and begin[2] == 0 and end[2] == across.kernel:   # those that follow it, too
                            taps.cells = min(outs - o, (across.n - across.extent - start[2]) // across.stride + 1)
                        take_direct(job, start, begin, end, &taps, x + g * job.x_outer[last], values + o * inner * job.size,
                                    places + o * inner * job.indexed)
                        o += taps.cells
                    put.base = (start[0] * job.axis[1].n + start[1]) * job.axis[2].n
                    put_rows(job, &put, target, i + g * job.i_outer[last] + d * job.i_axis[0] + h * job.i_axis[1]
                             + j * job.lane * job.i_axis[2], NULL if values == target else values, places)


cdef void firsts(const Job* job, Py_ssize_t h, Py_ssize_t w, Py_ssize_t inner, Py_ssize_t height, Py_ssize_t width,
                 char* places) noexcept nogil:
    """How far each window of a slab, over all planes, is from its first cell to the first one that is data."""
    cdef Py_ssize_t row, o, c, start, begin, end, rest = height * width * inner * job.indexed
    cdef int64_t place
    for row in range(height):
        span(&job.axis[1], h + row, &start, &begin, &end)
        place = begin * job.axis[1].dilation * job.axis[2].n
        for o in range(width):
            span(&job.axis[2], w + o, &start, &begin, &end)
            for c in range(inner):
                set_place(job, places, (row * width + o) * inner + c, place + begin * job.axis[2].dilation)
    for row in range(1, job.group):
        memcpy(places + row * rest, places, rest)


cdef void split_rows(const Job* job, const split_t* split, const Phases* tall, const char* source, Cells dst, Py_ssize_t low,
                     Py_ssize_t extent, Py_ssize_t cells, bint padded, char* spare) noexcept nogil:
    """Rows from `low` on of some planes, where those outside the data are identities; source: where row 0 would be."""
    cdef split_t s = split[0]
    cdef Py_ssize_t k, row, rows, plane, slot, place, stride = job.axis[1].stride, down = job.x_axis[1]
    cdef Py_ssize_t zero = 0, one = 1
    cdef Py_ssize_t band[TAPS]
    cdef Py_ssize_t begin[TAPS]
    cdef Py_ssize_t end[TAPS]
    for k in range(tall.slots):
        begin[k], rows = 0, (extent - tall.phase[k] + stride - 1) // stride
        row = low + tall.phase[k]   # its first one
        if row < 0:
            begin[k] = min(rows, (stride - 1 - row) // stride)
        end[k] = max(begin[k], min(rows, (job.axis[1].n - row + stride - 1) // stride)) if row < job.axis[1].n else begin[k]
        band[k] = row * down
        for plane in range(s.planes if padded else 0):
            for slot in range(s.slots):
                place = (k * s.slots + slot) * s.dst_slot + plane * s.dst_plane
                fill(job, at(job, dst, place), begin[k] * s.dst_row)
                fill(job, at(job, dst, place + end[k] * s.dst_row), (rows - end[k]) * s.dst_row)
    s.bands = tall.slots
    s.band, s.begin, s.end = band, begin, end
    if job.straight:
        job.split(dst.value, source, &s, job.size)
        return
    s.planes = s.bands = 1
    s.ahead = 0
    s.begin, s.end = &zero, &one
    for plane in range(split.planes):
        for k in range(tall.slots):
            for row in range(begin[k], end[k]):
                s.band = &zero
                job.load(spare, source + plane * s.src_plane + band[k] + row * s.src_row, cells, job.x_axis[2], s.run,
                         job.x_inner, job.p)
                place = k * s.slots * s.dst_slot + plane * s.dst_plane + row * s.dst_row
                job.split(dst.value + place * job.size, spare, &s, job.size)


cdef void run_split(const Job* job, const Tile* t, const char* x, char* y, char* i, Py_ssize_t batch, Py_ssize_t inner,
                    char* scratch) noexcept nogil:
    """Windows of short runs, from rows that are split by the stride."""
    cdef const Axis* deep = &job.axis[0]
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef Phases tall = phases_of(down), wide = phases_of(across)
    cdef Py_ssize_t width = job.lane + wide.furthest, height = job.slab + tall.furthest, line = width * inner
    cdef Py_ssize_t plane = height * line, slot = (job.group * plane + 15) & ~15, area = down.n * across.n
    cdef Py_ssize_t d, g, h, j, k, m, n, o, r, s, w, cell, place, outs, rows, planes, low, lead, cells, start, begin, end
    cdef Py_ssize_t last = job.outers - 1
    cdef Py_ssize_t tap[TAPS]
    cdef int64_t offset[TAPS]
    cdef Py_ssize_t first[TAPS]    # of each slot of W: its first cell, where that is, and how many it has
    cdef Py_ssize_t entry[TAPS]
    cdef Py_ssize_t count[TAPS]
    cdef Py_ssize_t known[2]       # which slab's firsts are in the two buffers: within the data, and at its edge
    cdef Py_ssize_t held[TAPS]     # the planes in the buffer
    cdef Cells buffer = NONE
    cdef split_t pieces
    cdef taps_t taps
    cdef put_t put
    buffer.value = scratch
    taps.cells, taps.step, taps.more, taps.at, taps.offset = 1, 0, 0, tap, offset
    taps.ahead = taps.fresh = 0
    put.inner, put.area, put.pitch, put.stream = inner, plane, line, job.stream
    put.origin, put.apart = scratch + job.part[4], down.stride * across.n
    pieces.slots, pieces.run, pieces.step = wide.slots, inner, across.stride
    pieces.src_plane, pieces.src_row = job.x_outer[last], down.stride * job.x_axis[1]
    pieces.dst_plane, pieces.dst_row, pieces.dst_slot = plane, line, slot
    pieces.first, pieces.entry, pieces.count = first, entry, count
    for j in range((t[2].outs + job.lane - 1) // job.lane):
        w = t[2].first + j * job.lane
        outs = min(job.lane, t[2].outs - j * job.lane)
        low = w * across.stride - across.before
        lead = max(0, -low)
        cells = min(low + (outs - 1) * across.stride + across.extent, across.n) - low - lead
        if lead + cells < (outs - 1) * across.stride + across.extent or lead > 0 or t[1].first * down.stride < down.before or \
                (t[1].first + t[1].outs - 1) * down.stride - down.before + down.extent > down.n:
            fill(job, buffer, (<Py_ssize_t> job.part[0]) // job.size)
        origins(job, w, outs, inner, scratch + job.part[4])
        put.cells = outs
        known[0] = known[1] = -1
        for s in range(wide.slots):
            first[s] = (wide.phase[s] - lead) % across.stride
            if first[s] < 0:
                first[s] += across.stride
            entry[s] = (lead + first[s]) // across.stride
            count[s] = min((cells - first[s] + across.stride - 1) // across.stride, width - entry[s]) if first[s] < cells else 0
        for m in range((batch + job.group - 1) // job.group):
            g = m * job.group
            planes = pieces.planes = put.planes = min(job.group, batch - g)
            for n in range((t[1].outs + job.slab - 1) // job.slab):
                h = n * job.slab
                put.rows = rows = min(job.slab, t[1].outs - h)
                low = (t[1].first + h) * down.stride - down.before
                pieces.length = cells * inner * job.size
                pieces.ahead = deep.stride * job.x_axis[0] if deep.out > 1 else rows * down.stride * job.x_axis[1]
                taps.run = (((planes - 1) * height + rows) * line + 31) & ~31
                taps.begin = NULL
                if low < 0 or w * across.stride < across.before:
                    k = low < 0
                    taps.begin = scratch + job.part[3] + k * (job.part[4] - job.part[3]) // 2
                    if known[k] != (h if k else 0):
                        firsts(job, t[1].first + h, w, inner, height, width, <char*> taps.begin)
                        known[k] = h if k else 0
                for k in range(deep.kernel):
                    held[k] = -1
                for d in range(t[0].outs):
                    span(deep, t[0].first + d, &start, &begin, &end)
                    start += begin * deep.dilation
                    taps.count = 0
                    for k in range(end - begin):
                        # A plane keeps its place while windows need it.
                        cell = start + k * deep.dilation
                        place = cell % deep.kernel if deep.dilation == 1 else k
                        if held[place] != cell:
                            held[place] = cell
                            split_rows(job, &pieces, &tall, x + g * job.x_outer[last] + cell * job.x_axis[0]
                                       + max(0, w * across.stride - across.before) * job.x_axis[2],
                                       at(job, buffer, place * tall.slots * wide.slots * slot), low,
                                       (rows - 1) * down.stride + down.extent, cells, job.slab < t[1].outs, scratch + job.part[5])
                        for r in range(down.kernel):
                            for o in range(across.kernel):
                                tap[taps.count] = ((place * tall.slots + tall.slot[r]) * wide.slots + wide.slot[o]) * slot \
                                    + tall.shift[r] * line + wide.shift[o] * inner
                                offset[taps.count] = k * deep.dilation * area + r * down.dilation * across.n + o * across.dilation
                                taps.count += 1
                    job.take(scratch + job.part[1], scratch + job.part[2], scratch, &taps)
                    put.base = start * area + low * across.n
                    o = j * job.lane
                    put_rows(job, &put, y + g * job.y_outer[last] + d * job.y_axis[0] + h * job.y_axis[1] + o * job.y_axis[2],
                             i + g * job.i_outer[last] + d * job.i_axis[0] + h * job.i_axis[1] + o * job.i_axis[2],
                             scratch + job.part[1], scratch + job.part[2])


cdef bint plan_chosen(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether indices are chosen tap by tap, how, and with what memory."""
    cdef Py_ssize_t k, size = job.size, row, part, furthest, most
    cdef double taps = 1, windows = 1, cells = 1, least = 1, results
    cdef const Axis* axis
    cdef const Axis* down = &job.axis[1]
    cdef const Axis* across = &job.axis[2]
    cdef bint straight, onto, regular = True
    cdef Phases tall, wide
    if job.i == NULL or job.take == NULL or job.first == 3:
        return False
    for k in range(3):
        axis = &job.axis[k]
        if axis.spacing > 1 or axis.sparse or axis.dilation > axis.n:
            return False
        taps *= min(axis.kernel, axis.n) if axis.starts == NULL else axis.n / <double> axis.out + 1
        least *= axis.kernel
        cells *= axis.n
        windows *= axis.out
        regular = regular and axis.starts == NULL
    if job.indexed == sizeof(int32_t) and cells >= <double> (1 << 30) * 2:
        return False
    results = windows * job.inner * (size + sizeof(int64_t))
    for k in range(job.outers):
        results *= job.outer[k]
    if job.indexed == sizeof(int32_t) and plan_taken(job, pieces):
        job.stream = results > STREAM and job.block[3] * size >= STREAM_ROW
        return True
    straight = job.copied and (job.x_inner == size or job.inner == 1)
    for k in range(3):
        straight = straight and job.x_axis[k] % size == 0
    onto = job.exact and (job.y_inner == size or job.inner == 1) and job.y_axis[2] == job.inner * size
    job.direct = straight and job.inner * max(size, 4) >= DIRECT
    if (job.direct or job.inner > 1) and taps > 16 and taps * windows > 4 * cells:   # axis by axis costs less
        return False
    if not job.direct and (not regular or least > TAPS):
        return False
    part = 0
    if not job.direct:
        tall, wide = phases_of(down), phases_of(across)
        part = job.axis[0].kernel * tall.slots * wide.slots * size
        if (1.0 + tall.furthest) * (1.0 + wide.furthest) * part > SPLIT_LIMIT:
            return False
    job.straight, job.onto = straight, onto
    if not job.direct:
        job.straight = straight and job.x_axis[2] == job.inner * size
    cut(job, 1 << 60, pieces)
    most = 4096 if job.direct else max(16, <Py_ssize_t> (SPLIT_LIMIT / (part * (1.0 + tall.furthest) * (1.0 + wide.furthest))))
    while job.block[4] > most:
        job.block[4] = (job.block[4] + 1) // 2
    if job.direct and job.block[4] * max(size, 4) < DIRECT:
        return False
    job.grid[4] = (job.inner + job.block[4] - 1) // job.block[4]
    job.onto = job.onto and (job.grid[4] == 1 or job.y_axis[2] == job.block[4] * size)
    job.stream = results > STREAM and job.block[3] * job.block[4] * size >= STREAM_ROW
    job.lane, job.slab, job.group = job.block[3], job.block[2], job.block[0]
    if job.direct:
        job.lane = min(job.lane, max(1, 2048 // job.block[4]))
        row = job.lane * job.block[4]
        job.part[0] = (row * size + 63) & ~63
        job.part[1] = job.part[0] + ((row * job.indexed + 63) & ~63)
        job.capacity = job.part[1] + ((row * job.indexed + 63) & ~63)
        return True
    part *= job.block[4]
    while job.lane * job.block[4] > 16 and job.lane > 1 and part * (job.lane + wide.furthest) * (1 + tall.furthest) > SPLIT:
        job.lane = (job.lane + 1) // 2
    row = part * (job.lane + wide.furthest)
    job.slab = max(1, min(job.slab, SPLIT // row - tall.furthest))
    job.group = max(1, min(job.group, SPLIT // (row * (job.slab + tall.furthest))))
    if job.slab < job.block[2]:
        job.group = 1
    row = job.group * (job.slab + tall.furthest) * (job.lane + wide.furthest) * job.block[4]   # cells of a slot, or windows
    furthest = (job.lane + wide.furthest) * job.block[4] * (1 + tall.furthest)
    most = (row + 15) & ~15
    row += 64
    job.part[0] = ((job.axis[0].kernel * tall.slots * wide.slots * most + furthest + 64) * size + 63) & ~63
    job.part[1] = job.part[0]
    job.part[2] = job.part[1] + ((row * size + 63) & ~63)
    job.part[3] = job.part[2] + ((row * job.indexed + 63) & ~63)
    job.part[4] = job.part[3] + 2 * ((row * job.indexed + 63) & ~63)
    job.part[5] = job.part[4] + ((job.lane * job.block[4] * job.indexed + 63) & ~63)
    cells = min((job.lane - 1) * across.stride + across.extent, across.n)
    job.capacity = job.part[5] + ((<Py_ssize_t> cells * job.block[4] * size + 127) & ~63)
    return True
