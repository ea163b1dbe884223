"""Activations and quantizers as layers of hls4ml: a cast of ap_fixed is a Quant."""

import re
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np

from fastml_kit.backends.hls4ml_design import Design, Wire, fixed, weight_type
from fastml_kit.errors import UnsupportedModel
from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.graph.ir import Node

#: A MultiThreshold takes three layers for each threshold; more than this is no sensible design.
MOST_THRESHOLDS = 32

#: Our names of roundings and ap_fixed's. It has none for UP and CEIL.
ROUNDING = {
    "ROUND": "RND_CONV",
    "FLOOR": "TRN",
    "DOWN": "TRN_ZERO",
    "HALF_UP": "RND_INF",
    "HALF_DOWN": "RND_ZERO",
    "HALF_CEIL": "RND",
}


def _activation(design: Design, node: Node, name: str, wire: Wire, result: str) -> Wire:
    return design.add(
        "Activation", node.name, (wire,), wire.shape, wire.order, {"result": result},
        activation=name, n_in=prod(wire.shape),
    )  # fmt: skip


def take_activation(design: Design, output: str) -> tuple[str, str]:
    """Return what a layer of weights gives if it takes in the activation behind it, and the type.

    Its own cast then rounds and saturates; saturating at 0 is the ReLU, as no rounding makes a
    negative number positive. Sums keep their type, so no code changes.
    """
    kind = design.type(output)
    if not design.merge:
        return output, kind
    relu = design.follower(output, "Relu")
    before = relu.output if relu else output
    after = design.follower(before, "Quant")
    if after is not None and not _special(after) and not (relu and after.attrs["spec"].signed):
        design.done |= {before, after.output} if relu else {after.output}
        return after.output, _quant_type(after)
    if relu is None:
        return output, kind
    design.done.add(before)
    top = max(int(design.found[before].high.max()), 1)
    return before, fixed(FixedSpec.spanning(0, top, design.found[before].frac), "TRN", "SAT")


def relu(design: Design, node: Node) -> None:
    """A ReLU, which takes in a plain Quant behind it."""
    wire, after = design.wires[node.inputs[0]], design.follower(node.output, "Quant")
    if after is None or _special(after):
        design.wires[node.output] = _activation(
            design, node, "relu", wire, design.type(node.output)
        )
        return
    design.done.add(after.output)
    design.wires[after.output] = _activation(design, node, "relu", wire, _quant_type(after))


def leaky_relu(design: Design, node: Node) -> None:
    """A ReLU with a slope below zero, which hls4ml multiplies with in full."""
    wire = design.wires[node.inputs[0]]
    slope = node.attrs["alpha"] * 2.0 ** -node.attrs["alpha_frac"]
    types = {"result": design.type(node.output), "param": weight_type(np.array([slope]))}
    design.wires[node.output] = design.add(
        "LeakyReLU", node.name, (wire,), wire.shape, wire.order, types,
        activation="LeakyReLU", activ_param=slope, n_in=prod(wire.shape),
    )  # fmt: skip


def _special(node: Node) -> bool:
    """Tell whether a Quant is more than a cast."""
    attrs = node.attrs
    return bool(
        attrs.get("zero_point", 0) or attrs.get("fracs") is not None or attrs.get("divisor", 1) > 1
    )


def _quant_type(node: Node, spec: FixedSpec | None = None) -> str:
    """Return the type that rounds and saturates as a Quant does."""
    spec, rounding = spec or node.attrs["spec"], node.attrs["rounding"]
    if rounding not in ROUNDING or (spec.narrow and not spec.signed):
        raise UnsupportedModel(
            f"hls4ml backend: Quant {node.name!r} rounds by {rounding}"
            f"{' to narrow unsigned codes' if spec.narrow else ''}; ap_fixed rounds by "
            f"{', '.join(ROUNDING)}, and is narrow with a sign only. Use the da4ml backend"
        )
    return fixed(spec, ROUNDING[rounding], "SAT_SYM" if spec.narrow else "SAT")


