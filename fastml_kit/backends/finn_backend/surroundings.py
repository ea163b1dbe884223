"""What FINN finds around it when it is imported, so that it needs neither Vivado nor torch.

Only the process that runs FINN's steps (`child`) may call these: they change the environment, the
working folder, and modules of other packages.
"""

import importlib.util
import os
import sys
import types
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np


def prepare(folder: Path) -> None:
    """Set what FINN reads from its surroundings. Must run before FINN is imported."""
    build = folder / "build"
    build.mkdir(exist_ok=True)
    settings = folder / "settings.yaml"
    settings.write_text("{}\n", encoding="utf-8")
    os.environ["FINN_BUILD_DIR"], os.environ["FINN_SETTINGS"] = str(build), str(settings)
    # Only the version in the path's last part is read; the tool is never called.
    os.environ.setdefault("XILINX_VIVADO", "/none/2022.2")
    os.environ["HOME"] = str(folder)
    os.chdir(folder)
    if importlib.util.find_spec("torch") is None:
        _stand_in_for_torch()
    import finn.xsi as xsi

    for name in xsi._LAZY_NAMES:  # else they look for Vivado's simulator when asked for
        setattr(xsi, name, None)


def repair_windows() -> None:
    """Keep samples apart in qonnx's Im2Col, which mixes them in batches above one (qonnx 1.0.0).

    The result's caller takes the first axis for the sample's; qonnx makes it the last.
    """
    from qonnx.custom_op.general import im2col

    original = im2col.im2col_indices_nchw

    def apart(x: Any, *args: Any, **kwargs: Any) -> Any:
        return np.stack([original(x[k : k + 1], *args, **kwargs) for k in range(len(x))])

    im2col.im2col_indices_nchw = apart


def _stand_in_for_torch() -> None:
    """Let FINN be imported without torch, which its LayerNorm alone uses, and no graph here has."""
    names = ("torch", "torch.nn", "torch.nn.functional")
    for name in names:
        sys.modules[name] = types.ModuleType(name)
    for parent, child in pairwise(names):
        setattr(sys.modules[parent], child.rpartition(".")[2], sys.modules[child])
    # SciPy asks of every array whether it is one of these.
    sys.modules["torch"].Tensor = type("Tensor", (), {})  # type: ignore[attr-defined]
