"""Bit operations (BOPs) under each definition in use; they differ by factors, so each has a name.

`bops_qonnx`: the sum over layers of MACs * b_w * b_a, counted by qonnx itself (`graph.cost`).

`bops_uniq`: the sum of MACs * (p * b_a * b_w + b_a + b_w + log2(n k^2)), where the last three
terms are the adder of an accumulator over n k^2 products. From Baskin et al., "UNIQ",
arXiv:1804.10969; the share p of weights that are not zero is from Hawks et al., "Ps and Qs",
arXiv:2102.11289. A pruned weight saves its multiplier and not its adder.

`bops_hls4ml`: the sum of m n K^2 (p * b_a * b_w + b_a + b_w + log2(n K^2)) as `bops_counter.py` of
github.com/hls4ml-finn-mlperftiny/CIFAR10 has it: m and n are all elements of the output and input
tensors, K is all elements of the kernel (9 for 3x3, so K^2 is 81), and p counts biases as well.
For a dense layer without zeros it equals `bops_uniq`; for a convolution it is far larger. The
widths here are the graph's. That counter takes 32 bits for the first layer's inputs, the layer
before's weight width for all others, and one bit more than QKeras's for weights.

b_a and b_w are the widths of a layer's data and weights in bits, p is 1 for a dense count.
"""

from math import log2


def uniq_bops(macs: float, fan_in: int, b_a: int, b_w: int, density: float = 1.0) -> float:
    """Return the BOPs of `macs` multiply-accumulates into sums of `fan_in` products (UNIQ)."""
    return macs * (density * b_a * b_w + b_a + b_w + log2(fan_in))


def hls4ml_bops(
    outputs: int, inputs: int, kernel: int, b_a: int, b_w: int, density: float = 1.0
) -> float:
    """Return the BOPs of a layer by the counter of the MLPerf Tiny CIFAR-10 repository.

    `outputs` and `inputs` are whole tensors' elements for one sample, `kernel` is a kernel's
    elements per pair of channels (1 for a dense layer). See the module for what to make of it.
    """
    terms = inputs * kernel**2
    return outputs * terms * (density * b_a * b_w + b_a + b_w + log2(terms))
