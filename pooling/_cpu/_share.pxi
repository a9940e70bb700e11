"""Gradients of sums and averages: shares of windows, added to the cells that they cover. (Part of _back.pyx.)"""


cdef struct Share:
    quotient_t quotient
    down_t down
    along_t along
    store_t store
    char* grad
    const char* g
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t grad_outer[OUTERS]
    Py_ssize_t g_outer[OUTERS]
    Py_ssize_t inner, grad_inner, g_inner
    Py_ssize_t grad_axis[3]
    Py_ssize_t g_axis[3]
    Axis axis[3]
    const int64_t* firsts[3]  # the windows of each cell; along W NULL where they slide
    const int64_t* covers[3]
    Py_ssize_t size, sum      # bytes of a result's cell and of an accumulator
    bint exact                # the sums are the result
    bint divides, uniform
    int64_t divisor
    Py_ssize_t block, cells, rows           # of one item
    Py_ssize_t grid[3]                      # items of one plane: rows, cells, inner
    Py_ssize_t capacity                     # windows of a row times inner
    Py_ssize_t margin                       # bytes of zeros before and behind a row of shares, or of sums of them
    Py_ssize_t pitch                        # bytes from one such row to the next
    Py_ssize_t together                     # rows of cells that are made together
    Py_ssize_t kept                         # rows of shares that are kept, a power of two above three
    Py_ssize_t step                         # rows of cells whose windows are one row further down
    # Where rows of cells are made in one go, else NULL: how, from new shares, and from those that were kept; from how many rows
    # of new ones; what these are multiplied or divided by; and planes of one item.
    shared_t shared[2]
    Py_ssize_t taps, planes
    double by


ctypedef void (*block_t)(const Share* s, Py_ssize_t item, char* scratch) noexcept nogil


