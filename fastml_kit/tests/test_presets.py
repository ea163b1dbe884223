"""Presets: files that the flow's own schema accepts, with sizes that a model can be built in."""

import re
from pathlib import Path

import pytest
import yaml

from fastml_kit import models, tasks
from fastml_kit.flow import FLOW
from fastml_kit.models import recipes

PRESETS = sorted((Path(__file__).parents[2] / "notebooks" / "presets").glob("*.yaml"))


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def test_every_task_has_a_preset_of_its_name():
    assert {path.stem for path in PRESETS} >= set(tasks.names())


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_is_accepted_by_the_flow(path):
    values = read(path)
    assert FLOW.parameters(**values).model_dump().items() >= values.items()
    if path.stem in tasks.names():
        assert values["task"] == path.stem
    recipes.of(values["model"]).float_epochs(values["epochs"])


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_says_where_its_numbers_come_from(path):
    text = path.read_text(encoding="utf-8")
    comments = " ".join(line.partition("#")[2].strip() for line in text.splitlines())
    assert re.search(r"arXiv:\d{4}\.\d{5}|kit's own|flow's own", comments)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_the_model_of_a_preset_can_be_built_for_its_task(path):
    values = read(path)
    stand_in = tasks.datasets(values["task"])[-1]
    data = stand_in.load()
    outputs = len(data.classes) if data.objective == "classes" else data.x[0].size
    sizes = (values["width"], values["weight_bits"], values["act_bits"])
    request = models.ModelRequest(data.x.shape[1:], outputs, data.input_spec, *sizes)
    model = models.build(values["model"], request)
    host = models.host_part(values["model"], request)
    assert (host or model).output_shape == (None, outputs)
