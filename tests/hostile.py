"""The table of hostile calls, and the process that makes them: {rows} rows, {legal} of which look as bad and are legal.

A row is a name, a call, the rule of the specification that it breaks (with the number of its section), where it comes from,
and what must come of it: an exception of exactly that type whose message holds these words, or a result. Most come from the
published crashes of pooling operators, which SOURCES lists; NumPy's and Python's documents say the rest of what an argument
may be. `test_hostile.py` makes every call on every backend that is usable here (four on a machine without a GPU), within 2 GB of
address space and 20 seconds, and goes on in a new process where one dies or hangs. It takes 10 seconds of one processor.

A call gets `a`, which gives it its arrays: `a(x)` is x as the backend's kind of array, `a.kept(out)` an array of NumPy's that
must be what it was if the call fails. Rows that make sense for NumPy's arrays alone, or for MLX's, say so: on=NUMPY, on=MLX.

    python tests/hostile.py cpu             runs the table here, within 2 GB but for any time, and prints what fails
    python tests/hostile.py cpu 'out *'     some rows of it
"""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

import pooling
from pooling import (
    adaptive_pool,
    adaptive_pool_backward,
    functional,
    global_pool,
    max_unpool,
    nn,
    output_shape,
    pool,
    pool_backward,
)
from pooling.testing import agree, oracle

SOURCES = {
    # TensorFlow and TFLite
    "CVE-2021-37674": "https://github.com/NixOS/nixpkgs/issues/138695",  # MaxPoolGrad: input and output of other shapes
    "CVE-2021-37684": "https://www.clouddefense.ai/cve/2021/CVE-2021-37684",  # TFLite: a divisor that is 0
    "CVE-2022-21735": "https://www.clouddefense.ai/cve/2022/CVE-2022-21735",  # FractionalMaxPool: division by 0
    "CVE-2022-21739": "https://aithreatalert.com/cve/CVE-2022-21739",  # QuantizedMaxPool: null pointer
    "CVE-2022-41897": "https://github.com/tensorflow/tensorflow/pull/126911",  # FractionalMaxPoolGrad: negative positions
    "CVE-2023-25669": "https://github.com/tensorflow/tensorflow/pull/60050",  # AvgPoolGrad: floating point exception
    "CVE-2023-25801": "https://vuldb.com/cve/CVE-2023-25801",  # pooling of batch and channels: double free
    "GHSA-6f89-8j54-29xf": "https://github.com/github/advisory-database/pull/5611",  # FractionalAvgPoolGrad: heap overflow
    "GHSA-v6r6-84gr-92rm": "https://github.com/github/advisory-database/pull/5614",  # AvgPool3DGrad: heap overflow
    "nixpkgs#138695": "https://github.com/NixOS/nixpkgs/issues/138695",  # FractionalAvgPoolGrad: an empty input
    "nixpkgs#160715": "https://github.com/NixOS/nixpkgs/issues/160715",  # a number of threads without an upper bound
    "tensorflow#21338": "https://github.com/tensorflow/tensorflow/issues/21338",  # an empty batch
    "tensorflow#42205": "https://github.com/tensorflow/tensorflow/issues/42205",  # stride 0
    "tensorflow#42213": "https://github.com/tensorflow/tensorflow/issues/42213",  # stride 0
    "tensorflow#46834": "https://github.com/tensorflow/tensorflow/issues/46834",  # kernel 0
    "tensorflow#46994": "https://github.com/tensorflow/tensorflow/issues/46994",  # kernel 0 gives NaN
    "tensorflow#51975": "https://github.com/tensorflow/tensorflow/pull/51975",  # kernel 0 or negative on one axis
    "tensorflow#58106": "https://github.com/tensorflow/tensorflow/issues/58106",  # AvgPool3DGrad: shapes that do not match
    "tensorflow#58107": "https://github.com/tensorflow/tensorflow/issues/58107",  # AvgPool3DGrad: a pooled axis of 0 cells
    "tensorflow#58272": "https://github.com/tensorflow/tensorflow/issues/58272",  # MaxPoolGradWithArgmax on integers
    "tensorflow#59083": "https://github.com/tensorflow/tensorflow/issues/59083",  # negative indices
    "tensorflow#61603": "https://github.com/tensorflow/tensorflow/issues/61603",  # kernel 1e38
    "tensorflow#61653": "https://github.com/tensorflow/tensorflow/issues/61653",  # indices from -256 to 256
    "tensorflow#64642": "https://github.com/tensorflow/tensorflow/issues/64642",  # AvgPoolGrad: a gradient of another shape
    "tensorflow#65120": "https://github.com/tensorflow/tensorflow/issues/65120",  # a kernel that is too large
    "tensorflow#74956": "https://github.com/tensorflow/tensorflow/issues/74956",  # a shape that is a number
    "tensorflow#76722": "https://github.com/tensorflow/tensorflow/issues/76722",  # kernel -1; kernel beyond int64
    "tensorflow#85251": "https://github.com/tensorflow/tensorflow/issues/85251",  # kernel 3134755050008138495
    "tensorflow#85253": "https://github.com/tensorflow/tensorflow/issues/85253",  # no channels, stride 2230364274603370470
    "tensorflow#89848": "https://github.com/tensorflow/tensorflow/issues/89848",  # kernel 2**63 - 1, stride -1
    "tensorflow#89855": "https://github.com/tensorflow/tensorflow/issues/89855",  # kernel and stride 1250999896764
    "tensorflow#94119": "https://github.com/tensorflow/tensorflow/issues/94119",  # AvgPool3DGrad: a window beyond the axis
    "tensorflow#94382": "https://github.com/tensorflow/tensorflow/issues/94382",  # indices beyond 32 bits
    "tensorflow#112652": "https://github.com/tensorflow/tensorflow/pull/112652",  # MaxPool3D of 2 dimensions
    "tensorflow#120468": "https://github.com/tensorflow/tensorflow/pull/120468",  # TFLite MaxUnpooling2D: indices
    # PyTorch
    "CVE-2025-2953": "https://github.com/pytorch/pytorch/issues/149274",  # mkldnn_max_pool2d: stride 0
    "pytorch#580": "https://github.com/pytorch/pytorch/issues/580",  # max_unpool: indices of another call
    "pytorch#1465": "https://github.com/pytorch/pytorch/pull/1465",  # windows of NaN or -inf: written at index -1
    "pytorch#4986": "https://github.com/pytorch/pytorch/issues/4986",  # a kernel larger than the input
    "pytorch#41767": "https://github.com/pytorch/pytorch/issues/41767",  # stride 0
    "pytorch#42509": "https://github.com/pytorch/pytorch/issues/42509",  # output_size ()
    "pytorch#42578": "https://github.com/pytorch/pytorch/issues/42578",  # output_size []
    "pytorch#42582": "https://github.com/pytorch/pytorch/issues/42582",  # output_size 9132760301568586890
    "pytorch#50960": "https://github.com/pytorch/pytorch/issues/50960",  # output_size 4799942556533499770
    "pytorch#50967": "https://github.com/pytorch/pytorch/issues/50967",  # kernel []
    "pytorch#52822": "https://github.com/pytorch/pytorch/issues/52822",  # more cells than 2**31
    "pytorch#62025": "https://github.com/pytorch/pytorch/pull/62025",  # an empty batch
    "pytorch#73183": "https://github.com/pytorch/pytorch/issues/73183",  # output_size 1879048192, three times
    "pytorch#73191": "https://github.com/pytorch/pytorch/issues/73191",  # kernel 2**29, dilation 1879048192
    "pytorch#78126": "https://github.com/pytorch/pytorch/issues/78126",  # max_unpool3d: kernel [], padding -9995
    "pytorch#78868": "https://github.com/pytorch/pytorch/issues/78868",  # output_size 0, backward
    "pytorch#83224": "https://github.com/pytorch/pytorch/issues/83224",  # padding -1
    "pytorch#83229": "https://github.com/pytorch/pytorch/issues/83229",  # MaxUnpool: kernel -100, stride False
    "pytorch#88032": "https://github.com/pytorch/pytorch/issues/88032",  # max_unpool3d: output_size of a wrong length
    "pytorch#91552": "https://github.com/pytorch/pytorch/issues/91552",  # output_size 125091515651, twice
    "pytorch#91553": "https://github.com/pytorch/pytorch/issues/91553",  # the same, in an older release
    "pytorch#91555": "https://github.com/pytorch/pytorch/issues/91555",  # max_unpool3d: index -2
    "pytorch#94696": "https://github.com/pytorch/pytorch/issues/94696",  # axes of 0 and of many cells
    "pytorch#94698": "https://github.com/pytorch/pytorch/issues/94698",  # axes of 0 and of many cells
    "pytorch#107555": "https://github.com/pytorch/pytorch/issues/107555",  # MaxUnpool3d: kernel -23287
    "pytorch#109586": "https://github.com/pytorch/pytorch/issues/109586",  # negative integers in channels_last memory
    "pytorch#131659": "https://github.com/pytorch/pytorch/issues/131659",  # int8 indices that went negative
    "pytorch#134841": "https://github.com/pytorch/pytorch/issues/134841",  # LPPool: p = 0
    "pytorch#140923": "https://github.com/pytorch/pytorch/issues/140923",  # backward: another batch
    "pytorch#141099": "https://github.com/pytorch/pytorch/issues/141099",  # adaptive backward: indices of another shape
    "pytorch#141100": "https://github.com/pytorch/pytorch/issues/141100",  # adaptive backward: indices of fewer dimensions
    "pytorch#142454": "https://github.com/pytorch/pytorch/issues/142454",  # kernel 8608480567731124087 and the like
    "pytorch#142459": "https://github.com/pytorch/pytorch/issues/142459",  # backward: indices of an empty batch
    "pytorch#142838": "https://github.com/pytorch/pytorch/issues/142838",  # backward: indices of 20 dimensions
    "pytorch#145070": "https://github.com/pytorch/pytorch/issues/145070",  # adaptive backward: x of fewer dimensions
    "pytorch#145077": "https://github.com/pytorch/pytorch/issues/145077",  # stride -1
    "pytorch#152913": "https://github.com/pytorch/pytorch/issues/152913",  # max_unpool2d: segmentation fault
    "pytorch#178483": "https://github.com/pytorch/pytorch/issues/178483",  # MaxUnpool2d: a size of -2
    "pytorch#184037": "https://github.com/pytorch/pytorch/issues/184037",  # LPPool2d: NaN for negative cells
    "pytorch#185361": "https://github.com/pytorch/pytorch/pull/185361",  # divisor_override -1
    "pytorch#187751": "https://github.com/pytorch/pytorch/pull/187751",  # lp_pool: norm_type 0
    "pytorch#189664": "https://github.com/pytorch/pytorch/issues/189664",  # dilation 2**31 - 1
    "pytorch#191566": "https://github.com/pytorch/pytorch/issues/191566",  # dilation 2**31 - 1, with indices
    "pytorch#193736": "https://github.com/pytorch/pytorch/issues/193736",  # avg backward: a gradient of an empty batch
    "pytorch#194800": "https://github.com/pytorch/pytorch/issues/194800",  # adaptive backward: a smaller gradient
    "pytorch#197409": "https://github.com/pytorch/pytorch/issues/197409",  # max_unpool2d: index 2**32 + 3
    # ONNX and ONNX Runtime
    "onnx#1230": "https://github.com/onnx/onnx/issues/1230",  # a padding word that is none
    "onnx#7764": "https://github.com/onnx/onnx/pull/7764",  # stride 0 in shape inference
    "onnx#8476": "https://github.com/onnx/onnx/pull/8476",  # MaxUnpool: kernel, stride and padding unchecked
    "onnxruntime#801": "https://github.com/microsoft/onnxruntime/issues/801",  # padding as large as the kernel
    "onnxruntime#23088": "https://github.com/microsoft/onnxruntime/issues/23088",  # the same
    "onnxruntime#27432": "https://github.com/microsoft/onnxruntime/pull/27432",  # MaxUnpool: indices
    "onnxruntime#27903": "https://github.com/microsoft/onnxruntime/pull/27903",  # MaxPoolGrad: indices
    "onnxruntime#28550": "https://github.com/microsoft/onnxruntime/pull/28550",  # MaxUnpool: shapes, dimensions, output_shape
    "onnxruntime#29253": "https://github.com/microsoft/onnxruntime/pull/29253",  # a kernel of another rank
    "onnxruntime#29579": "https://github.com/microsoft/onnxruntime/pull/29579",  # padding and kernels of a wrong length
    "onnxruntime#32076": "https://github.com/microsoft/onnxruntime/pull/32076",  # negative padding
    "onnx-tensorrt#937": "https://github.com/onnx/onnx-tensorrt/issues/937",  # kernel 317x317
    # Others
    "CNTK#3886": "https://github.com/microsoft/CNTK/issues/3886",  # kernel (2, 0)
    "FastNN#5": "https://github.com/CanReader/FastNN/issues/5",  # windows of padding alone
    "MXNet#810": "https://github.com/apache/mxnet/issues/810",  # a kernel larger than the input
    "OpenVINO#10092": "https://github.com/openvinotoolkit/openvino/pull/10092",  # an empty padding word
    "OpenVINO#21067": "https://github.com/openvinotoolkit/openvino/issues/21067",  # kernel 3 on 2 cells, ceil_mode
    "Caffe#3754": "https://github.com/BVLC/caffe/issues/3754",  # SIGFPE where nothing is left to pool
    "Caffe#6942": "https://github.com/BVLC/caffe/issues/6942",  # ceil_mode: a window behind the data
    "CuPy#8406": "https://github.com/cupy/cupy/issues/8406",  # an output that overlaps the input
    "JAX#3972": "https://github.com/jax-ml/jax/issues/3972",  # stride 0, kernel 0
    "JAX#6487": "https://github.com/jax-ml/jax/issues/6487",  # results of negative size
    "JAX#10834": "https://github.com/jax-ml/jax/issues/10834",  # arrays of no dimensions
    "JAX#21672": "https://github.com/jax-ml/jax/issues/21672",  # floats in a kernel
    "Keras#13822": "https://github.com/keras-team/keras/issues/13822",  # a value without a meaning, accepted
    "MediaPipe#6317": "https://github.com/google-ai-edge/mediapipe/pull/6317",  # MaxUnpooling2D: write-what-where
    "MLX#4101": "https://github.com/ml-explore/mlx/pull/4101",  # mlx.nn: kernel, stride and padding unchecked
    "OneFlow#10503": "https://github.com/Oneflow-Inc/oneflow/issues/10503",  # an array of no dimensions
    "OneFlow#10512": "https://github.com/Oneflow-Inc/oneflow/issues/10512",  # an array of no dimensions
    "Paddle#33036": "https://github.com/PaddlePaddle/Paddle/issues/33036",  # stride (1, 1, 0)
    "Paddle#49919": "https://github.com/PaddlePaddle/Paddle/issues/49919",  # stride 0 on one, two and three axes
    "Paddle#49991": "https://github.com/PaddlePaddle/Paddle/pull/49991",  # max_unpool of a wrong number of dimensions
    "Pillow#9893": "https://github.com/python-pillow/Pillow/pull/9893",  # a __len__ that overstates
    "SciPy#8207": "https://github.com/scipy/scipy/issues/8207",  # float16
    "SciPy#9553": "https://github.com/scipy/scipy/issues/9553",  # an output that is the input
    "SciPy#9578": "https://github.com/scipy/scipy/issues/9578",  # the same, of a rank filter
    "SciPy#25641": "https://github.com/scipy/scipy/issues/25641",  # outputs that are byte-swapped or misaligned
    "TileOPs#832": "https://github.com/tile-ai/TileOPs/pull/832",  # windows of -inf: no index
    "XLA#48719": "https://github.com/openxla/xla/issues/48719",  # negative padding on one side
    "XNNPACK#10454": "https://github.com/google/XNNPACK/pull/10454",  # unpooling: indices
    "XNNPACK#10761": "https://github.com/google/XNNPACK/pull/10761",  # unpooling: sizes that overflow when multiplied
    "chainer#6025": "https://github.com/chainer/chainer/issues/6025",  # stride 0
    "kraken#161": "https://github.com/mittagessen/kraken/issues/161",  # a number of threads that is not positive
    "oneDNN#3457": "https://github.com/uxlfoundation/oneDNN/pull/3457",  # windows without cells
    "torch-mlir#2065": "https://github.com/llvm/torch-mlir/pull/2065",  # stride []
    "tt-metal#25208": "https://github.com/tenstorrent/tt-metal/issues/25208",  # dilation 0
    # What an argument may be
    "NumPy arrays": "https://numpy.org/doc/stable/reference/generated/numpy.lib.stride_tricks.as_strided.html",
    "NumPy#7264": "https://github.com/numpy/numpy/issues/7264",  # a sequence that lies about its length
    "NumPy#8912": "https://github.com/numpy/numpy/issues/8912",  # a sequence without an end
    "NumPy#10314": "https://github.com/numpy/numpy/pull/10314",  # a subclass that changes a shape
    "PEP 357": "https://docs.python.org/2.5/whatsnew/pep-357.html",  # __index__ may do anything
    "Cython#1310": "https://github.com/cython/cython/issues/1310",  # a masked array without its mask
}

