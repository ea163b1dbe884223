"""The layers of a FINN dataflow network, and the ways to fold each.

Folding sets how many of a layer's outputs (PE) and inputs (SIMD) work side by side. How long a
folded layer takes is in `folding_timing`, what it costs in `folding_costs`.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil, prod
from typing import ClassVar, Literal, NamedTuple

from fastml_kit.errors import BadRequest, UnsupportedModel

Compute = Literal["dsp", "lut"]


@dataclass(frozen=True)
class Mvau:
    """A matrix-vector unit: `mw` inputs to `mh` outputs, `vectors` times a frame."""

    kind: ClassVar[str] = "mvau"
    name: str
    mw: int
    mh: int
    weight_bits: int
    act_bits: int
    acc_bits: int
    vectors: int = 1  # output pixels of a convolution
    act_signed: bool = False
    narrow: bool = True  # no weight is -2**(weight_bits - 1)

    def __post_init__(self) -> None:
        if self.weight_bits < 2:
            raise UnsupportedModel(
                f"layer {self.name!r} has weights of {self.weight_bits} bit; neither compute core "
                "takes fewer than 2: widen them (2 signed bits hold -1 and 1)"
            )


@dataclass(frozen=True)
class Thresholding:
    """Each channel's accumulator becomes the number of its `steps` thresholds that it reaches."""

    kind: ClassVar[str] = "thresholding"
    name: str
    channels: int
    steps: int
    in_bits: int
    out_bits: int
    vectors: int = 1


@dataclass(frozen=True)
class SlidingWindow:
    """An image becomes the windows of a convolution or, with `depthwise`, those of a pool."""

    kind: ClassVar[str] = "swg"
    name: str
    image: tuple[int, int]  # height, width
    channels: int
    kernel: tuple[int, int]
    bits: int
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    depthwise: bool = False

    @property
    def out_image(self) -> tuple[int, int]:
        """Height and width of what the windows are taken at."""
        spans = [
            (size - (k - 1) * d - 1) // s + 1
            for size, k, s, d in zip(
                self.image, self.kernel, self.stride, self.dilation, strict=True
            )
        ]
        return spans[0], spans[1]


@dataclass(frozen=True)
class Padding:
    """A border of zeros around an image."""

    kind: ClassVar[str] = "padding"
    name: str
    image: tuple[int, int]
    channels: int
    pads: tuple[int, int, int, int]  # top, left, bottom, right
    bits: int

    @property
    def out_image(self) -> tuple[int, int]:
        """Height and width with the border."""
        top, left, bottom, right = self.pads
        return self.image[0] + top + bottom, self.image[1] + left + right


@dataclass(frozen=True)
class Pool:
    """The largest element of each window; its windows come from a depthwise `SlidingWindow`."""

    kind: ClassVar[str] = "pool"
    name: str
    channels: int
    kernel: tuple[int, int]
    out_image: tuple[int, int]
    bits: int


@dataclass(frozen=True)
class Add:
    """The sum of two streams."""

    kind: ClassVar[str] = "add"
    name: str
    channels: int
    in_bits: int  # of the wider of the two
    out_bits: int
    vectors: int = 1


@dataclass(frozen=True)
class Duplicate:
    """A fork: one stream becomes `copies`."""

    kind: ClassVar[str] = "duplicate"
    name: str
    channels: int
    bits: int
    vectors: int = 1
    copies: int = 2


@dataclass(frozen=True)
class Label:
    """The index of the largest of `labels` elements."""

    kind: ClassVar[str] = "label"
    name: str
    labels: int
    in_bits: int


Layer = Mvau | Thresholding | SlidingWindow | Padding | Pool | Add | Duplicate | Label


@dataclass(frozen=True)
class Fold:
    """How one layer is folded; what its kind does not have keeps its default."""

    pe: int = 1
    simd: int = 1
    compute: Compute | None = None  # mvau: where the products are made
    parallel_window: bool = False  # swg: a whole window a word, instead of one of its pixels

    def attributes(self, layer: Layer) -> dict[str, int]:
        """Return the node attributes that tell FINN of this fold."""
        match layer:
            case Mvau():
                return {"PE": self.pe, "SIMD": self.simd}
            case SlidingWindow():
                return {"SIMD": self.simd, "parallel_window": int(self.parallel_window)}
            case Padding():
                return {"SIMD": self.simd}
            case Thresholding():  # a register a stage is enough for a comparison at 100 MHz
                return {"PE": self.pe, "deep_pipeline": 0}
            case _:
                return {"PE": self.pe}


class Stream(NamedTuple):
    """One side of a layer: words a frame, elements a word, bits an element."""

    words: int
    lanes: int
    bits: int


def divisors(number: int) -> list[int]:
    """Return the divisors of `number`, rising."""
    return [part for part in range(1, number + 1) if number % part == 0]


