"""Run the whole study: train, explain, measure, report.

python launch/study.py --config configs/study.py:quick --workdir runs/quick
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.report import tables
    from kdxai.report.write import write
    from kdxai.study import run

    measured = run.study(config, workdir)
    if measured is None:
        print(f"{workdir}: share {config.share} is done; without it the same command merges all")
        return
    report = write(measured, config, workdir)
    tables.show(measured.tables["table1"], trust=measured.trust)
    tables.show_notes(measured.records, measured.missing)
    tables.show_claims(measured.claims)
    tables.show_answers(report.answers)
    print(f"{workdir}: report.html, report.md, table1.csv, records.csv, study.json and figures/")


if __name__ == "__main__":
    cli.run(main, needs="seeds")