EVERY, NUMPY, MLX = "every", "numpy", "mlx"
LIMITED = sys.platform == "linux"  # elsewhere an address space cannot be limited


class Row(NamedTuple):
    """One call: expected is (exception type, words of its message) or a function that gives the result."""

    name: str
    section: int
    rule: str
    call: Callable[[Any], Any]
    expected: Any
    source: str
    on: str = EVERY


def bad(name: str, call: Callable[[Any], Any], error: type[Exception], *words: str, source: str, on: str = EVERY) -> Row:
    """A call that must fail so."""
    return Row(name, 0, "", call, (error, words), source, on)


def right(name: str, call: Callable[[Any], Any], want: Callable[[], Any], *, source: str, on: str = EVERY) -> Row:
    """A call that must give this."""
    return Row(name, 0, "", call, want, source, on)


def under(section: int, rule: str, *rows: Row) -> list[Row]:
    """Rows of one rule."""
    return [row._replace(section=section, rule=rule) for row in rows]


# ---- arrays ----------------------------------------------------------------------------------------------------

HUGE = 2**31 - 1
X = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3) % 11 - 5
ROW, PLANE, VOLUME = X[:, :, 0], X[0, :, :, 0], X[:, None]
FIRST = X.transpose(0, 3, 1, 2).copy()
G = np.ones((2, 3, 3, 3), np.float32)  # of a 2 by 2 window over X
CHOSEN = oracle.pool(X, "max", 2, return_indices=True)[1]
ONE = np.ones((1, 1, 1), np.float32)


def changed(value: int, dtype: Any = np.int64) -> Any:
    """The indices of X's maxima with a wrong one in the middle."""
    indices = CHOSEN.astype(dtype)
    indices[1, 2, 0, 1] = value
    return indices


def strided(memory: Any, shape: tuple[int, ...], strides: tuple[int, ...]) -> Any:
    return np.lib.stride_tricks.as_strided(memory, shape, strides)


def misaligned(x: Any) -> Any:
    memory = np.zeros(x.nbytes + 1, np.uint8)[1:].view(x.dtype).reshape(x.shape)
    memory[...] = x
    return memory


def filed(shape: tuple[int, ...]) -> Any:
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, "f4", "w+", shape=shape)


def read_only(x: Any) -> Any:
    x = x.copy()
    x.flags.writeable = False
    return x


def cells(dtype: Any) -> Any:
    return np.zeros(X.shape, dtype)


# ---- objects ---------------------------------------------------------------------------------------------------


class Mute:
    """Its repr raises, and it is nothing that any argument may be."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Raises:
    """An int, as long as nobody asks which."""

    def __index__(self) -> int:
        raise RuntimeError("not today")


class Lies:
    """An int that is a string."""

    def __index__(self) -> Any:
        return "2"


class Changes:
    """2 when it is first asked, and then ever larger."""

    def __init__(self) -> None:
        self.asked = 0

    def __index__(self) -> int:
        self.asked += 1
        return 2 if self.asked == 1 else 10**self.asked


class Array:
    """An array by its attributes alone, whose conversion raises."""

    ndim, shape, dtype = 4, (2, 6, 7, 3), np.dtype("float32")

    def __array__(self, *_: Any) -> Any:
        raise RuntimeError("nothing is converted behind the caller's back")


class Broken:
    """Every attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Sequence:
    """A sequence of one dimension whose elements raise."""

    ndim = 1

    def tolist(self) -> Any:
        raise RuntimeError("no elements")


