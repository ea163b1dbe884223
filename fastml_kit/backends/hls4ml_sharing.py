"""hls4ml's configuration: every type, and how multipliers are shared and streams are queued.

A layer of weights multiplies `n_in` numbers (of a vector, or under a convolution's window) with a
matrix of `n_in` x `n_out` weights. With a reuse factor r each multiplier does r of those products,
one after another. hls4ml's strategy *latency* writes all products out and lets the compiler share;
*resource* loops r times over a memory of weights, which only some r divide evenly:

- r divides `n_in`, or
- r is `n_in` times a divisor of `n_out` (not for a convolution in io_parallel, whose C++ aborts).

The request's `reuse_factor` is brought to the nearest of these; a layer's own is taken as it is.
Its `layers` may give for each layer, by the name in `Design.types`::

    {"dense1": {"reuse": 8, "strategy": "resource", "fifo": 3, "types": {"accum": "fixed<16,8>"}}}

The rules are those of hls4ml 1.3.0 (`fpga_backend.py`, `nnet_dense_resource.h`).
"""

import re
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from fastml_kit.backends.base import BuildRequest
from fastml_kit.backends.hls4ml_design import Design
from fastml_kit.errors import BadRequest, UnsupportedModel, unknown_name

#: Assignments that hls4ml writes out for the windows of all convolutions in io_parallel. With
#: 10,288 of them a build took 35 s of one core, with 41,152 it took 96 s (g++ 12 with -O3).
MAX_STATEMENTS = 50_000

#: Products that *latency* keeps on the stack of one call, of 8 bytes at most: 4 MB, where Linux
#: gives a stack 8.
MAX_PRODUCTS = 2**19

#: Layers whose type is that of what they move, whatever the request made of it.
MOVING = ("Cropping", "MaxPooling", "Reshape", "Resize", "Transpose", "ZeroPadding")

STRATEGIES = ("latency", "resource")
KNOBS = ("reuse", "strategy", "fifo", "types")
TYPE = re.compile(
    r"u?fixed<[1-9]\d*,-?\d+(,(TRN|TRN_ZERO|RND|RND_ZERO|RND_INF|RND_MIN_INF|RND_CONV)"
    r"(,(WRAP|SAT|SAT_ZERO|SAT_SYM))?)?>"
)


def configuration(design: Design, request: BuildRequest) -> dict[str, Any]:
    """Return hls4ml's configuration.

    Raises:
        BadRequest: the request names a layer, a knob or a value that does not exist.
        UnsupportedModel: the C++ would be too large to compile, or to run.
    """
    _check_names(design, request)
    layers: dict[str, Any] = {}
    for layer in design.layers:
        name = layer["name"]
        precision, knobs = dict(design.types[name]), request.layers.get(name, {})
        if "accum" in precision and "weight" in precision and request.accumulator != "auto":
            merged = "SAT" in precision["result"]  # an activation, taken from the narrow sum
            precision["accum"] = request.accumulator
            precision["result"] = precision["result"] if merged else request.accumulator
        elif layer["class_name"].startswith(MOVING):
            moved = layers[layer["inputs"][0]]["Precision"]["result"]
            precision = dict.fromkeys(precision, moved)
        reuse, strategy = sharing(layer, request)
        layers[name] = {
            "Precision": precision | dict(knobs.get("types", {})),
            "ReuseFactor": reuse,
            "Strategy": strategy.capitalize(),
        }
    _check_size(design, layers)
    return {
        "Model": {
            "Precision": "fixed<48,24>",  # of what has no type of its own: no layer, see `_check`
            "ReuseFactor": request.reuse_factor,
            "Strategy": "Latency" if request.reuse_factor == 1 else "Resource",
        },
        "LayerName": layers,
    }


