"""The layers that FINN will make of a lowered graph, known before FINN is asked.

A plan needs them to fold the network without starting FINN. The child compares them with the nodes
that FINN really makes, so that a difference is found, not built.
"""

from dataclasses import dataclass, field
from typing import Any

from fastml_kit.backends.finn_backend.folding_models import (
    Add,
    Duplicate,
    Layer,
    Mvau,
    Padding,
    Pool,
    SlidingWindow,
    Thresholding,
)
from fastml_kit.backends.finn_backend.lowering import Lowered

Shape = tuple[int, ...]


@dataclass
class Network:
    """Layers in the order of the graph, and which feeds which, as pairs of positions."""

    layers: list[Layer] = field(default_factory=list)
    edges: list[tuple[int, int]] = field(default_factory=list)


def of(lowered: Lowered) -> Network:
    """Return the layers of `lowered`, as FINN names and splits them."""
    return _Reading(lowered).run()


class _Reading:
    def __init__(self, lowered: Lowered) -> None:
        from qonnx.core.modelwrapper import ModelWrapper
        from qonnx.transformation.infer_shapes import InferShapes

        self.lowered = lowered
        self.model = ModelWrapper(lowered.model, make_deepcopy=True).transform(InferShapes())
        self.made = Network()
        self.giver: dict[str, int] = {}  # tensor -> position of the layer that gives it
        self.users: dict[str, int] = {}
        for node in self.model.graph.node:
            for name in node.input:
                self.users[name] = self.users.get(name, 0) + 1

    def run(self) -> Network:
        first = self.model.graph.input[0].name
        self._fork(first, self._image(first), None)
        for node in self.model.graph.node:
            handler = getattr(self, f"_{node.op_type.lower()}")
            handler(node, self.lowered.layers[node.output[0]])
            out = node.output[0]
            self._fork(out, self._image(out), self.giver.get(out))
        return self.made

    # -- facts of a tensor

    def _image(self, tensor: str) -> tuple[int, int, int]:
        """Return channels, height and width; a flat tensor is one pixel."""
        shape = tuple(self.model.get_tensor_shape(tensor)[1:])
        return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)

    def _bits(self, tensor: str) -> int:
        return int(self.model.get_tensor_datatype(tensor).bitwidth())

    def _signed(self, tensor: str) -> bool:
        return bool(self.model.get_tensor_datatype(tensor).signed())

    # -- building

    def _add_layer(self, layer: Layer, *sources: int | None) -> int:
        place = len(self.made.layers)
        self.made.layers.append(layer)
        self.made.edges += [(source, place) for source in sources if source is not None]
        return place

    def _fork(self, tensor: str, image: tuple[int, int, int], giver: int | None) -> None:
        """Add what copies a tensor that has more than one reader."""
        copies = self.users.get(tensor, 0)
        if copies < 2:
            return
        layer = Duplicate(
            f"{self.lowered.layers.get(tensor, 'input')}.copies",
            image[0],
            self._bits(tensor),
            image[1] * image[2],
            copies,
        )
        self.giver[tensor] = self._add_layer(layer, giver)

    def _windows(
        self, node: Any, name: str, pads: Shape, kernel: Shape, strides: Shape, *, depthwise: bool
    ) -> tuple[int | None, tuple[int, int]]:
        """Add what feeds a convolution or a pool; return its position and the output's image."""
        source = node.input[0]
        channels, height, width = self._image(source)
        place, bits = self.giver.get(source), self._bits(source)
        image = (height, width)
        if any(pads):
            border = Padding(
                f"{name}.padding", image, channels, (pads[0], pads[1], pads[2], pads[3]), bits
            )
            place, image = self._add_layer(border, place), border.out_image
        if tuple(kernel) != (1, 1) or tuple(strides) != (1, 1):
            window = SlidingWindow(
                f"{name}.windows", image, channels, (kernel[0], kernel[1]), bits,
                (strides[0], strides[1]), depthwise=depthwise,
            )  # fmt: skip
            place, image = self._add_layer(window, place), window.out_image
        return place, image

    # -- nodes

    def _products(self, node: Any, name: str, rows: int, source: int | None, pixels: int) -> None:
        weights = self.model.get_initializer(node.input[1])
        kind = self.model.get_tensor_datatype(node.input[1])
        outputs = self._image(node.output[0])[0]
        sums = self._bits(node.output[0])
        if node.output[0] == self.model.graph.output[0].name:
            sums = -(-sums // 8) * 8  # FINN gives the last layer's sums whole bytes
        layer = Mvau(
            name,
            mw=rows,
            mh=outputs,
            weight_bits=int(kind.bitwidth()),
            act_bits=self._bits(node.input[0]),
            acc_bits=sums,
            vectors=pixels,
            act_signed=self._signed(node.input[0]),
            narrow=bool(weights.min() > kind.min()),
        )
        self.giver[node.output[0]] = self._add_layer(layer, source)

    def _matmul(self, node: Any, name: str) -> None:
        rows = self._image(node.input[0])[0]
        self._products(node, name, rows, self.giver.get(node.input[0]), 1)

    def _conv(self, node: Any, name: str) -> None:
        given = {a.name: tuple(a.ints) for a in node.attribute if a.ints}
        kernel = given["kernel_shape"]
        source, (height, width) = self._windows(
            node, name, given["pads"], kernel, given["strides"], depthwise=False
        )
        channels = self._image(node.input[0])[0]
        self._products(node, name, kernel[0] * kernel[1] * channels, source, height * width)

    def _multithreshold(self, node: Any, name: str) -> None:
        channels, height, width = self._image(node.output[0])
        layer = Thresholding(
            name,
            channels,
            steps=self.model.get_tensor_shape(node.input[1])[1],
            in_bits=self._bits(node.input[0]),
            out_bits=self._bits(node.output[0]),
            vectors=height * width,
        )
        self.giver[node.output[0]] = self._add_layer(layer, self.giver.get(node.input[0]))

    def _maxpool(self, node: Any, name: str) -> None:
        given = {a.name: tuple(a.ints) for a in node.attribute if a.ints}
        kernel = given["kernel_shape"]
        source, image = self._windows(
            node, name, (0,) * 4, kernel, given["strides"], depthwise=True
        )
        channels = self._image(node.input[0])[0]
        layer = Pool(name, channels, (kernel[0], kernel[1]), image, self._bits(node.input[0]))
        self.giver[node.output[0]] = self._add_layer(layer, source)

    def _flatten(self, node: Any, name: str) -> None:
        if node.input[0] in self.giver:
            self.giver[node.output[0]] = self.giver[node.input[0]]

    def _add(self, node: Any, name: str) -> None:
        channels, height, width = self._image(node.output[0])
        layer = Add(
            name,
            channels,
            in_bits=max(self._bits(tensor) for tensor in node.input),
            out_bits=self._bits(node.output[0]),
            vectors=height * width,
        )
        self.giver[node.output[0]] = self._add_layer(
            layer, *(self.giver.get(tensor) for tensor in node.input)
        )
