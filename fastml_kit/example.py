"""A small graph as others write them, made on the spot: what an import is tried on.

It tells digits apart by templates (the mean image of each class), is trained by nobody, and has
what foreign graphs have: an input scaled in floats, a batch normalization with float parameters
before the last quantizer, a softmax at the end.
"""

from pathlib import Path

import numpy as np

from fastml_kit import tasks
from fastml_kit.fixedpoint import FixedSpec

TEMPLATES, SCORES = FixedSpec(5, 1), FixedSpec(5, 3)


def write(folder: Path) -> dict[str, Path]:
    """Write the graph, samples and labels to `folder`; return the files by parameter.

    The samples are the test part of the digits, as counts from 0 to 16, (359, 64); the templates
    are made of the train part.
    """
    from fastml_kit.graph.writer import Writer

    data = tasks.load("digits")
    (x, y), (x_test, y_test) = data.select("train"), data.select("test")
    pixels = x.reshape(len(x), -1).astype(np.float64)
    means = np.array([pixels[y == label].mean(axis=0) for label in range(len(data.classes))])
    templates = TEMPLATES.to_values(TEMPLATES.to_codes((means - means.mean(axis=0)).T))
    scores = pixels @ templates
    # The image nearest to a mean m has the largest x.m - m.m/2.
    normalization = {
        "gamma": np.ones(len(means)),
        "beta": np.zeros(len(means)),
        "mean": (means**2).sum(axis=1) / 2 - (means**2).sum(axis=1).mean() / 2,
        "variance": np.full(len(means), scores.var()),
    }
    counts = data.input_spec
    graph = Writer(shape=(pixels.shape[1],))
    graph.node("Mul", "scaled", graph.constant("step", counts.step))
    graph.quantize("pixels", counts)
    weights = graph.weight("templates", templates, TEMPLATES)
    graph.node("MatMul", "matched", weights, shape=(len(means),))
    names = [graph.constant(name, values) for name, values in normalization.items()]
    graph.node("BatchNormalization", "normalized", *names)
    graph.quantize("scores", SCORES)
    graph.node("Softmax", "shares", axis=-1)
    files = {name: folder / f"{name}.npy" for name in ("data", "labels")}
    np.save(files["data"], (x_test.reshape(len(x_test), -1) / counts.step).astype(np.float32))
    np.save(files["labels"], y_test)
    return {"graph": graph.save(folder / "model.onnx", "templates"), **files}
