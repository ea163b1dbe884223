"""Handwritten digits, 8x8 pixels: 1,797 real images that come inside scikit-learn.

Each pixel counts the dark points of a 4x4 block, 0 to 16, so that an image is 64 integers of
five bits: nothing is lost on the way into the network. Identical images are kept on one side of
the split. (Who wrote which digit is not part of this copy, so writers are not separated.)
"""

import numpy as np

from fastml_kit.fixedpoint import FixedSpec
from fastml_kit.tasks.base import Dataset, TaskData, split_by_group

#: Pixels 0..16 are read as 0/16..16/16: five bits, one of them above the point.
INPUT = FixedSpec(width=5, integer=1, signed=False)
SPLIT_SEED = 2026


def load() -> TaskData:
    """Load the digits: 65 % train, 15 % validation, 20 % test, the same for every caller."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    y = bunch.target.astype(np.int64)
    _, groups = np.unique(bunch.data, axis=0, return_inverse=True)
    return TaskData(
        name="digits",
        dataset=DATASETS[0].name,
        x=(bunch.images[..., np.newaxis] * INPUT.step).astype(np.float32),
        y=y,
        part=split_by_group(y, groups, fractions=(0.15, 0.2), seed=SPLIT_SEED),
        classes=tuple(str(digit) for digit in bunch.target_names),
        group=groups.astype(np.int64),
        input_spec=INPUT,
        metric="accuracy",
        quality_target=0.97,
        source="scikit-learn's load_digits, the test part of UCI's Optical Recognition of "
        "Handwritten Digits",
        licence="CC BY 4.0 (UCI), shipped with scikit-learn (BSD-3-Clause)",
        citation="Alpaydin & Kaynak, Optical Recognition of Handwritten Digits, UCI Machine "
        "Learning Repository, 1998, doi:10.24432/C50P49",
    )


DATASETS = (
    Dataset(
        name="uci-digits",
        title="Optical Recognition of Handwritten Digits (UCI, part of scikit-learn)",
        load=load,
    ),
)
