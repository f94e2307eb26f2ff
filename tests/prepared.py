"""Data sets made for tests: random images, as arrays and as a TFDS directory."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def random_split(seed: int, size: int, shape=(4, 5, 3), classes: int = 10):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (size, *shape), dtype=np.uint8)
    return image, rng.permutation(np.arange(size) % classes)


def png(image: np.ndarray) -> io.BytesIO:
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, format="PNG")
    buffer.seek(0)
    return buffer


def prepare_tiny(root: Path, features=None, splits=("train", "test"), shape=(6, 7, 3), seed=0):
    """A TFDS directory `tiny/1.0.0` with 40 training and 20 test images; returns the arrays."""
    import tensorflow_datasets as tfds

    arrays = {s: random_split(seed + n, 40 // (n + 1), shape, 3) for n, s in enumerate(splits)}

    class Tiny(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            default = {
                "image": tfds.features.Image(shape=shape),
                "label": tfds.features.ClassLabel(names=["ant", "bee", "cow"]),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features or default)
            )

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(split) for split in splits}

        def _generate_examples(self, split):
            for i, (image, label) in enumerate(zip(*arrays[split], strict=True)):
                values = {"image": png(image), "label": label, "text": "a"}
                yield i, {key: values[key] for key in (features or ("image", "label"))}

    builder = Tiny(data_dir=root, file_format="array_record")
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(try_download_gcs=False)
    )
    return arrays
