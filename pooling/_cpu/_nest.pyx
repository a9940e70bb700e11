# cython: language_level=3, wraparound=False, cdivision=True, initializedcheck=False
"""The loop nest: one walk over (outer, D, H, W, inner) for every mode, element type, rank and layout.

Where a pick for each row of a window is cheap, a few rows of windows are made at a time (run_lanes), of several planes where
these are small: combined from their rows (down D first, if D is pooled), then across, then stored, before the next ones are
read. Small windows with indices go tap by tap (_chosen.pxi). All else goes axis by axis (run_tile): a call is cut into
blocks of windows, and for each block one axis after the other is reduced, D, H, W, in dense buffers of accumulators that are
padded with identities (pad the buffer, not the data: no later loop has a branch). Reducing an axis is written once, for
planes x cells x inner: down the rows it is the same work as along a row with a larger `inner`. Where cells need no
conversion, the first axis reads the array itself, row by row, and the last one writes the result itself; else the cells that
the windows touch are loaded into the first buffer, and the last one is finished and stored. Of small cells that need one,
up to three rows are combined as they are converted (merge_rows), and small sums are divided and stored in one (job.round).

Sums are added in one order, S(k, i) = S(h, i) + S(k-h, i+h) with h the largest power of two below k, so that every
algorithm here gives the same bits:
    direct    the recursion itself, for few taps or far strides
    doubling  P(2h, i) = P(h, i) + P(h, i+h) for all i at once, twice in each pass: log4(k) passes whatever the kernel
    piling    doubling down many rows, a row of each level at a time (_tall.pxi)
    sweeping  for max and min over many rows: three picks for each row, whatever the kernel (_tall.pxi)
    clipped   doubling for kernels that reach far beyond the data, without buffering what they reach
    gathering the recursion itself over whole rows of the array, where those outside the data are left out
Indices of small windows are chosen tap by tap instead (_chosen.pxi), those of large windows beside their values.
This file never sees an element type: it moves bytes and calls the loops of _rows.pyx through their addresses.
"""

from cython.parallel cimport prange, threadid
from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset
from numpy cimport (
    NPY_ARRAY_ALIGNED, NPY_ARRAY_C_CONTIGUOUS, NPY_ARRAY_WRITEABLE, NPY_MAXDIMS, PyArray_CHKFLAGS, PyArray_DATA, PyArray_DIMS,
    PyArray_EMPTY, PyArray_NBYTES, PyArray_NDIM, import_array, ndarray, npy_intp
)

from pooling._cpu._rows cimport (
    LEVELS, POOLING_FINISHED, POOLING_NARROWED, POOLING_PARTIAL, SIDE, Cells, Walk, finish_t, fuse_t, fused_t, level_t, load_t,
    merge_t, pick_t, pile_rows_t, pile_t, place_t, put_cells_t, put_t, split_rows_t, split_t, store_t, streamed_t, take_t, taps_t,
    whole_t
)

from pooling._dtypes import DTYPES

import_array()


cdef extern from "_cells.h":
    void prefetch_all(const char*, Py_ssize_t) noexcept nogil

cdef extern from "_build.h":
    void CHECK "POOLING_CHECK"(bint fact) noexcept nogil
    const char* COMPILER "POOLING_COMPILER"
    int OPENMP "POOLING_OPENMP"
    int DEBUGGING "POOLING_DEBUGGING"
    int level "pooling_level"() noexcept nogil


cdef enum:
    ROW = 1 << 15             # bytes of a piece of a row, so that a row of windows stays in a core's first-level cache
    TARGET = 1 << 17          # bytes of one block's buffer: three of them stay in a core's second-level cache
    SCRATCH_LIMIT = 1 << 20   # bytes of one buffer above which a block is cut even where that repeats work
    FUSED = 1 << 17           # bytes of a row, beyond which it is cut instead
    LANE = 1 << 15            # bytes of the rows of windows that are made together
    TALL = 3 << 20            # bytes of the rows that a tall window keeps; fewer columns would repeat those that windows share
    PILES = 5                 # rows up to which a sum of them all costs no more than piling them up
    TOGETHER = 16             # rows of windows that are piled up together, at most,
    PILED = 1 << 17           # and their bytes, of which
    STRIP = 1 << 10           # so many at a time
    SWEPT = 1 << 10           # bytes of a row from which on three calls for each are little
    MERGED = 16               # bytes of a row from which on it is read as vectors
    CALL = 32                 # what calling a row loop costs, in cells
    AHEAD = 1 << 12           # bytes by which memory is asked for before it is read, at least
    PIECE = 2048              # cells of a row that are combined before the next ones, all partial results in that cache
    SOME = 1024               # results that are finished before they are stored, all in that cache
    ROUNDED = 1 << 13         # the largest divisor of the loops that finish and store in one
    SPARES = 32               # results that a recursion over 2**31 taps keeps aside


