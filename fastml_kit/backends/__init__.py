"""Backends: a QONNX graph becomes a project that can be built, asked and counted.

A backend is looked up by name and its module imported on request, so that a machine without one
toolchain still has the others.
"""

from importlib import import_module

from fastml_kit.backends.base import (
    Backend,
    BuildPlan,
    BuildRequest,
    BuildResult,
    Cost,
    Stage,
)
from fastml_kit.errors import unknown_name

BACKENDS = {
    "da4ml": ("fastml_kit.backends.da4ml_backend", "Da4mlBackend"),
    "finn": ("fastml_kit.backends.finn_backend", "FinnBackend"),
    "hls4ml": ("fastml_kit.backends.hls4ml_backend", "Hls4mlBackend"),
    "reference": ("fastml_kit.backends.reference_backend", "ReferenceBackend"),
}


def get(name: str) -> Backend:
    """Return the backend `name`.

    Raises:
        BadRequest: there is no such backend.
    """
    if name not in BACKENDS:
        raise unknown_name("backend", name, BACKENDS)
    module, cls = BACKENDS[name]
    backend: Backend = getattr(import_module(module), cls)()
    return backend


__all__ = [
    "BACKENDS",
    "Backend",
    "BuildPlan",
    "BuildRequest",
    "BuildResult",
    "Cost",
    "Stage",
    "get",
]
