"""Windows that are whole planes, few and short rows of them: plane by plane, without a pass over an axis. (Part of _nest.pyx.)"""


cdef bint plan_whole(Job* job, Py_ssize_t pieces) noexcept nogil:
    """Whether every window is a dense plane of the array, beside the next one, and so are the results."""
    cdef Py_ssize_t k, last = job.outers - 1, cells = job.axis[2].n, area = job.axis[1].n * cells
    if job.combined == NULL or not job.copied or job.inner > 1 or area < 2 or max(cells, job.axis[1].n) > SIDE or job.axis[0].n > 1:
        return False
    for k in range(3):
        if job.axis[k].out != 1 or job.axis[k].kernel != job.axis[k].n or job.axis[k].before or job.axis[k].dilation > 1 \
                or job.axis[k].spacing > 1 or job.axis[k].sparse or job.axis[k].starts != NULL:
            return False
    if (cells > 1 and job.x_axis[2] != job.size) or (job.axis[1].n > 1 and job.x_axis[1] != cells * job.size):
        return False
    if job.outer[last] > 1 and (job.x_outer[last] != area * job.size or job.y_outer[last] != job.result):
        return False
    if job.finish != NULL and not job.uniform:
        return False
    for k in range(5):
        job.block[k] = job.grid[k] = 1
    job.block[0] = max(1, (job.outer[last] + pieces - 1) // pieces)
    job.grid[0] = (job.outer[last] + job.block[0] - 1) // job.block[0]
    job.capacity = SOME
    return True


cdef void run_whole(const Job* job, const char* x, char* y, Py_ssize_t batch, char* scratch) noexcept nogil:
    """Some planes at a time, then finished and stored."""
    cdef Py_ssize_t some, rows = job.axis[1].n, cells = job.axis[2].n
    cdef bint onto = job.exact and job.finish == NULL
    while batch > 0:
        some = min(SOME, batch)
        job.combined(y if onto else scratch, x, some, rows, cells)
        if job.finish != NULL:
            store_finished(job, y, scratch, some, 1, True, <const char*> &job.divisor, False, scratch + 3 * job.capacity * job.size)
        elif not onto:
            job.store(y, job.result, job.result, scratch, some, 1)
        x, y, batch = x + some * rows * cells * job.size, y + some * job.result, batch - some
