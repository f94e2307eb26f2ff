"""Train one model: python launch/train.py --config configs/teacher.py --workdir runs/teacher.

On several hosts, or with several processes on one, the same command in every process and shared
directories: with --coordinator, --processes and --process, or with --distributed.
"""

from absl import flags
from ml_collections import ConfigDict

from kdxai import cli
from kdxai.data import datasets
from kdxai.training import hosts, loop

COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, any free port.")
PROCESSES = flags.DEFINE_integer("processes", None, "How many processes there are.")
PROCESS = flags.DEFINE_integer("process", None, "Which of them this is, from 0.")
DISTRIBUTED = flags.DEFINE_bool(
    "distributed", False, "One of several processes; ask SLURM, Open MPI, the TPU pod or GKE."
)


def main(config: ConfigDict, workdir: str) -> None:
    with hosts.connected(
        COORDINATOR.value, PROCESSES.value, PROCESS.value, detect=DISTRIBUTED.value
    ):
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
    cli.run(main, needs="optim")
