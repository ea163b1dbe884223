"""The ways to write a quantized network, and the ways between them, each exact or refused.

QONNX (Quant nodes), QCDQ (QuantizeLinear, Clip, DequantizeLinear) and operators on integers with
clipping: Pappalardo et al., arXiv:2206.07527.
"""

from fastml_kit.graph.formats.clipped import to_clipped
from fastml_kit.graph.formats.conversion import Conversion, Description, Step, describe
from fastml_kit.graph.formats.qcdq import to_qcdq
from fastml_kit.graph.formats.unqcdq import from_qcdq

__all__ = [
    "Conversion",
    "Description",
    "Step",
    "describe",
    "from_qcdq",
    "to_clipped",
    "to_qcdq",
]
