"""QONNX, the hub: written from QKeras, read as integers, bounded, run, converted, counted.

Out of training: `export` (with `writer`). Into integers: `check` and `verdict` look at any ONNX
file without trusting it, `program` reads it with one function an operation (`readers`) into the
form of `ir`, `importing` makes thresholds of the float stretches of foreign graphs (`stretches`).
Engines: `reference` is small enough to read, `fast` carries the same integers in float32
(`lowering`), `execute` asks qonnx's own executor. Proof: `ranges` bounds every tensor. Besides:
`formats` (QCDQ, clipped integers), `cost` (MACs, BOPs, bits), `zoo` (published models), `host`.
"""
