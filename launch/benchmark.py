"""Measure speed: python launch/benchmark.py --config configs/benchmark.py --workdir runs/speed."""

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.benchmark import report, run


def main(config: ConfigDict, workdir: str) -> None:
    report.show(run.benchmark(config, workdir))
    print(f"{workdir}: benchmark.json and benchmark.md")


if __name__ == "__main__":
    cli.run(main, needs="peers")
