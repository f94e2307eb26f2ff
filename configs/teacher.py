"""The paper's teacher: WRN-28-10 on CIFAR-10.

    python launch/train.py --config configs/teacher.py --workdir runs/teacher

The published recipe (Zagoruyko & Komodakis 2016): 200 epochs, x 0.2 at 60, 120 and 160. Published
accuracy 96.0 %; time and accuracy here: not measured yet.

    python launch/train.py --config configs/teacher.py:fast --workdir runs/teacher

30 epochs with warm-up and cosine, for one GPU: 3.6 seconds each on an H200, test accuracy 94.9 %.
`configs/teacher.py:quick` and `:small` are the teachers of `configs/study.py`'s recipes of that
name, for a CPU.

    python launch/train.py --config configs/teacher.py:accurate --workdir runs/teacher

airbench-64-256-256, 20 epochs, smooth labels, cutout: test accuracy 93.4 % after 57 minutes on two
CPU cores that have bfloat16, beside other work; on an H200 after 18 seconds.
"""

from ml_collections import ConfigDict

from kdxai.errors import UserError
from kdxai.training import config as training


def get_config(recipe: str = "published") -> ConfigDict:
    config = training.default()
    config.model.dropout = 0.3  # the paper's teacher
    if recipe == "published":
        config.optim.schedule = "step"
    elif recipe == "fast":
        config.epochs = 30
        config.batch_size = 512
        config.model.dropout = 0.0
        config.optim.lr = 0.4
        config.optim.warmup_epochs = 5.0
        config.augment.cutout = 8
    elif recipe == "quick":
        config.data.name = "shapes"
        config.model.name = "wrn-10-1-w20"
        config.model.dropout = 0.0
        config.epochs = 5
        config.batch_size = 64
        config.data.train_size = 8000
        config.optim.warmup_epochs = 0.5
    elif recipe == "small":
        config.model.name = "wrn-16-1"
        config.model.dropout = 0.0
        config.epochs = 4
        config.batch_size = 64
        config.optim.warmup_epochs = 0.5
    elif recipe == "accurate":
        config = training.airbench()
        config.epochs = 20
        config.augment.cutout = 8
        config.optim.label_smoothing = 0.2
    elif recipe == "vit":
        config.model.name = "vit-6-64-4"
        config.model.dropout = 0.0
        config.epochs = 15
        config.optim.update(name="adamw", lr=1e-3, weight_decay=0.05, warmup_epochs=1.5)
    else:
        raise UserError(
            "teacher.py has the recipes published, fast, quick, small, accurate and vit, not "
            f"'{recipe}'"
        )
    return config