def quant(design: Design, node: Node) -> None:
    """A cast; a zero point or scales by channel go on before it and come off behind it."""
    wire, attrs, shape = design.wires[node.inputs[0]], node.attrs, design.shape(node.output)
    if attrs.get("divisor", 1) > 1:
        design.wires[node.output] = _average(design, node, wire)
        return
    if not _special(node):
        design.wires[node.output] = _activation(design, node, "linear", wire, _quant_type(node))
        return
    spec, zero, fracs = attrs["spec"], attrs.get("zero_point", 0), attrs.get("fracs")
    finest = np.full((1,) * (len(shape) + 1), spec.frac) if fracs is None else fracs
    up = 2.0 ** (finest - spec.frac)  # brings every channel to the finest scale
    source, spread = design.found[node.inputs[0]], int(spec.frac - finest.min())
    frac = max(source.frac + spread, spec.frac)
    largest = int(max(-source.low.min(), source.high.max(), 0))
    reach = (largest << (frac - source.frac)) + (abs(zero) << (frac - spec.frac))
    wide, step = fixed(FixedSpec.spanning(-reach - 1, reach, frac)), spec.step
    raised = design.scaled(wire, f"{node.name}_on", up, zero * step, wide, shape)
    cast = _activation(design, node, "linear", raised, _quant_type(node))
    result = design.type(node.output)
    design.wires[node.output] = design.scaled(
        cast, f"{node.name}_off", 1 / up, -zero * step / up, result, shape
    )


