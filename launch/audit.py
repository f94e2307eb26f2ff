"""Repair the paper's protocol one flaw at a time: see configs/audit.py for the command."""

from pathlib import Path

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.report import figures, tables
from kdxai.study.audit import audit
from kdxai.training import runs


def main(config: ConfigDict, workdir: str) -> None:
    found = audit(config, workdir)
    runs.write_text(Path(workdir) / "audit.csv", found.table.to_csv(index=False))
    runs.write_text(Path(workdir) / "claims.csv", found.claims.to_csv(index=False))
    figures.rungs(Path(workdir) / "audit.png", found.table, tables.LADDER)
    tables.show(found.table[found.table.metric.isin(tables.LADDER)], by="rung")
    tables.show_claims(found.claims)
    print(f"{workdir}: audit.csv, claims.csv and audit.png")


if __name__ == "__main__":
    cli.run(main, needs="images")
