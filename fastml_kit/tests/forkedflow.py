"""``python -m fastml_kit.tests.forkedflow run toy`` is `fastml run` for the forked toy flow."""

from fastml_kit.cli import main
from fastml_kit.tests.toyflow import forked

if __name__ == "__main__":
    main(forked())
