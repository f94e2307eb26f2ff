"""Explain and measure trained models: see configs/explain.py for the command."""

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.report import tables
from kdxai.report.write import write
from kdxai.study import run


def main(config: ConfigDict, workdir: str) -> None:
    tables.show(write(run.explain(config, workdir), config, workdir))
    print(f"{workdir}: report.html, report.md, table1.csv, records.csv, study.json and figures/")


if __name__ == "__main__":
    cli.run(main, needs="methods")
