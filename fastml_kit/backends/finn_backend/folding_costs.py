"""What a folded layer costs on a 7-series FPGA: estimates.

FINN's own LUT figures are many times too low, and its DSP figures do not know how many products
one block makes. These were fitted to yosys (`synth_xilinx -family xc7`) on single units of FINN's
RTL library and of ours. Each constant below is such an `estimate`; DSPs, and the block RAMs that
hold weights, follow from the sources themselves. Beyond yosys nothing is known: no placement.
"""

from dataclasses import astuple, dataclass
from math import ceil, prod
from typing import Literal

from fastml_kit.backends.finn_backend.folding_models import (
    Add,
    Duplicate,
    Fold,
    Label,
    Layer,
    Mvau,
    Padding,
    Pool,
    SlidingWindow,
    Stream,
    Thresholding,
    check,
    lanes,
    streams,
)
from fastml_kit.devices import Device
from fastml_kit.errors import BadRequest

# Estimates, fitted to yosys 0.70's counts.
DSP_LUT_A_PRODUCT = 8  # guard bits and a share of the adder trees, beyond the lane's width
DSP_FF_A_PRODUCT = 10
LUT_CORE_EXCESS = 1.12  # yosys's LUTs over the adders' bits
CONTROL_LUT = 30  # counters and handshakes of one unit
CONTROL_FF = 30
FIFO_CONTROL = 20
WINDOW_CONTROL = 300  # FINN's own figure
IMAGE_FIFO = 32  # words before each layer of an image; a vector's FIFO holds the whole vector
LUTS_A_BLOCK = 190  # weights go to an 18 Kb block that saves so many: xc7z020's ratio of the two
WEIGHT_BITS_A_LUT = 16  # a LUT could hold 64: yosys finds far less in constants without pattern
DEEP_MEMORY = 1.5


@dataclass(frozen=True)
class Resources:
    """Cells of a 7-series FPGA."""

    lut: float = 0
    ff: float = 0
    dsp: float = 0
    bram36: float = 0

    @classmethod
    def of(cls, device: Device, part: float = 1) -> "Resources":
        """Return the totals of a 7-series device, or a `part` of them, rounded down.

        Raises:
            BadRequest: the device is of another family.
        """
        if device.target != "xc7":
            raise BadRequest(
                f"device {device.part!r} is of family {device.target!r}; the estimates here know "
                "7-series only: choose xc7z020 or xc7a100t"
            )
        totals = device.lut, device.ff, device.dsp, 2 * device.bram36
        lut, ff, dsp, halves = (int(total * part) for total in totals)
        return cls(lut, ff, dsp, halves / 2)

    def __add__(self, other: "Resources") -> "Resources":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Resources(*(mine + theirs for mine, theirs in pairs))

    def within(self, budget: "Resources") -> bool:
        """Tell whether no resource exceeds the budget's."""
        return all(a <= b for a, b in zip(astuple(self), astuple(budget), strict=True))

    def shares(self, budget: "Resources") -> dict[str, float]:
        """Return each resource's part of the budget; infinite where there is none to use."""
        return {
            name: used / whole if whole else (float("inf") if used else 0.0)
            for name, used, whole in zip(RESOURCES, astuple(self), astuple(budget), strict=True)
        }


RESOURCES = ("lut", "ff", "dsp", "bram36")


def resources(layer: Layer, fold: Fold, device: Device | None = None) -> Resources:
    """Estimate what a layer and the FIFO before it use on a 7-series device.

    Raises:
        BadRequest: the fold is not legal, or the device is of another family.
    """
    if device is not None:
        Resources.of(device)  # refuses other families
    check(layer, fold)
    taken, given = streams(layer, fold)
    used = fifo(taken, is_image(layer)) + _unit(layer, fold, taken, given)
    return Resources(ceil(used.lut), ceil(used.ff), used.dsp, used.bram36)


