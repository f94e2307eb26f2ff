"""Explain and measure models: directories, or classifiers of one's own; or show pictures to them.

    python launch/explain.py --config configs/explain.py \\
        --config.models=teacher=runs/teacher,student=runs/student --workdir runs/explained

    python launch/explain.py --config configs/explain.py --config.models=student=runs/student \\
        --config.images='photos/*.jpg' --config.methods=grad_cam,layer_cam --workdir runs/photos
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    if not isinstance(config.images, int):  # but pictures of one's own
        from kdxai.report import gallery, pictures

        print(*gallery.lines(pictures.explain(config, workdir)), sep="\n")
        print(f"{workdir}: gallery.html, top5.csv and overlays/")
        return

    from kdxai.report import tables
    from kdxai.report.write import write
    from kdxai.study import run

    measured = run.explain(config, workdir)
    report = write(measured, config, workdir)
    tables.show(measured.tables["table1"], trust=measured.trust)
    tables.show_notes(measured.records, measured.missing)
    tables.show_claims(measured.claims)
    tables.show_answers(report.answers)
    print(f"{workdir}: report.html, report.md, table1.csv, records.csv, study.json and figures/")


if __name__ == "__main__":
    cli.run(main, needs="methods")