class Endless(list):  # type: ignore[type-arg]
    """A list whose iterator has no end."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield 2

    def __len__(self) -> int:
        return 10**9


class Short(tuple):  # type: ignore[type-arg]
    """A tuple that denies what it holds."""

    def __len__(self) -> int:
        raise RuntimeError("no length")


class Real(float):
    """A float that is none."""

    def __float__(self) -> float:
        raise RuntimeError("no float")


class Larger(np.ndarray):  # type: ignore[type-arg]
    """An array that says it has more cells than there is memory."""

    @property
    def shape(self) -> Any:
        return (2, 60, 70, 300)

    @property
    def strides(self) -> Any:
        return (4, 4, 4, 4)

    @property
    def nbytes(self) -> Any:
        return 2**62


class Wider(np.ndarray):  # type: ignore[type-arg]
    """An array of 4 bytes a cell that says they are 8."""

    @property
    def dtype(self) -> Any:
        return np.dtype(np.float64)

    @property
    def itemsize(self) -> Any:
        return 8


class Silent(np.ndarray):  # type: ignore[type-arg]
    """An array that cannot be indexed, viewed or cast."""

    def __getitem__(self, key: Any) -> Any:
        raise RuntimeError("no cells")

    def __array_finalize__(self, parent: Any) -> None:
        pass

    def view(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no view")

    astype = view


class Imposter:
    """It says that it is an ndarray, as a mock does."""

    __class__ = np.ndarray  # type: ignore[assignment]
    shape, dtype, ndim = X.shape, X.dtype, X.ndim


def dead() -> Any:
    """A proxy of what is gone: every operation on it raises ReferenceError."""
    return weakref.proxy(Lies())


def nested(depth: int) -> Any:
    result: Any = ()
    for _ in range(depth):
        result = (result,)
    return result


def circle() -> Any:
    result: list[Any] = []
    result.append(result)
    return result


# ---- processes -------------------------------------------------------------------------------------------------


def started(code: str, **environment: str) -> str:
    """The last line that a new interpreter prints for this code in this environment; its error, as it would be raised here."""
    told = os.environ | environment | {"PYTHONPATH": str(Path(pooling.__file__).parents[1]), "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=told, capture_output=True, text=True, timeout=15)
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]
    if done.returncode:
        kind, _, message = last.partition(": ")
        raise getattr(builtins, kind)(message)
    return last


def threads(value: str) -> str:
    """How many threads a process counts that was told so many, less those of one that was told nothing."""
    code = "import pooling; print(pooling.get_num_threads())"
    return "default" if started(code, POOLING_NUM_THREADS=value) == started(code, POOLING_NUM_THREADS="") else "other"


POOLED = "import numpy, pooling; pooling.pool(numpy.ones((1, 4, 1)), 'max', 2)"
OVERRULED = f"{POOLED[:-1]}, backend='cpu')\nwith pooling.use_backend(None): {POOLED.split('; ')[1]}\nprint('pooled')"
POOLED_BY_MLX = "import mlx.core as mx, pooling; pooling.pool(mx.ones((1, 4, 1)), 'max', 2)"

# One row, one line or two: the formatter would give every argument a line of its own.
# fmt: off
ROWS = [
    *under(2, "a stride is at least 1",
        bad("stride 0, avg", lambda a: pool(a(X), "avg", 4, 0), ValueError, "stride=0", "at least 1", source="pytorch#41767"),
        bad("stride 0, max", lambda a: pool(a(X), "max", 3, 0), ValueError, "stride=0", source="CVE-2025-2953"),
        bad("stride 0, one cell", lambda a: pool(a(ONE), "max", 1, 0), ValueError, "stride=0", source="Paddle#49919"),
        bad("stride 0, three axes", lambda a: pool(a(VOLUME), "max", 1, 0), ValueError, "stride=0", source="tensorflow#42213"),
        bad("stride 0, huge cells", lambda a: pool(a(VOLUME * np.float32(1e37)), "avg", 1, 0), ValueError, "stride=0",
            source="tensorflow#42205"),
        bad("stride 0, integers", lambda a: pool(a(cells("int64")), "max", 3, 0), ValueError, "stride=0", source="chainer#6025"),
        bad("stride 0, last of three axes", lambda a: pool(a(VOLUME), "avg", 1, (1, 1, 0)), ValueError, "stride[2]=0",
            source="Paddle#33036"),
        bad("stride 0 in a list", lambda a: pool(a(X), "sum", 2, [2, 0]), ValueError, "stride[1]=0", source="JAX#3972"),
        bad("stride 0 in an array", lambda a: pool(a(X), "sum", 2, np.array([0, 1])), ValueError, "stride[0]=0",
            source="JAX#3972"),
        bad("stride 0, backward", lambda a: pool_backward(a(G), a(X), "avg", 2, 0), ValueError, "stride=0",
            source="CVE-2023-25669"),
        bad("stride 0, unpool", lambda a: max_unpool(a(G), a(CHOSEN), 2, 0), ValueError, "stride=0", source="onnx#8476"),
        bad("stride 0, shape", lambda a: output_shape(X.shape, 2, 0), ValueError, "stride=0", source="onnx#7764"),
        bad("stride 0, functional", lambda a: functional.avg_pool2d(a(FIRST), 4, stride=0), ValueError, "stride=0",
            source="pytorch#41767"),
        bad("stride 0, layer", lambda a: nn.MaxPool2d(3, stride=0)(a(FIRST)), ValueError, "stride=0", source="CVE-2025-2953"),
        bad("stride 0, layer with tuples", lambda a: nn.AvgPool1d(2, stride=0)(a(ROW)), ValueError, "stride[0]=0",
            source="Paddle#49919"),
        bad("stride -1", lambda a: pool(a(X), "avg", 2, -1), ValueError, "stride=-1", source="pytorch#145077"),
        bad("stride -1 of two", lambda a: pool(a(X), "avg", 2, (-1, 3010182406857593769)), ValueError, "stride[0]=-1",
            source="pytorch#145077"),
        bad("stride -2**63", lambda a: pool(a(X), "max", 2, -(2**63)), ValueError, f"stride={-(2**63)}", source="pytorch#145077"),
        bad("stride -1, unpool", lambda a: max_unpool(a(G), a(CHOSEN), 2, (2, -1)), ValueError, "stride[1]=-1",
            source="onnx#8476"),
    ),
    *under(2, "a kernel is at least 1",
        bad("kernel 0, avg", lambda a: pool(a(VOLUME), "avg", 0, 1), ValueError, "kernel=0", "at least 1",
            source="tensorflow#46834"),
        bad("kernel 0, same", lambda a: pool(a(ROW), "avg", 0, 1, "same"), ValueError, "kernel=0", source="tensorflow#46994"),
        bad("kernel 0, lp", lambda a: pool(a(X), "lp", 0), ValueError, "kernel=0", source="Keras#13822"),
        bad("kernel 0, second of two axes", lambda a: pool(a(X), "max", (2, 0), 1, "same", ceil_mode=True), ValueError,
            "kernel[1]=0", source="CNTK#3886"),
        bad("kernel 0, padding as large", lambda a: pool(a(X), "max", 0, 1, 0), ValueError, "kernel=0",
            source="tensorflow#51975"),
        bad("kernel 0, backward", lambda a: pool_backward(a(G), a(X), "max", 0), ValueError, "kernel=0", source="CVE-2023-25669"),
        bad("kernel 0, unpool", lambda a: max_unpool(a(G), a(CHOSEN), (0, 2)), ValueError, "kernel[0]=0", source="onnx#8476"),
        bad("kernel -1", lambda a: pool(a(X), "max", -1, 2, "same"), ValueError, "kernel=-1", source="tensorflow#76722"),
        bad("kernel -100, unpool", lambda a: max_unpool(a(G), a(CHOSEN), -100), ValueError, "kernel=-100",
            source="pytorch#83229"),
        bad("kernel -3, unpool layer", lambda a: nn.MaxUnpool3d(-3, stride=2)(a(VOLUME), a(VOLUME.astype(np.int64))), ValueError,
            "kernel_size[0]=-3", source="pytorch#83229"),
        bad("kernel -23287, unpool", lambda a: nn.MaxUnpool3d(-23287, stride=2)(a(VOLUME), a(VOLUME.astype(np.int64))),
            ValueError, "kernel_size[0]=-23287", source="pytorch#107555"),
        bad("kernel 0, functional", lambda a: functional.max_pool3d(a(VOLUME), 0, stride=1), ValueError, "kernel_size=0",
            source="tensorflow#46834"),
    ),
    *under(2, "kernel and stride are below 2**31, and padding below the kernel",
        bad("kernel 2**62, padding 2**61", lambda a: pool(a(X), "max", 2**62, 1, 2**61), ValueError, f"kernel={2**62}",
            "below 2**31", source="pytorch#142454"),
        bad("kernel, padding and dilation beyond 2**31", lambda a: pool(a(ROW), "max", [8608480567731124087], [], [1250999896764],
            dilation=[1250999896764], ceil_mode=True), ValueError, "kernel[0]=8608480567731124087", source="pytorch#142454"),
        bad("kernel 3134755050008138495", lambda a: pool(a(ROW), "max", [3134755050008138495], [48732], "same"), ValueError,
            "kernel[0]=3134755050008138495", source="tensorflow#85251"),
        bad("kernel 2**63 - 1, stride -1", lambda a: pool(a(X), "max", (2**63 - 1, 5868783964474102731), (-1, 100)), ValueError,
            "kernel[0]=9223372036854775807", source="tensorflow#89848"),
        bad("kernel and stride 1250999896764", lambda a: pool(a(X), "max", (1250999896764, 1), (1250999896764, 1), "same"),
            ValueError, "kernel[0]=1250999896764", source="tensorflow#89855"),
        bad("kernel beyond int64", lambda a: pool(a(ROW), "max", sys.maxsize + 100, 1, "same"), ValueError,
            f"kernel={sys.maxsize + 100}", source="tensorflow#76722"),
        bad("kernel of 5000 digits", lambda a: pool(a(X), "max", 10**5000), ValueError, "kernel", "below 2**31",
            source="tensorflow#76722"),
        bad("stride 2230364274603370470, no channels", lambda a: pool(a(VOLUME[..., :0]), "max", [3505357736] * 3,
            [2230364274603370470] * 3, "same"), ValueError, "kernel[0]=3505357736", source="tensorflow#85253"),
        bad("stride 2**64", lambda a: pool(a(X), "sum", 2, 2**64), ValueError, f"stride={2**64}", source="tensorflow#85253"),
        bad("kernel 2**31", lambda a: pool(a(X), "avg", 2**31, padding=2**30), ValueError, f"kernel={2**31}",
            source="tensorflow#65120"),
        bad("kernel 2**29 on three axes", lambda a: pool(a(VOLUME[:1, :, :1, :1, :1]), "max", [536870912] * 3, [1] * 3, [0] * 3,
            dilation=[1879048192] * 3, ceil_mode=True), ValueError, "kernel=[536870912,", "2**63", source="pytorch#73191"),
        bad("kernel 2**62, functional", lambda a: functional.max_pool1d(a(ROW), 2**62, padding=2**61), ValueError,
            f"kernel_size={2**62}", source="pytorch#142454"),
        bad("kernel 2**62, shape", lambda a: output_shape(X.shape, 2**62, 1, 2**61), ValueError, f"kernel={2**62}",
            source="pytorch#142454"),
        bad("kernel 2**62, backward", lambda a: pool_backward(a(G), a(X), "sum", 2**62, 1, 2**61), ValueError, f"kernel={2**62}",
            source="pytorch#142454"),
        bad("kernel 2**62, unpool", lambda a: max_unpool(a(G), a(CHOSEN), 2**62), ValueError, f"kernel={2**62}",
            source="XNNPACK#10761"),
    ),
    *under(2, "a dilation is at least 1 and below 2**31",
        bad("dilation 0", lambda a: pool(a(X), "max", 2, dilation=0), ValueError, "dilation=0", source="tt-metal#25208"),
        bad("dilation 0 of two", lambda a: pool(a(X), "max", 2, dilation=(1, 0)), ValueError, "dilation[1]=0",
            source="tt-metal#25208"),
        bad("dilation -1", lambda a: functional.max_pool2d(a(FIRST), 2, dilation=-1), ValueError, "dilation=-1",
            source="tt-metal#25208"),
        bad("dilation 2**31", lambda a: pool(a(X), "max", 1, dilation=2**31), ValueError, f"dilation={2**31}",
            source="pytorch#189664"),
        bad("dilation 2**31 - 1 over nothing", lambda a: pool(a(X), "max", 2, dilation=HUGE), ValueError, "kernel=2",
            f"dilation {HUGE}", source="pytorch#191566"),
        right("dilation 2**31 - 1 of one tap", lambda a: pool(a(X), "max", 1, None, 0, dilation=HUGE, ceil_mode=True), lambda: X,
            source="pytorch#189664"),
        right("dilation 2**31 - 1, indices", lambda a: pool(a(X), "max", 1, dilation=HUGE, return_indices=True),
            lambda: oracle.pool(X, "max", 1, return_indices=True), source="pytorch#191566"),
        right("dilation 2**31 - 1 over padding", lambda a: pool(a(ROW), "max", 3, 1, HUGE, dilation=HUGE),
            lambda: oracle.pool(ROW, "max", 3, 1, HUGE, dilation=HUGE), source="pytorch#189664"),
        right("dilation 2**31 - 1, backward", lambda a: pool_backward(a(X), a(X), "avg", 1, dilation=HUGE), lambda: X,
            source="pytorch#189664"),
    ),
    *under(2, "a window that reaches far beyond the data is legal, and costs what its cells cost",
        right("kernel 2**31 - 1, padding 2**30", lambda a: pool(a(X), "max", HUGE, HUGE, 2**30),
            lambda: X.max((1, 2), keepdims=True), source="pytorch#142454"),
        right("kernel 2**31 - 1, same", lambda a: pool(a(X), "sum", HUGE, 1, "same")[:, :1, :1],
            lambda: X.sum((1, 2), keepdims=True), source="tensorflow#85251"),
        right("kernel 2**31 - 1, avg of the data", lambda a: pool(a(ROW), "avg", HUGE, 1, (HUGE - 1) // 2,
            count_include_pad=False), lambda: np.repeat(oracle.adaptive_pool(ROW, "avg", 1), 6, axis=1),
            source="tensorflow#65120"),
        right("kernel 2**31 - 1, avg with padding", lambda a: pool(a(ONE), "avg", HUGE, HUGE, HUGE - 1),
            lambda: np.full((1, 1, 1), 1 / np.float32(HUGE)), source="tensorflow#65120"),
        right("kernel 2**31 - 1, indices", lambda a: pool(a(X), "min", HUGE, HUGE, 2**30, return_indices=True),
            lambda: oracle.adaptive_pool(X, "min", 1, return_indices=True), source="pytorch#142454"),
        right("kernel 2**31 - 1, backward", lambda a: pool_backward(a(G[:, :1, :1]), a(X), "sum", HUGE, HUGE, 2**30),
            lambda: np.ones_like(X), source="pytorch#142454"),
        right("stride 2**31 - 1", lambda a: pool(a(X), "max", 1, HUGE), lambda: X[:, :1, :1], source="tensorflow#89855"),
        right("kernel 317 over padding", lambda a: pool(a(X), "max", 317, 317, 158), lambda: X.max((1, 2), keepdims=True),
            source="onnx-tensorrt#937"),
    ),
    *under(2, "at least one window lies in the padded data",
        bad("kernel larger than x", lambda a: pool(a(ONE), "max", 2), ValueError, "kernel=2", "larger", source="pytorch#4986"),
        bad("kernel larger than one axis", lambda a: pool(a(X), "avg", (1, 8)), ValueError, "kernel=8", "axis 1",
            source="MXNet#810"),
        bad("kernel larger than x, valid", lambda a: pool(a(X), "max", (1, 8), 1, "valid"), ValueError, "kernel=8",
            source="JAX#6487"),
        bad("kernel larger than x, ceil_mode", lambda a: pool(a(FIRST[..., :2, :4].copy()), "max", 3, ceil_mode=True,
            layout="channels_first"), ValueError, "kernel=3", "2 cells", source="OpenVINO#21067"),
        bad("kernel larger than x, with indices", lambda a: functional.max_pool1d_with_indices(a(ROW), 9), ValueError,
            "kernel_size=9", source="Caffe#3754"),
        bad("kernel larger than x, backward", lambda a: pool_backward(a(VOLUME), a(VOLUME), "avg", (2, 2, 2), 1), ValueError,
            "kernel=2", source="tensorflow#94119"),
        bad("kernel 317 on a small plane", lambda a: nn.MaxPool2d((317, 317))(a(FIRST)), ValueError, "kernel_size=317",
            source="onnx-tensorrt#937"),
        bad("dilated kernel larger than x", lambda a: pool(a(X), "max", 3, dilation=3), ValueError, "effective kernel 7",
            source="Caffe#3754"),
        right("no window starts behind the data", lambda a: pool(a(ROW), "sum", 1, 2, ceil_mode=True),
            lambda: ROW[:, ::2], source="Caffe#6942"),
    ),
    *under(2, "padding is at least 0 and below the effective kernel",
        bad("padding -1", lambda a: pool(a(ROW), "max", 2, 50, -1), ValueError, "padding=-1", "at least 0",
            source="pytorch#83224"),
        bad("padding -1, layer", lambda a: nn.MaxPool1d(2, padding=-1, stride=50)(a(ROW)), ValueError, "padding=-1",
            source="pytorch#83224"),
        bad("padding -1 of four", lambda a: pool(a(X), "max", 2, 1, ((0, -1), (0, 0))), ValueError, "padding[0][1]=-1",
            source="onnxruntime#32076"),
        bad("padding -1 of a window of 1", lambda a: pool(a(X), "sum", 1, 1, ((-1, 0), (0, 0))), ValueError, "padding[0][0]=-1",
            source="XLA#48719"),
        bad("padding -9995, unpool", lambda a: max_unpool(a(VOLUME), a(VOLUME.astype(np.int64)), 3, 7052, -9995), ValueError,
            "padding=-9995", source="pytorch#78126"),
        bad("padding -2**63", lambda a: pool(a(X), "avg", 2, 1, -(2**63)), ValueError, f"padding={-(2**63)}",
            source="onnxruntime#32076"),
        bad("padding as large as the kernel", lambda a: pool(a(ROW), "avg", 2, 2, ((2, 3),)), ValueError, "padding=((2, 3),)",
            "below 2", source="onnxruntime#801"),
        bad("padding larger after", lambda a: pool(a(X), "max", 2, 2, ((0, 0), (0, 2))), ValueError, "axis 1",
            source="onnxruntime#23088"),
        bad("padding beyond a dilated kernel", lambda a: pool(a(X), "max", 2, 1, 4, dilation=3), ValueError, "padding=4",
            "below 4", source="onnxruntime#23088"),
        bad("padding 2**61", lambda a: pool(a(X), "max", 2, 1, 2**61), ValueError, f"padding={2**61}", source="pytorch#142454"),
        bad("padding beyond int64", lambda a: pool(a(X), "max", 2, 1, 2**64), ValueError, f"padding={2**64}",
            source="pytorch#142454"),
        bad("a window of padding alone", lambda a: pool(a(X[:, :1, :1]), "avg", 3, 3, 3, count_include_pad=False), ValueError,
            "padding=3", source="FastNN#5"),
    ),
    *under(3, "a window without a cell gives the identity, 0 or NaN, index -1 and no gradient",
        right("windows without cells", lambda a: pool(a(X), "max", 2, 1, 9, dilation=10, return_indices=True),
            lambda: oracle.pool(X, "max", 2, 1, 9, dilation=10, return_indices=True), source="oneDNN#3457"),
        right("windows without cells, avg", lambda a: pool(a(X), "avg", 2, 1, 9, dilation=10, count_include_pad=False),
            lambda: oracle.pool(X, "avg", 2, 1, 9, dilation=10, count_include_pad=False), source="FastNN#5"),
        right("windows without cells, int8", lambda a: pool(a(X.astype("i1")), "min", 2, 1, 9, dilation=10),
            lambda: oracle.pool(X.astype("i1"), "min", 2, 1, 9, dilation=10), source="oneDNN#3457"),
        right("windows without cells, backward", lambda a: pool_backward(a(np.ones((2, 14, 15, 3), "f4")), a(X), "max", 2, 1, 9,
            dilation=10), lambda: oracle.pool_backward(np.ones((2, 14, 15, 3), "f4"), X, "max", 2, 1, 9, dilation=10),
            source="pytorch#1465"),
        right("cells of -inf", lambda a: pool(a(np.full_like(X, -np.inf)), "max", 3, 2, 1, return_indices=True),
            lambda: oracle.pool(np.full_like(X, -np.inf), "max", 3, 2, 1, return_indices=True), source="TileOPs#832"),
        right("cells of NaN, backward", lambda a: pool_backward(a(G), a(np.full_like(X, np.nan)), "max", 2),
            lambda: oracle.pool_backward(G, np.full_like(X, np.nan), "max", 2), source="pytorch#1465"),
        right("negative integers", lambda a: pool(a(X.astype(np.int64) - 12), "max", 2), lambda: oracle.pool(
            X.astype(np.int64) - 12, "max", 2), source="pytorch#109586"),
        right("float16 cells", lambda a: pool(a(X.astype("f2")), "avg", 2), lambda: oracle.pool(X.astype("f2"), "avg", 2),
            source="SciPy#8207"),
        right("lp of negative cells", lambda a: pool(a(X), "lp", 1, p=1), lambda: np.abs(X), source="pytorch#184037"),
    ),
    *under(1, "a sequence has one element per pooled axis, and there are one to three of them",
        bad("kernel ()", lambda a: pool(a(X), "max", ()), ValueError, "kernel=()", source="pytorch#50967"),
        bad("kernel [], unpool", lambda a: max_unpool(a(np.array(1.0)), a(VOLUME.astype(np.int64)), [], 7052, -9995), ValueError,
            "kernel=[]", source="pytorch#78126"),
        bad("kernel of 3 on 2 axes", lambda a: pool(a(X), "max", (2, 2, 2), layout="NHWC"), ValueError, "kernel=(2, 2, 2)",
            source="onnxruntime#29253"),
        bad("kernel of 4", lambda a: pool(a(VOLUME[None]), "max", (1, 1, 1, 1)), ValueError, "kernel=(1, 1, 1, 1)", "1 to 3",
            source="onnxruntime#29253"),
        bad("kernel of a million", lambda a: pool(a(X), "max", [2] * 10**6), ValueError, "kernel", "1000000",
            source="onnxruntime#29253"),
        bad("kernel of batch and channels", lambda a: pool(a(X), "avg", (1, 2, 2, 1)), ValueError, "kernel=(1, 2, 2, 1)",
            source="CVE-2023-25801"),
        bad("stride of 1 element", lambda a: pool(a(X), "max", 2, (2,)), ValueError, "stride=(2,)", source="onnxruntime#29579"),
        bad("padding of three pairs", lambda a: pool(a(X), "max", (2, 2), 2, ((0, 0),) * 3), ValueError, "padding=",
            "3 elements", source="onnxruntime#29579"),
        bad("padding of 4 ints", lambda a: pool(a(X), "max", (2, 2), 2, (0, 0, 1, 1)), ValueError, "padding=(0, 0, 1, 1)",
            source="onnxruntime#29579"),
        bad("padding of a pair of 3", lambda a: pool(a(X), "max", 2, 2, ((0, 0), (0, 0, 0))), ValueError,
            "padding[1]=(0, 0, 0)", source="onnxruntime#29579"),
        bad("padding of an empty pair", lambda a: pool(a(X), "max", 2, 2, ((), (0, 0))), ValueError, "padding[0]=()",
            source="onnxruntime#29579"),
        bad("dilation []", lambda a: pool(a(X), "max", (2, 2), dilation=[]), ValueError, "dilation=[]", source="pytorch#50967"),
        bad("kernel of no elements in an array", lambda a: pool(a(X), "max", np.empty(0, int)), ValueError, "kernel=array([]",
            source="pytorch#50967"),
        right("stride []", lambda a: pool(a(X), "max", 2, []), lambda: oracle.pool(X, "max", 2), source="torch-mlir#2065"),
    ),
    *under(1, "x has the dimensions that its layout has",
        bad("x of no dimensions", lambda a: pool(a(np.array(1.0)), "max", 1), ValueError, "0 dimensions", source="OneFlow#10503"),
        bad("x of no dimensions, three axes", lambda a: functional.avg_pool3d(a(np.ones(())), 1, 1), ValueError,
            "input has shape ()", source="OneFlow#10512"),
        bad("x of no dimensions, letters", lambda a: pool(a(np.array(1.0)), "sum", (), layout="L"), ValueError, "layout='L'",
            source="JAX#10834"),
        bad("x of 2 dimensions for three axes", lambda a: pool(a(PLANE), "max", (2, 2, 2)), ValueError, "not 2",
            source="tensorflow#112652"),
        bad("x of 6 dimensions", lambda a: pool(a(np.ones((1,) * 6, "f4")), "max", 1), ValueError, "6 dimensions",
            source="pytorch#94698"),
        bad("x of 20 dimensions", lambda a: global_pool(a(np.ones((1,) * 20, "f4")), "max"), ValueError, "20 dimensions",
            source="pytorch#142838"),
        bad("x of 4 dimensions for one axis", lambda a: nn.MaxUnpool1d(2)(a(X), a(CHOSEN)), ValueError, "input has shape",
            source="Paddle#49991"),
        bad("letters for fewer dimensions", lambda a: pool(a(X), "max", 2, layout="NHW"), ValueError, "layout='NHW'",
            "4 dimensions", source="tensorflow#112652"),
        bad("input_shape a number", lambda a: output_shape(1879048192, 1), TypeError, "input_shape=1879048192",
            source="tensorflow#74956"),
        bad("input_shape an array of 2 dimensions", lambda a: output_shape(PLANE.astype(int), 1), TypeError, "input_shape=array",
            source="tensorflow#74956"),
        bad("input_shape negative", lambda a: output_shape((2, -6, 7, 3), 2), ValueError, "input_shape[1]=-6", source="JAX#6487"),
        bad("input_shape without an end", lambda a: output_shape(iter(int, 1), 2), TypeError, "input_shape=",
            source="NumPy#8912"),
    ),
    *under(1, "an int is what has __index__, and no bool",
        bad("kernel 1e38", lambda a: pool(a(X), "max", (1e38, 1048576), 2, "same"), TypeError, "kernel[0]=1e+38", "float",
            source="tensorflow#61603"),
        bad("kernel of floats", lambda a: pool(a(X), "avg", (6.0, 6.0), 6), TypeError, "kernel[0]=6.0", source="JAX#21672"),
        bad("kernel NaN", lambda a: pool(a(X), "avg", float("nan")), TypeError, "kernel=nan", source="JAX#21672"),
        bad("kernel inf", lambda a: nn.MaxPool2d(float("inf"))(a(FIRST)), TypeError, "kernel_size=inf", source="JAX#21672"),
        bad("kernel a float array", lambda a: pool(a(X), "avg", np.array([2.0, 2.0])), TypeError, "kernel[0]=2.0",
            source="JAX#21672"),
        bad("kernel a string", lambda a: pool(a(X), "max", "2"), TypeError, "kernel='2'", source="tensorflow#61603"),
        bad("kernel bytes", lambda a: pool(a(X), "max", b"\2"), TypeError, "kernel=b", source="tensorflow#61603"),
        bad("kernel None", lambda a: functional.max_pool2d(a(FIRST), None), TypeError, "kernel_size=None",
            source="tensorflow#61603"),
        bad("kernel True", lambda a: pool(a(X), "max", True), TypeError, "kernel=True", "bool", source="pytorch#83229"),
        bad("stride False", lambda a: nn.MaxUnpool2d(2, stride=False)(a(G), a(CHOSEN)), TypeError, "stride[0]=False",
            source="pytorch#83229"),
        bad("padding of strings", lambda a: pool(a(X), "max", 2, 1, ("1", "1")), TypeError, "padding[0]='1'",
            source="tensorflow#61603"),
        bad("padding None", lambda a: pool(a(X), "max", 2, 1, None), TypeError, "padding=None", source="tensorflow#61603"),
        bad("padding of ints and pairs", lambda a: pool(a(X), "max", 2, 1, (1, (0, 1))), TypeError, "padding=(1, (0, 1))",
            source="onnxruntime#29579"),
        bad("dilation a complex number", lambda a: pool(a(X), "max", 2, dilation=1j), TypeError, "dilation=1j",
            source="JAX#21672"),
        bad("kernel a set", lambda a: pool(a(X), "max", {2}), TypeError, "kernel={2}", source="PEP 357"),
        bad("kernel a generator", lambda a: pool(a(X), "max", (i for i in (2, 2))), TypeError, "kernel=<generator",
            source="PEP 357"),
        bad("kernel an array of 2 dimensions", lambda a: pool(a(X), "max", np.array([[2, 2]])), TypeError,
            "kernel=array([[2, 2]])", source="PEP 357"),
        bad("kernel a masked array", lambda a: pool(a(X), "max", np.ma.array([2, 2], mask=[0, 1])), TypeError, "kernel[1]=None",
            source="Cython#1310"),
        bad("kernel a time", lambda a: pool(a(X), "max", np.timedelta64(2, "s")), TypeError, "kernel=", source="PEP 357"),
        bad("ceil_mode a string", lambda a: pool(a(X), "max", 2, ceil_mode="no"), TypeError, "ceil_mode='no'", "True or False",
            source="pytorch#83229"),
        bad("return_indices 1", lambda a: functional.max_pool2d(a(FIRST), 2, return_indices=1), TypeError, "return_indices=1",
            source="pytorch#83229"),
        bad("count_include_pad None", lambda a: nn.AvgPool2d(2, count_include_pad=None)(a(FIRST)), TypeError,
            "count_include_pad=None", source="pytorch#83229"),
    ),
    *under(1, "an object that raises, lies or changes breaks nothing, and its error names the argument",
        bad("kernel whose __index__ raises", lambda a: pool(a(X), "max", Raises()), TypeError, "kernel=", "not today",
            source="PEP 357"),
        bad("stride whose __index__ lies", lambda a: pool(a(X), "max", 2, Lies()), TypeError, "stride=", "Lies",
            source="PEP 357"),
        bad("padding of a pair that raises", lambda a: pool(a(X), "max", 2, 1, ((0, Raises()), (0, 0))), TypeError,
            "padding[0][1]=", "not today", source="PEP 357"),
        bad("output_size whose __index__ raises", lambda a: adaptive_pool(a(X), "max", (1, Raises())), TypeError,
            "output_size[1]=", source="PEP 357"),
        bad("divisor_override whose __index__ raises", lambda a: pool(a(X), "avg", 2, divisor_override=Raises()), TypeError,
            "divisor_override=", source="PEP 357"),
        right("kernel that changes", lambda a: pool(a(X), "max", Changes()), lambda: oracle.pool(X, "max", 2), source="PEP 357"),
        right("elements that change", lambda a: pool(a(X), "max", [Changes(), Changes()], (Changes(), 2), [0, 1]),
            lambda: oracle.pool(X, "max", 2, 2, [0, 1]), source="PEP 357"),
        right("output_size that changes", lambda a: adaptive_pool(a(X), "avg", Changes()),
            lambda: oracle.adaptive_pool(X, "avg", 2), source="PEP 357"),
        bad("an element for every axis that changes", lambda a: functional.max_pool2d(a(FIRST), [Changes()]), ValueError,
            "kernel_size=100", source="PEP 357"),
        right("a list without an end", lambda a: pool(a(X), "max", Endless([2, 2])), lambda: oracle.pool(X, "max", 2),
            source="NumPy#8912"),
        right("a list that overstates", lambda a: functional.max_pool2d(a(FIRST), Endless([2])),
            lambda: oracle.pool(FIRST, "max", 2, layout="NCHW"), source="Pillow#9893"),
        right("a tuple without a length", lambda a: functional.max_pool2d(a(FIRST), 2, Short((2,))),
            lambda: oracle.pool(FIRST, "max", 2, layout="NCHW"), source="NumPy#7264"),
        right("a tuple without a length, layer", lambda a: nn.AvgPool1d(Short((2,)), Endless([2]))(a(ROW)),
            lambda: oracle.pool(ROW, "avg", 2, layout="NCL"), source="NumPy#7264"),
        right("output_size without a length", lambda a: functional.max_unpool2d(a(G), a(CHOSEN % 9), 3, 1, 0, Short((5, 5))),
            lambda: oracle.max_unpool(G, CHOSEN % 9, 3, 1, output_size=(5, 5), layout="NCHW"), source="NumPy#7264"),
        bad("a sequence whose elements raise", lambda a: pool(a(X), "max", 2, Sequence()), TypeError, "stride=", "no elements",
            source="NumPy#7264"),
        bad("kernel whose attributes raise", lambda a: pool(a(X), "max", Broken()), TypeError, "kernel=", "Broken",
            source="PEP 357"),
        bad("kernel that is gone", lambda a: pool(a(X), "max", dead()), TypeError, "kernel=", "no longer exists",
            source="PEP 357"),
        bad("kernel nested 100000 deep", lambda a: pool(a(ROW), "max", nested(10**5)), TypeError, "kernel[0]=<tuple>",
            source="NumPy#8912"),
        bad("padding nested 100000 deep", lambda a: pool(a(ROW), "max", 2, 1, nested(10**5)), ValueError, "padding[0]=<tuple>",
            source="NumPy#8912"),
        bad("padding that holds itself", lambda a: pool(a(ROW), "max", 2, 1, circle()), ValueError, "padding[0]=[[...]]",
            source="NumPy#8912"),
        bad("mode nested 100000 deep", lambda a: pool(a(ROW), nested(10**5), 2), TypeError, "mode=<tuple>", source="NumPy#8912"),
        *(bad(f"{name} without a repr", lambda a, name=name: pool(a(X), **{"mode": "max", "kernel": 2} | {name: Mute()}),
            TypeError, f"{name}=<Mute>", source="PEP 357") for name in ("mode", "kernel", "stride", "padding", "dilation",
            "ceil_mode", "layout", "dtype", "backend", "return_indices")),
        bad("p without a repr", lambda a: pool(a(X), "lp", 2, p=Mute()), TypeError, "p=<Mute>", source="PEP 357"),
        bad("use_backend without a repr", lambda a: pooling.use_backend(Mute()), TypeError, "name=<Mute>", source="PEP 357"),
        bad("p whose __float__ raises", lambda a: pool(a(X), "lp", 2, p=Real(2)), TypeError, "p=2.0", "no float",
            source="PEP 357"),
        bad("x whose attributes raise", lambda a: pool(Broken(), "max", 2), TypeError, "x is", "Broken", source="PEP 357"),
        bad("x whose __array__ raises", lambda a: pool(Array(), "max", 2), TypeError, "x is", "Array", source="NumPy#7264"),
        bad("x that only says it is an array", lambda a: pool(Imposter(), "max", 2), TypeError, "x is", "Imposter",
            source="NumPy#10314"),
        bad("x a mock of an array", lambda a: pool(mock.MagicMock(spec=np.ndarray), "max", 2), TypeError, "x is", "Mock",
            source="NumPy#10314"),
        bad("indices that only say so", lambda a: max_unpool(a(G), Imposter(), 2), TypeError, "indices is", source="NumPy#10314"),
        bad("grad_output whose attributes raise", lambda a: pool_backward(Broken(), a(X), "avg", 2), TypeError,
            "grad_output is", source="PEP 357"),
    ),
    *under(1, "a subclass of an array is read as the memory that it is",
        right("x that says it is larger", lambda a: pool(X.view(Larger), "max", 2), lambda: oracle.pool(X, "max", 2),
            source="NumPy#10314", on=NUMPY),
        right("x that says it is wider", lambda a: pool(X.view(Wider), "avg", 2), lambda: oracle.pool(X, "avg", 2),
            source="NumPy#10314", on=NUMPY),
        right("x that cannot be viewed", lambda a: pool(X.view(Silent), "max", 2, return_indices=True),
            lambda: oracle.pool(X, "max", 2, return_indices=True), source="NumPy#10314", on=NUMPY),
        right("gradient that says it is larger", lambda a: pool_backward(G.view(Larger), X.view(Larger), "max", 2,
            indices=CHOSEN.view(Larger)), lambda: oracle.pool_backward(G, X, "max", 2), source="NumPy#10314", on=NUMPY),
        right("indices that say they are larger", lambda a: max_unpool(G.view(Wider), CHOSEN.view(Larger), 2,
            output_size=X.shape), lambda: oracle.max_unpool(G, CHOSEN, 2, output_size=X.shape), source="NumPy#10314", on=NUMPY),
        right("x that says it is larger, global", lambda a: global_pool(X.view(Larger), "sum", keepdims=False),
            lambda: X.sum((1, 2)), source="NumPy#10314", on=NUMPY),
        bad("out that says it is larger", lambda a: pool(np.ones((2, 60, 70, 300), "f4"), "max", 1, out=a.kept(
            np.zeros(X.shape, "f4")).view(Larger)), ValueError, "out has shape (2, 6, 7, 3)", source="NumPy#10314", on=NUMPY),
        bad("out that says it is wider", lambda a: pool(X.astype("f8"), "max", 1, out=a.kept(np.zeros(X.shape,
            "f4")).view(Wider)), TypeError, "out has dtype", source="NumPy#10314", on=NUMPY),
        right("out that cannot be indexed", lambda a: np.asarray(global_pool(X, "max", keepdims=False,
            out=np.zeros((2, 3), "f4").view(Silent))), lambda: X.max((1, 2)), source="NumPy#10314", on=NUMPY),
        right("an mx.array that says it is larger", lambda a: pool(a.liar(X), "max", 2), lambda: oracle.pool(X, "max", 2),
            source="NumPy#10314", on=MLX),
        right("a gradient that says it is larger", lambda a: pool_backward(a.liar(G), a.liar(X), "sum", 2),
            lambda: oracle.pool_backward(G, X, "sum", 2), source="NumPy#10314", on=MLX),
        right("mx indices that say they are larger", lambda a: max_unpool(a.liar(G), a.liar(CHOSEN), 2, output_size=X.shape),
            lambda: oracle.max_unpool(G, CHOSEN, 2, output_size=X.shape), source="NumPy#10314", on=MLX),
    ),
    *under(1, "output_size is an int from 0 to 2**31 - 1 for every axis, or one or None per axis",
        bad("output_size 125091515651", lambda a: adaptive_pool(a(X), "max", [125091515651] * 2), ValueError,
            "output_size[0]=125091515651", source="pytorch#91552"),
        bad("output_size 125091515651, layer", lambda a: nn.AdaptiveMaxPool2d([125091515651] * 2)(a(FIRST.astype("f8"))),
            ValueError, "output_size[0]=125091515651", source="pytorch#91553"),
        bad("output_size 9132760301568586890", lambda a: functional.adaptive_avg_pool1d(a(ROW), 9132760301568586890), ValueError,
            "output_size=9132760301568586890", source="pytorch#42582"),
        bad("output_size 4799942556533499770", lambda a: nn.AdaptiveMaxPool3d(4799942556533499770)(a(VOLUME)), ValueError,
            "output_size=4799942556533499770", source="pytorch#50960"),
        bad("output_size 2**64 + 2", lambda a: adaptive_pool(a(X), "sum", 2**64 + 2), ValueError, "output_size=", "below 2**31",
            source="pytorch#50960"),
        bad("output_size 1879048192, three times", lambda a: adaptive_pool(a(VOLUME), "avg", [1879048192] * 3), ValueError,
            "output_size", "2**63", source="pytorch#73183"),
        bad("output_size -1", lambda a: adaptive_pool(a(X), "max", -1), ValueError, "output_size=-1", source="JAX#6487"),
        bad("output_size -2, functional", lambda a: functional.adaptive_max_pool2d(a(FIRST), (2, -2)), ValueError,
            "output_size[1]=-2", source="JAX#6487"),
        bad("output_size ()", lambda a: functional.adaptive_avg_pool2d(a(FIRST), ()), ValueError, "output_size=()",
            source="pytorch#42509"),
        bad("output_size [], three axes", lambda a: functional.adaptive_avg_pool3d(a(VOLUME), []), ValueError, "output_size=[]",
            source="pytorch#42578"),
        bad("output_size () of 1 dimension", lambda a: adaptive_pool(a(np.arange(5.0)), "avg", ()), ValueError, "output_size=()",
            source="pytorch#42509"),
        bad("output_size of 3 on 2 axes", lambda a: functional.adaptive_max_pool2d(a(FIRST), (2, 2, 2)), ValueError,
            "output_size=(2, 2, 2)", source="pytorch#42578"),
        bad("output_size a float", lambda a: adaptive_pool(a(X), "max", 2.5), TypeError, "output_size=2.5", source="JAX#21672"),
        bad("output_size None", lambda a: adaptive_pool(a(X), "max", None), TypeError, "output_size=None", source="JAX#21672"),
        bad("output_size a string", lambda a: nn.AdaptiveAvgPool2d("7")(a(FIRST)), TypeError, "output_size='7'",
            source="JAX#21672"),
        right("output_size 0", lambda a: adaptive_pool(a(VOLUME), "avg", 0), lambda: np.empty((2, 0, 0, 0, 3), "f4"),
            source="pytorch#78868"),
        right("output_size 0, backward", lambda a: adaptive_pool_backward(a(np.empty((2, 0, 0, 0, 3), "f4")), a(VOLUME), "avg",
            0), lambda: np.zeros_like(VOLUME), source="pytorch#78868"),
        right("output_size 0, backward of indices", lambda a: adaptive_pool_backward(a(np.empty((2, 0, 3, 3), "f4")), a(X), "max",
            (0, 3), indices=a(np.empty((2, 0, 3, 3), np.int64))), lambda: np.zeros_like(X), source="pytorch#78868"),
        right("output_size beyond x", lambda a: adaptive_pool(a(ONE), "max", 100), lambda: np.ones((1, 100, 1), "f4"),
            source="pytorch#42582"),
    ),
    *under(2, "an empty batch or channel axis gives an empty result, an empty pooled axis an error",
        *(right(f"no {which}, {mode}", lambda a, x=x, mode=mode: pool(a(x), mode, 2), lambda x=x, mode=mode: oracle.pool(x, mode,
            2), source=source) for which, x, source in (("batch", X[:0], "tensorflow#21338"), ("channels", X[..., :0],
            "tensorflow#85253"), ("batch and channels", X[:0, ..., :0], "pytorch#62025")) for mode in pooling.MODES),
        *(right(f"no {which}, {mode} backward", lambda a, g=g, x=x, mode=mode: pool_backward(a(g), a(x), mode, 2),
            lambda x=x: x, source=source) for which, g, x, source in (("batch", G[:0], X[:0], "GHSA-v6r6-84gr-92rm"), ("channels",
            G[..., :0], X[..., :0], "nixpkgs#138695")) for mode in pooling.MODES),
        right("no batch, indices", lambda a: pool(a(X[:0]), "max", 2, return_indices=True),
            lambda: oracle.pool(X[:0], "max", 2, return_indices=True), source="CVE-2022-21739"),
        right("no batch, unpool", lambda a: max_unpool(a(G[:0]), a(CHOSEN[:0]), 2), lambda: np.empty((0, 6, 6, 3), "f4"),
            source="Paddle#49991"),
        right("no batch, global", lambda a: global_pool(a(X[:0]), "avg", keepdims=False), lambda: np.empty((0, 3), "f4"),
            source="pytorch#62025"),
        right("no batch, 2**30 columns", lambda a: pool(a(np.empty((0, 2**30, 3), "f4")), "avg", (3,), 1),
            lambda: np.empty((0, 2**30 - 2, 3), "f4"), source="pytorch#94698"),
        right("no batch, 2**30 columns, indices", lambda a: functional.max_pool1d_with_indices(a(np.empty((0, 3, 2**30), "f4")),
            2, 1, 1), lambda: (np.empty((0, 3, 2**30 + 1), "f4"), np.empty((0, 3, 2**30 + 1), np.int64)), source="pytorch#94696"),
        *(right(f"no batch, 2**30 columns, {mode} backward", lambda a, mode=mode: pool_backward(a(np.empty((0, 2**30 - 2, 3),
            "f4")), a(np.empty((0, 2**30, 3), "f4")), mode, (3,), 1), lambda: np.empty((0, 2**30, 3), "f4"),
            source="pytorch#94698") for mode in pooling.MODES),
        right("no batch, 2**30 windows, backward", lambda a: adaptive_pool_backward(a(np.empty((0, 2**30, 3), "f4")),
            a(np.empty((0, 7, 3), "f4")), "avg", (2**30,)), lambda: np.empty((0, 7, 3), "f4"), source="pytorch#94698"),
        right("no batch, 2**40 columns", lambda a: pool_backward(np.empty((0, 2**40 - 2, 3), "f4"), np.empty((0, 2**40, 3), "f4"),
            "avg", (3,), 1), lambda: np.empty((0, 2**40, 3), "f4"), source="pytorch#94698", on=NUMPY),
        bad("no rows", lambda a: pool(a(X[:, :0]), "max", 1), ValueError, "pooled axis 0", "no cells", source="CVE-2022-21739"),
        bad("no columns", lambda a: pool(a(X[:, :, :0]), "avg", 3, 1, "same"), ValueError, "pooled axis 1",
            source="CVE-2021-37684"),
        bad("nothing at all", lambda a: pool(a(X[:0, :0, :0, :0]), "sum", 1), ValueError, "pooled axis 0",
            source="CVE-2022-21735"),
        bad("no rows, backward", lambda a: pool_backward(a(X[:, :0]), a(X[:, :0]), "max", 1), ValueError, "pooled axis 0",
            source="GHSA-6f89-8j54-29xf"),
        bad("no columns, backward of three axes", lambda a: pool_backward(a(VOLUME), a(VOLUME[:, :, :, :0]), "avg", (1, 36, 128),
            128, "same"), ValueError, "pooled axis 2", source="tensorflow#58107"),
        bad("no rows, adaptive", lambda a: functional.adaptive_avg_pool2d(a(FIRST[:, :, :0]), 1), ValueError, "pooled axis 0",
            source="pytorch#62025"),
        bad("no rows, global", lambda a: global_pool(a(X[:, :0]), "max", return_indices=True), ValueError, "pooled axis 0",
            source="nixpkgs#138695"),
        bad("no rows, unpool", lambda a: max_unpool(a(X[:, :0]), a(CHOSEN[:, :0].repeat(7, 2)[:, :, :7]), 2), ValueError,
            "pooled axis 0", source="onnxruntime#28550"),
        bad("no rows, shape", lambda a: output_shape((2, 0, 7, 3), 1), ValueError, "no cells", source="CVE-2022-21735"),
    ),
    *under(4, "grad_output has the shape of the result and the type of x, and is no integer",
        bad("grad_output of a larger batch", lambda a: pool_backward(a(np.ones((9, 7, 9, 9), "f4")), a(np.ones((5, 7, 9, 9),
            "f4")), "max", 3, 1, 1, layout="NCHW", indices=a(np.full((5, 7, 9, 9), 5))), ValueError,
            "grad_output has shape (9, 7, 9, 9)", source="pytorch#140923"),
        bad("grad_output of a smaller batch", lambda a: pool_backward(a(G[:1]), a(X), "avg", 2), ValueError,
            "grad_output has shape (1, 3, 3, 3)", source="tensorflow#64642"),
        bad("grad_output of an empty batch", lambda a: pool_backward(a(G[:0]), a(X), "avg", 2), ValueError,
            "grad_output has shape (0, 3, 3, 3)", source="pytorch#193736"),
        bad("grad_output of fewer windows", lambda a: pool_backward(a(G[:, :2]), a(X), "max", 2), ValueError, "grad_output",
            source="CVE-2021-37674"),
        bad("grad_output of other windows", lambda a: pool_backward(a(VOLUME), a(VOLUME), "avg", (1, 2, 2), (1, 2, 2)),
            ValueError, "grad_output", source="tensorflow#58106"),
        bad("grad_output of other channels", lambda a: adaptive_pool_backward(a(G[..., :1]), a(X), "avg", 3), ValueError,
            "grad_output has shape (2, 3, 3, 1)", source="pytorch#194800"),
        bad("grad_output in another layout", lambda a: pool_backward(a(G[:1].transpose(0, 3, 1, 2).copy()[:, :, :2]), a(X[:1]),
            "max", 2), ValueError, "grad_output", source="CVE-2021-37674"),
        bad("grad_output of one cell, repeated", lambda a: pool_backward(np.broadcast_to(np.float32(1), (2, 2**40, 3, 3)), X,
            "sum", 2), ValueError, "grad_output", source="pytorch#194800", on=NUMPY),
        bad("grad_output that broadcasts", lambda a: pool_backward(a(np.ones((1, 1, 1, 1), "f4")), a(X), "avg", 2), ValueError,
            "grad_output", source="tensorflow#64642"),
        bad("x of fewer dimensions", lambda a: adaptive_pool_backward(a(X), a(np.ones((1, 48), "f4")), "avg", (8, 3)), ValueError,
            "output_size=(8, 3)", source="pytorch#145070"),
        bad("grad_output float64", lambda a: pool_backward(a(G.astype("f8")), a(X), "avg", 2), TypeError,
            "grad_output has cells of type float64", source="CVE-2021-37674"),
        bad("grad_output float16", lambda a: pool_backward(a(G.astype("f2")), a(X), "max", 2), TypeError, "grad_output",
            source="CVE-2021-37674"),
        bad("gradient of integers", lambda a: pool_backward(a(G.astype("u8")), a(X.astype("u8")), "max", 2), TypeError,
            "x has cells of type uint64", source="tensorflow#58272"),
        bad("gradient of bools", lambda a: pool_backward(a(G > 0), a(X > 0), "sum", 2), TypeError, "x has cells of type bool",
            source="tensorflow#58272"),
        bad("grad_output complex", lambda a: pool_backward(a(G.astype("c8")), a(X), "avg", 2), TypeError, "complex64",
            source="tensorflow#58272"),
        bad("grad_output None", lambda a: pool_backward(None, a(X), "avg", 2), TypeError, "grad_output is NoneType",
            source="CVE-2022-21739"),
        bad("grad_output a list", lambda a: pool_backward(G.tolist(), a(X), "avg", 2), TypeError, "grad_output is list",
            source="CVE-2022-21739"),
    ),
    *under(4, "an index of pool_backward is -1 or a cell of its own window",
        *(bad(f"backward index {value} of {np.dtype(dtype).name}", lambda a, value=value, dtype=dtype: pool_backward(a(G), a(X),
            "max", 2, indices=a(changed(value, dtype))), IndexError, "indices[1, 2, 0, 1]", str(value), source=source)
            for value, dtype, source in ((-2, "i8", "onnxruntime#27903"), (-256, "i8", "tensorflow#59083"), (-2, "i1",
            "pytorch#131659"), (42, "i8", "onnxruntime#27903"), (256, "i4", "tensorflow#61653"), (0, "i8", "onnxruntime#27903"),
            (2**31 + 28, "u4", "tensorflow#94382"), (2**32 + 28, "i8", "tensorflow#94382"), (-(2**40), "i8", "tensorflow#94382"),
            (2**63 - 1, "i8", "onnxruntime#27903"), (2**64 - 1, "u8", "onnxruntime#27903"), (2**64 - 2, "u8",
            "CVE-2022-41897"))),
        bad("adaptive index past the plane", lambda a: adaptive_pool_backward(a(G), a(X), "max", 3, indices=a(changed(42))),
            IndexError, "indices[1, 2, 0, 1]", source="onnxruntime#27903"),
        bad("indices of fewer windows", lambda a: adaptive_pool_backward(a(G), a(X), "max", 3, indices=a(CHOSEN[:, :, :1])),
            ValueError, "indices has shape (2, 3, 1, 3)", source="pytorch#141099"),
        bad("indices of fewer dimensions", lambda a: adaptive_pool_backward(a(G), a(X), "max", 3, indices=a(CHOSEN[0])),
            ValueError, "indices has shape (3, 3, 3)", source="pytorch#141100"),
        bad("indices of an empty batch", lambda a: pool_backward(a(G), a(X), "max", 2, indices=a(CHOSEN[:0])), ValueError,
            "indices has shape (0, 3, 3, 3)", source="pytorch#142459"),
        bad("indices of 20 dimensions", lambda a: pool_backward(a(G), a(X), "max", 2, indices=a(np.empty((0,) * 20, np.int64))),
            ValueError, "indices has shape", source="pytorch#142838"),
        bad("indices of floats", lambda a: pool_backward(a(G), a(X), "max", 2, indices=a(CHOSEN.astype("f4"))), TypeError,
            "indices", "float32", source="onnxruntime#27903"),
        bad("indices of NaN", lambda a: pool_backward(a(G), a(X), "min", 2, indices=a(np.full(G.shape, np.nan))), TypeError,
            "indices", "float64", source="onnxruntime#27903"),
        bad("indices of bools", lambda a: pool_backward(a(G), a(X), "max", 2, indices=a(CHOSEN > 3)), TypeError, "indices",
            "bool", source="onnxruntime#27903"),
        bad("indices for avg", lambda a: pool_backward(a(G), a(X), "avg", 2, indices=a(CHOSEN)), ValueError, "indices=",
            source="onnxruntime#27903"),
        right("indices of -1", lambda a: pool_backward(a(G), a(X), "max", 2, indices=a(np.full_like(CHOSEN, -1))),
            lambda: np.zeros_like(X), source="pytorch#1465"),
    ),
    *under(4, "an index of max_unpool is -1 or a cell of the output's plane, tested before it is narrowed",
        *(bad(f"unpool index {value} of {np.dtype(dtype).name}", lambda a, value=value, dtype=dtype: max_unpool(a(G),
            a(changed(value, dtype)), 2, output_size=(6, 7)), IndexError, "indices[1, 2, 0, 1]", str(value), "outside [-1, 42)",
            source=source) for value, dtype, source in ((2**32 + 3, "i8", "pytorch#197409"), (2**32 + 3, "u8", "pytorch#197409"),
            (2**31 + 3, "u4", "XNNPACK#10454"), (-2, "i8", "pytorch#91555"), (-2, "i2", "onnxruntime#27432"), (42, "i8",
            "tensorflow#120468"), (255, "u1", "XNNPACK#10454"), (2**63 - 1, "i8", "MediaPipe#6317"), (-(2**63), "i8",
            "MediaPipe#6317"), (2**64 - 1, "u8", "MediaPipe#6317"), (207, "i4", "pytorch#152913"))),
        bad("unpool index -2, functional", lambda a: functional.max_unpool3d(a(VOLUME), a(np.full(VOLUME.shape, -2)), 3, (2, 1,
            2), 1), IndexError, "indices[0, 0, 0, 0, 0]", source="pytorch#91555"),
        bad("unpool indices of another call", lambda a: max_unpool(a(G[:, :2]), a(CHOSEN), 2), ValueError, "indices has shape",
            source="pytorch#580"),
        bad("unpool indices of other channels", lambda a: max_unpool(a(G), a(CHOSEN[..., :1].repeat(5, 3)), 2), ValueError,
            "indices has shape (2, 3, 3, 5)", source="onnx#8476"),
        bad("unpool indices of no dimensions", lambda a: max_unpool(a(G), a(np.array(0)), 2), ValueError, "indices has shape ()",
            source="onnxruntime#28550"),
        bad("unpool x of no dimensions", lambda a: max_unpool(a(np.array(1.0)), a(np.array(0)), 2), ValueError, "0 dimensions",
            source="onnxruntime#28550"),
        bad("unpool indices of floats", lambda a: nn.MaxUnpool2d(2)(a(G), a(CHOSEN.astype("f8"))), TypeError, "indices",
            "float64", source="onnxruntime#27432"),
        bad("unpool indices None", lambda a: max_unpool(a(G), None, 2), TypeError, "indices is NoneType",
            source="onnxruntime#28550"),
        bad("unpool indices are x", lambda a: max_unpool(a(G), a(G), 2), TypeError, "indices", "float32",
            source="pytorch#152913"),
        right("unpool indices twice", lambda a: max_unpool(a(G), a(np.zeros_like(CHOSEN)), 2),
            lambda: oracle.max_unpool(G, np.zeros_like(CHOSEN), 2), source="tensorflow#120468"),
        right("unpool indices of -1", lambda a: max_unpool(a(G), a(np.full_like(CHOSEN, -1)), 2),
            lambda: np.zeros((2, 6, 6, 3), "f4"), source="onnxruntime#27432"),
    ),
    *under(4, "the size of max_unpool's result is positive, and less than one stride from the default",
        bad("unpool to -2 cells", lambda a: nn.MaxUnpool2d([1, 1], 5, [3, 4])(a(np.ones((1, 1, 2, 2), "f4")),
            a(np.zeros((1, 1, 2, 2), np.int64))), ValueError, "padding=", source="pytorch#178483"),
        bad("unpool to no cells", lambda a: max_unpool(a(G[:, :1, :1]), a(CHOSEN[:, :1, :1] * 0), 4, 1, 2), ValueError,
            "padding=", "0 cells", source="pytorch#178483"),
        bad("unpool size of 3 on 2 axes", lambda a: max_unpool(a(G), a(CHOSEN), 2, output_size=(6, 6, 6)), ValueError,
            "output_size=(6, 6, 6)", source="pytorch#88032"),
        bad("unpool size ()", lambda a: functional.max_unpool2d(a(G), a(CHOSEN), 2, output_size=()), ValueError, "output_size=()",
            source="pytorch#88032"),
        bad("unpool size one stride away", lambda a: max_unpool(a(G), a(CHOSEN), 2, output_size=8), ValueError, "output_size=8",
            source="onnxruntime#28550"),
        bad("unpool size of another batch", lambda a: max_unpool(a(G), a(CHOSEN), 2, output_size=(9, 6, 6, 3)), ValueError,
            "output_size=(9, 6, 6, 3)", "batch", source="onnxruntime#28550"),
        bad("unpool size negative", lambda a: max_unpool(a(G), a(CHOSEN), 2, output_size=(6, -6)), ValueError,
            "output_size[1]=-6", source="pytorch#83229"),
        bad("unpool size a float", lambda a: max_unpool(a(G), a(CHOSEN), 2, output_size=6.0), TypeError, "output_size=6.0",
            source="pytorch#88032"),
        bad("unpool size missing", lambda a: max_unpool(a(G), a(CHOSEN), 3, 2, "same"), ValueError, "output_size is needed",
            source="onnxruntime#28550"),
        bad("unpool beyond 2**63 bytes", lambda a: max_unpool(a(VOLUME), a(VOLUME.astype(np.int64)), 2**20, HUGE), ValueError,
            "kernel=(1048576,", "2**63", source="XNNPACK#10761"),
        bad("unpool sizes whose product is 2**64", lambda a: max_unpool(a(np.ones((1, 3, 3, 3, 1), "f4")),
            a(np.zeros((1, 3, 3, 3, 1), np.int64)), 2**20, 2**20, output_size=(2**20 * 3,) * 3), ValueError, "output_size=",
            source="XNNPACK#10761"),
    ),
    *under(5, "a cell is a bool, an integer of 8 to 64 bits, or a float of 16 to 64 bits",
        *(bad(f"cells of {np.dtype(dtype).name}", lambda a, dtype=dtype: pool(cells(dtype), "max", 2), TypeError, "cells of type",
            "float64", source="NumPy arrays", on=NUMPY) for dtype in (object, "U3", "S3", "c8", "c16", "M8[s]", "m8[s]", "V4",
            [("a", "f4"), ("b", "f4")], *(["longdouble"] if np.dtype("longdouble").itemsize > 8 else []))),
        bad("cells of complex64 on MLX", lambda a: pool(a(cells("c8")), "sum", 2), TypeError, "complex64", source="NumPy arrays",
            on=MLX),
        bad("cells of strings of any length", lambda a: pool(np.full((4, 4), "a", np.dtypes.StringDType()), "max", 2,
            layout="HW"), TypeError, "cells of type", source="NumPy arrays", on=NUMPY),
        bad("cells of records, unpool", lambda a: max_unpool(np.zeros(G.shape, [("a", "f4")]), CHOSEN, 2), TypeError,
            "cells of type", source="NumPy arrays", on=NUMPY),
        bad("cells of a record array", lambda a: pool(np.zeros(X.shape, [("a", "f4")]).view(np.recarray), "max", 2), TypeError,
            "cells of type", source="NumPy arrays", on=NUMPY),
        bad("indices of objects", lambda a: max_unpool(G, CHOSEN.astype(object), 2), TypeError, "cells of type object",
            source="NumPy arrays", on=NUMPY),
        right("cells with metadata", lambda a: pool(X.astype(np.dtype("f4", metadata={"unit": []})), "max", 2),
            lambda: oracle.pool(X, "max", 2), source="NumPy arrays", on=NUMPY),
        *(bad(f"dtype {value!r}"[:40], lambda a, value=value: pool(a(X), "max", 2, dtype=value), TypeError, "dtype=", "float64",
            source="NumPy arrays") for value in ("float33", "", "f4,,", "bool", np.complex64, object, "M8[s]", [("a", "f4")],
            ("f4", (2,)), 3, 1.5, {}, "float32\0", b"\xff", "O", Mute, X)),
        right("dtype byte-swapped", lambda a: pool(a(X), "max", 2, dtype=np.dtype("float32").newbyteorder()),
            lambda: oracle.pool(X, "max", 2), source="SciPy#25641"),
    ),
    *under(5, "an array in any state is read as it is, and none is modified",
        *(right(f"x {name}, {mode}", lambda a, x=x, mode=mode: pool(a.kept(x), mode, 3, 2, 1), lambda x=x,
            mode=mode: oracle.pool(np.array(x), mode, 3, 2, 1), source=source, on=NUMPY) for name, x, source in (
                ("misaligned", misaligned(X), "SciPy#25641"),
                ("byte-swapped", X.astype(X.dtype.newbyteorder()), "SciPy#25641"),
                ("byte-swapped and misaligned", misaligned(X.astype(X.dtype.newbyteorder())), "SciPy#25641"),
                ("byte-swapped int64, misaligned", misaligned(X.astype(np.dtype("i8").newbyteorder())), "SciPy#25641"),
                ("read-only", read_only(X), "NumPy arrays"),
                ("of overlapping cells", strided(X.ravel(), (2, 6, 7, 3), (4, 4, 4, 4)), "NumPy arrays"),
                ("of negative strides", X[::-1, ::-1, ::-1, ::-1], "NumPy arrays"),
                ("of cells half a stride apart", strided(np.arange(200, dtype="u1").view("u1")[:198].view("u2"), (2, 6, 7, 3),
                    (1, 1, 1, 1)), "NumPy arrays"),
            ) for mode in ("max", "avg")),
        right("x in a file", lambda a: pool(filed((1, 4, 4, 1)), "sum", 2), lambda: np.zeros((1, 2, 2, 1), "f4"),
            source="NumPy arrays", on=NUMPY),
        right("x of 2**40 cells on one", lambda a: pool(np.broadcast_to(np.float32(3), (1, 2**40, 1)), "max", 2, HUGE),
            lambda: np.full((1, 513, 1), 3, "f4")[:, : (2**40 - 2) // HUGE + 1], source="pytorch#52822", on=NUMPY),
        right("x of 2**40 cells on one, indices", lambda a: pool(np.broadcast_to(np.float32(3), (1, 2**40, 1)), "min", 2, HUGE,
            return_indices=True)[1], lambda: (np.arange((2**40 - 2) // HUGE + 1) * HUGE).reshape(1, -1, 1),
            source="pytorch#52822", on=NUMPY),
        bad("x a masked array", lambda a: pool(np.ma.array(X, mask=X > 0), "max", 2), TypeError, "x is numpy.ma",
            "numpy.ma.filled(x", source="Cython#1310"),
        bad("indices a masked array", lambda a: max_unpool(a(G), np.ma.array(CHOSEN), 2), TypeError, "indices is numpy.ma",
            source="Cython#1310"),
        bad("x a list", lambda a: pool(X.tolist(), "max", 2), TypeError, "x is list", "numpy.asarray(x)", source="NumPy#7264"),
        bad("x None", lambda a: functional.max_pool2d(None, 2), TypeError, "input is NoneType", source="CVE-2022-21739"),
        bad("x a number", lambda a: pool(3.0, "max", 2), TypeError, "x is float", source="OneFlow#10503"),
        bad("x a scalar of NumPy's", lambda a: pool(np.float32(3), "max", 2), TypeError, "x is numpy.float32",
            source="JAX#10834"),
        bad("x a type", lambda a: pool(np.ndarray, "max", 2), TypeError, "x is type", source="NumPy#10314"),
        bad("x a memoryview", lambda a: pool(memoryview(X), "max", 2), TypeError, "x is memoryview", source="NumPy arrays"),
        bad("x and indices of two libraries", lambda a: max_unpool(a(G), CHOSEN, 2), TypeError, "indices is numpy.ndarray",
            source="onnxruntime#28550", on=MLX),
        bad("x and grad_output of two libraries", lambda a: pool_backward(G, a(X), "avg", 2), TypeError, "x is mlx.core.array",
            source="CVE-2021-37674", on=MLX),
    ),
    *under(1, "out has exactly the result's shape and type, and no two of its cells share memory; nothing is written otherwise",
        *(bad(f"out {name}", lambda a, make=make, more=more: pool(X, "max", 2, out=make(a.kept), **more), error, *words,
            source=source, on=NUMPY) for name, make, error, words, source, more in (
                ("of fewer windows", lambda kept: kept(G[:, :2].copy()), ValueError, ("out has shape",), "GHSA-v6r6-84gr-92rm",
                    {}),
                ("of fewer dimensions", lambda kept: kept(G[0].copy()), ValueError, ("out has shape",), "pytorch#141100", {}),
                ("that broadcasts", lambda kept: kept(np.ones((1, 1, 1, 1), "f4")), ValueError, ("out has shape",),
                    "GHSA-v6r6-84gr-92rm", {}),
                ("of x's shape", lambda kept: kept(X.copy()), ValueError, ("out has shape",), "SciPy#9553", {}),
                ("float64", lambda kept: kept(G.astype("f8")), TypeError, ("out has dtype",), "SciPy#25641", {}),
                ("int32", lambda kept: kept(G.astype("i4")), TypeError, ("out has dtype",), "SciPy#25641", {}),
                ("object", lambda kept: kept(G.astype(object)), TypeError, ("out has dtype",), "NumPy arrays", {}),
                ("byte-swapped", lambda kept: kept(G.astype(G.dtype.newbyteorder())), TypeError, ("native byte order",),
                    "SciPy#25641", {}),
                ("read-only", lambda kept: kept(read_only(G)), ValueError, ("out is read-only",), "NumPy arrays", {}),
                ("a broadcast view", lambda kept: np.broadcast_to(np.float32(7), G.shape), ValueError, ("out is read-only",),
                    "NumPy arrays", {}),
                ("of one cell", lambda kept: strided(kept(np.zeros(1, "f4")), G.shape, (0, 0, 0, 0)), ValueError,
                    ("out overlaps itself",), "NumPy arrays", {}),
                ("of one channel", lambda kept: strided(kept(np.zeros(200, "f4")), G.shape, (36, 12, 4, 0)), ValueError,
                    ("out overlaps itself",), "NumPy arrays", {}),
                ("of cells half a stride apart", lambda kept: strided(kept(np.zeros(200, "f4")), G.shape, (216, 72, 8, 2)),
                    ValueError, ("out overlaps itself",), "NumPy arrays", {}),
                ("of rows that overlap", lambda kept: strided(kept(np.zeros(800, "f4")), G.shape, (800, 8, 4, 100)), ValueError,
                    ("out overlaps itself",), "NumPy arrays", {}),
                ("of rows that overlap backwards", lambda kept: strided(kept(np.zeros(800, "f4"))[400:], G.shape, (800, -8, 4,
                    100)), ValueError, ("out overlaps itself",), "NumPy arrays", {}),
                ("of batches that meet", lambda kept: strided(kept(np.zeros(400, "f4")), G.shape, (104, 36, 12, 4)), ValueError,
                    ("out overlaps itself",), "NumPy arrays", {}),
                ("a list", lambda kept: G.tolist(), TypeError, ("out is list",), "NumPy#7264", {}),
                ("a number", lambda kept: 7, TypeError, ("out is int",), "NumPy#7264", {}),
                ("a string", lambda kept: "out", TypeError, ("out is str",), "NumPy#7264", {}),
                ("a masked array", lambda kept: np.ma.array(kept(G.copy())), TypeError, ("out is MaskedArray",), "Cython#1310",
                    {}),
                ("an imposter", lambda kept: Imposter(), TypeError, ("out is Imposter",), "NumPy#10314", {}),
                ("a pair without indices", lambda kept: (kept(G.copy()), kept(CHOSEN.copy())), TypeError, ("out is tuple",),
                    "SciPy#25641", {}),
                ("single with indices", lambda kept: kept(G.copy()), TypeError, ("out=", "pair"), "SciPy#25641",
                    {"return_indices": True}),
                ("half a pair", lambda kept: (kept(G.copy()), None), TypeError, ("out is NoneType",), "SciPy#25641",
                    {"return_indices": True}),
                ("three for a pair", lambda kept: (kept(G.copy()), kept(CHOSEN.copy()), kept(CHOSEN.copy())), TypeError,
                    ("out=", "pair"), "SciPy#25641", {"return_indices": True}),
                ("a pair with int32", lambda kept: (kept(G.copy()), kept(CHOSEN.astype("i4"))), TypeError,
                    ("out has dtype", "int64"), "SciPy#25641", {"return_indices": True}),
                ("a pair with uint64", lambda kept: (kept(G.copy()), kept(CHOSEN.astype("u8"))), TypeError,
                    ("out has dtype", "int64"), "SciPy#25641", {"return_indices": True}),
                ("a pair with floats", lambda kept: (kept(G.copy()), kept(CHOSEN.astype("f8"))), TypeError,
                    ("out has dtype", "int64"), "SciPy#25641", {"return_indices": True}),
                ("a pair the wrong way round", lambda kept: (kept(CHOSEN.copy()), kept(G.copy())), TypeError, ("out has dtype",),
                    "SciPy#25641", {"return_indices": True}),
                ("a pair with short indices", lambda kept: (kept(G.copy()), kept(CHOSEN[:1].copy())), ValueError,
                    ("out has shape",), "pytorch#142459", {"return_indices": True}),
                ("a pair with short values", lambda kept: (kept(G[:1].copy()), kept(CHOSEN.copy())), ValueError, ("out has shape",
                    ), "pytorch#142459", {"return_indices": True}),
                ("a pair on one memory", lambda kept: (lambda i: (i.view("f4")[..., :3], i))(kept(CHOSEN.copy())), ValueError,
                    ("out: its two arrays overlap",), "CuPy#8406", {"return_indices": True}),
                ("a pair that interlocks", lambda kept: (lambda i: (i.view("f4").ravel()[2:56].reshape(G.shape), i))(kept(
                    CHOSEN.copy())), ValueError, ("out: its two arrays overlap",), "CuPy#8406", {"return_indices": True}),
            )),
        bad("out of 2**40 cells on two million", lambda a: pool(np.broadcast_to(np.float32(1), (2**20, 2**20, 1, 1)), "max", 1,
            layout="NCHW", out=strided(a.kept(np.zeros(2**21, "f4")), (2**20, 2**20, 1, 1), (4, 4, 4, 4))), ValueError,
            "out overlaps itself", source="NumPy arrays", on=NUMPY),
        bad("out of an empty result", lambda a: pool(X[:0], "max", 2, out=a.kept(G.copy())), ValueError, "out has shape",
            source="tensorflow#21338", on=NUMPY),
        bad("out of another shape, adaptive", lambda a: adaptive_pool(X, "avg", 3, out=a.kept(G[:, :, :1].copy())), ValueError,
            "out has shape", source="pytorch#194800", on=NUMPY),
        bad("out of another shape, global", lambda a: global_pool(X, "max", keepdims=False, out=a.kept(G.copy())), ValueError,
            "out has shape", source="pytorch#194800", on=NUMPY),
        bad("out with a bad kernel", lambda a: pool(X, "max", 0, out=a.kept(G.copy())), ValueError, "kernel=0",
            source="tensorflow#46834", on=NUMPY),
        bad("out with another dtype", lambda a: pool(X, "max", 2, dtype="f8", out=a.kept(G.copy())), TypeError, "out has dtype",
            source="SciPy#25641", on=NUMPY),
        bad("out with a bad backend", lambda a: pool(X, "max", 2, backend="tpu", out=a.kept(G.copy())), ValueError,
            "backend='tpu'", source="Keras#13822", on=NUMPY),
        bad("out on MLX", lambda a: pool(a(X), "max", 2, out=a(G)), TypeError, "out: an mx.array cannot be written to",
            source="SciPy#25641", on=MLX),
        bad("out of NumPy's on MLX", lambda a: pool(a(X), "max", 2, out=a.kept(G.copy())), TypeError, "out:",
            source="SciPy#25641", on=MLX),
    ),
    *under(1, "an out that overlaps x gives the right answer",
        *(right(f"out is {name}, {mode}", lambda a, over=over, mode=mode: over(X.copy(), mode), lambda mode=mode: oracle.pool(X,
            mode, 3, 1, 1), source=source, on=NUMPY) for mode in ("max", "sum") for name, over, source in (
                ("x", lambda x, mode: pool(x, mode, 3, 1, 1, out=x), "SciPy#9553"),
                ("x backwards", lambda x, mode: pool(x, mode, 3, 1, 1, out=x[::-1, ::-1, ::-1]), "CuPy#8406"),
                ("x in another order", lambda x, mode: pool(x, mode, 3, 1, 1, out=strided(x, x.shape, (4, 56, 8, 336))),
                    "SciPy#9578"),
                ("x one cell on", lambda x, mode: (lambda m: pool(m[:-1].reshape(x.shape), mode, 3, 1, 1,
                    out=m[1:].reshape(x.shape)))(np.append(x, np.float32(0))), "CuPy#8406"),
                ("a subclass of x", lambda x, mode: np.asarray(pool(x, mode, 3, 1, 1, out=x.view(Silent))), "SciPy#9578"),
            )),
        right("out is indices and x", lambda a: (lambda x: pool(x, "max", 1, return_indices=True, out=(np.empty_like(x), x)))(
            X.astype(np.int64)), lambda: oracle.pool(X.astype(np.int64), "max", 1, return_indices=True), source="CuPy#8406",
            on=NUMPY),
        right("out misaligned", lambda a: pool(X, "avg", 2, out=misaligned(G)), lambda: oracle.pool(X, "avg", 2),
            source="SciPy#25641", on=NUMPY),
    ),
    *under(1, "a mode, a layout, a backend and a padding word are among those listed",
        bad("mode unknown", lambda a: pool(a(X), "median", 2), ValueError, "mode='median'", "'max', 'min'", source="Keras#13822"),
        bad("mode empty", lambda a: pool(a(X), "", 2), ValueError, "mode=''", source="OpenVINO#10092"),
        bad("mode of an inner row", lambda a: pool(a(X), "lp_inf", 2), ValueError, "mode='lp_inf'", source="Keras#13822"),
        bad("mode of a million letters", lambda a: pool(a(X), "max" * 10**6, 2), ValueError, "mode='maxmax",
            source="Keras#13822"),
        bad("mode a number", lambda a: global_pool(a(X), 0), TypeError, "mode=0", source="Keras#13822"),
        bad("mode None, backward", lambda a: pool_backward(a(G), a(X), None, 2), TypeError, "mode=None", source="Keras#13822"),
        bad("layout with a letter twice", lambda a: pool(a(X), "max", 2, layout="NHHC"), ValueError, "layout='NHHC'", "each once",
            source="onnxruntime#29253"),
        bad("layout in small letters", lambda a: pool(a(X), "max", 2, layout="nhwc"), ValueError, "layout='nhwc'",
            source="onnxruntime#29253"),
        bad("layout with an unknown letter", lambda a: pool(a(X), "max", 2, layout="NHWX"), ValueError, "layout='NHWX'",
            source="onnxruntime#29253"),
        bad("layout that pools nothing", lambda a: pool(a(X), "max", 2, layout="NBCG"), ValueError, "layout='NBCG'", "1 to 3",
            source="CVE-2023-25801"),
        bad("layout of a million letters", lambda a: pool(a(X), "max", 2, layout="N" * 10**6), ValueError, "layout='NNN",
            source="onnxruntime#29253"),
        bad("layout empty", lambda a: pool(a(X), "max", 2, layout=""), ValueError, "layout=''", source="OpenVINO#10092"),
        bad("layout None", lambda a: pool(a(X), "max", 2, layout=None), TypeError, "layout=None", source="OpenVINO#10092"),
        bad("layout with half a character", lambda a: pool(a(X), "max", 2, layout="NHW\ud800"), ValueError, "layout=",
            source="OpenVINO#10092"),
        bad("padding word in capitals", lambda a: pool(a(X), "max", 2, 2, "SAME"), ValueError, "padding='SAME'", "'same'",
            source="onnx#1230"),
        bad("padding word unknown", lambda a: nn.MaxPool2d(2, 2, "NOTSET")(a(FIRST)), ValueError, "padding='NOTSET'",
            source="onnx#1230"),
        bad("padding word empty", lambda a: pool(a(X), "avg", 2, 2, ""), ValueError, "padding=''", source="OpenVINO#10092"),
        bad("backend unknown", lambda a: pool(a(X), "max", 2, backend="cuda"), ValueError, "backend='cuda'", "'cpu'",
            source="Keras#13822"),
        bad("backend a number", lambda a: functional.max_pool2d(a(FIRST), 2, backend=0), TypeError, "backend=0",
            source="Keras#13822"),
        bad("use_backend unknown", lambda a: pooling.use_backend("mlx:metal"), ValueError, "name='mlx:metal'",
            source="Keras#13822"),
        bad("use_backend a list", lambda a: pooling.use_backend(["cpu"]), TypeError, "name=['cpu']", source="Keras#13822"),
    ),
    *under(3, "p is a number above 0 or inf; a divisor is any int but 0, within 63 bits",
        *(bad(f"p {value!r}", lambda a, value=value: pool(a(X), "lp", 2, p=value), error, f"p={value!r}"[:20], source=source)
            for value, error, source in ((0, ValueError, "pytorch#134841"), (-0.0, ValueError, "pytorch#134841"), (-2, ValueError,
            "pytorch#134841"), (float("nan"), ValueError, "pytorch#184037"), (-float("inf"), ValueError, "pytorch#184037"),
            ("inf", TypeError, "pytorch#187751"), (None, TypeError, "pytorch#187751"), (True, TypeError, "pytorch#187751"), (2j,
                TypeError,
            "pytorch#187751"), ((2,), TypeError, "pytorch#187751"))),
        bad("p beyond float64", lambda a: pool(a(X), "lp", 2, p=10**400), ValueError, "p=1000", source="pytorch#187751"),
        bad("p a fraction below 0", lambda a: pool(a(X), "lp", 2, p=Fraction(-1, 10**400)), ValueError, "p=Fraction",
            source="pytorch#187751"),
        bad("norm_type 0", lambda a: functional.lp_pool2d(a(FIRST), 0, 2), ValueError, "norm_type=0", source="pytorch#187751"),
        bad("norm_type 0, layer", lambda a: nn.LPPool2d(norm_type=0.0, kernel_size=2)(a(FIRST)), ValueError, "norm_type=0.0",
            source="pytorch#134841"),
        bad("p for max", lambda a: pool(a(X), "max", 2, p=3), ValueError, "p=3", "'lp'", source="pytorch#187751"),
        *(bad(f"divisor_override {value!r}"[:40], lambda a, value=value: pool(a(X), "avg", 2, divisor_override=value), error,
            f"divisor_override={value!r}"[:40], source=source) for value, error, source in ((0, ValueError, "CVE-2021-37684"),
            (2**63, ValueError, "pytorch#185361"), (-(2**63), ValueError, "pytorch#185361"), (2**64, ValueError,
            "pytorch#185361"), (2.0, TypeError, "pytorch#185361"), ("4", TypeError, "pytorch#185361"), ((2, 2), TypeError,
            "pytorch#185361"))),
        bad("divisor_override 0, layer", lambda a: nn.AvgPool3d(1, divisor_override=0)(a(VOLUME)), ValueError,
            "divisor_override=0", source="CVE-2021-37684"),
        bad("divisor_override for sum", lambda a: pool(a(X), "sum", 2, divisor_override=4), ValueError, "divisor_override=4",
            "'avg'", source="pytorch#185361"),
        right("divisor_override -1", lambda a: pool(a(X), "avg", 2, divisor_override=-1),
            lambda: oracle.pool(X, "avg", 2, divisor_override=-1), source="pytorch#185361"),
        right("divisor_override 2**63 - 1", lambda a: pool(a(X), "avg", 2, divisor_override=2**63 - 1),
            lambda: oracle.pool(X, "avg", 2, divisor_override=2**63 - 1), source="pytorch#185361"),
        bad("indices of avg", lambda a: pool(a(X), "avg", 2, return_indices=True), ValueError, "return_indices=True",
            source="onnxruntime#27903"),
    ),
    *under(2, "a result that cannot be counted is a ValueError, one that memory cannot hold a MemoryError",
        bad("shape beyond 2**63 bytes", lambda a: output_shape((2**40, 2**20, 2**20, 3), 3, 1, 1), ValueError, "2**63",
            source="XNNPACK#10761"),
        bad("sums beyond 2**63 bytes", lambda a: pool(np.broadcast_to(np.int8(1), (2**31, 2, 2**30)), "sum", 1), ValueError,
            "2**63", source="pytorch#52822", on=NUMPY),
        bad("2**61 results by padding", lambda a: pool(a(np.ones((1, 1, 1, 1, 1), "f4")), "avg", 2**20, 1, 2**20 - 1),
            MemoryError, "shape", source="pytorch#142454"),
        bad("2**60 results by padding, indices", lambda a: pool(a(np.ones((1, 1, 1, 1, 1), "f4")), "max", 2**19, 1, 2**19 - 1,
            return_indices=True), MemoryError, "shape", source="pytorch#142454"),
        bad("2**52 results by output_size", lambda a: adaptive_pool(a(X[:1, ..., :1]), "max", 2**26), MemoryError, "shape",
            source="pytorch#91552"),
        bad("2**58 results by output_size, uint8", lambda a: adaptive_pool(a(X[:1, ..., :1].astype("u1")), "avg", 2**29),
            MemoryError, "shape", source="pytorch#73183"),
        bad("2**52 cells put back", lambda a: max_unpool(a(np.ones((1, 3, 3, 1), "f4")), a(np.zeros((1, 3, 3, 1), np.int64)),
            2**25, 2**25), MemoryError, "shape", source="XNNPACK#10761"),
        *(bad(f"2**40 cells, {mode}", lambda a, mode=mode: pool(a.repeated((2**20, 2, 2**19)), mode, 1), MemoryError, "shape",
            source="pytorch#52822") for mode in pooling.MODES),
        bad("2**40 rows", lambda a: pool(np.broadcast_to(np.float32(1), (2**40, 3, 3, 64)), "sum", 3), MemoryError, "shape",
            source="pytorch#52822", on=NUMPY),
        bad("2**50 channels", lambda a: pool(np.broadcast_to(np.int8(1), (1, 3, 2**50)), "lp", 3), MemoryError, "shape",
            source="pytorch#52822", on=NUMPY),
        bad("2**31 windows on MLX", lambda a: pool(a(np.ones((1, 2, 1), "u1")), "max", HUGE, 1, HUGE - 1), ValueError, "2**31",
            source="pytorch#52822", on=MLX),
    ),
    *(under(2, "a result that the process's own limit does not allow is a MemoryError",
        bad("2**30 results by output_size", lambda a: adaptive_pool(a(ONE), "max", 2**30), MemoryError, "shape",
            source="pytorch#42582"),
        bad("2 GB by padding", lambda a: pool(a(ONE.astype("u1")), "max", HUGE, 1, HUGE - 1), MemoryError, "shape",
            source="tensorflow#65120"),
        bad("2**31 cells between x and a result of 1.5 GB", lambda a: pool(a(ONE.astype("u1")), "max", 3 << 29, 1, (3 << 29) - 1),
            ValueError, "padding", "2**31", source="pytorch#52822", on="mlx:ops"),
        bad("3 GB of indices", lambda a: pool(a(ONE.astype("u1")), "max", 3 << 27, 1, (3 << 27) - 1, return_indices=True),
            MemoryError, "shape", source="tensorflow#65120"),
        bad("4 GB of a gradient", lambda a: pool_backward(a.repeated((2**10, 1, 2**10)), a.repeated((2**10, 2**10, 2**10)), "max",
            2**10), MemoryError, "shape", source="pytorch#52822"),
        bad("4 GB of a gradient, avg", lambda a: pool_backward(a.repeated((2**10, 1, 2**10)), a.repeated((2**10, 2**10, 2**10)),
            "avg", 2**10), MemoryError, "shape", source="pytorch#52822"),
        bad("4 GB of a gradient, lp", lambda a: adaptive_pool_backward(a.repeated((2**10, 1, 2**10)), a.repeated((2**10, 2**10,
            2**10)), "lp", 1), MemoryError, "shape", source="pytorch#52822"),
        bad("3 GB of cells put back", lambda a: max_unpool(a(np.ones((1, 3, 1), "f4")), a(np.zeros((1, 3, 1), np.int64)), 2**28,
            2**28), MemoryError, "shape", source="XNNPACK#10761"),
    ) if LIMITED else ()),
    *under(1, "a number of threads is an int from 1 to 1024; what the environment says is believed if it can be",
        *(bad(f"set_num_threads {value!r}", lambda a, value=value: pooling.set_num_threads(value), error, f"n={value!r}",
            source=source) for value, error, source in ((0, ValueError, "kraken#161"), (-1, ValueError, "kraken#161"), (1025,
            ValueError, "nixpkgs#160715"), (2**31, ValueError, "nixpkgs#160715"), (2**64, ValueError, "nixpkgs#160715"), (2.0,
            TypeError, "kraken#161"), (True, TypeError, "kraken#161"), ("2", TypeError, "kraken#161"), (None, TypeError,
            "kraken#161"), ((2,), TypeError, "kraken#161"))),
        *(right(f"POOLING_NUM_THREADS {value!r}"[:40], lambda a, value=value: threads(value), lambda: "default", source=source,
            on=NUMPY) for value, source in (("0", "kraken#161"), ("many", "kraken#161"), ("\u00b2", "kraken#161"), ("9" * 5000,
            "nixpkgs#160715"))),
        right("POOLING_NUM_THREADS 99999999999", lambda a: started("import pooling; print(pooling.get_num_threads())",
            POOLING_NUM_THREADS="99999999999"), lambda: "1024" if pooling.cpu_info()["openmp"] == "yes" else "1",
            source="nixpkgs#160715", on=NUMPY),
        bad("POOLING_CPU_ISA garbage", lambda a: started(POOLED, POOLING_CPU_ISA="avx1024"), ImportError,
            "POOLING_CPU_ISA='avx1024'", source="Keras#13822", on=NUMPY),
        bad("POOLING_BACKEND garbage", lambda a: started(POOLED, POOLING_BACKEND="gpu"), ValueError,
            "pool: POOLING_BACKEND='gpu'", "'cpu'", source="Keras#13822", on=NUMPY),
        right("POOLING_BACKEND garbage, overruled", lambda a: started(OVERRULED, POOLING_BACKEND="gpu"), lambda: "pooled",
            source="Keras#13822", on=NUMPY),
        bad("POOLING_MLX_IMPL garbage", lambda a: started(POOLED_BY_MLX, POOLING_MLX_IMPL="metal"), ValueError,
            "POOLING_MLX_IMPL='metal'", source="Keras#13822", on=MLX),
    ),
    *under(1, "a layer of mlx_nn refuses wrong arguments when it is made",
        *(bad(f"mlx_nn {name} {text}", lambda a, name=name, make=make: make(getattr(a.layers, name)), error, name, word,
            source=source, on=MLX) for name, text, make, error, word, source in (
                ("MaxPool1d", "stride 0", lambda layer: layer(2, stride=0), ValueError, "stride=0", "MLX#4101"),
                ("MaxPool1d", "kernel 0", lambda layer: layer(0), ValueError, "kernel_size=0", "MLX#4101"),
                ("MaxPool1d", "kernel -2", lambda layer: layer(-2), ValueError, "kernel_size=-2", "MLX#4101"),
                ("AvgPool3d", "kernel -2", lambda layer: layer(-2), ValueError, "kernel_size=-2", "MLX#4101"),
                ("MaxPool2d", "padding -1", lambda layer: layer(2, padding=-1), ValueError, "padding=-1", "MLX#4101"),
                ("MaxPool2d", "padding 2", lambda layer: layer(2, padding=2), ValueError, "padding=2", "onnxruntime#801"),
                ("AvgPool2d", "kernel 2**62", lambda layer: layer(2**62, padding=2**61), ValueError, "kernel_size=",
                    "pytorch#142454"),
                ("AvgPool2d", "kernel of 3", lambda layer: layer((2, 2, 2)), ValueError, "kernel_size=(2, 2, 2)",
                    "onnxruntime#29253"),
                ("AvgPool2d", "kernel ()", lambda layer: layer(()), ValueError, "kernel_size=()", "pytorch#50967"),
                ("AvgPool2d", "divisor_override 0", lambda layer: layer(2, divisor_override=0), ValueError, "divisor_override=0",
                    "CVE-2021-37684"),
                ("MinPool2d", "dilation 0", lambda layer: layer(2, dilation=0), ValueError, "dilation=0", "tt-metal#25208"),
                ("MinPool2d", "kernel a float", lambda layer: layer(2.0), TypeError, "kernel_size=2.0", "JAX#21672"),
                ("MaxPool3d", "kernel that raises", lambda layer: layer(Raises()), TypeError, "kernel_size=", "PEP 357"),
                ("LPPool2d", "norm_type 0", lambda layer: layer(0, 2), ValueError, "norm_type=0", "pytorch#134841"),
                ("AdaptiveAvgPool2d", "output_size -1", lambda layer: layer(-1), ValueError, "output_size=-1", "JAX#6487"),
                ("AdaptiveMaxPool2d", "output_size ()", lambda layer: layer(()), ValueError, "output_size=()", "pytorch#42509"),
                ("MaxUnpool2d", "kernel -100", lambda layer: layer(-100), ValueError, "kernel_size=-100", "pytorch#83229"),
                ("GlobalPool", "mode unknown", lambda layer: layer("mean"), ValueError, "mode='mean'", "Keras#13822"),
            )),
        bad("mlx_nn x of 2 dimensions", lambda a: a.layers.MaxPool2d(2)(a(PLANE)), ValueError, "MaxPool2d", "not 2",
            source="tensorflow#112652", on=MLX),
        bad("mlx_nn x a list", lambda a: a.layers.AvgPool2d(2)(X.tolist()), TypeError, "AvgPool2d", "x is list",
            source="NumPy#7264", on=MLX),
        bad("mlx_nn kernel larger than x", lambda a: a.layers.MaxPool2d(9)(a(X)), ValueError, "MaxPool2d", "kernel_size=9",
            source="MXNet#810", on=MLX),
        bad("mlx_nn index 2**32 + 3", lambda a: a.layers.MaxUnpool2d(2)(a(G), a(changed(2**32 + 3)), (6, 7)), IndexError,
            "MaxUnpool2d", "indices[1, 2, 0, 1]", source="pytorch#197409", on=MLX),
    ),
]
# fmt: on

__doc__ = (__doc__ or "").format(rows=len(ROWS), legal=sum(callable(row.expected) for row in ROWS))


# ---- the process that makes the calls --------------------------------------------------------------------------


class Given:
    """What a row is given: arrays of the backend's kind, and a note of those that must not change."""

    def __init__(self, backend: str) -> None:
        self.mlx, self._kept = backend != "cpu", list[tuple[Any, bytes]]()

    def __call__(self, x: Any) -> Any:
        return self._array(x) if self.mlx else self.kept(x)

    def _array(self, x: Any) -> Any:
        import mlx.core as mx

        name = x.dtype.name
        return mx.array(x, getattr(mx, "bool_" if name == "bool" else name))

    def kept(self, x: Any) -> Any:
        self._kept.append((x, x.tobytes()))
        return x

    def repeated(self, shape: tuple[int, ...]) -> Any:
        """One float32 cell under any shape."""
        import mlx.core as mx

        return mx.broadcast_to(mx.array(1.0), shape) if self.mlx else np.broadcast_to(np.float32(1), shape)

    def liar(self, x: Any) -> Any:
        """An mx.array of a class that says it has more cells than there is memory."""
        import mlx.core as mx

        class Larger(mx.array):  # type: ignore[misc]
            shape, size, ndim = (2, 60, 70, 300), 2**40, 4

        return Larger(self._array(x))

    @property
    def layers(self) -> Any:
        from pooling import mlx_nn

        return mlx_nn

    def changed(self) -> bool:
        """Whether one of the arrays is not what it was."""
        return any(x.tobytes() != before for x, before in self._kept)

    def numpy(self, result: Any) -> Any:
        """A result as NumPy's, to be compared."""
        return np.asarray(result) if self.mlx and type(result).__module__ == "mlx.core" else result


