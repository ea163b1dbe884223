"""From a quantized Keras network to a circuit on an FPGA board, proved equal at every step.

Modules are the namespaces: ``from fastml_kit import tasks, models, graph, backends``.
Importing the package needs NumPy alone; heavy libraries load in the module that needs them.
"""

__version__ = "0.1.0"