cdef struct Tile:
    # One axis of one block. Positions count the cells of the axis, spaced ones with the zeros between them.
    Py_ssize_t first, outs    # windows
    Py_ssize_t start, stop    # positions of the data that is loaded
    Py_ssize_t lead, total    # where the data begins in the buffer, and the buffer's length
    Py_ssize_t origin         # where the first window begins in the buffer
    bint clipped


cdef struct Job:
    Axis axis[3]
    Py_ssize_t outers
    Py_ssize_t outer[OUTERS]
    Py_ssize_t inner
    # Strides in bytes: of x, of the result, of its indices.
    char* x
    char* y
    char* i
    Py_ssize_t x_outer[OUTERS]
    Py_ssize_t y_outer[OUTERS]
    Py_ssize_t i_outer[OUTERS]
    Py_ssize_t x_axis[3]
    Py_ssize_t y_axis[3]
    Py_ssize_t i_axis[3]
    Py_ssize_t x_inner, y_inner, i_inner
    # Loops and types.
    load_t load
    merge_t merge
    pick_t pick
    pile_rows_t pile
    whole_t combined           # whole planes; NULL where windows are none
    fuse_t fuse                # one of the loops for small windows; NULL where windows are not
    fuse_t fuses[8]
    fuse_t plains[8]           # those of accumulators
    fuse_t taken               # likewise with indices
    fuse_t takes[8]
    Py_ssize_t vector          # bytes of the machine's
    int form                   # what those loops can make of accumulators, POOLING_...
    finish_t finish
    finish_t round             # finish and store in one, for divisors up to ROUNDED
    store_t store
    store_t store_index
    take_t take
    place_t place
    put_cells_t put
    split_rows_t split
    streamed_t streamed
    bint idempotent, uniform, copied, exact   # copied, exact: load and store change nothing
    bint divides               # to finish is to divide an accumulator
    Py_ssize_t size, finished, indexed  # bytes of an accumulator, of a finished value, of an index (or 0),
    Py_ssize_t cell, result    # of a cell, and of a result's
    Py_ssize_t first           # the first axis that has anything to reduce, or 3
    Py_ssize_t slab            # windows of that axis that pass through the buffers together
    bint chosen, direct        # indices tap by tap, those of the array itself
    bint stream                # results past the caches
    Py_ssize_t group           # planes that pass through the buffers together
    Py_ssize_t part[6]         # where each of the buffers begins, in bytes
    bint lanes                 # H and W in one go, a few rows of windows at a time
    bint merged                # down H from the array's cells, converted on the way
    bint deep                  # of rows that are combined down D first
    bint swept                 # by blocks of rows as long as the kernel
    Py_ssize_t lane            # windows of W of such a row that are reduced together
    bint alone                 # such rows are the result
    Py_ssize_t ahead           # bytes by which rows of the array are asked for before they are read
    bint straight, onto        # it reads the array itself; the last axis writes the result itself
    uint64_t identity, neutral  # of accumulators, of cells
    uint64_t divisor           # of all windows, where it is uniform: a finished value
    double p
    # Blocks: (last outer, D, H, W, inner) of each, how many there are, and the scratch memory of one thread.
    Py_ssize_t block[5]
    Py_ssize_t grid[5]
    Py_ssize_t capacity, scratch
    Py_ssize_t kept            # bytes of the rows that tall windows keep, behind those


cdef Cells NONE   # no operand
NONE.value = NULL
NONE.index = NULL
NONE.base = 0


cdef inline Cells at(const Job* job, Cells cells, Py_ssize_t offset) noexcept nogil:
    cells.value += offset * job.size
    if cells.index != NULL:
        cells.index += offset * job.indexed
    return cells


cdef inline void stamp(const Job* job, Cells cells, Py_ssize_t count) noexcept nogil:
    """A few identities, without indices."""
    cdef Py_ssize_t k
    if count > 16:
        fill(job, cells, count)
    elif job.size == 4:
        for k in range(count):
            (<uint32_t*> cells.value)[k] = (<const uint32_t*> &job.identity)[0]
    elif job.size == 8:
        for k in range(count):
            (<uint64_t*> cells.value)[k] = job.identity
    elif job.size == 2:
        for k in range(count):
            (<uint16_t*> cells.value)[k] = (<const uint16_t*> &job.identity)[0]
    else:
        memset(cells.value, (<const unsigned char*> &job.identity)[0], max(0, count))


