"""Windows of many rows: max and min by sweeping over the rows, sums by piling them up. (Part of _nest.pyx.)"""


cdef inline Cells swept(const Job* job, const Rows* rows, const char* source, Py_ssize_t cells, Py_ssize_t inner, Py_ssize_t j,
                        Cells spare) noexcept nogil:
    """Row j of the array, as accumulators."""
    if job.straight:
        return at(job, rows.first, j * rows.row)
    job.load(spare.value, source + j * job.x_axis[1], cells, job.x_axis[2], inner, job.x_inner, job.p)
    return spare


cdef inline void call_row(const char* row, Py_ssize_t step, Py_ssize_t size, Py_ssize_t cells, Py_ssize_t inner) noexcept nogil:
    """Asks for a dense row of the array or of the result before it is read or written, while memory has nothing else to do."""
    if cells == 1 or step == inner * size:
        prefetch_all(row, cells * inner * size)


cdef void sweep(const Job* job, const Tile* t, const Rows* rows, const char* source, char* target, Py_ssize_t cells, Py_ssize_t inner,
                const Cells* buffers, Cells kept, char* scratch) noexcept nogil:
    """No more rows of windows than the kernel has, whatever it has, by three picks each (van Herk, Gil and Werman).

    All of these windows hold the last row of the first one: up to it they are combined from there backwards, and behind it
    forwards.
    """
    cdef const Axis* down = &job.axis[1]
    cdef Tile part[3]
    cdef Py_ssize_t width = t[2].total * inner, outs = t[1].outs, first = t[1].first, j, o
    cdef Py_ssize_t low = max(0, first - down.before), middle = min(first - down.before + down.kernel, down.n) - 1
    cdef Py_ssize_t lead = t[2].lead * inner, length = cells * inner
    cdef Cells back = kept, ahead = at(job, kept, down.kernel * length), row, dst
    cdef Walk walk = walks(1, cells, inner), flat
    walk.step, walk.ahead, walk.fresh = rows.step if job.straight else inner, job.ahead if job.straight else 0, 1
    CHECK(outs <= down.kernel and (down.kernel + 1) * length * job.size <= job.kept and 2 * width <= job.capacity)
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
        if middle <= j < down.n - 1:
            call_row(source + (j + 1) * job.x_axis[1], job.x_axis[2], job.cell, cells, inner)
        if o + 1 < outs:
            call_row(target + (o + 1) * job.y_axis[1], job.y_axis[2], job.result, t[2].outs, inner)
        part[1].first = first + o
        dst = at(job, buffers[0], lead)
        if job.alone:
            dst.value = target + o * job.y_axis[1]
        else:
            pad_rows(job, buffers[0], 1, width, lead, length)
        flat = walks(1, 1, length)
        job.pick(&flat, dst, at(job, back, (max(first - down.before + o, 0) - low) * length),
                 NONE if j <= middle or middle == down.n - 1 else ahead, NONE)
        if not job.alone:
            finish_rows(job, part, target + o * job.y_axis[1], 1, inner, buffers[0], at(job, buffers[0], width), buffers[2], scratch)


cdef enum:
    LEVELS = 16   # of four times as many rows each, for any kernel below 2**31


cdef struct Ring:
    # The newest rows of P(block), each in the place of one that is no longer needed.
    Cells first
    Py_ssize_t block, rows


cdef struct Pile:
    # Sums down H. Row j of a level begins with row low + j of the array.
    Ring ring[LEVELS]
    Cells sums                # two rows
    Rows rows
    const char* source
    Py_ssize_t kernel, n, low, cells, inner, length, pitch
    bint dense                # level 0 are the array's own rows, and a row of identities for those outside it


cdef inline Py_ssize_t ringed(Py_ssize_t kernel, Py_ssize_t block) noexcept nogil:
    """The rows of P(block) that are needed at a time: by the kernel's digit to base 4, and by the level above."""
    cdef Py_ssize_t blocks = kernel // block
    if block >= kernel:
        return 0
    return (blocks - 1) * block + 1 if 4 * block >= kernel else (blocks % 4 + 3) * block + 1


cdef Py_ssize_t piled(Py_ssize_t kernel) noexcept nogil:
    """The rows of all levels, and of two sums."""
    cdef Py_ssize_t m, count = 2
    for m in range(LEVELS):
        count += ringed(kernel, 1 << 2 * m)
    return count


cdef inline Py_ssize_t tall_rows(const Job* job) noexcept nogil:
    """The rows that a block's windows of H keep."""
    return job.axis[1].kernel + 1 if job.idempotent else piled(job.axis[1].kernel)


cdef inline Cells row_of(const Job* job, const Pile* pile, Py_ssize_t m, Py_ssize_t j) noexcept nogil:
    """Row j of a level."""
    if m or not pile.dense:
        return at(job, pile.ring[m].first, <Py_ssize_t> (<uint32_t> j % <uint32_t> pile.ring[m].rows) * pile.pitch)
    if 0 <= pile.low + j < pile.n:
        return at(job, pile.rows.first, (pile.low + j) * pile.rows.row)
    return pile.ring[0].first


