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
    core_depth,
    lanes,
    streams,
)
from fastml_kit.devices import Device
from fastml_kit.errors import BadRequest

# Estimates, fitted to yosys 0.70's counts.
DSP_LUT_A_PRODUCT = 7  # guard bits and a share of the adder trees, beyond the lane's width
DSP_LUT_A_PAIR = 8
DSP_FF_A_PRODUCT = 10
CHAIN_EXCESS = 5  # LUTs of a chain over its adders' bits, where it has more than one
CONTROL_LUT = 30  # counters and handshakes of one unit
CONTROL_FF = 30
FIFO_CONTROL = 20
WINDOW_LUT, WINDOW_FF = 105, 50  # counters of a sliding window (FINN's own figure: 300 LUTs)
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
    used = _unit(layer, fold, taken, given)
    if not isinstance(layer, Thresholding):  # which takes a word a cycle: none waits
        used += fifo(taken, is_image(layer))
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
            return Resources(lut=compare + 10, ff=2 * compare + 4)
        case Add():
            adders = given.lanes * given.bits
            return fifo(taken, is_image(layer)) + Resources(lut=adders, ff=adders + 3)
        case Duplicate():
            return Resources(lut=4 * layer.copies, ff=layer.copies)


def converter(given: Stream, taken: Stream) -> Resources:
    """Estimate `kit_widen.sv`, `kit_narrow.sv` or, between other widths, FINN's `dwc_axi.sv`.

    Narrow words find their places in a wide one by an enable each; the parts of a wide one are
    chosen by multiplexers (one LUT has four inputs for data); all else is a shifter.
    """
    if given.lanes == taken.lanes:
        return Resources()
    if taken.lanes % given.lanes == 0:
        parts = taken.lanes // given.lanes
        return Resources(lut=parts + 3, ff=taken.lanes * given.bits + parts + 1)
    if given.lanes % taken.lanes == 0:
        parts = given.lanes // taken.lanes
        chosen = taken.lanes * given.bits * max(1, ceil(parts / 2) - 1)
        return Resources(lut=chosen + 2 * parts.bit_length(), ff=parts.bit_length())
    width = (given.lanes + taken.lanes) * given.bits
    return Resources(lut=ceil(3 * width), ff=width + FIFO_CONTROL)


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
    replay = Resources()
    if folds[0] > 1:
        replay = Resources(lut=word * ceil(folds[1] / 32) * 2 / 3, ff=word)
    places = 1 + (core_depth(layer, fold) + 1) // folds[1]  # after kit_mvu_queue.sv
    queue = Resources(ff=accumulators) if places == 1 else fifo(
        Stream(places, fold.pe, layer.acc_bits), image=False
    )  # fmt: skip
    used = weight_memory(layer, fold) + replay + queue + control(accumulators)
    return used + compute_core(layer, fold)


def compute_core(layer: Mvau, fold: Fold) -> Resources:
    """Estimate FINN's `mvu.sv`, or our `kit_lut_mvu.sv`: products, adder trees, accumulators."""
    if fold.compute == "lut":
        return _lut_core(layer, fold)
    products, lane = fold.pe * fold.simd, layer.weight_bits + layer.act_bits - 1
    pairs = DSP_LUT_A_PAIR if fold.simd == 2 else 0  # of the least trees, more is left over
    return Resources(
        lut=products * (lane + DSP_LUT_A_PRODUCT) + fold.pe * (layer.acc_bits + pairs),
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
    chains += CHAIN_EXCESS * (groups - (pairs - 4 * (groups - 1) == 1))
    one = weight * (chains + tree) + planes + layer.acc_bits
    nodes = sum(ceil(weight / 2**level) for level in range(1, (weight - 1).bit_length() + 1))
    held = weight * (fold.simd + groups * chain[-1] + tree) + layer.acc_bits
    held += nodes * (plane + weight - 1)
    shared = pairs * (act + 1)
    return Resources(lut=fold.pe * one + shared, ff=fold.pe * held + shared + fold.simd * act)


def _thresholding(layer: Thresholding, fold: Fold) -> Resources:
    """A binary search: for each bit of the result, a memory of thresholds and a comparison."""
    places = layer.steps.bit_length() + 3  # of the output queue
    used = control(fold.pe * layer.out_bits) + fifo(
        Stream(places, fold.pe, layer.out_bits), image=False
    )
    stages = layer.steps.bit_length()
    for stage in range(stages):
        memory = logic_memory(layer.in_bits, layer.channels // fold.pe * 2**stage)
        for _ in range(fold.pe):
            used += memory + Resources(lut=0.75 * layer.in_bits, ff=layer.in_bits + stages)
    return used


def _sliding_window(layer: SlidingWindow, fold: Fold) -> Resources:
    """Line buffers in LUT memory (FINN's default), and counters.

    A parallel window is held in registers.
    """
    parts = layer.channels // fold.simd
    (k_h, k_w), (d_h, d_w) = layer.kernel, layer.dilation
    width = fold.simd * layer.bits
    depth = ((k_h - 1) * d_h * layer.image[1] + (k_w - 1) * d_w + 1) * parts
    held = width * (prod(layer.kernel) if fold.parallel_window else 1)
    return Resources(lut=WINDOW_LUT + width * ceil(depth / 32) * 2 / 3, ff=WINDOW_FF + held)