def fault(row: Row, backend: str) -> str:
    """What is wrong with what comes of a row's call; nothing if it is what the row says."""
    given = Given(backend)
    try:
        with pooling.use_backend(None if backend == "cpu" else backend):
            result = row.call(given)
            parts = tuple(map(given.numpy, result if isinstance(result, tuple) else (result,)))
    except Exception as error:
        if callable(row.expected):
            return f"{type(error).__name__}: {error}"
        kind, words = row.expected
        if type(error) is not kind:
            return f"{type(error).__name__}, not {kind.__name__}: {error}"
        missing = [word for word in words if word not in str(error)]
        if missing:
            return f"the message lacks {missing}: {error}"
        return "an array was written before the call failed" if given.changed() else ""
    if not callable(row.expected):
        return f"no {row.expected[0].__name__} but a result"
    want = row.expected()
    wanted = want if isinstance(want, tuple) else (want,)
    if isinstance(want, str):
        return "" if parts == wanted else f"{parts[0]!r}, not {want!r}"
    same = len(parts) == len(wanted) and all(agree(ours, theirs) for ours, theirs in zip(parts, wanted, strict=True))
    return "" if same else f"{parts}, not {wanted}"


def of(backend: str, rows: list[Row]) -> list[Row]:
    """The rows that make sense for a backend's arrays."""
    return [row for row in rows if row.on in (EVERY, NUMPY if backend == "cpu" else MLX, backend)]