def _unit(layer: Layer, fold: Fold, taken: Stream, given: Stream) -> Resources:
    match layer:
        case Mvau():
            return _mvau(layer, fold)
        case Thresholding():
            return _thresholding(layer, fold)
        case SlidingWindow():
            return _sliding_window(layer, fold)
        case Padding():
            return control(given.lanes * given.bits)
        case Pool() | Label():
            compare = taken.lanes * taken.bits
            return control(2 * compare) + Resources(lut=2 * compare)
        case Add():
            adders = given.lanes * given.bits
            return fifo(taken, is_image(layer)) + control(adders) + Resources(lut=adders)
        case Duplicate():
            return control(given.lanes * given.bits)


def converter(given: Stream, taken: Stream) -> Resources:
    """Estimate FINN's `dwc_axi.sv`, which turns words of one width into words of another.

    Narrow words find their places in a wide one by an enable each; all else is a shifter.
    """
    if given.lanes == taken.lanes:
        return Resources()
    width = (given.lanes + taken.lanes) * given.bits
    widening = taken.lanes % given.lanes == 0
    lut = 0.3 * width + FIFO_CONTROL if widening else 3 * width
    return Resources(lut=ceil(lut), ff=width + FIFO_CONTROL)


def fifo(stream: Stream, image: bool) -> Resources:
    """Estimate `rtl/hdl/kit_fifo.sv`: LUT memory (four LUTs hold 32 words of six bits), or a block.

    It is in block RAM, as that file says, where there are more than 64 words and 4096 bits.
    """
    depth = IMAGE_FIFO if image else max(2, stream.words)
    width = stream.lanes * stream.bits
    if depth > 64 and depth * width >= 4096:
        return Resources(FIFO_CONTROL, FIFO_CONTROL, bram36=blocks18(width, depth) / 2)
    return Resources(ceil(width * ceil(depth / 32) * 2 / 3) + FIFO_CONTROL, FIFO_CONTROL)


def control(registers: float) -> Resources:
    """Estimate a small unit around `registers` bits of state."""
    return Resources(lut=CONTROL_LUT, ff=CONTROL_FF + registers)


def is_image(layer: Layer) -> bool:
    """Tell whether a layer sees its frame as many vectors, not as one."""
    return isinstance(layer, SlidingWindow | Padding | Pool) or getattr(layer, "vectors", 1) > 1


def blocks18(width: int, depth: int) -> int:
    """Return the 18 Kb blocks that hold `depth` words: each 512 of 36 bits, 1024 of 18, ..."""
    shapes = ((36, 512), (18, 1024), (9, 2048), (4, 4096), (2, 8192), (1, 16384))
    return min(ceil(width / w) * ceil(depth / d) for w, d in shapes)


def weight_style(layer: Mvau, fold: Fold) -> Literal["block", "distributed"]:
    """Return FINN's `ram_style` for the weights: block RAM where a block saves enough LUTs."""
    width, depth = _weights(layer, fold)
    saved = depth > 1 and width * depth / WEIGHT_BITS_A_LUT
    return "block" if saved > LUTS_A_BLOCK * blocks18(width, depth) else "distributed"


def weight_memory(layer: Mvau, fold: Fold) -> Resources:
    """Estimate the memory that streams the weights, in the style above."""
    width, depth = _weights(layer, fold)
    if depth == 1:
        return Resources()
    if weight_style(layer, fold) == "block":
        return Resources(ff=width, bram36=blocks18(width, depth) / 2)
    return Resources(lut=width * depth / WEIGHT_BITS_A_LUT, ff=width)


