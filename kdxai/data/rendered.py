"""`shapes` as a source: rendered once in each size, then cached."""

import hashlib
import importlib.metadata
import zlib
from functools import partial
from pathlib import Path

from kdxai.data import arrays, cache
from kdxai.data.sources import DATA_SEED, Dataset, Request, Split
from kdxai.errors import UserError

NAME = "shapes"
SIZES = {"train": 10_000, "validation": 1_000, "test": 2_000}


def load(request: Request) -> Dataset:
    """As many images as are asked for; the test images are always the same.

    Raises:
      UserError: that is less than one, or they cannot be drawn or cached.
    """
    asked = {"train": request.train_size, "validation": request.validation_size, "test": None}
    sizes = {split: SIZES[split] if n is None else n for split, n in asked.items()}
    for split, size in sizes.items():
        if size < 1:
            raise UserError(f"{split}_size is {size}: at least one image of shapes is drawn")
    # Rendering takes longer than reading, and another renderer may draw other pixels.
    renderer = Path(__file__).with_name("shapes.py").read_bytes()
    source = renderer + f"{sizes} {DATA_SEED} {importlib.metadata.version('jax')}".encode()
    directory = request.cache / f"{NAME}-{hashlib.sha256(source).hexdigest()[:16]}"
    cache.write_once(directory, NAME, partial(_render, sizes))
    return arrays.read(NAME, directory)


def _render(sizes: dict[str, int]) -> tuple[tuple[str, ...], dict[str, Split]]:
    from kdxai.data import shapes  # imports JAX, which a cached data set does not need

    def render(split: str) -> Split:
        seed = zlib.crc32(f"{split} {DATA_SEED}".encode()) >> 1  # JAX takes 31 bits
        return Split(*shapes.render_split(seed, sizes[split]))

    return shapes.CLASS_NAMES, {split: render(split) for split in sizes}
