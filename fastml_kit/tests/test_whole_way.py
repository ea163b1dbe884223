"""From a QKeras model to the netlists of both FPGA families, outside of any notebook."""

import numpy as np
import pytest

from fastml_kit import backends, verify
from fastml_kit.graph import execute, export, program, ranges, reference
from fastml_kit.models import train
from fastml_kit.rtl import simulate, synthesize
from fastml_kit.tests.networks import images, keras_model

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("family", "sizes"),
    [
        ("mlp", {"width": 5, "weight_bits": 5, "act_bits": 3}),
        ("cnn", {"width": 8, "weight_bits": 3, "act_bits": 4}),
    ],
)
def test_every_engine_gives_the_codes_that_keras_gives(tmp_path, family, sizes):
    model = keras_model(family, 13, **sizes)
    path = export.export_qonnx(model, tmp_path / "model.onnx")
    graph = program.read(path)
    spec = ranges.output_spec(graph)
    samples = images(300, 13)
    x = export.channel_first(train.shaped(model, samples))
    wanted = train.predict(model, samples)
    assert len(np.unique(wanted, axis=0)) > 100, "a network that says nothing proves nothing"

    def same(values, engine):
        verify.assert_bit_exact(values, wanted, spec=spec, labels=(engine, "qat"))

    same(execute.run(path, x), "qonnx")
    same(reference.run(graph, x), "reference")
    for name, until in (("hls4ml", "csim"), ("da4ml", "rtl")):
        backend = backends.get(name)
        plan = backend.plan(path, backends.BuildRequest())
        built = backend.build(plan, tmp_path / name, until=until)
        same(built.predict(x), name)

    rtl = simulate.simulate(built.sources, built.top, built.interface, x, tmp_path / "rtl")
    same(rtl.values, "rtl")
    for target in synthesize.TARGETS:
        made = synthesize.synthesize(built.sources, built.top, target, tmp_path / target)
        folder = tmp_path / target / "simulation"
        netlist = simulate.simulate([made.netlist], built.top, built.interface, x, folder)
        same(netlist.values, f"{target} netlist")
        assert netlist.latency_cycles == rtl.latency_cycles
        assert netlist.interval_cycles == rtl.interval_cycles == 1
