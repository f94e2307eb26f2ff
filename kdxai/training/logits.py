"""The teacher's logits of every view, computed once and cached beside the teacher.

The view of example i in epoch e depends on (seed, e, i) alone, so a teacher's logits are one array
[epochs, N, K] for all its students, whatever their architecture, seed, temperature or alpha.
"""

import hashlib
import io
import shutil
import warnings
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import jax
import numpy as np

from kdxai import devices, files
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.training import hosts, steps
from kdxai.training.feed import Placed
from kdxai.training.teacher import Teacher

BATCH = 128  # views per device and call, fixed: the last bit of a logit depends on it
ROWS = 16  # of an epoch that are compared with the teacher when they are read
SHARE = 0.25  # of the free disk that the logits of one run may take
STALE = 86_400  # seconds after which a half-written file is nobody's; clocks of hosts differ
TOLERANCE = 0.1  # of the logits' standard deviation; far above rounding, far below another image's


class TeacherLogits:
    """The logits of one teacher, epoch by epoch, of the views of one training split.

    They are cached below the teacher's directory, a file per epoch, in a directory named by all
    that they depend on: view seed, and two fingerprints, of the teacher's variables and of the
    program, the images, their normalisation and the device.

    Attributes:
      directory: that of the files; it can be deleted at any time.
      size: N, the number of training images.
    """

    def __init__(
        self,
        teacher: Teacher,
        train: Placed,
        view: steps.View,
        *,
        seed: int,
        epochs: int,
    ):
        """Logits to be computed or read for a student's run.

        Args:
          train: the student's training images, normalised for the student.
          view: as for `steps.make_train_step`.
          seed: of the views, for a person who looks for a file.
          epochs: of the student's run; what would not fit on the disk is not cached.
        """
        step = steps.make_teacher_step(teacher.apply, view)
        mean, std = devices.replicate((teacher.mean, teacher.std))
        # Whatever drops out in the student's run, the views are the same.
        own = train.constants._replace(mean=mean, std=std, dropout_key=None)
        train = train._replace(constants=own)
        who = fingerprint(teacher.variables)[:16]
        parts = [lower(step, teacher, train), fingerprint(train.constants)]
        if train.images is not None:
            parts += [train.images.name, fingerprint({"rows": train.images.rows})]
        what = text_digest(*parts)
        name = f"{teacher.label}-seed{seed}-{who}-{what}"
        self.directory = teacher.directory / "views" / name
        self.size = train.size
        self._train, self._variables = train, devices.replicate(teacher.variables)
        self._step = devices.spread(
            lambda *arguments: jax.lax.all_gather(step(*arguments), devices.AXIS, tiled=True),
            dtype=teacher.dtype,
        )
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        shape = (self.size, teacher.num_classes)
        self._like = jax.ShapeDtypeStruct(shape, np.float32, sharding=here)
        self._epochs, self._cached = epochs, True

    def epoch(self, epoch: int, tell: Callable[[int], None] | None = None) -> jax.Array:
        """[N, K] float32 logits of all views of an epoch, on every device.

        A file that is damaged, or whose logits are not this teacher's of these views, is replaced
        with a warning.

        Args:
          tell: called with the number of views done while they are computed; it may raise to stop.
        """
        logits = hosts.on_first(lambda: self._read(epoch))
        if hosts.first_says(logits is not None):
            logits = np.asarray(hosts.from_first(logits, self._like))
        if logits is None or not self._agrees(epoch, logits):
            logits = self._compute(epoch, np.arange(self.size), BATCH, tell)
            hosts.on_first(lambda: self._write(epoch, logits))
        return devices.replicate(logits)

    def path(self, epoch: int) -> Path:
        """The file of an epoch, counted from 0."""
        return self.directory / f"epoch{epoch:04d}.npz"

    def _compute(
        self,
        epoch: int,
        examples: np.ndarray,
        batch: int,
        tell: Callable[[int], None] | None = None,
    ) -> np.ndarray:
        """Logits of the views of some examples: [B] indices -> [B, K], `batch` on each device."""
        batch *= jax.device_count()
        padded = np.resize(examples.astype(np.int32), -(-len(examples) // batch) * batch)
        epochs = np.full(jax.local_device_count(), epoch, np.int32)
        plan = list(padded.reshape(-1, batch))
        # Few examples are read before a worker process has started.
        fed = self._train.feed(plan, *(() if len(plan) > devices.AHEAD else (0,)))
        parts: list[np.ndarray] = []
        for logits in devices.fetch(
            self._step(self._variables, self._train.constants, indices, epochs, *streamed)
            for indices, *streamed in fed
        ):
            parts.append(logits)
            if tell:
                tell(min(len(parts) * batch, len(examples)))
        return np.concatenate(parts)[: len(examples)]

    def _read(self, epoch: int) -> np.ndarray | None:
        """What the file of an epoch holds; None where there is none or it is damaged."""
        try:
            with np.load(self.path(epoch), allow_pickle=False) as file:  # compares a checksum
                logits = file["logits"]
        except (FileNotFoundError, NotADirectoryError):
            return None
        except Exception as error:  # a damaged file fails in many ways
            self._refuse(epoch, type(error).__name__)
            return None
        if logits.shape != self._like.shape or logits.dtype != np.float32:
            self._refuse(epoch, f"it holds {logits.dtype} {list(logits.shape)}")
            return None
        return logits

    def _agrees(self, epoch: int, logits: np.ndarray) -> bool:
        """Compare some rows with the teacher: logits of other images train a student all the same.

        That once went unnoticed in published code.
        """
        rows = np.random.default_rng(epoch).permutation(self.size)[:ROWS]
        again = self._compute(epoch, rows, -(-ROWS // jax.device_count()))
        apart = np.abs(logits[rows] - again).max()
        agree = bool(apart <= TOLERANCE * (again - again.mean(0)).std())
        if not agree and hosts.is_first():
            self._refuse(epoch, f"its logits are up to {apart:.2g} off the teacher's")
        return agree

    def _refuse(self, epoch: int, why: str) -> None:
        warnings.warn(
            f"{self.path(epoch)} cannot be used ({why}); the teacher's logits of this epoch are "
            "computed again",
            stacklevel=4,
        )

    def _write(self, epoch: int, logits: np.ndarray) -> None:
        """Keep an epoch's logits for those who come later, where there is room."""
        buffer = io.BytesIO()
        np.savez(buffer, logits=logits)
        try:
            if self.directory.is_symlink() or self.directory.parent.is_symlink():
                raise OSError(0, "a symbolic link leads elsewhere")
            self.directory.mkdir(parents=True, exist_ok=True)
            files.remove_partial(self.directory, age=STALE)
            need = (self._epochs - epoch) * logits.nbytes
            free = shutil.disk_usage(self.directory).free
            if need > SHARE * free:
                raise OSError(0, f"{need >> 20} MiB to come, {free >> 20} MiB free")
            files.write_bytes(self.path(epoch), buffer.getvalue())
        except (OSError, UserError) as error:
            if self._cached:
                why = getattr(error, "strerror", None) or error
                warnings.warn(
                    f"the teacher's logits are not cached in {self.directory} ({why}); every "
                    "student computes them again",
                    stacklevel=3,
                )
            self._cached = False


def lower(step: Callable[..., jax.Array], teacher: Teacher, train: Placed) -> str:
    """The program of a teacher's step as text: model, dtype, augmentation, seed, batch."""
    arguments = [teacher.variables, train.constants, np.zeros(BATCH, np.int32), np.int32(0)]
    if train.images is not None:
        arguments.append(np.zeros((BATCH, *train.images.image_shape), np.uint8))
    # Shapes alone, so that the number of devices is no part of it.
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    return jax.jit(step).lower(*shapes).as_text()


def text_digest(*parts: str) -> str:
    """16 hexadecimal digits of some texts, the device and the compiler."""
    device = jax.local_devices()[0].device_kind
    texts = "\n".join([device, metadata.version("jaxlib"), *parts])
    return hashlib.sha256(texts.encode()).hexdigest()[:16]
