"""Repair the paper's protocol one flaw at a time: see configs/audit.py for the command."""

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.report import tables
from kdxai.report.write import write_audit
from kdxai.study.audit import audit


def main(config: ConfigDict, workdir: str) -> None:
    found = audit(config, workdir)
    write_audit(found, workdir)
    tables.show(found.table[found.table.metric.isin(tables.LADDER)], by="rung")
    tables.show_claims(found.claims)
    print(f"{workdir}: audit.csv, claims.csv and audit.png")


if __name__ == "__main__":
    cli.run(main, needs="images")
