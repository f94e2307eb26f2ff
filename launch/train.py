"""Train one model: python launch/train.py --config configs/teacher.py --workdir runs/teacher."""

from ml_collections import ConfigDict

from kdxai import cli
from kdxai.data import datasets
from kdxai.training import loop


def main(config: ConfigDict, workdir: str) -> None:
    dataset = datasets.load(**config.data)
    result = loop.train(config, workdir, dataset)
    print(
        f"{result['model']}: test accuracy {result['test_accuracy']:.2%} at epoch "
        f"{result['best_epoch']} (best on validation, {result['validation_accuracy']:.2%}) "
        f"after {result['seconds']:,.0f} s; {workdir}"
    )


if __name__ == "__main__":
    cli.run(main, needs="optim")
