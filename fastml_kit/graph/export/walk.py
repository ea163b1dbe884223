"""Walking a Keras model, and writing each layer as what it computes.

A model is a graph of nodes, one for each use of a layer; they are walked in an order in which
every tensor is made before it is read. Models inside models are walked where they stand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import numpy as np

from fastml_kit.errors import UnsupportedModel
from fastml_kit.graph.export.constants import powers_of_two
from fastml_kit.graph.export.layers import LAYERS, WITH_WEIGHTS
from fastml_kit.graph.export.normalization import affine_of
from fastml_kit.graph.export.shaping import vector_in_keras_order
from fastml_kit.graph.export.site import (
    Affine,
    Notes,
    Shape,
    Site,
    Value,
    channel_first_shape,
    unsupported,
)
from fastml_kit.graph.writer import INPUT, Writer


@dataclass
class Walk:
    """One export: the graph, the notes, the names of layers, and those that are taken."""

    out: Writer
    notes: Notes
    layers: frozenset[str]
    taken: set[str] = field(default_factory=set)

    def site(
        self, layer: Any, prefix: str, shape: Shape, last: bool, affine: Affine | None
    ) -> Site:
        """Return where `layer` is written, under a name of its own."""
        name = own = prefix + layer.name
        numbers = count(2)
        while name in self.taken or (name != own and name in self.layers):
            name = f"{own}_{next(numbers)}"
        self.taken.add(name)
        return Site(layer, name, self.out, self.notes, shape, last, affine)


def write(model: Any, notes: Notes) -> Writer:
    """Write all of `model` to a new graph; `notes` tells what else a reader must know.

    Raises:
        UnsupportedModel: a layer, quantizer or connection has no exact form, by name.
    """
    if not model.built or not getattr(model, "_is_graph_network", False):
        raise UnsupportedModel(
            "the model has no input shape yet; give it a keras.Input layer"
            if type(model).__name__ == "Sequential"
            else f"{type(model).__name__} {model.name!r} computes in Python code of its own; "
            "build it from layers, as keras.Sequential or keras.Model(inputs, outputs)"
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnsupportedModel(
            f"the model has {len(model.inputs)} inputs and {len(model.outputs)} outputs; "
            "one of each is supported"
        )
    shape = tuple(model.input_shape[1:])
    if None in shape or not 1 <= len(shape) <= 3:
        raise UnsupportedModel(
            f"the input shape is {shape}; (n,), (steps, channels) or (height, width, channels)"
        )
    out = Writer(shape=channel_first_shape(shape))
    walk = Walk(out, notes, frozenset(_layer_names(model, "")))
    (value,) = nodes(model, [Value(INPUT, shape)], walk, "", last=True)
    if value.tensor in notes.odd:
        raise UnsupportedModel(
            f"the model ends in {notes.odd[value.tensor]}, which has no exact binary fraction; "
            "put a QActivation behind it"
        )
    end = walk.site(model, "", value.shape, last=True, affine=None)
    value = vector_in_keras_order(end, value)
    if value.tensor == INPUT:
        raise UnsupportedModel("the model changes nothing; nothing is left to export")
    out.tensor, out.shape = value.tensor, out.shapes[value.tensor]
    return out


def nodes(
    model: Any, inputs: Sequence[Value], walk: Walk, prefix: str, *, last: bool
) -> list[Value]:
    """Write the nodes of `model`, whose inputs are `inputs`, and return its outputs."""
    values = {str(id(x)): value for x, value in zip(model.inputs, inputs, strict=True)}
    ends = [str(id(y)) for y in model.outputs]
    order = [node for node in _sorted(model) if node.flat_output_ids[0] not in values]
    folded = dict(_foldable(order, ends))
    absorbed = {norm for norm, _ in folded.values()}
    for node in order:
        layer, sources = node.layer, [values[i] for i in node.flat_input_ids]
        at_end = last and node.flat_output_ids == ends
        if node.call_kwargs.get("training"):
            raise UnsupportedModel(f"{layer.name} is called with training=True; leave it out")
        if hasattr(layer, "_nodes_by_depth"):
            results = nodes(layer, sources, walk, f"{prefix}{layer.name}_", last=at_end)
        elif id(node) in absorbed:
            results = sources
        else:
            _, affine = folded.get(id(node), (None, None))
            results = [_layer(node, sources, walk, prefix, at_end, affine)]
        values.update(zip(node.flat_output_ids, results, strict=True))
    return [values[end] for end in ends]


def _layer(
    node: Any, sources: Sequence[Value], walk: Walk, prefix: str, last: bool, affine: Affine | None
) -> Value:
    layer = node.layer
    kind = type(layer).__name__
    if kind not in LAYERS:
        raise unsupported(kind, f"layer {layer.name!r}", LAYERS)
    if getattr(layer, "data_format", "channels_last") != "channels_last":
        raise UnsupportedModel(f"{layer.name}: data_format 'channels_last' is supported")
    shape = tuple(node.output_shapes[1:])
    if None in shape or len(shape) > 3:
        raise UnsupportedModel(f"{layer.name} has the output shape {shape}; up to 3 fixed axes")
    site = walk.site(layer, prefix, shape, last, affine)
    value = LAYERS[kind](site, *sources)
    if site.name in walk.notes.detours:
        walk.notes.detours[value.tensor] = walk.notes.detours.pop(site.name)
    return value


def _layer_names(model: Any, prefix: str) -> Iterator[str]:
    """Yield what the layers of `model` are called in the graph, those of inner models included."""
    for layer in model.layers:
        yield prefix + layer.name
        if hasattr(layer, "_nodes_by_depth"):
            yield from _layer_names(layer, f"{prefix}{layer.name}_")


def _sorted(model: Any) -> list[Any]:
    """Return the nodes so that each comes after those it reads."""
    by_depth = model._nodes_by_depth
    return [node for depth in sorted(by_depth, reverse=True) for node in by_depth[depth]]


def _foldable(
    order: Sequence[Any], ends: Sequence[str]
) -> Iterator[tuple[int, tuple[int, Affine]]]:
    """Find batch normalizations that fold exactly into the layer before them.

    Yields that layer's node and, for it, the normalization's node and what it computes. Folding
    shifts weights by powers of two; other factors would make them wider.
    """
    readers: dict[str, list[Any]] = {}
    for node in order:
        for tensor in node.flat_input_ids:
            readers.setdefault(tensor, []).append(node)
    for node in order:
        (tensor, *_) = node.flat_output_ids
        after = readers.get(tensor, [])
        if type(node.layer).__name__ not in WITH_WEIGHTS or len(after) != 1 or tensor in ends:
            continue
        activation = getattr(node.layer, "activation", None)
        norm = after[0].layer
        if type(norm).__name__ not in ("BatchNormalization", "QBatchNormalization") or (
            activation is not None and getattr(activation, "__name__", "") != "linear"
        ):
            continue
        axis = [a % len(node.output_shapes) for a in np.atleast_1d(norm.axis)]
        affine = affine_of(norm) if axis == [len(node.output_shapes) - 1] else None
        if affine and powers_of_two(affine.factor):
            yield id(node), (id(after[0]), affine)
