"""QONNX, the hub: export from QKeras, read as integers, execute, bound.

`export` writes (with `writer`) the file that every later form is built from; `program` reads it;
`reference` is the integer engine; `execute` asks qonnx's own executor; `ranges` proves which
codes can occur.
"""
