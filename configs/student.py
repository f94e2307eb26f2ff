"""The paper's student: ResNet-18 distilled from a finished teacher.

    python launch/train.py --config configs/student.py --config.teacher=runs/teacher \
        --workdir runs/student

The teacher is any model directory, whoever made it, or `path/to/file.py:function`, a function that
returns a `kdxai.External`: a PyTorch model, say. Its classes and the shape of its images must be
those of the data.

The paper's recipe: SGD, x 0.1 at epoch 150 of 170, T = 6, alpha = 0.95; 94 % in the paper. Time
and accuracy here: not measured yet. `configs/student.py:fast` takes 30 epochs, for one GPU: test
accuracy 94.5 %. Without a teacher the same command trains the control, here of 93.4 %.
`configs/student.py:quick` and `:small` are the students of `configs/study.py`'s recipes of that
name, for a CPU.

    python launch/train.py --config configs/student.py:accurate --config.teacher=runs/teacher \
        --config.objective=e2kd --workdir runs/student

airbench-32-64-64, the student of configs/teacher.py:accurate. The objectives are those of
`kdxai.training.objectives`. `configs/student.py:vit` is the CNN that learns from the transformer of
configs/teacher.py:vit; not measured yet.
"""

from ml_collections import ConfigDict

from kdxai.errors import UserError
from kdxai.training import config as training


def get_config(recipe: str = "published") -> ConfigDict:
    config = training.default()
    config.model.name = "resnet18"
    if recipe == "published":
        config.epochs = 170
        config.optim.nesterov = False
        config.optim.schedule = "step"
        config.optim.step_at = (150 / 170,)
        config.optim.step_factor = 0.1
    elif recipe == "fast":
        config.epochs = 30
        config.batch_size = 512
        config.optim.lr = 0.4
        config.optim.warmup_epochs = 5.0
    elif recipe == "quick":
        config.data.name = "shapes"
        config.model.name = "resnet10-w4"
        config.distill.update(temperature=2.0, alpha=0.5)
        config.epochs = 5
        config.batch_size = 64
        config.data.train_size = 8000
        config.optim.warmup_epochs = 0.5
    elif recipe in ("small", "vit"):
        config.model.name = "resnet10-w8"
        config.epochs = 4
        config.batch_size = 64
        config.optim.warmup_epochs = 0.5
    elif recipe == "accurate":
        config = training.airbench()
        config.model.name = "airbench-32-64-64"
    else:
        raise UserError(
            "student.py has the recipes published, fast, quick, small, accurate and vit, not "
            f"'{recipe}'"
        )
    return config
