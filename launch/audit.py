"""Repair the paper's protocol one flaw at a time: see configs/audit.py for the command."""

from pathlib import Path

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.report import figures, tables
from kdxai.study.audit import audit
from kdxai.training import runs

METRICS = ("average_drop", "complexity", "ssim", "adcc")


def main(config: ConfigDict, workdir: str) -> None:
    found = audit(config, workdir)
    runs.write_text(Path(workdir) / "audit.csv", found.table.to_csv(index=False))
    figures.rungs(Path(workdir) / "audit.png", found.table, found.models, METRICS)
    tables.show(found.table[found.table.metric.isin(METRICS)], by="rung")
    print(f"{workdir}: audit.csv and audit.png")


if __name__ == "__main__":
    cli.run(main, needs="images")
