"""One block, axis by axis, in dense buffers: load, reduce D, H and W, store. (Part of _nest.pyx.)"""


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


cdef void divide_by(const Job* job, char* divisors, int64_t count, const int64_t* counts, Py_ssize_t cells,
                    Py_ssize_t inner) noexcept nogil:
    """The divisors of a row of windows, cell by cell."""
    cdef Py_ssize_t w, c
    for w in range(cells):
        for c in range(w * inner, (w + 1) * inner):
            if job.finished == sizeof(float):
                (<float*> divisors)[c] = <float> (count * counts[w])
            else:
                (<double*> divisors)[c] = <double> (count * counts[w])


cdef inline void store_finished(const Job* job, char* y, const char* source, Py_ssize_t cells, Py_ssize_t inner, bint dense,
                                const char* divisors, bint each, char* row) noexcept nogil:
    """Combined values, finished, to a row of the result."""
    cdef Py_ssize_t some, many = cells * inner
    if dense and job.round != NULL:
        job.round(y, source, many, divisors, each, job.p)
    elif dense and job.exact:
        job.finish(y, source, many, divisors, each, job.p)
    elif dense:
        while many > 0:
            some = min(SOME, many)
            job.finish(row, source, some, divisors, each, job.p)
            job.store(y, job.result, job.result, row, some, 1)
            source, y, many = source + some * job.size, y + some * job.result, many - some
            divisors += some * job.finished if each else 0
    else:
        job.finish(row, source, many, divisors, each, job.p)
        job.store(y, job.y_axis[2], job.y_inner, row, cells, inner)


cdef void store_block(const Job* job, const Tile* t, char* y, char* i, Py_ssize_t batch, Py_ssize_t batch_y, Py_ssize_t batch_i,
                      Py_ssize_t inner, Cells buffer, char* row, char* divisors) noexcept nogil:
    """A block's combined values, finished, to where the result has them."""
    cdef Py_ssize_t g, d, h, place, cells = t[2].outs, rows = t[1].outs, planes = t[0].outs
    cdef int64_t count, before = -1
    cdef char* source
    cdef char* target
    cdef bint dense = (job.y_inner == job.result or inner == 1) and job.y_axis[2] == inner * job.result
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
                        if count != before:
                            divide_by(job, divisors, count, &job.axis[2].divisors[t[2].first], cells, inner)
                        before = count
                    store_finished(job, target, source, cells, inner, dense,
                                   <const char*> &job.divisor if job.uniform else divisors, not job.uniform, row)
                else:
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