cdef void repeat(char* place, const char* cell, Py_ssize_t size, Py_ssize_t count) noexcept nogil:
    """A cell, so many times."""
    cdef Py_ssize_t done = 1
    memcpy(place, cell, size)
    while done < count:   # doubling copies: the element's size does not matter
        memcpy(place + done * size, place, min(done, count - done) * size)
        done *= 2


cdef void fill(const Job* job, Cells cells, Py_ssize_t count) noexcept nogil:
    """Identities, with the index that loses every tie."""
    if count <= 0:
        return
    repeat(cells.value, <const char*> &job.identity, job.size, count)
    if cells.index != NULL:
        memset(cells.index, 0xff, count * job.indexed)


include "_axis.pxi"
include "_blocks.pxi"
include "_tall.pxi"
include "_lanes.pxi"
include "_chosen.pxi"
include "_whole.pxi"
include "_fused.pxi"


cdef void run_block(const Job* job, Py_ssize_t item, char* scratch) noexcept nogil:
    """Block number `item`, slab by slab: what the next slab needs again of the array is still in the cache."""
    cdef Py_ssize_t first[5]
    cdef Py_ssize_t count[5]
    cdef Tile t[3]
    cdef Py_ssize_t axis, k, index, begin, outs, last = job.outers - 1
    cdef const char* x = job.x
    cdef char* y = job.y
    cdef char* i = job.i
    for k in range(4, -1, -1):
        index = item % job.grid[k]
        item //= job.grid[k]
        first[k] = index * job.block[k]
        count[k] = job.block[k]
    count[0] = min(count[0], job.outer[last] - first[0])
    count[4] = min(count[4], job.inner - first[4])
    for axis in range(3):
        count[axis + 1] = min(count[axis + 1], job.axis[axis].out - first[axis + 1])
        t[axis] = tile(&job.axis[axis], first[axis + 1], count[axis + 1])
        y += first[axis + 1] * job.y_axis[axis]
        if i != NULL:
            i += first[axis + 1] * job.i_axis[axis]
    for k in range(last, -1, -1):
        if k < last:
            index = item % job.outer[k]
            item //= job.outer[k]
        else:
            index = first[0]
        x += index * job.x_outer[k]
        y += index * job.y_outer[k]
        if i != NULL:
            i += index * job.i_outer[k]
    x += first[4] * job.x_inner
    y += first[4] * job.y_inner
    if i != NULL:
        i += first[4] * job.i_inner
    if job.combined != NULL:
        run_whole(job, x, y, count[0], scratch)
        return
    if job.fuse != NULL:
        run_fused(job, t, x, y, count[0], scratch)
        return
    if job.chosen:
        if job.taken != NULL:
            run_taken(job, t, x, y, i, count[0], scratch)
        elif job.direct:
            run_direct(job, t, x, y, i, count[0], count[4], scratch)
        else:
            run_split(job, t, x, y, i, count[0], count[4], scratch)
        job.streamed()
        return
    if job.lanes:
        run_lanes(job, t, x, y, count[0], count[4], scratch)
        return
    if not job.straight or job.first == 2:
        run_tile(job, t, x, y, i, count[0], count[4], scratch)
        return
    axis = job.first
    begin, outs = first[axis + 1], count[axis + 1]
    for k in range((outs + job.slab - 1) // job.slab):
        index = k * job.slab
        t[axis] = tile(&job.axis[axis], begin + index, min(job.slab, outs - index))
        run_tile(job, t, x, y + index * job.y_axis[axis], i + index * job.i_axis[axis] if i != NULL else NULL, count[0], count[4],
                 scratch)


include "_plan.pxi"


# ---- from Python ---------------------------------------------------------------------------------------------

cdef class Loops:
    """The row loops of one mode on one combination of types, found once: `rows` has their addresses."""

    cdef load_t load
    cdef merge_t merge
    cdef pick_t pick
    cdef pile_rows_t pile
    cdef whole_t whole
    cdef fuse_t fuses[8]
    cdef fuse_t plains[8]
    cdef fuse_t takes[8]
    cdef finish_t finish
    cdef finish_t round
    cdef store_t store
    cdef store_t wide          # indices to int64, or to int32
    cdef store_t narrow
    cdef take_t take
    cdef place_t place_wide
    cdef place_t place_narrow
    cdef put_cells_t put
    cdef split_rows_t split
    cdef streamed_t streamed
    cdef Py_ssize_t size, finished, indexed, cell, result, vector
    cdef uint64_t identity, neutral
    cdef bint idempotent, copied, exact, divides
    cdef int form

    def __init__(self, dict rows, str combine, bint idempotent, str cell, str finish, types, str index, bytes identity, bytes neutral):
        self.load = <load_t> <size_t> rows["load", cell, types.cell, types.accumulate]
        self.merge = <merge_t> <size_t> rows.get(("merge", combine, cell, types.cell, types.accumulate), 0)
        self.finish = self.round = NULL
        if finish != "s":
            self.finish = <finish_t> <size_t> rows["finish", finish, types.accumulate, types.finish]
            self.round = <finish_t> <size_t> rows.get(("round", finish, types.accumulate, types.result), 0)
        self.store = <store_t> <size_t> rows["store", types.finish, types.result]
        self.copied = cell == "x" and types.cell == types.accumulate
        self.exact = types.finish == types.result
        self.divides = finish == "s / n" and types.accumulate == types.finish
        small, self.form = types.accumulate == "int16" and types.cell != "int16", POOLING_PARTIAL
        if types.result == types.cell and (small or DTYPES[types.cell].kind == "f") and not self.exact:
            self.form = POOLING_NARROWED
        elif small and types.finish == types.result == "float32":
            self.form = POOLING_FINISHED
        self.cell, self.finished, self.result = [DTYPES[name].size for name in (types.cell, types.finish, types.result)]
        self.size, self.idempotent, self.vector = len(identity), idempotent, rows["vector",]
        self.identity = self.neutral = 0
        memcpy(&self.identity, <const char*> identity, len(identity))
        memcpy(&self.neutral, <const char*> neutral, len(neutral))
        self.whole = NULL
        for k, address in enumerate(rows.get(("fuse", combine, cell, types.cell, types.accumulate), (0,) * 8)):
            self.fuses[k] = <fuse_t> <size_t> address
        for k, address in enumerate(rows.get(("fuse", combine, "x", types.accumulate, types.accumulate), (0,) * 8)):
            self.plains[k] = <fuse_t> <size_t> address
        for k, address in enumerate(rows.get(("taken", combine, types.accumulate), (0,) * 8)):
            self.takes[k] = <fuse_t> <size_t> address
        if index:
            self.pick = <pick_t> <size_t> rows["choose", combine, types.accumulate, index]
            self.narrow = <store_t> <size_t> rows["index", index, "int32"]
            self.wide = <store_t> <size_t> rows["index", index, "int64"]
            self.indexed = sizeof(uint32_t) if index == "uint32" else sizeof(uint64_t)
            if self.indexed == sizeof(uint32_t) or self.size == sizeof(uint64_t):
                self.take = <take_t> <size_t> rows["take", combine, types.accumulate]
                self.place_narrow = <place_t> <size_t> rows["place", index[1:], "int32"]
                self.place_wide = <place_t> <size_t> rows["place", index[1:], "int64"]
            self.put = <put_cells_t> <size_t> rows["put"]
            self.split = <split_rows_t> <size_t> rows["split"]
            self.streamed = <streamed_t> <size_t> rows["streamed"]
        else:
            self.pick = <pick_t> <size_t> rows["pick", combine, types.accumulate]
            self.pile = <pile_rows_t> <size_t> rows.get(("pile", combine, types.accumulate), 0)
            self.whole = <whole_t> <size_t> rows.get(("whole", combine, types.accumulate), 0)
            self.narrow = self.wide = NULL
            self.indexed = 0


cdef const int64_t* pointer(const int64_t[::1] numbers) noexcept:
    return &numbers[0]


cdef int lay(Axis* axis, row) except -1:
    """One axis of the caller's, as the nest reads it; `row` keeps the arrays alive."""
    geometry, ranges, divisors = row
    axis.n, axis.out, axis.kernel, axis.stride = geometry.n, geometry.out, geometry.kernel, geometry.stride
    axis.dilation, axis.before, axis.spacing = geometry.dilation, geometry.before, geometry.spacing
    axis.extent = axis.dilation * (axis.kernel - 1) + 1
    axis.sparse = 0
    if axis.spacing > 1 and axis.n > 8 * ((axis.n - 1) // axis.spacing + 1 + axis.out) + 64:
        axis.n, axis.sparse, axis.spacing = (axis.n - 1) // axis.spacing + 1, axis.spacing, 1
    axis.starts = axis.counts = axis.divisors = NULL
    if ranges is not None:
        axis.starts, axis.counts = pointer(ranges[0]), pointer(ranges[1])
    if divisors is not None:
        axis.divisors = pointer(divisors)
    return 0


cdef class Plan:
    """One reduction but for its data: made once, and run by any number of callers at once."""

    cdef Job job
    cdef Py_ssize_t items, threads
    cdef bint brief            # too little work for threads, however many there are
    cdef list axes             # keeps the arrays of the axes alive

    def __init__(self, Loops loops, list axes, view, Py_ssize_t index, double p, int64_t divisor, bint uniform,
                 Py_ssize_t threads):
        """axes: (Axis, ranges, divisors) of D, H and W; view: a View of x, y, i; index: bytes of an index in i, or 0."""
        cdef Job* job = &self.job
        cdef Py_ssize_t k, work = 1
        self.axes, self.items = axes, 1
        job.load, job.pick, job.pile, job.finish, job.store = loops.load, loops.pick, loops.pile, loops.finish, loops.store
        job.size, job.finished, job.idempotent, job.identity = loops.size, loops.finished, loops.idempotent, loops.identity
        job.combined, job.neutral, job.divides = loops.whole, loops.neutral, loops.divides
        memcpy(job.fuses, loops.fuses, sizeof(job.fuses))
        memcpy(job.plains, loops.plains, sizeof(job.plains))
        memcpy(job.takes, loops.takes, sizeof(job.takes))
        job.vector, job.form = loops.vector, loops.form
        job.merge, job.round, job.cell, job.result = loops.merge, loops.round, loops.cell, loops.result
        job.copied, job.exact, job.indexed, job.p, job.uniform = loops.copied, loops.exact, loops.indexed, p, uniform
        if job.finished == sizeof(float):
            (<float*> &job.divisor)[0] = <float> divisor
            if not (uniform and 2 <= divisor <= ROUNDED):
                job.round = NULL
        else:
            (<double*> &job.divisor)[0] = <double> divisor
        if index:
            job.i = <char*> job    # not NULL, until a run says where
            job.store_index = loops.wide if index == sizeof(int64_t) else loops.narrow
            job.take, job.put, job.split, job.streamed = loops.take, loops.put, loops.split, loops.streamed
            job.place = loops.place_wide if index == sizeof(int64_t) else loops.place_narrow
        outer, (job.inner, job.x_inner, job.y_inner, job.i_inner), pooled = view
        job.outers = len(outer)
        for k in range(job.outers):
            job.outer[k], job.x_outer[k], job.y_outer[k], job.i_outer[k] = outer[k]
            self.items *= job.outer[k] if k < job.outers - 1 else 1
            work *= job.outer[k]
        for k in range(3):
            lay(&job.axis[k], axes[k])
            job.x_axis[k], job.y_axis[k], job.i_axis[k] = pooled[k]
            work *= max(job.axis[k].n, job.axis[k].out)
        self.brief = work * job.inner < THREADED
        if self.brief:
            threads = 1
        plan(job, 1 if threads == 1 else max(1, 4 * threads // self.items))
        for k in range(5):
            self.items *= job.grid[k]
        self.threads = max(1, min(threads, self.items))
        job.scratch = job.capacity * (3 * (job.size + job.indexed) + max(job.size, job.finished) + job.finished + job.indexed)
        if job.chosen:
            job.scratch = job.capacity
        job.scratch = (job.scratch + 63) & ~63

    def words(self):
        """How it will be done, for the log."""
        cdef const Job* job = &self.job
        cdef Py_ssize_t k
        ways = []
        for k in range(3):
            if not idle(&job.axis[k]):
                tapped = (job.lanes and k == 1) or few(job, &job.axis[k], job.axis[k].n, job.axis[k].out)
                tall = "sweeping" if job.idempotent else "piling"
                ways.append(f"{'DHW'[k]} by {tall if job.swept and k == 1 else 'taps' if tapped else 'doubling'}")
        rows = "axis by axis" if job.combined == NULL else "whole planes"
        if job.fuse != NULL:
            rows = "H and W in one go"
        elif job.lanes:
            rows = f"{job.slab} rows of windows at a time"
        elif job.chosen:
            source = "from lines of cells" if job.taken != NULL else "from the array" if job.direct else "from split rows"
            rows = f"tap by tap, {source}"
        if job.group > 1:
            rows += f", {job.group} planes together"
        merged = job.fuse != NULL or (job.lanes and job.merged)
        ends = "" if job.straight else "cells are converted on the way, " if merged else "cells are loaded, "
        ends += "" if job.onto else "results are stored, "
        return (f"{', '.join(ways) or 'a copy'}; {rows}; {ends}blocks {tuple([job.block[k] for k in range(5)])} of (outer, D, H, W, "
                f"inner), {self.items} of them on {self.threads} threads with {job.scratch + job.kept} bytes each")

    cpdef run(self, ndarray x, ndarray y, ndarray i=None):
        """Pools x into y, and the indices into i, which are of the plan's sizes, strides and types."""
        cdef Job job = self.job
        cdef Py_ssize_t item
        cdef Py_ssize_t each = job.scratch + job.kept
        cdef char* memory = <char*> malloc(self.threads * each + 63)
        cdef char* scratch = memory + (-<size_t> memory & 63)   # so that few vectors lie in two cache lines
        if memory == NULL:
            raise MemoryError(f"{self.threads * each} bytes of row buffers")
        job.x, job.y = <char*> PyArray_DATA(x), <char*> PyArray_DATA(y)
        if i is not None:
            job.i = <char*> PyArray_DATA(i)
        with nogil:
            if self.threads == 1:
                for item in range(self.items):
                    run_block(&job, item, scratch)
            else:
                for item in prange(self.items, schedule="dynamic", num_threads=self.threads):
                    run_block(&job, item, scratch + threadid() * each)
        free(memory)


cdef enum:
    READ = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED


cdef class Packed:
    """The function (x, out) -> results, sooner where x and they are what most arrays are: packed, and one after the other."""

    cdef object pool, planned, threads, cells
    cdef tuple wanted
    cdef npy_intp shape[NPY_MAXDIMS]
    cdef int rank
    cdef object number         # of the plan's threads
    cdef Plan plan

    def __init__(self, pool, planned, threads, cells, tuple wanted, tuple shape):
        """pool: the same function for any arrays; planned: the plan of some; threads: how many there may be now.

        cells, wanted: the dtypes of x, which has the shape that the plan is for, and of the results, of this shape.
        """
        cdef Py_ssize_t k
        self.pool, self.planned, self.threads, self.cells, self.wanted = pool, planned, threads, cells, wanted
        self.rank, self.plan = len(shape), None
        for k in range(self.rank):
            self.shape[k] = shape[k]

    cdef ndarray new(self, Py_ssize_t k):
        return PyArray_EMPTY(self.rank, self.shape, self.wanted[k].num, False)

    cdef bint receives(self, array, ndarray x):
        """Whether it can have the values of x."""
        cdef int k
        if type(array) is not ndarray or (<ndarray> array).dtype is not self.wanted[0]:
            return False
        if PyArray_NDIM(<ndarray> array) != self.rank:
            return False
        for k in range(self.rank):
            if PyArray_DIMS(<ndarray> array)[k] != self.shape[k]:
                return False
        cdef const char* begin = <const char*> PyArray_DATA(<ndarray> array)
        cdef const char* source = <const char*> PyArray_DATA(x)
        return PyArray_CHKFLAGS(<ndarray> array, READ | NPY_ARRAY_WRITEABLE) and (
            begin >= source + PyArray_NBYTES(x) or source >= begin + PyArray_NBYTES(<ndarray> array))

    def __call__(self, x, out):
        cdef tuple results = out
        if type(x) is not ndarray or (<ndarray> x).dtype is not self.cells or not PyArray_CHKFLAGS(<ndarray> x, READ):
            return self.pool(x, out)
        if results is None:
            results = (self.new(0), self.new(1)) if len(self.wanted) > 1 else (self.new(0),)
        elif len(self.wanted) > 1 or len(results) != 1 or not self.receives(results[0], x):
            return self.pool(x, out)
        cdef Plan plan = self.plan
        if plan is None or not (plan.brief or self.number == self.threads()):
            number = self.threads()
            plan = self.planned(x, *results)
            self.plan, self.number = plan, number   # together: no other caller is to take one plan for another's threads
        if len(results) > 1:
            plan.run(x, results[0], results[1])
        else:
            plan.run(x, results[0])
        return results


def info():
    """How this extension was built."""
    return {"openmp": bool(OPENMP), "compiler": (<bytes> COMPILER).decode(), "debug": bool(DEBUGGING), "level": level()}
