"""Trains a small network on scikit-learn's digits twice, with the pooling of pooling.mlx_nn and with that of mlx.nn.

    pip install "pooling[examples]" && python examples/digits.py [--quick] [--backend NAME]

Both networks start from the same weights and see the same batches; nothing but the two pooling layers differs. They do not
stay equal to the last bit: where several cells of a window are equal (the digits' empty margins) pooling.mlx_nn gives the
gradient to the first of them and mlx.nn splits it, and averages may be rounded differently. The script fails unless both
networks recognise at least 95 % of the digits that they were not trained on, and their accuracies are less than 2 points apart.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from types import ModuleType
from typing import Any

try:
    import mlx.core as mx
    import mlx.nn
    import mlx.optimizers
    from sklearn.datasets import load_digits
except ImportError as error:
    sys.exit(f'{error}\nThis example needs MLX and scikit-learn: pip install "pooling[examples]"')

import pooling
import pooling.mlx_nn

EPOCHS, QUICK_EPOCHS = 15, 6
BATCH = 64
TESTED = 360  # of 1797 digits, every fifth
LEAST, APART = 0.95, 0.02
Digits = tuple[mx.array, mx.array]


def digits() -> tuple[Digits, Digits]:
    """(images, labels) to train on and to test with; images of 8 x 8 cells from 0 to 1, channels last."""
    found = load_digits()
    images = mx.array(found.images.astype("float32") / 16)[..., None]
    labels = mx.array(found.target.astype("int32"))
    order = mx.array([i for i in range(len(found.target)) if i % 5] + [i for i in range(len(found.target)) if i % 5 == 0])
    images, labels = images[order], labels[order]
    return (images[:-TESTED], labels[:-TESTED]), (images[-TESTED:], labels[-TESTED:])


def network(layers: ModuleType) -> Any:
    """Two convolutions, each followed by a pooling layer of `layers`, and a linear layer."""
    mx.random.seed(0)
    return mlx.nn.Sequential(
        mlx.nn.Conv2d(1, 16, 3, padding=1),
        mlx.nn.relu,
        layers.MaxPool2d(3, stride=2, padding=1),
        mlx.nn.Conv2d(16, 32, 3, padding=1),
        mlx.nn.relu,
        layers.AvgPool2d(2),
        lambda x: x.flatten(1),
        mlx.nn.Linear(32 * 2 * 2, 10),
    )


def batches(data: Digits, epoch: int) -> Iterator[Digits]:
    """All of the data in an order that depends on the epoch only."""
    order = mx.random.permutation(len(data[1]), key=mx.random.key(epoch))
    for start in range(0, len(data[1]), BATCH):
        chosen = order[start : start + BATCH]
        yield data[0][chosen], data[1][chosen]


def loss(model: Any, images: mx.array, labels: mx.array) -> mx.array:
    """The mean cross entropy."""
    return mlx.nn.losses.cross_entropy(model(images), labels, reduction="mean")


def accuracy(model: Any, data: Digits) -> float:
    """The share of the digits that the model recognises."""
    return (model(data[0]).argmax(axis=1) == data[1]).mean().item()


def train(layers: ModuleType, trained: Digits, tested: Digits, epochs: int) -> float:
    """The accuracy, after training, of the network with these pooling layers."""
    model = network(layers)
    optimizer = mlx.optimizers.Adam(learning_rate=3e-3)
    step = mlx.nn.value_and_grad(model, loss)
    start = time.perf_counter()
    print(f"\n{layers.__name__}: {model.layers[2]}, {model.layers[5]}")
    for epoch in range(epochs):
        total = 0.0
        for images, labels in batches(trained, epoch):
            value, gradients = step(model, images, labels)
            optimizer.update(model, gradients)
            mx.eval(model.parameters(), optimizer.state)
            total += value.item() * len(labels)
        print(f"  epoch {epoch + 1:2} of {epochs}: loss {total / len(trained[1]):.4f}", flush=True)
    result = accuracy(model, tested)
    print(f"  recognises {result:.2%} of {TESTED} new digits, after {time.perf_counter() - start:.1f} s")
    return result


def main() -> None:
    """Trains both networks and compares them."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_EPOCHS} epochs instead of {EPOCHS}")
    names = {name: reason for name, reason in pooling.backends().items() if name.startswith("mlx")}
    parser.add_argument("--backend", choices=names, default="mlx", help="what pools for pooling.mlx_nn (default: mlx)")
    options = parser.parse_args()
    try:
        pooling.use_backend(options.backend)
    except RuntimeError as error:
        parser.error(str(error))
    usable = [name for name, reason in names.items() if name != "mlx" and reason is None]
    chooses = f", which takes the best of {', '.join(usable)}" if options.backend == "mlx" else ""
    print(f"MLX {mx.__version__} on {mx.default_device()}; pooling's backend is {options.backend}{chooses}")
    trained, tested = digits()
    epochs = QUICK_EPOCHS if options.quick else EPOCHS
    ours, theirs = (train(layers, trained, tested, epochs) for layers in (pooling.mlx_nn, mlx.nn))
    print(f"\npooling.mlx_nn {ours:.2%}, mlx.nn {theirs:.2%}; wanted: {LEAST:.0%} each, less than {APART:.0%} apart")
    if min(ours, theirs) < LEAST or abs(ours - theirs) >= APART:
        sys.exit("FAILED: that is not so")


if __name__ == "__main__":
    main()