def matrix(layer: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return `n_in` and `n_out` of a layer of weights whose multipliers hls4ml shares."""
    if "weight_data" not in layer:
        return None
    *window, outputs = layer["weight_data"].shape
    return prod(window), outputs


def legal_reuse(layer: Mapping[str, Any], *, stream: bool) -> list[int]:
    """Return the reuse factors that *resource* takes for a layer of weights, ascending."""
    shape = matrix(layer)
    if shape is None:
        return [1]
    inputs, outputs = shape
    legal = divisors(inputs)
    if stream or layer["class_name"] == "Dense":
        legal += [inputs * times for times in divisors(outputs)[1:]]
    return legal


def nearest_reuse(legal: Sequence[int], asked: int) -> int:
    """Return the legal reuse factor next to `asked`, the smaller of two: hls4ml's own choice."""
    return min(legal, key=lambda reuse: (abs(reuse - asked), reuse))


def sharing(layer: Mapping[str, Any], request: BuildRequest) -> tuple[int, str]:
    """Return a layer's reuse factor and strategy.

    Raises:
        BadRequest: the layer cannot be shared so; the message names the factors that it takes.
    """
    name, knobs, shape = layer["name"], request.layers.get(layer["name"], {}), matrix(layer)
    asked = knobs.get("reuse", request.reuse_factor)
    strategy = knobs.get("strategy", STRATEGIES[asked != 1])
    if strategy not in STRATEGIES:
        raise unknown_name(f"strategy for layer {name!r}", str(strategy), STRATEGIES)
    if shape is None:
        if "reuse" in knobs or "strategy" in knobs:
            depthwise = layer["class_name"].startswith("Depthwise")
            what = "is depthwise, which hls4ml does not share" if depthwise else "has no weights"
            raise BadRequest(f"layer {name!r} {what}; leave its reuse and strategy out")
        return request.reuse_factor, "latency"
    if strategy == "latency":
        if not _is_count(asked) or asked > prod(shape):
            raise BadRequest(
                f"layer {name!r}: reuse={asked}; with strategy latency, 1 to {prod(shape)}"
            )
        return asked, strategy
    legal = legal_reuse(layer, stream=request.io_type == "io_stream")
    if "reuse" not in knobs:
        return nearest_reuse(legal, asked), strategy
    if asked not in legal:
        raise BadRequest(
            f"layer {name!r}: reuse={asked} does not share its {shape[0]} x {shape[1]} weights "
            f"evenly; it takes {', '.join(map(str, legal))}"
            + ("" if len(legal) > 1 else ". Use strategy latency for others")
        )
    return asked, strategy


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, ascending."""
    return [n for n in range(1, number + 1) if number % n == 0]


def statements(design: Design) -> int:
    """Return how many assignments hls4ml writes out for windows in io_parallel: one an element."""
    total = 0
    for layer in design.layers:
        if "Conv" in layer["class_name"]:
            weights = layer["depthwise_data" if "depthwise_data" in layer else "weight_data"]
            total += prod(weights.shape[:-1]) * layer["out_width"] * layer.get("out_height", 1)
    return total


def _check_names(design: Design, request: BuildRequest) -> None:
    for name, knobs in request.layers.items():
        if name not in design.types:
            raise unknown_name("layer in hls4ml's design", name, tuple(design.types))
        for knob in knobs:
            if knob not in KNOBS:
                raise unknown_name(f"knob for layer {name!r}", knob, KNOBS)
        for kind, written in knobs.get("types", {}).items():
            if kind not in design.types[name]:
                raise unknown_name(f"type in layer {name!r}", kind, tuple(design.types[name]))
            if not TYPE.fullmatch(str(written)):
                raise BadRequest(
                    f"layer {name!r}: {kind}={written!r}; a format such as 'fixed<16,6>' or "
                    "'ufixed<8,2,RND,SAT>'"
                )
        if "fifo" in knobs and not (design.stream and _is_count(knobs["fifo"])):
            raise BadRequest(
                f"layer {name!r}: fifo={knobs['fifo']}; words of its output's queue, at least 1, "
                "in io_stream only"
            )


def _check_size(design: Design, layers: Mapping[str, Any]) -> None:
    written = 0 if design.stream else statements(design)
    if written > MAX_STATEMENTS:
        raise UnsupportedModel(
            f"hls4ml backend: in io_parallel the windows of the convolutions take {written:,} "
            f"statements of C++, each written out; at most {MAX_STATEMENTS:,} are tried. "
            'Use io_type="io_stream"'
        )
    for layer in design.layers:
        products = prod(matrix(layer) or (0,))
        if layers[layer["name"]]["Strategy"] == "Latency" and products > MAX_PRODUCTS:
            raise UnsupportedModel(
                f"hls4ml backend: {layer['class_name']} {layer['name']!r} would keep {products:,} "
                f"products at once; at most {MAX_PRODUCTS:,} are tried. Give it a reuse factor: "
                "strategy resource loops over its weights"
            )


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
