"""Repair the paper's protocol one flaw at a time.

python launch/audit.py --config configs/audit.py:quick --workdir runs/audit
"""

from pathlib import Path
from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.report import figures, tables
    from kdxai.study.audit import audit
    from kdxai.training import runs

    found = audit(config, workdir)
    runs.write_text(Path(workdir) / "audit.csv", found.table.to_csv(index=False))
    runs.write_text(Path(workdir) / "claims.csv", found.claims.to_csv(index=False))
    figures.rungs(Path(workdir) / "audit.png", found.table, tables.LADDER)
    tables.show(found.table[found.table.metric.isin(tables.LADDER)], by="rung")
    tables.show_claims(found.claims)
    print(f"{workdir}: audit.csv, claims.csv and audit.png")


if __name__ == "__main__":
    cli.run(main, needs="images")