def legal(layer: Layer) -> list[Fold]:
    """Return every fold that FINN takes: parts divide evenly."""
    return list(_legal(layer))


@lru_cache(maxsize=256)
def _legal(layer: Layer) -> dict[Fold, None]:
    return dict.fromkeys(_folds(layer))


def _folds(layer: Layer) -> list[Fold]:
    match layer:
        case Mvau(mw=mw, mh=mh):
            places: list[Compute] = ["dsp", "lut"] if lanes(layer) else ["lut"]
            return [Fold(p, s, c) for p in divisors(mh) for s in divisors(mw) for c in places]
        case SlidingWindow(channels=channels):
            folds = [Fold(simd=simd) for simd in divisors(channels)]
            # FINN's generator fails on images of one row and fewer than three columns.
            rows, columns = layer.out_image
            if not layer.depthwise and prod(layer.kernel) > 1 and (rows > 1 or columns > 2):
                folds.append(Fold(simd=channels, parallel_window=True))
            return folds
        case Padding(channels=channels):
            return [Fold(simd=simd) for simd in divisors(channels)]
        case Label(labels=labels):
            return [Fold(pe) for pe in divisors(labels)]
        case _:
            return [Fold(pe) for pe in divisors(layer.channels)]


def streams(layer: Layer, fold: Fold) -> tuple[Stream, Stream]:
    """Return the stream that a layer takes (each of two takes the same) and the one it gives."""
    pe, simd = fold.pe, fold.simd
    match layer:
        case Mvau():
            n = layer.vectors
            taken = Stream(n * layer.mw // simd, simd, layer.act_bits)
            return taken, Stream(n * layer.mh // pe, pe, layer.acc_bits)
        case Thresholding() | Add():
            words = layer.vectors * layer.channels // pe
            return Stream(words, pe, layer.in_bits), Stream(words, pe, layer.out_bits)
        case Duplicate():
            both = Stream(layer.vectors * layer.channels // pe, pe, layer.bits)
            return both, both
        case SlidingWindow():
            parts, area = layer.channels // simd, prod(layer.kernel)
            together = area if fold.parallel_window else 1  # pixels a word
            taken = Stream(prod(layer.image) * parts, simd, layer.bits)
            words = prod(layer.out_image) * area * parts // together
            return taken, Stream(words, simd * together, layer.bits)
        case Padding():
            parts = layer.channels // simd
            taken = Stream(prod(layer.image) * parts, simd, layer.bits)
            return taken, Stream(prod(layer.out_image) * parts, simd, layer.bits)
        case Pool():
            words = prod(layer.out_image) * layer.channels // pe
            taken = Stream(words * prod(layer.kernel), pe, layer.bits)
            return taken, Stream(words, pe, layer.bits)
        case Label():
            taken = Stream(layer.labels // pe, pe, layer.in_bits)
            return taken, Stream(1, 1, max(1, (layer.labels - 1).bit_length()))


def joins(source: Layer, given: Stream, target: Layer, taken: Stream) -> bool:
    """Tell whether an edge may carry words so made and so taken.

    The words of a depthwise window go channel group by channel group: a width converter before
    the pool would have to reorder channels, so both sides must agree.
    """
    ordered = isinstance(source, SlidingWindow) and source.depthwise and isinstance(target, Pool)
    return given.lanes == taken.lanes or not ordered


def lanes(layer: Mvau) -> int:
    """Return how many products one DSP48E1 makes at a time; 0 where it takes no such operands.

    After `mvu.sv`: lanes share the 25-bit port, each at least `weight_bits + act_bits - 1` wide.
    """
    weight, act = layer.weight_bits, layer.act_bits
    room = 25 - weight - (not layer.narrow)
    fits = room >= 0 and weight >= 2 and act >= 2 and act - layer.act_signed < 18
    return 1 + room // (weight + act - 1) if fits else 0


def core_depth(layer: Mvau, fold: Fold) -> int:
    """Return the cycles through FINN's `mvu.sv`, or our `kit_lut_mvu.sv`, as their heads say."""
    if fold.compute == "dsp":
        return 4 + (fold.simd - 1).bit_length() + (fold.simd == 1)
    return 3 + (ceil(fold.simd / 8) - 1).bit_length() + (layer.weight_bits - 1).bit_length()


def check(layer: Layer, fold: Fold) -> None:
    """Refuse a fold that is not one of `legal(layer)`.

    Raises:
        BadRequest: it is not; the message shows what is.
    """
    if fold not in _legal(layer):
        some = ", ".join(str(choice.attributes(layer)) for choice in legal(layer)[:12])
        raise BadRequest(
            f"layer {layer.name!r} ({layer.kind}) cannot be folded as {fold}; parts must divide "
            f"evenly: {some}, ..."
        )
