"""Windows of many rows: max and min by sweeping over the rows, sums by piling them up. (Part of _nest.pyx.)"""


cdef inline Cells swept(const Job* job, const Rows* rows, const char* source, Py_ssize_t cells, Py_ssize_t inner, Py_ssize_t j,
                        Cells spare) noexcept nogil:
    """Row j of the array, as accumulators."""
    if job.straight:
        return at(job, rows.first, j * rows.row)
    job.load(spare.value, source + j * job.x_axis[1], cells, job.x_axis[2], inner, job.x_inner, job.p)
    return spare


cdef inline void call_row(const char* row, Py_ssize_t step, Py_ssize_t size, Py_ssize_t cells, Py_ssize_t inner) noexcept nogil:
    """Asks for a piece of a dense row of the array before it is read, while memory has nothing else to do."""
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
    walk.step, walk.ahead, walk.fresh = rows.step if job.straight else inner, job.ahead if job.straight else 0, 2   # of two operands
    # Nobody asks for the result: its stores do, and whole rows of it at once would fill the queue to memory.
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


cdef struct Ring:
    # The newest rows of P(block), each in the place of one that is no longer needed.
    Cells first
    Py_ssize_t block, rows


cdef struct Pile:
    # Sums down H. Row j of a level begins with row low + j of the array.
    Ring ring[LEVELS]
    Rows rows
    Py_ssize_t kernel, n, low, pitch
    bint dense                # level 0 are the array's own rows, and a row of identities for those outside it


cdef inline Py_ssize_t ringed(Py_ssize_t kernel, Py_ssize_t block) noexcept nogil:
    """The rows of P(block) that are needed at a time: by the kernel's digit to base 4, and by the level above."""
    cdef Py_ssize_t blocks = kernel // block
    if block >= kernel:
        return 0
    return (blocks - 1) * block + 1 if 4 * block >= kernel else (blocks % 4 + 3) * block + 1


cdef Py_ssize_t piled(Py_ssize_t kernel) noexcept nogil:
    """The rows of all levels."""
    cdef Py_ssize_t m, count = 0
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


cdef void levels_of_window(const Job* job, const Pile* pile, Py_ssize_t i, pile_t* p) noexcept nogil:
    """The last row of each level that window i has, and its own rows: a digit of the kernel to base 4 takes blocks of a level.

    Before the first window, the rows that it needs, and none of its own.
    """
    cdef Py_ssize_t m, k, j, block, blocks
    cdef level_t* level
    p.levels = 0
    for m in range(LEVELS):
        block = pile.ring[m].block
        blocks = pile.kernel // block
        if block >= pile.kernel:
            return
        level, p.levels = &p.level[m], <int> m + 1
        level.to, j = NULL, i + (blocks - 1) * block
        if m and j >= 0:
            level.to = row_of(job, pile, m, j).value
            for k in range(4):
                level.of[k] = row_of(job, pile, m - 1, j + k * (block // 4)).value
        level.rows = 0
        if i >= 0:
            level.rows = <int> (blocks if 4 * block >= pile.kernel else blocks % 4)
        for k in range(level.rows):
            level.row[k] = row_of(job, pile, m, i + (blocks - level.rows + k) * block).value


cdef inline void first_level(const Job* job, const Pile* pile, const char* source, Py_ssize_t j, Py_ssize_t x, Py_ssize_t cells,
                             Py_ssize_t inner) noexcept nogil:
    """Some cells of a row of level 0, where that is not the array itself."""
    cdef Py_ssize_t place = pile.low + j
    cdef Cells dst
    cdef Walk walk
    if j < 0 or pile.dense:
        return
    dst = at(job, row_of(job, pile, 0, j), x * inner)
    if not 0 <= place < pile.n:
        fill(job, dst, cells * inner)
    elif job.straight:
        walk = walks(1, cells, inner)
        walk.step, walk.ahead, walk.fresh = pile.rows.step, job.ahead, 1
        job.pick(&walk, dst, at(job, pile.rows.first, place * pile.rows.row + x * pile.rows.step), NONE, NONE)
    else:
        job.load(dst.value, source + place * job.x_axis[1] + x * job.x_axis[2], cells, job.x_axis[2], inner, job.x_inner, job.p)


cdef inline Py_ssize_t rows_together(const Job* job, Py_ssize_t width, Py_ssize_t most) noexcept nogil:
    """How many rows have so many bytes."""
    return max(1, min(TOGETHER, most // (width * job.size)))


cdef void pile_up(const Job* job, const Tile* t, const Rows* rows, const char* source, char* target, Py_ssize_t cells,
                  Py_ssize_t inner, const Cells* buffers, Cells kept, char* scratch) noexcept nogil:
    """Rows of windows by doubling twice, a row of each level at a time, where three picks for each would add in another order.

    Several rows are made strip by strip: then what they need of each level is in a core's first-level cache.
    """
    cdef const Axis* down = &job.axis[1]
    cdef Tile part[3]
    cdef Pile pile
    cdef pile_t levels[TOGETHER]
    cdef Py_ssize_t width = t[2].total * inner, lead = t[2].lead * inner, outs = t[1].outs, used = 0
    cdef Py_ssize_t some = rows_together(job, width, LANE // 2), many = rows_together(job, width, PILED)   # across, and down
    cdef Py_ssize_t strip = max(1, STRIP // (32 * inner * job.size)) * 32, i, j, k, m, n, x, first, stop
    part[0], part[1], part[2] = t[0], t[1], t[2]
    pile.rows, pile.kernel, pile.n, pile.low = rows[0], down.kernel, down.n, t[1].first - down.before
    pile.pitch = (cells * inner + 31) & ~15   # rows a power of two apart would share a cache's sets
    for m in range(LEVELS):
        pile.ring[m].block, pile.ring[m].first = 1 << 2 * m, at(job, kept, used * pile.pitch)
        pile.ring[m].rows = ringed(pile.kernel, pile.ring[m].block)
        used += pile.ring[m].rows
    pile.dense = job.straight and rows.step == inner
    CHECK(used * pile.pitch * job.size <= job.kept and (many + some) * width <= job.capacity)
    if pile.dense:
        fill(job, pile.ring[0].first, cells * inner)
    i = 1 - pile.kernel
    while i < outs:
        first, stop = i, min(i + many, outs if i >= 0 else 0)
        for m in range(first, stop):
            levels_of_window(job, &pile, m, &levels[m - first])
        if first >= 0:
            pad_rows(job, buffers[0], stop - first, width, lead, cells * inner)
        for k in range(max(1, cells // strip)):
            x = k * strip
            n = strip if x + 2 * strip <= cells else cells - x
            for m in range(first, stop):
                j = m + pile.kernel - 1
                first_level(job, &pile, source, j, x, n, inner)
                if 0 <= pile.low + j < pile.n - 1:
                    call_row(source + (pile.low + j + 1) * job.x_axis[1] + x * job.x_axis[2], job.x_axis[2], job.cell, n, inner)
                job.pile(buffers[0].value + ((m - first) * width + lead) * job.size if m >= 0 else NULL, &levels[m - first],
                         x * inner, (x + n) * inner)
        while 0 <= i < stop:
            k = min(some, stop - i)
            part[1].first, part[1].outs = t[1].first + i, k
            finish_rows(job, part, target + i * job.y_axis[1], 1, inner, at(job, buffers[0], (i - first) * width),
                        at(job, buffers[0], many * width), buffers[2], scratch)
            i += k
        i = stop