cdef Py_ssize_t covering(const Axis* axis, int64_t cell, int64_t* first) noexcept nogil:
    """The first of the sliding windows that cover a cell of an axis, and their number."""
    cdef int64_t last
    cell += axis.before
    last = min(cell // axis.stride, axis.out - 1)
    first[0] = 0 if cell < axis.kernel else (cell - axis.kernel) // axis.stride + 1
    return max(0, last - first[0] + 1)


cdef void divisors(const Share* s, char* n, int64_t factor, Py_ssize_t first, Py_ssize_t windows) noexcept nogil:
    """The divisors of a row of windows, each rounded to the type that divides."""
    cdef Py_ssize_t o
    for o in range(windows):
        if s.sum == sizeof(float):
            (<float*> n)[o] = <float> (factor * s.axis[2].divisors[first + o])
        else:
            (<double*> n)[o] = <double> (factor * s.axis[2].divisors[first + o])


cdef void divide(const Share* s, const spread_t* row, char* shares, const char* g, char* n, int64_t* divided, int64_t depth,
                 Py_ssize_t deep, int64_t height, Py_ssize_t rows) noexcept nogil:
    """Some rows of shares, of windows one below the other: those of `deep` windows added up."""
    cdef Py_ssize_t j, k, high = 1 if s.divides and not s.uniform else rows   # that are divided alike
    cdef int64_t factor
    for k in range(rows // high):
        for j in range(deep):
            if s.divides and not s.uniform:
                factor = s.axis[0].divisors[depth + j] * s.axis[1].divisors[height + k] * s.divisor
                if factor != divided[0]:
                    divisors(s, n, factor, row.first, row.windows)
                    divided[0] = factor
            s.quotient(shares + k * s.pitch, s.pitch, g + (depth + j) * s.g_axis[0] + (height + k) * s.g_axis[1], s.g_axis[1],
                       s.g_axis[2], s.g_inner, high, row.windows, row.inner, n if s.divides else NULL, not s.uniform, j > 0)


cdef void add_down(const Share* s, const spread_t* row, const char** made, char* sums, const char* shares, const char* zeros,
                   const int64_t* firsts, const int64_t* covers, Py_ssize_t group) noexcept nogil:
    """Where the sums of the rows of windows are that cover a group of rows of cells: made, unless they are there already."""
    cdef Py_ssize_t phase, j, k, most, m, ring = s.kept - 1
    cdef const char* rows[3]
    for phase in range(min(group, s.step)):
        j = phase
        while j < group:
            k = 1
            if covers[j] == 0:
                made[j] = zeros
            elif covers[j] == 1:
                made[j] = shares + (firsts[j] & ring) * s.pitch
            elif j > 0 and (phase > 0 or s.step == 1) and firsts[j] == firsts[j - 1] and covers[j] == covers[j - 1]:
                made[j] = made[j - 1]
            else:   # and those of the same phase
                rows[2] = NULL
                most = group
                for m in range(covers[j]):
                    rows[m] = shares + ((firsts[j] + m) & ring) * s.pitch
                    most = min(most, s.kept - ((firsts[j] + m) & ring))
                while k < most and j + k * s.step < group and covers[j + k * s.step] == covers[j] and (
                        firsts[j + k * s.step] == firsts[j] + k):
                    k += 1
                s.down(sums + j * s.pitch, s.step * s.pitch, rows[0], rows[1], rows[2], s.pitch, k, row.windows * row.inner)
                for m in range(k):
                    made[j + m * s.step] = sums + (j + m * s.step) * s.pitch
            j += k * s.step


cdef bint in_one_go(Share* s, loops, Py_ssize_t vector) except -1:
    """Whether windows are small, slide and lie dense, so that whole rows of cells are made in one go; and what it takes."""
    cdef const Axis* down = &s.axis[1]
    cdef const Axis* across = &s.axis[2]
    cdef Py_ssize_t outer = s.outers - 1, at
    cdef int power
    if not loops or (s.divides and not s.uniform) or s.axis[0].n > 1 or s.axis[0].out > 1 or s.firsts[2] != NULL:
        return False
    if not 2 <= across.kernel <= 3 or across.stride > 2 or not 0 <= across.before <= 1 or across.dilation > 1:
        return False
    if (down.n > 1 or down.out > 1) and (
            down.starts != NULL or down.kernel != across.kernel or down.stride != across.stride or down.dilation > 1):
        return False
    if s.inner > 1 and (s.inner * s.sum < vector or s.grad_inner != s.size or s.g_inner != s.size):
        return False
    if (across.n > 1 and s.grad_axis[2] != s.inner * s.size) or (across.out > 1 and s.g_axis[2] != s.inner * s.size):
        return False
    if (down.out > 1 and s.g_axis[1] < 0) or (s.outer[outer] > 1 and s.g_outer[outer] < 0):
        return False
    if max(across.n, across.out) * s.inner * s.sum > LONG:
        return False
    at = 6 * (4 * (across.kernel - 2) + 2 * across.before + across.stride - 1) + (3 if s.inner > 1 else 0)
    s.by = 1
    if s.divides:   # rounded once, to the type that divides
        s.by = <float> s.divisor if s.sum == sizeof(float) else <double> s.divisor
    s.shared[1] = <shared_t> <size_t> loops[at + 2]
    if frexp(s.by, &power) == 0.5:   # the same number, rounded once like the quotient
        s.by = 1 / s.by
    else:
        at += 1
    s.shared[0] = <shared_t> <size_t> loops[at]
    s.taps = across.kernel - across.stride + 1
    return True


cdef void share_rows(const Share* s, Py_ssize_t item, char* scratch) noexcept nogil:
    """A band of the rows of some planes."""
    cdef const int64_t* firsts = s.firsts[1]
    cdef const int64_t* covers = s.covers[1]
    cdef shares_t row
    cdef char* grad = s.grad
    cdef char* to
    cdef const char* g = s.g
    cdef const char* safe      # behind which rows are read as copies
    cdef const char* whole     # and written as such
    cdef const char* fresh
    cdef char* zeros = scratch + 4 * s.pitch
    cdef char* spare = scratch + 6 * s.pitch   # of a row of windows, and of cells
    cdef char* exactly = scratch + 7 * s.pitch
    cdef const char* divisor = scratch + 8 * s.pitch if s.divides else NULL
    cdef const char* x[3]
    cdef Py_ssize_t k, r = item % s.grid[0], outer = s.outers - 1, plane, planes, start, stop, h, count, last, done, taps
    cdef Py_ssize_t pitch = s.pitch, stride = s.axis[2].stride, line = s.g_axis[1], drow = s.grad_axis[1]
    cdef Py_ssize_t wide = s.axis[2].out * s.inner * s.size, cells = s.axis[2].n * s.inner * s.size
    cdef bint between, anew, exact
    item //= s.grid[0]
    plane = item % s.grid[1] * s.planes
    item //= s.grid[1]
    planes = min(s.planes, s.outer[outer] - plane)
    grad += plane * s.grad_outer[outer]
    g += plane * s.g_outer[outer]
    for k in range(outer - 1, -1, -1):
        grad += item % s.outer[k] * s.grad_outer[k]
        g += item % s.outer[k] * s.g_outer[k]
        item //= s.outer[k]
    start, stop = r * s.rows, min((r + 1) * s.rows, s.axis[1].n)
    grad += start * drow
    row.cells, row.windows, row.inner, row.line, row.drow = s.axis[2].n, s.axis[2].out, s.inner, line, drow
    row.by = s.by
    row.ring, row.apart, row.inside = scratch, pitch, scratch + 5 * pitch
    between = s.grad_outer[outer] == (stop - start) * drow and drow == cells   # nothing lies there
    safe = g + (planes - 1) * s.g_outer[outer] + (s.axis[1].out - 1) * line - APART
    whole = grad + (stop - start) * drow - cells - 2 * APART
    if between:
        whole += (planes - 1) * s.grad_outer[outer]
    for _ in range(planes):
        to, h, done = grad, start, 0
        while h < stop:
            last, count = firsts[h] + covers[h] - 1, 1
            anew = covers[h] > 0 and last >= done
            taps = s.taps if anew else s.taps - 1 if stride == 1 else 1
            CHECK(covers[h] <= taps)
            done = max(done, firsts[h])
            while done < last:   # a band begins
                s.quotient(scratch + (done & 3) * pitch, 0, g + done * line, 0, s.g_axis[2], s.g_inner, 1, s.axis[2].out, s.inner,
                           divisor, 0, 0)
                done += 1
            for k in range(3):
                x[k] = scratch + ((last - taps + 1 + k) & 3) * pitch if taps - k <= covers[h] else zeros
            fresh = g + last * line
            exact = s.inner == 1 and (drow != cells or <const char*> to > whole)
            if anew and fresh > safe and s.inner == 1:
                fresh = <const char*> memcpy(spare, fresh, wide)
            elif anew and not exact and (stride == 1 or stride * last - s.axis[1].before == h):
                count = min(stop - h, stride * (s.axis[1].out - last))
                if s.inner == 1:
                    count = min(count, (whole - to) // drow + 1)
                    if line > 0:
                        count = min(count, stride * ((safe - fresh) // line + 1))
            if anew:
                done = last + (count + stride - 1) // stride
            s.shared[not anew](exactly if exact else to, x, fresh, &row, count, last)
            if exact:
                memcpy(to, exactly, cells)
            to += count * drow
            h += count
        g += s.g_outer[outer]
        grad += s.grad_outer[outer]
        if not between:
            whole += s.grad_outer[outer]


cdef void share_block(const Share* s, Py_ssize_t item, char* scratch) noexcept nogil:
    """A band of the rows of one plane, some of their cells, some of their inner cells."""
    cdef char* grad = s.grad
    cdef const char* g = s.g
    cdef int64_t* margins = <int64_t*> scratch   # where rows end
    cdef char* zeros = scratch + APART
    cdef char* shares = zeros + s.pitch
    cdef char* sums = shares + s.kept * s.pitch
    cdef char* result = sums + s.together * s.pitch + s.margin
    cdef char* n = result + s.cells * s.block * s.sum
    cdef char* place
    cdef spread_t row
    cdef int64_t first, last, d, h, depth, low, reach, until, divided = 0, stop, done
    cdef Py_ssize_t b, c, r, k, j, deep, windows, size, group, ring = s.kept - 1
    cdef const char* made[SUMS]
    cdef bint dense
    b = c = r = 0
    if s.grid[2] > 1:
        b, item = item % s.grid[2], item // s.grid[2]
    if s.grid[1] > 1:
        c, item = item % s.grid[1], item // s.grid[1]
    if s.grid[0] > 1:
        r, item = item % s.grid[0], item // s.grid[0]
    row.inner, row.cells = min(s.block, s.inner - b * s.block), min(s.cells, s.axis[2].n - c * s.cells)
    grad += b * s.block * s.grad_inner + c * s.cells * s.grad_axis[2]
    g += b * s.block * s.g_inner
    for k in range(s.outers - 1, -1, -1):
        grad += item % s.outer[k] * s.grad_outer[k]
        g += item % s.outer[k] * s.g_outer[k]
        item //= s.outer[k]
    row.firsts, row.covers = NULL, NULL
    row.kernel, row.stride, row.lead = s.axis[2].kernel, s.axis[2].stride, 0
    k = c * s.cells
    if s.firsts[2] != NULL:
        row.firsts, row.covers = s.firsts[2] + k, s.covers[2] + k
        first, last = row.firsts[0], row.firsts[row.cells - 1] + row.covers[row.cells - 1] - 1
    else:
        windows = covering(&s.axis[2], k + row.cells - 1, &last)
        last += windows - 1
        covering(&s.axis[2], k, &first)
        first = min(first, (k + s.axis[2].before) // s.axis[2].stride)
        row.lead = k + s.axis[2].before - first * s.axis[2].stride
    row.first, row.windows = first, max(0, min(last, s.axis[2].out - 1) - first + 1)
    CHECK(row.windows * row.inner <= s.capacity)
    size = row.windows * row.inner * s.sum
    g += first * s.g_axis[2] if row.windows > 0 else 0
    if margins[0] != size:   # those of other rows: rows of windows are between zeros
        memset(zeros, 0, (1 + s.kept + s.together) * s.pitch + s.margin)
        margins[0] = size
    zeros, shares, sums = zeros + s.margin, shares + s.margin, sums + s.margin
    if s.divides and s.uniform:
        if s.sum == sizeof(float):
            (<float*> n)[0] = <float> s.divisor
        else:
            (<double*> n)[0] = <double> s.divisor
    dense = s.exact and (row.inner == 1 or s.grad_inner == s.size) and (
        row.cells == 1 or s.grad_axis[2] == row.inner * s.size)
    stop = min((r + 1) * s.rows, s.axis[1].n)
    until = min(s.axis[1].out, s.firsts[1][stop - 1] + s.covers[1][stop - 1])
    for d in range(s.axis[0].n):
        depth, deep = s.firsts[0][d], s.covers[0][d]
        done = 0      # rows of windows whose shares were made
        h = r * s.rows
        while h < stop:
            low, group = s.firsts[1][h], min(s.together, stop - h)
            while group > 1 and s.firsts[1][h + group - 1] + s.covers[1][h + group - 1] - low > s.kept:
                group -= 1
            reach = min(until, s.firsts[1][h + group - 1] + s.covers[1][h + group - 1])
            done = max(done, low)
            if deep > 0 and done < reach:
                reach = min(until, low + s.kept)   # as many as there is room for
                while done < reach:
                    k = min(reach - done, s.kept - (done & ring))
                    divide(s, &row, shares + (done & ring) * s.pitch, g, n, &divided, depth, deep, done, k)
                    done += k
            CHECK(deep <= 3 and done - low <= s.kept)
            if deep > 0:
                add_down(s, &row, made, sums, shares, zeros, s.firsts[1] + h, s.covers[1] + h, group)
            else:
                for j in range(group):
                    made[j] = zeros
            place = grad + d * s.grad_axis[0] + h * s.grad_axis[1]
            if dense:
                for j in range(group if row.inner * s.size >= LINE else 0):   # what runs of cells along rows do not call for
                    if h + group + j < stop:
                        prefetch_all(place + (group + j) * s.grad_axis[1], row.cells * row.inner * s.size)
                    if done + j < until and j < (group + 1) // s.step:
                        prefetch_all(g + depth * s.g_axis[0] + (done + j) * s.g_axis[1], size)
                s.along(place, s.grad_axis[1], made, group, &row)
            else:
                for j in range(group):
                    s.along(result, 0, made + j, 1, &row)
                    s.store(place + j * s.grad_axis[1], s.grad_axis[2], s.grad_inner, result, row.cells, row.inner)
            h += group


cdef Py_ssize_t lay_rows(Share* s, Py_ssize_t outers, Py_ssize_t threads) noexcept:
    """Bands of rows of some planes; the bytes of row buffers of a thread."""
    cdef Py_ssize_t pieces = 1 if threads == 1 else max(1, 4 * threads // outers), planes = s.outer[s.outers - 1]
    s.planes = (planes + pieces - 1) // pieces
    s.grid[1] = (planes + s.planes - 1) // s.planes
    pieces = (pieces + s.grid[1] - 1) // s.grid[1]
    s.rows = (s.axis[1].n + pieces - 1) // pieces
    s.grid[0] = (s.axis[1].n + s.rows - 1) // s.rows
    s.pitch = (max(s.axis[2].n, s.axis[2].out) * s.inner * s.sum + 3 * APART) // APART * APART
    return 8 * s.pitch + APART


cdef Py_ssize_t lay_blocks(Share* s, Py_ssize_t items, Py_ssize_t threads) noexcept:
    """Bands of a plane, some of their cells, some of their inner cells; the bytes of row buffers of a thread."""
    cdef Py_ssize_t reach, each
    s.block = min(s.inner, ROW // s.sum)
    s.cells = s.axis[2].n if s.axis[2].n * s.block * s.sum <= 2 * ROW else max(1, ROW // (s.block * s.sum))
    s.grid[1], s.grid[2] = (s.axis[2].n + s.cells - 1) // s.cells, (s.inner + s.block - 1) // s.block
    items *= s.grid[1] * s.grid[2]
    s.grid[0] = 1 if threads == 1 else min(s.axis[1].n, max(1, 4 * threads // items))
    s.rows = (s.axis[1].n + s.grid[0] - 1) // s.grid[0]
    s.grid[0] = (s.axis[1].n + s.rows - 1) // s.rows
    if s.firsts[2] != NULL:
        reach = s.axis[2].out if s.cells == s.axis[2].n else min(s.axis[2].out, 3 * s.cells)
    else:
        reach = min(s.axis[2].out, s.cells // s.axis[2].stride + 4)
    s.capacity = reach * s.block
    s.step = s.axis[1].stride if s.axis[1].starts == NULL else 1
    s.margin = (MARGIN * s.block * s.sum + APART - 1) // APART * APART
    s.pitch = (s.capacity * s.sum + APART - 1) // APART * APART + s.margin
    s.kept = 4
    while 2 * s.kept * s.pitch <= KEPT and s.kept < s.axis[1].out:
        s.kept *= 2
    s.together = max(1, min(SUMS, KEPT // 2 // s.pitch))
    each = (s.cells * s.block + reach + 1) * s.sum + (1 + s.kept + s.together) * s.pitch + s.margin
    return (each + 3 * APART - 1) // APART * APART


cdef void begin_share(const Share* s, char* scratch) noexcept nogil:
    """What a thread's row buffers hold before its first item."""
    if s.shared[0] == NULL:
        (<int64_t*> scratch)[0] = -1
        return
    memset(scratch + 4 * s.pitch, 0, 2 * s.pitch)   # what lies behind rows of shares is of no use, and no harm
    memset(scratch + 5 * s.pitch, 0xff, s.axis[2].out * s.inner * s.sum)
    if s.sum == sizeof(float):
        (<float*> (scratch + 8 * s.pitch))[0] = <float> s.divisor
    else:
        (<double*> (scratch + 8 * s.pitch))[0] = <double> s.divisor


def share(loops, whole, Py_ssize_t vector, list axes, list covers, view, ndarray grad, ndarray g, Py_ssize_t wide, bint divides,
          int64_t divisor, bint uniform, Py_ssize_t threads):
    """Fills grad: each cell the sum of g / divisor over the windows that cover it, of which there are three at most on an axis.
    Whether rows were made in one go.

    loops: addresses of quotient, down, along and store; whole: of those that make rows in one go, of vectors of so many bytes,
    where the machine has any; covers: per axis the ranges of windows over its cells, where adaptive.
    """
    cdef Share s
    cdef Py_ssize_t k, item, items = 1, each, reach
    cdef char* memory
    cdef char* scratch
    cdef int64_t* tables
    cdef const int64_t[:] firsts, counts
    cdef block_t block = share_block
    s.quotient, s.down = <quotient_t> <size_t> loops[0], <down_t> <size_t> loops[1]
    s.along, s.store = <along_t> <size_t> loops[2], <store_t> <size_t> loops[3]
    s.grad, s.g, s.size, s.sum = <char*> PyArray_DATA(grad), <char*> PyArray_DATA(g), PyArray_ITEMSIZE(grad), wide
    s.exact, s.divides, s.uniform, s.divisor = s.size == s.sum, divides, uniform, divisor
    outers, (s.inner, s.grad_inner, s.g_inner), pooled = view
    s.outers = len(outers)
    for k in range(s.outers):
        s.outer[k], s.grad_outer[k], s.g_outer[k] = outers[k]
        items *= s.outer[k]
    for k in range(3):
        lay(&s.axis[k], axes[k])
        s.grad_axis[k], s.g_axis[k] = pooled[k]
        s.firsts[k] = s.covers[k] = NULL
        if covers[k] is not None:
            firsts, counts = covers[k]
            s.firsts[k], s.covers[k] = &firsts[0], &counts[0]
    tables = <int64_t*> malloc(2 * (s.axis[0].n + s.axis[1].n) * sizeof(int64_t))
    if tables == NULL:
        raise MemoryError(f"{2 * (s.axis[0].n + s.axis[1].n)} numbers of windows")
    reach = 0
    for k in range(2):
        if s.firsts[k] == NULL:
            s.firsts[k], s.covers[k] = tables + reach, tables + reach + s.axis[k].n
            for item in range(s.axis[k].n):
                tables[reach + s.axis[k].n + item] = covering(&s.axis[k], item, tables + reach + item)
            reach += 2 * s.axis[k].n
    if items * s.axis[0].n * s.axis[1].n * s.axis[2].n * s.inner < THREADED:
        threads = 1
    s.shared[0] = NULL
    if in_one_go(&s, whole, vector):
        block = share_rows
        each = lay_rows(&s, items // s.outer[s.outers - 1], threads)
        items = items // s.outer[s.outers - 1] * s.grid[0] * s.grid[1]
    else:
        each = lay_blocks(&s, items, threads)
        items *= s.grid[0] * s.grid[1] * s.grid[2]
    threads = max(1, min(threads, items))
    memory = <char*> malloc(threads * each + APART)
    if memory == NULL:
        free(tables)
        raise MemoryError(f"{threads * each} bytes of row buffers")
    scratch = memory + (APART - <size_t> memory % APART)
    for item in range(threads):
        begin_share(&s, scratch + item * each)
    with nogil:
        if threads == 1:
            for item in range(items):
                block(&s, item, scratch)
        else:
            for item in prange(items, schedule="static", num_threads=threads):
                block(&s, item, scratch + threadid() * each)
    free(tables)
    free(memory)
    return s.shared[0] != NULL
