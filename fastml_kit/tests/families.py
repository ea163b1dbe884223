"""Every model family at a small size, and samples that it can learn something from."""

from dataclasses import dataclass

import numpy as np

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.models import ModelRequest
from fastml_kit.tasks import TaskData
from fastml_kit.tasks.base import PARTS

PIXELS = FixedSpec(8, 0, signed=False)
FEATURES = FixedSpec(8, 3, signed=True)


@dataclass(frozen=True)
class Case:
    """The shape of a family's samples and the sizes to build it with."""

    shape: tuple[int, ...]
    spec: FixedSpec = PIXELS
    classes: int = 0  # 0: it reconstructs its input
    width: int = 4
    bits: tuple[int, int] = (4, 4)  # of weights and activations

    @property
    def request(self) -> ModelRequest:
        """Return what to build."""
        outputs = self.classes or int(np.prod(self.shape))
        return ModelRequest(self.shape, outputs, self.spec, self.width, *self.bits)


CASES = {
    "ad08": Case((1, 16, 1), FixedSpec(8, 8), width=18, bits=(6, 6)),
    "cnn": Case((8, 8, 1), classes=3, width=12),
    "cnn_strided": Case((8, 8, 1), classes=3, width=24),
    "cnv": Case((32, 32, 3), classes=3, width=2, bits=(1, 1)),
    "cnv_strided": Case((32, 32, 3), classes=3, width=2, bits=(2, 2)),
    "econt_encoder": Case((8, 8, 1), width=4, bits=(6, 6)),
    "jets_mlp": Case((1, 16, 1), FixedSpec(16, 6), classes=5, width=8, bits=(6, 6)),
    "kws_mlp": Case((7, 5, 1), FixedSpec(8, 1), classes=4, width=12, bits=(3, 3)),
    "magic_mlp": Case((1, 10, 1), FEATURES, classes=2, width=8, bits=(6, 6)),
    "mlp": Case((8, 8, 1), classes=3, width=8),
    "mlp_bn": Case((8, 8, 1), classes=3, width=8),
    "resnet8": Case((8, 8, 3), classes=3, width=4, bits=(8, 8)),
    "rn07": Case((16, 16, 3), classes=3, width=8, bits=(8, 8)),
}


def data(case: Case, samples: int = 192, seed: int = 0) -> TaskData:
    """Return samples around a random centre for each class, a third in each part."""
    rng = np.random.default_rng(seed)
    y = np.arange(samples) % (case.classes or 2)
    centres = rng.uniform(0.2, 0.8, (y.max() + 1, *case.shape))
    x = centres[y] + rng.normal(0, 0.2, (samples, *case.shape))
    if case.spec.signed:
        x = (x - 0.5) * 2.0**case.spec.integer
    return TaskData(
        name="toy",
        x=case.spec.to_values(case.spec.to_codes(x)).astype(np.float32),
        y=y.astype(np.int64),
        part=np.repeat(PARTS, samples // 3),
        classes=tuple(str(number) for number in range(y.max() + 1)),
        input_spec=case.spec,
        metric="accuracy",
        quality_target=0.5,
        source="made up",
        licence="Apache-2.0",
        citation="none",
        objective="classes" if case.classes else "reconstruct",
    )
