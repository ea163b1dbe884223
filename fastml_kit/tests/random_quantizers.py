"""QKeras quantizers drawn at random: for inputs, weights, biases and activations.

Each table says how often a kind is drawn and how its options are. Most have an exact form in
QONNX; those in `REFUSED` have none, and a model that holds one must be refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log2
from random import Random
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of quantizer or layer: its name in tables, how often it is drawn, how it is made."""

    name: str
    share: int
    make: Callable[..., Any]
    refused: bool = False  # a model that holds it has no exact form


def pick(random: Random, kinds: list[Kind]) -> Kind:
    """Draw one of `kinds` by their shares."""
    return random.choice([kind for kind in kinds for _ in range(kind.share)])


def from_qkeras(name: str) -> Callable[..., Any]:
    """Return a QKeras class that is imported when it is first called."""

    def make(*args: Any, **options: Any) -> Any:
        from fastml_kit.models import keras2  # first: QKeras takes its Keras

        del keras2
        import qkeras

        return getattr(qkeras, name)(*args, **options)

    return make


bits, relu = from_qkeras("quantized_bits"), from_qkeras("quantized_relu")
binary, ternary = from_qkeras("binary"), from_qkeras("ternary")
po2, ulaw = from_qkeras("quantized_po2"), from_qkeras("quantized_ulaw")


def _one(r: Random) -> Any:
    return r.choice([1, 1.0, None])


INPUTS = [
    Kind("quantized_bits", 12, lambda r: bits(
        r.randint(2, 8), r.randint(0, 3), r.randint(0, 1), r.random() < 0.7, alpha=_one(r))),
    Kind("quantized_bits, wide", 2, lambda r: bits(r.randint(10, 18), r.randint(0, 3), alpha=1)),
    Kind("quantized_bits, coarse", 2, lambda r: bits(r.randint(3, 6), r.randint(8, 12), alpha=1)),
    Kind("quantized_relu", 3, lambda r: relu(r.randint(1, 8), r.randint(0, 3))),
    Kind("quantized_bits, 1 bit unsigned", 1, lambda r: bits(1, 0, 0, False, alpha=1)),
    Kind("binary", 1, lambda r: binary(alpha=1)),
    Kind("ternary", 1, lambda r: ternary(alpha=1, threshold=r.choice([0.5, 0.25]))),
]  # fmt: skip

KERNELS = [
    Kind("quantized_bits", 10, lambda r: bits(
        r.randint(2, 8), r.randint(0, 2), r.randint(0, 1), alpha=_one(r))),
    Kind("quantized_bits, wide", 3, lambda r: bits(r.randint(10, 20), r.randint(0, 2), alpha=1)),
    Kind("quantized_bits, coarse", 2, lambda r: bits(r.randint(3, 8), r.randint(6, 11), alpha=1)),
    Kind("quantized_bits, unsigned", 1, lambda r: bits(
        r.randint(1, 6), r.randint(0, 2), 0, False, alpha=1)),
    Kind("quantized_bits, 1 bit", 1, lambda r: bits(1, 0, alpha=1)),
    Kind("quantized_bits, auto_po2", 5, lambda r: bits(
        r.randint(2, 8), r.randint(0, 2), 1, alpha="auto_po2",
        scale_axis=r.choice([None, None, 0, 1]))),
    Kind("quantized_bits, stochastic rounding", 1, lambda r: bits(
        r.randint(2, 6), 0, alpha=1, use_stochastic_rounding=True)),
    Kind("quantized_bits, by its name", 1, lambda r: (
        f"quantized_bits({r.randint(2, 6)},0,1,alpha=" + r.choice(["1)", "'auto_po2')"]))),
    Kind("quantized_bits, po2 alpha", 1, lambda r: bits(
        r.randint(2, 6), 0, r.randint(0, 1), alpha=r.choice([0.25, 0.5, 2.0, 4.0]))),
    Kind("binary", 2, lambda r: binary(alpha=r.choice([1, None, 0.5]))),
    Kind("binary, 0 and 1", 1, lambda r: binary(use_01=True, alpha=1)),
    Kind("binary, auto_po2", 1, lambda r: binary(alpha="auto_po2")),
    Kind("stochastic_binary", 1, lambda r: from_qkeras("stochastic_binary")(
        alpha=r.choice([1, "auto_po2"]))),
    Kind("ternary", 2, lambda r: ternary(
        alpha=r.choice([1, 2]), threshold=r.choice([None, 0.5]))),
    Kind("ternary, auto_po2", 1, lambda r: ternary(alpha="auto_po2")),
    Kind("stochastic_ternary", 1, lambda r: from_qkeras("stochastic_ternary")(
        alpha=r.choice([1, "auto_po2"]))),
    Kind("quantized_po2", 2, lambda r: po2(r.randint(2, 4), r.choice([None, 1, 4]))),
    Kind("quantized_relu_po2", 1, lambda r: from_qkeras("quantized_relu_po2")(
        r.randint(2, 3), r.choice([1, 4]))),
    Kind("quantized_tanh", 1, lambda r: from_qkeras("quantized_tanh")(r.randint(2, 6))),
    Kind("quantized_sigmoid", 1, lambda r: from_qkeras("quantized_sigmoid")(r.randint(2, 6))),
    Kind("quantized_ulaw", 1, lambda r: ulaw(r.randint(2, 6))),  # few weights may be short
]  # fmt: skip

REFUSED_KERNELS = [
    Kind("quantized_bits, alpha='auto'", 2, lambda r: bits(4, 0, 1, alpha="auto"), True),
    Kind("quantized_bits, float alpha", 2, lambda r: bits(
        4, 0, 1, alpha=r.choice([0.7, 1.1, 3.0])), True),
    Kind("ternary, float alpha", 1, lambda r: ternary(alpha=0.3), True),
    Kind("bernoulli", 1, lambda r: from_qkeras("bernoulli")(alpha=1), True),
    Kind("no kernel quantizer", 2, lambda r: None, True),
]  # fmt: skip

