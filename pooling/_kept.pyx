# cython: language_level=3
"""What plain arguments came to, kept for the calls that repeat them: compiled, as it is much of what a small call costs."""

from functools import update_wrapper


cdef enum:
    LIMIT = 1024              # results of a function that are kept
    DEPTH = 3                 # of tuples: arguments, their elements for each axis, and pairs for its two ends

cdef bint plain(tuple values, int depth):
    """Whether nothing in it can ever change, nor runs code of others when it is compared."""
    for value in values:
        kind = type(value)
        if kind is tuple:
            if depth == 1 or not plain(value, depth - 1):
                return False
        elif not (kind is int or kind is bool or kind is str or kind is float or value is None):
            return False
    return True


cdef bint alike(tuple a, tuple b):
    """Whether equal values are of the same types: 1, 1.0 and True are equal, and not alike."""
    cdef Py_ssize_t k
    for k in range(len(a)):
        if type(a[k]) is not type(b[k]) or (type(a[k]) is tuple and not alike(a[k], b[k])):
            return False
    return True


cdef class Kept:
    """A recipe (module, shape, cell, *arguments) as a function (module, shape, cell, arguments) that keeps what they came to.

    Arguments that are not plain are read anew at each call, and so is what is an error.
    """

    limit = LIMIT
    cdef readonly dict known   # the oldest ones first
    cdef object recipe
    cdef dict __dict__

    def __init__(self, recipe):
        self.recipe, self.known = recipe, {}
        update_wrapper(self, recipe)

    def __call__(self, module, tuple shape, str cell, tuple arguments):
        cdef tuple key, found
        if not plain(arguments, DEPTH):
            return self.recipe(module, shape, cell, *arguments)
        key = module, shape, cell, arguments
        found = self.known.get(key)
        if found is not None and alike(found[0], arguments):
            return found[1]
        result = self.recipe(module, shape, cell, *arguments)
        while len(self.known) >= LIMIT:
            self.known.pop(next(iter(self.known)), None)
        self.known.pop(key, None)   # of arguments that are not alike
        self.known[key] = arguments, result
        return result
