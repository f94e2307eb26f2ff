"""Make a model directory of weights that were trained elsewhere.

    python launch/import.py --config configs/import.py --config.weights=FILE \\
        --config.model.name=resnet20 --config.mean=... --config.std=... --workdir runs/resnet20
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.study.imports import import_model

    facts = import_model(config, workdir)
    print(
        f"{facts['model']}: {facts['parameters']:,} parameters, test accuracy "
        f"{facts['test_accuracy']:.2%}; {workdir}"
    )


if __name__ == "__main__":
    cli.run(main, needs="weights")
