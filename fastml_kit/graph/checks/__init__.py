"""What `graph.check` looks at, one thing a module, in plain Python before any library sees a file.

`structure` (order, names, versions), `external` (data beside the file), `operators` (what each node
may be given), `geometry` (shapes against attributes), `inference` and `shapes` (the shape of every
tensor), `folding` (what can be worked out beforehand).
"""
