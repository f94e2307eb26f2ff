"""Repair the paper's protocol one flaw at a time.

python launch/audit.py --config configs/audit.py:quick --workdir runs/audit
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.report import tables
    from kdxai.report.write import write_audit
    from kdxai.study.audit import audit

    found = audit(config, workdir)
    write_audit(found, workdir)
    tables.show(found.table[found.table.metric.isin(tables.LADDER)], by="rung")
    tables.show_notes(found.records, {})
    tables.show_claims(found.claims)
    print(f"{workdir}: audit.csv, claims.csv and audit.png")


if __name__ == "__main__":
    cli.run(main, needs="images")
