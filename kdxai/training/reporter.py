"""What a training run tells on the terminal."""

import time
from collections.abc import Mapping

from ml_collections import ConfigDict
from rich.progress import Progress

from kdxai.training.program import Program


class Reporter:
    """Bars that move, and a printed line per epoch.

    Args:
      bar: `progress`, as a context.
      name: of the run.
    """

    def __init__(self, bar: Progress, name: str, config: ConfigDict, program: Program):
        self._bar, self._name, self._teacher = bar, name, program.teacher
        self._epochs, self._batch = config.epochs, config.batch_size
        self._first, self._started = int(program.state.step), time.perf_counter()
        self._epoch_started = self._started
        self._total = config.epochs * program.steps_per_epoch
        self._task = bar.add_task(name, total=self._total, completed=self._first, note="")
        if program.train.images is not None:
            self._say(
                f"{program.train.images.nbytes / 2**20:,.0f} MiB of training images are more than "
                "is kept on a device: they are read batch by batch"
            )
        if program.teacher:
            size = program.teacher.size
            self._views = bar.add_task("teacher's logits", total=size, visible=False, note="")
            cached = sum(program.teacher.path(epoch).exists() for epoch in range(config.epochs))
            self._say(
                f"the teacher's logits of {cached} of {config.epochs} epochs are cached in "
                f"{program.teacher.directory}"
            )

    def begin(self) -> None:
        """An epoch begins."""
        self._epoch_started = time.perf_counter()
        if self._teacher:
            self._bar.reset(self._views, visible=False)  # its time left is of this epoch alone

    def views(self, done: int) -> None:
        """So many of the epoch's teacher logits are there."""
        assert self._teacher
        note = f"{done / (time.perf_counter() - self._epoch_started):,.0f} views/s"
        self._bar.update(self._views, completed=done, visible=done < self._teacher.size, note=note)

    def step(self, step: int, loss: float, accuracy: float) -> None:
        """A step is done; loss and accuracy are means of the epoch so far."""
        rate = self._batch * (step - self._first) / (time.perf_counter() - self._started)
        note = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:,.0f} images/s"
        self._bar.update(self._task, completed=step, note=note)

    def end(self, row: Mapping[str, float]) -> None:
        """An epoch is in the run's history."""
        step, spent = row["step"], time.perf_counter() - self._started
        left = (self._total - step) * spent / (step - self._first)
        rate = self._batch * self._total / self._epochs / row["seconds"]
        self._say(
            f"epoch {row['epoch']}/{self._epochs}  loss {row['train_loss']:.3f}  "
            f"accuracy {row['train_accuracy']:.1%}  validation {row['validation_accuracy']:.1%}  "
            f"{rate:,.0f} images/s  {left:,.0f} s left"
        )

    def _say(self, line: str) -> None:
        self._bar.console.print(f"{self._name}: {line}", highlight=False, soft_wrap=True)
