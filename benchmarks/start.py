"""python -m benchmarks.start MODEL DTYPE BATCH: a training run up to its first step.

On the rendered data set, with the compilation cache that the environment names. Prints the loss.
"""

import sys

import jax
import numpy as np

from kdxai.data import datasets
from kdxai.training import config as training
from kdxai.training.feed import process_share
from kdxai.training.program import build

if __name__ == "__main__":
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    config = training.default()
    config.model.name, config.model.dtype = sys.argv[1:3]
    config.batch_size = int(sys.argv[3])
    config.data.update(name="shapes", train_size=max(1000, config.batch_size))
    program = build(config, datasets.load(**config.data))
    batch = process_share(np.arange(config.batch_size, dtype=np.int32))
    _, totals = program.train_step(program.state, program.constants(0), batch)
    print(totals.means()[0])
