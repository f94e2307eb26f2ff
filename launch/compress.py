"""Make a model directory of another: compressed, and trained further where that is asked for.

    python launch/compress.py --config configs/compress.py --config.parent=runs/teacher \\
        --config.kind=prune --config.prune.sparsity=0.75 --workdir runs/pruned
"""

from typing import TYPE_CHECKING

from kdxai import cli

if TYPE_CHECKING:
    from ml_collections import ConfigDict


def main(config: "ConfigDict", workdir: str) -> None:
    from kdxai.study import compressions

    facts = compressions.compress_alone(config, workdir)
    worth = facts["worth"]
    print(
        f"{facts['model']}: test accuracy {facts['test_accuracy']:.2%}, "
        f"{facts['factor']:.2f} times smaller: {worth['nonzeros']:,} weights of "
        f"{worth['bits']:.1f} bits on average, {worth['bytes'] / 2**10:,.0f} KiB, "
        f"{worth['multiply_adds']:,} multiply-adds; {workdir}"
    )


if __name__ == "__main__":
    cli.run(main, needs="parent")
