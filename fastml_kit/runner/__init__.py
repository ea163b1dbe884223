"""The runner: papermill over a flow, reusing what is current and telling honestly what is not.

``run("digits")`` is all that `fastml run digits` does. `drive` goes through the stages, `execute`
runs one notebook, `kernel` starts a kernel that cannot outlive us, `log` keeps and `display` shows
what happens.
"""

from fastml_kit.runner.drive import Outcome, RunReport, run
from fastml_kit.runner.events import Event

__all__ = ["Event", "Outcome", "RunReport", "run"]
