"""Measure speed, also beside PyTorch libraries.

python launch/benchmark.py --config configs/benchmark.py --workdir runs/speed
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.benchmark import report, run

    report.show(run.benchmark(config, workdir))
    print(f"{workdir}: benchmark.json and benchmark.md")


if __name__ == "__main__":
    cli.run(main, needs="peers")
