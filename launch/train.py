"""Train one model.

    python launch/train.py --config configs/teacher.py --workdir runs/teacher

On several hosts, or with several processes on one, the same command in every process and shared
directories: with --coordinator, --processes and --process, or with --distributed.
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict

FLAGS = {
    "coordinator": (str, "HOST:PORT of process 0, any free port, in a trusted network."),
    "processes": (int, "How many processes there are."),
    "process": (int, "Which of them this is, from 0."),
    "distributed": (bool, "One of several; ask SLURM, Open MPI, the TPU pod or GKE."),
}


def main(
    config: "ConfigDict",
    workdir: str,
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    distributed: bool = False,
) -> None:
    from kdxai.data import datasets
    from kdxai.training import hosts, loop

    with hosts.connected(coordinator, processes, process, detect=distributed):
        for turn in (True, False):  # one process fills the cache that the others read
            with hosts.together():
                if hosts.is_first() == turn:
                    dataset = datasets.load(**config.data)
        result = loop.train(config, workdir, dataset)
        if hosts.is_first():
            print(
                f"{result['model']}: test accuracy {result['test_accuracy']:.2%} at epoch "
                f"{result['best_epoch']} (best on validation, {result['validation_accuracy']:.2%}) "
                f"after {result['seconds']:,.0f} s; {workdir}"
            )


if __name__ == "__main__":
    cli.run(main, needs="optim", flags=FLAGS)
