"""What all tests share: quiet and thrifty libraries, no writing into the user's runs folder."""

import os

import pytest
from hypothesis import settings

# Before any of these libraries is imported; a user's own setting stays.
for name, value in {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",  # results must not depend on who has a GPU
    "OMP_NUM_THREADS": "2",
    "MPLBACKEND": "Agg",
}.items():
    os.environ.setdefault(name, value)

# Time limits of single examples only measure what else the machine is doing.
settings.register_profile("fastml", deadline=None)
settings.load_profile("fastml")


@pytest.fixture(autouse=True)
def _own_runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTML_RUNS_DIR", str(tmp_path / "runs"))


def pytest_runtest_setup(item):
    if item.get_closest_marker("needs_data") and "FASTML_DATA" not in os.environ:
        pytest.skip("needs data sets: set FASTML_DATA to their folder")
