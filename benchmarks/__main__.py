"""Measure speed, also beside PyTorch libraries.

python benchmarks --config benchmarks/config.py --workdir runs/speed
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from benchmarks import report, run

    report.show(run.benchmark(config, workdir))
    print(f"{workdir}: benchmark.json and benchmark.md")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))  # these are not installed
    cli.run(main, needs="peers")