cdef void heap(const Job* job, const Pile* pile, Py_ssize_t i) noexcept nogil:
    """The last row of each level that window i has."""
    cdef Walk walk = walks(1, pile.cells, pile.inner), flat = walks(1, 1, pile.length)
    cdef Py_ssize_t m, j, block, below, place
    cdef Cells dst
    walk.step, walk.fresh, flat.fresh = pile.rows.step, 1, 1
    walk.ahead = job.ahead if job.straight else 0
    for m in range(LEVELS):
        block = pile.ring[m].block
        j = i + (pile.kernel // block - 1) * block
        if block >= pile.kernel or j < 0:
            return
        dst, place = row_of(job, pile, m, j), pile.low + j
        if m:
            flat.ahead, below = walk.ahead if m == 1 and pile.dense else 0, block // 4
            pick_more(job, &flat, dst, row_of(job, pile, m - 1, j), row_of(job, pile, m - 1, j + below),
                      row_of(job, pile, m - 1, j + 2 * below), row_of(job, pile, m - 1, j + 3 * below))
        elif pile.dense:
            continue
        elif not 0 <= place < pile.n:
            fill(job, dst, pile.length)
        elif job.straight:
            job.pick(&walk, dst, at(job, pile.rows.first, place * pile.rows.row), NONE, NONE)
        else:
            job.load(dst.value, pile.source + place * job.x_axis[1], pile.cells, job.x_axis[2], pile.inner, job.x_inner, job.p)


cdef void sum_up(const Job* job, const Pile* pile, Py_ssize_t i, Cells dst) noexcept nogil:
    """Window i: a digit of the kernel to base 4 takes its blocks behind all larger blocks."""
    cdef Walk flat = walks(1, 1, pile.length)
    cdef Py_ssize_t m, block, blocks, digit, k
    cdef Cells sum = NONE, to
    cdef Cells row[5]
    for m in range(LEVELS):
        block = pile.ring[m].block
        blocks = pile.kernel // block
        if block >= pile.kernel:
            return
        digit, to = blocks % 4, at(job, pile.sums, m % 2 * pile.pitch)
        if 4 * block >= pile.kernel:
            digit, to = blocks, dst
        for k in range(digit):
            row[k] = row_of(job, pile, m, i + (blocks - digit + k) * block)
        row[digit] = sum
        k = digit + (sum.value != NULL)
        if digit == 0:
            continue
        if k == 1:
            sum = row[0]
            continue
        if k == 4:
            pick_more(job, &flat, to, row[0], row[1], row[2], row[3])
        else:
            job.pick(&flat, to, row[0], row[1], row[2] if k == 3 else NONE)
        sum = to


cdef void pile_up(const Job* job, const Tile* t, const Rows* rows, const char* source, char* target, Py_ssize_t cells,
                  Py_ssize_t inner, const Cells* buffers, Cells kept, char* scratch) noexcept nogil:
    """Rows of windows by doubling twice, a row of each level at a time, where three picks for each would add in another order."""
    cdef const Axis* down = &job.axis[1]
    cdef Tile part[3]
    cdef Pile pile
    cdef Py_ssize_t width = t[2].total * inner, lead = t[2].lead * inner, outs = t[1].outs, used = 2, i, j, m, k = 0
    cdef Py_ssize_t some = max(1, min(outs, LANE // 2 // (width * job.size)))
    part[0], part[1], part[2] = t[0], t[1], t[2]
    pile.rows, pile.source, pile.cells, pile.inner, pile.length = rows[0], source, cells, inner, cells * inner
    pile.kernel, pile.n, pile.low = down.kernel, down.n, t[1].first - down.before
    pile.pitch = (pile.length + 31) & ~15   # rows a power of two apart would share a cache's sets
    pile.sums = kept
    for m in range(LEVELS):
        pile.ring[m].block, pile.ring[m].first = 1 << 2 * m, at(job, kept, used * pile.pitch)
        pile.ring[m].rows = ringed(pile.kernel, pile.ring[m].block)
        used += pile.ring[m].rows
    pile.dense = job.straight and rows.step == inner
    CHECK(used * pile.pitch * job.size <= job.kept and 2 * some * width <= job.capacity)
    if pile.dense:
        fill(job, pile.ring[0].first, pile.length)
    for i in range(1 - pile.kernel, outs):
        heap(job, &pile, i)
        if i < 0:
            continue
        if k == 0:
            pad_rows(job, buffers[0], some, width, lead, pile.length)
        j = pile.low + i + pile.kernel
        if 0 <= j < pile.n:
            call_row(source + j * job.x_axis[1], job.x_axis[2], job.cell, cells, inner)
        call_row(target + i * job.y_axis[1], job.y_axis[2], job.result, t[2].outs, inner)
        sum_up(job, &pile, i, at(job, buffers[0], k * width + lead))
        k += 1
        if k == some or i == outs - 1:
            part[1].first, part[1].outs = t[1].first + i + 1 - k, k
            finish_rows(job, part, target + (i + 1 - k) * job.y_axis[1], 1, inner, buffers[0],
                        at(job, buffers[0], some * width), buffers[2], scratch)
            k = 0