def warm(backend: str) -> None:
    """Loads what a call loads, and leaves this process 2 GB of address space, or 2 GB more where 1 GB is mapped already."""
    fault(right("warm", lambda a: pool(a(X), "max", 2), lambda: oracle.pool(X, "max", 2), source=""), backend)
    if not LIMITED:
        return
    import resource

    spare = 2 << 30
    with open("/proc/self/statm") as facts:
        mapped = int(facts.read().split()[0]) * resource.getpagesize()
    limit = spare if mapped < spare // 2 else mapped + spare
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def traps() -> list[Row]:
    """Rows that hang, die, take memory, or come out otherwise than they say: the test must tell each of them."""
    out = np.zeros(3)

    def writing(a: Any) -> None:
        a.kept(out)[0] = 1
        raise ValueError("out")

    return under(1, "the test sees what a row does",
        bad("hang", lambda a: [None for _ in iter(int, 1)], ValueError, "n", source="PEP 357"),
        bad("death", lambda a: os.abort(), ValueError, "n", source="PEP 357"),
        bad("exit", lambda a: os._exit(0), ValueError, "n", source="PEP 357"),
        bad("memory", lambda a: np.ones(3 << 27), MemoryError, "allocate", source="PEP 357"),
        bad("kind", lambda a: pool(X, "max", 0), TypeError, "kernel", source="PEP 357"),
        bad("word", lambda a: pool(X, "max", 0), ValueError, "stride", source="PEP 357"),
        bad("result", lambda a: pool(X, "max", 1), ValueError, "kernel", source="PEP 357"),
        bad("written", writing, ValueError, "out", source="PEP 357"),
        right("cell", lambda a: pool(X, "max", 2), lambda: oracle.pool(X, "min", 2), source="PEP 357"),
        right("fine", lambda a: pool(X, "max", 2), lambda: oracle.pool(X, "max", 2), source="PEP 357"),
    )  # fmt: skip


def child(table: str, backend: str, first: int, pipe: int) -> None:
    """Makes the calls from the `first` on, and writes a line before the first and after each: what is wrong, or nothing."""
    rows = of(backend, ROWS if table == "rows" else traps())
    warm(backend)
    with os.fdopen(pipe, "w", buffering=1) as report:
        report.write("ready\n")
        for row in rows[first:]:
            report.write(ascii(fault(row, backend)) + "\n")


def main() -> int:
    backend, pattern = sys.argv[1], (*sys.argv[2:], "*")[0]
    warm(backend)
    wrong = 0
    for row in of(backend, ROWS):
        if fnmatchcase(row.name, pattern) and (text := fault(row, backend)):
            print(f"{row.name}: {text[:300]}")
            wrong += 1
    print(f"{wrong} of {len(of(backend, ROWS))} rows fail on {backend}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