def _weights(layer: Mvau, fold: Fold) -> tuple[int, int]:
    width = fold.pe * fold.simd * layer.weight_bits
    return width, (layer.mw // fold.simd) * (layer.mh // fold.pe)


def logic_memory(width: int, depth: int) -> Resources:
    """Estimate a memory of thresholds in LUTs, 64 bits each; deep ones need multiplexers too."""
    if depth <= 1:
        return Resources()
    return Resources(lut=width * ceil(depth / 64) * (DEEP_MEMORY if depth > 64 else 1), ff=width)


def _mvau(layer: Mvau, fold: Fold) -> Resources:
    folds = layer.mh // fold.pe, layer.mw // fold.simd
    accumulators = fold.pe * layer.acc_bits
    word = fold.simd * layer.act_bits
    replay = Resources(lut=word * ceil(folds[1] / 32), ff=word) if folds[0] > 1 else Resources()
    used = (
        weight_memory(layer, fold)
        + replay
        + control(2 * accumulators)
        + Resources(lut=accumulators)
    )
    return used + compute_core(layer, fold)


def compute_core(layer: Mvau, fold: Fold) -> Resources:
    """Estimate FINN's `mvu.sv`, or our `kit_lut_mvu.sv`: products, adder trees, accumulators."""
    if fold.compute == "lut":
        return _lut_core(layer, fold)
    products, lane = fold.pe * fold.simd, layer.weight_bits + layer.act_bits - 1
    return Resources(
        lut=products * (lane + DSP_LUT_A_PRODUCT),
        ff=products * (lane + DSP_FF_A_PRODUCT),
        dsp=ceil(fold.pe / lanes(layer)) * fold.simd,
    )


def _lut_core(layer: Mvau, fold: Fold) -> Resources:
    """Add up the registers and adders of `rtl/hdl/kit_lut_mvu.sv`, stage by stage.

    For each weight bit: chains over pairs of activations (whose sums all PEs share), up to four
    in a row, and a tree over the chains; then a tree over the weight bits, and the accumulator.
    """
    weight, act = layer.weight_bits, layer.act_bits
    pairs = ceil(fold.simd / 2)
    groups = ceil(pairs / 4)
    chain = [act + (2 * place + 1).bit_length() for place in range(min(pairs, 4))]
    tree = (groups - 1) * (chain[-1] + 2)
    plane = chain[-1] + (groups - 1).bit_length()
    planes = (weight - 1) * (plane + weight - 1)
    chains = (groups - 1) * sum(chain) + sum(chain[: pairs - 4 * (groups - 1)])
    one = weight * (chains + tree) + planes + layer.acc_bits
    nodes = sum(ceil(weight / 2**level) for level in range(1, (weight - 1).bit_length() + 1))
    held = weight * (fold.simd + groups * chain[-1] + tree) + layer.acc_bits
    held += nodes * (plane + weight - 1)
    shared = pairs * (act + 1)
    lut = LUT_CORE_EXCESS * (fold.pe * one + shared)
    return Resources(lut=lut, ff=fold.pe * held + shared + fold.simd * act)


def _thresholding(layer: Thresholding, fold: Fold) -> Resources:
    """A binary search: for each bit of the result, a memory of thresholds and a comparison."""
    used = control(fold.pe * 8 * layer.out_bits)
    stages = layer.steps.bit_length()
    for stage in range(stages):
        memory = logic_memory(layer.in_bits, layer.channels // fold.pe * 2**stage)
        for _ in range(fold.pe):
            used += memory + Resources(lut=0.75 * layer.in_bits, ff=2 * layer.in_bits + stages)
    return used


def _sliding_window(layer: SlidingWindow, fold: Fold) -> Resources:
    """Line buffers in LUT memory (FINN's default and formula), and counters.

    A parallel window is held in registers.
    """
    parts = layer.channels // fold.simd
    (k_h, k_w), (d_h, d_w) = layer.kernel, layer.dilation
    width = fold.simd * layer.bits
    depth = ((k_h - 1) * d_h * layer.image[1] + (k_w - 1) * d_w + 1) * parts
    if fold.parallel_window:
        buffers = Resources(lut=width * ceil(depth / 32), ff=width * prod(layer.kernel))
        return buffers + control(width) + Resources(lut=WINDOW_CONTROL, ff=WINDOW_CONTROL)
    buffers = Resources(lut=width * ceil(depth / 38))
    return buffers + control(width) + Resources(lut=WINDOW_CONTROL, ff=WINDOW_CONTROL)