BIASES = [
    Kind("quantized_bits", 6, lambda r: bits(r.randint(2, 10), r.randint(0, 3), alpha=1)),
    Kind("quantized_bits, auto_po2", 1, lambda r: bits(6, 1, 1, alpha="auto_po2")),
    Kind("quantized_po2", 1, lambda r: po2(3, 4)),
]


def _integer(r: Random, top: float) -> int:
    """Return integer bits for values up to `top`, so that most codes occur and some saturate.

    QKeras takes no negative ones: it raises an integer 2 to that power.
    """
    fit = ceil(log2(top)) if top > 0 else 0
    if r.random() < 0.08:  # nearly everything saturates
        return r.randint(0, 3)
    return max(0, min(12, fit + r.choice([-2, -1, -1, 0, 0, 1])))


def _relu(r: Random, top: float, **options: Any) -> Any:
    return relu(options.pop("bits", r.randint(2, 8)), _integer(r, top), **options)


def _bounded(r: Random, top: float, negative_slope: float = 0.0) -> Any:
    """Return a quantized_relu with an upper bound, which is mostly on its grid."""
    width, integer = r.randint(4, 8), _integer(r, top)
    step = 2.0 ** (integer - width + (negative_slope > 0))
    bound = step * r.randint(1, 2**width) if r.random() < 0.9 else 1.3 * step
    return relu(
        width,
        integer,
        negative_slope=negative_slope,
        relu_upper_bound=bound,
        is_quantized_clip=False,
    )


ACTIVATIONS = [
    Kind("quantized_relu", 10, lambda r, top: relu(
        r.randint(1, 8), _integer(r, top))),
    Kind("quantized_bits", 8, lambda r, top: bits(
        r.randint(2, 8), _integer(r, top), r.randint(0, 1), r.random() < 0.8, alpha=_one(r))),
    Kind("quantized_bits, stochastic rounding", 1, lambda r, top: bits(
        r.randint(2, 6), _integer(r, top), alpha=1, use_stochastic_rounding=True)),
    Kind("quantized_relu, by its name", 1, lambda r, top: (
        f"quantized_relu({r.randint(2, 8)},{_integer(r, top)})")),
    Kind("quantized_bits, wide", 2, lambda r, top: bits(
        r.randint(10, 18), _integer(r, top), alpha=1)),
    Kind("quantized_bits, 1 bit", 1, lambda r, top: bits(1, 0, alpha=1)),
    Kind("quantized_bits, po2 alpha", 1, lambda r, top: bits(
        r.randint(2, 6), _integer(r, top), 1, alpha=r.choice([0.5, 2.0]))),
    Kind("quantized_relu, slope", 3, lambda r, top: _relu(
        r, top, bits=r.randint(4, 8), negative_slope=r.choice([0.125, 0.25, 0.5, 1.0]))),
    Kind("quantized_relu, upper bound", 2, _bounded),
    Kind("quantized_relu, clipped upper bound", 1, lambda r, top: _relu(
        r, top, relu_upper_bound=r.choice([1.0, 6.0]), is_quantized_clip=True)),
    Kind("quantized_relu, slope and bound", 1, lambda r, top: _bounded(
        r, top, negative_slope=0.25)),
    Kind("quantized_relu, sigmoid", 1, lambda r, top: _relu(r, top, use_sigmoid=1)),
    Kind("binary", 2, lambda r, top: binary(alpha=r.choice([1, None, 0.5]))),
    Kind("binary, 0 and 1", 1, lambda r, top: binary(use_01=True, alpha=1)),
    Kind("ternary", 2, lambda r, top: ternary(
        alpha=r.choice([1, 2]), threshold=r.choice([None, 0.5, max(top, 0.01) / 3]))),
    Kind("stochastic_binary", 1, lambda r, top: from_qkeras("stochastic_binary")(alpha=1)),
    Kind("stochastic_ternary", 1, lambda r, top: from_qkeras("stochastic_ternary")(alpha=1)),
    Kind("quantized_tanh", 2, lambda r, top: from_qkeras("quantized_tanh")(
        r.randint(2, 8), symmetric=r.random() < 0.5)),
    Kind("quantized_sigmoid", 2, lambda r, top: from_qkeras("quantized_sigmoid")(
        r.randint(1, 8), symmetric=r.random() < 0.5)),
]  # fmt: skip

REFUSED_ACTIVATIONS = [
    Kind("quantized_bits, auto_po2 on data", 1, lambda r, top: bits(
        4, 0, 1, alpha="auto_po2"), True),
    Kind("quantized_bits, float alpha", 1, lambda r, top: bits(4, 0, 1, alpha=0.7), True),
    Kind("quantized_relu, tiny slope", 1, lambda r, top: _relu(
        r, top, negative_slope=2.0**-9), True),
    Kind("quantized_po2", 1, lambda r, top: po2(4, 4), True),
    Kind("quantized_relu_po2", 1, lambda r, top: from_qkeras("quantized_relu_po2")(4, 4), True),
    Kind("quantized_ulaw", 1, lambda r, top: ulaw(6), True),
    Kind("quantized_hswish", 1, lambda r, top: from_qkeras("quantized_hswish")(6, 2), True),
    Kind("quantized_tanh, real", 1, lambda r, top: from_qkeras("quantized_tanh")(
        6, use_real_tanh=True), True),
    Kind("bernoulli", 1, lambda r, top: from_qkeras("bernoulli")(alpha=1), True),
    Kind("tanh", 1, lambda r, top: "tanh", True),
]  # fmt: skip