def _average(design: Design, node: Node, wire: Wire) -> Wire:
    """Divide a sum by an odd number: times M / 2**n, then rounded.

    A quotient lies at least 1 / (2 * divisor) output codes from where the result changes, if the
    Quant drops no bits, so that there are no ties either; n makes the product's error less.
    """
    attrs, bound = node.attrs, design.found[node.inputs[0]]
    divisor, spec = attrs["divisor"], attrs["spec"]
    drop = bound.frac - spec.frac
    if attrs.get("zero_point", 0) or attrs.get("fracs") is not None:
        raise UnsupportedModel(
            f"hls4ml backend: Quant {node.name!r} divides an average by {divisor} and has a zero "
            "point or scales by channel; use one scale and zero point 0, or the da4ml backend"
        )
    if attrs["rounding"] not in ("ROUND", "HALF_UP", "HALF_DOWN", "HALF_CEIL") or drop > 0:
        raise UnsupportedModel(
            f"hls4ml backend: Quant {node.name!r} divides an average by {divisor}, rounds by "
            f"{attrs['rounding']} and drops {max(drop, 0)} bits, so that a multiplication cannot "
            "tell ties; keep the input's fractional bits, or use the da4ml backend"
        )
    x = 2 * int(max(-bound.low.min(), bound.high.max())) + 1
    bits = x.bit_length() + divisor.bit_length() - drop
    scale = (2 ** (bits + 1) // divisor + 1) // 2 * 2.0**-bits
    return design.scaled(wire, node.name, scale, 0.0, _quant_type(node), design.shape(node.output))


def bipolar_quant(design: Design, node: Node) -> None:
    """The sign, times its step."""
    wire, steps = design.wires[node.inputs[0]], node.attrs["steps"] * 2.0 ** -node.attrs["frac"]
    before = next(layer for layer in design.layers if layer["name"] == wire.layer)
    if before["class_name"] == "BatchNormalization":
        # hls4ml would merge the two and compare with a rounded threshold: keep them apart.
        width, integer = (int(n) for n in re.findall(r"-?\d+", wire.type)[:2])
        held = fixed(FixedSpec(width + 1, integer + 1))
        wire = _activation(design, node, "linear", wire, held)
    sign = _activation(design, node, "binary_tanh", wire, "fixed<2,2>")
    if np.all(steps == 1):
        design.wires[node.output] = sign
        return
    shape, result = design.shape(node.output), design.type(node.output)
    design.wires[node.output] = design.scaled(sign, f"{node.name}_scale", steps, 0.0, result, shape)


def clip(design: Design, node: Node) -> None:
    """Clip by two ReLUs: high - relu((high - low) - relu(x - low)).

    A Quant behind it that saturates inside the bounds does the same alone.
    """
    attrs, shape = node.attrs, design.shape(node.output)
    bound, wire = design.found[node.inputs[0]], design.wires[node.inputs[0]]
    after = design.follower(node.output, "Quant")
    if after is not None and not _special(after) and _saturates(after, attrs):
        design.wires[node.output] = wire
        return
    frac = max(bound.frac, attrs["frac"])
    ends = int(bound.low.min()) << (frac - bound.frac), int(bound.high.max()) << (frac - bound.frac)
    low, high = (
        end if given is None else given << (frac - attrs["frac"])
        for end, given in zip(ends, (attrs["low"], attrs["high"]), strict=True)
    )
    step, reach = 2.0**-frac, max(high - low, 0)
    stages = (
        (1.0, -low, ends[0] - low, ends[1] - low),
        (-1.0, reach, reach - max(ends[1] - low, 0), reach),
    )
    for number, (scale, bias, least, most) in enumerate(stages):
        kind = fixed(FixedSpec.spanning(min(least, most), max(least, most), frac))
        name = f"{node.name}_{('low', 'high')[number]}"
        wire = design.scaled(wire, name, scale, bias * step, kind, shape)
        positive = fixed(FixedSpec.spanning(0, max(most, 0), frac))
        wire = design.add(
            "Activation", f"{name}_relu", (wire,), wire.shape, wire.order, {"result": positive},
            activation="relu", n_in=prod(wire.shape),
        )  # fmt: skip
    result = fixed(FixedSpec.spanning(high - reach, high, frac))
    design.wires[node.output] = design.scaled(wire, node.name, -1.0, high * step, result, shape)


def multi_threshold(design: Design, node: Node) -> None:
    """A sign for each threshold, and their sum: base + step * (count + sum of signs) / 2."""
    attrs, shape, rows = node.attrs, design.shape(node.output), node.attrs["thresholds"]
    bound, source = design.found[node.inputs[0]], design.wires[node.inputs[0]]
    count = rows.shape[1]
    if count > MOST_THRESHOLDS or design.stream:
        raise UnsupportedModel(
            f"hls4ml backend: MultiThreshold {node.name!r} has {count} thresholds; up to "
            f"{MOST_THRESHOLDS} are built, and none in io_stream. Use a Quant, or the da4ml backend"
        )
    ends = int(bound.low.min()), int(bound.high.max())
    codes = np.clip(np.ceil(rows * 2.0**bound.frac), ends[0], ends[1] + 1)
    span = FixedSpec.spanning(-(ends[1] + 1 - ends[0]), ends[1] + 1 - ends[0], bound.frac)
    held = fixed(FixedSpec(span.width + 1, span.integer + 1))
    total = None
    for number in range(count):
        level = codes[:, number].reshape(1, -1, *(1,) * (len(shape) - 1)) * 2.0**-bound.frac
        name = f"{node.name}_{number}"
        wire = design.scaled(source, name, 1.0, -level, fixed(span), shape)
        wire = _activation(design, node, "linear", wire, held)  # see `bipolar_quant`
        sign = _activation(design, node, "binary_tanh", wire, "fixed<2,2>")
        if total is None:
            total = sign
            continue
        result = fixed(FixedSpec.spanning(-number - 1, number + 1, 0))
        total = design.add(
            "Merge", f"{name}_sum", (total, sign), sign.shape, sign.order, {"result": result},
            op="add",
        )  # fmt: skip
    if total is None:  # pragma: no cover - the reader wants a threshold
        raise UnsupportedModel(f"hls4ml backend: MultiThreshold {node.name!r} has no thresholds")
    half, base = attrs["step"] * 2.0 ** -(attrs["frac"] + 1), attrs["base"] * 2.0 ** -attrs["frac"]
    design.wires[node.output] = design.scaled(
        total, node.name, half, base + half * count, design.type(node.output), shape
    )


def _saturates(node: Node, bounds: Mapping[str, Any]) -> bool:
    """Tell whether a Quant gives its ends at both `bounds`, so that it needs none of them."""
    spec, rounding = node.attrs["spec"], node.attrs["rounding"]
    ends = ((bounds["low"], spec.low), (bounds["high"], spec.high))
    return all(
        given is None or int(spec.requantize(np.array(given), bounds["frac"], rounding)) == end
        for given, end in ends
    )
