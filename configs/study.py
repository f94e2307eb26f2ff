"""The paper's study: a teacher, a student distilled from it, a control without it; their maps.

    python launch/study.py --config configs/study.py --workdir runs/study

WRN-28-10 and ResNet-18 on CIFAR-10, the recipes of configs/teacher.py and configs/student.py: the
paper's size, for a GPU or TPU. `configs/study.py:fast` takes 30 epochs each. Neither is measured
yet.

    python launch/study.py --config configs/study.py:quick --workdir runs/quick

The rendered data set `shapes`, WRN-10-1 and a ResNet-10 of 8 channels: offline, 3 to 6
minutes on two CPU cores. Test accuracy 95.7 % (teacher), 91.7 % (student), 96.4 % (control).

    python launch/study.py --config configs/study.py:small --workdir runs/small

CIFAR-10, WRN-16-1 and a ResNet-10 of 8 channels, and with them a second teacher, a tiny student,
a shallow CNN with and without teacher, an untrained one. Without the second teacher a seed trained
in 34 minutes on one busy core; with three seeds all was explained and judged in 6 minutes on two.
Test accuracy 80 % (teacher), 76 % (student), 73 % (control).
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from kdxai.study import paper

SIZES = {  # the models that stand beside teacher and student
    "published": {"tiny": "resnet18-w20", "shallow": "plain5", "resnext": "resnext29-8x64"},
    "small": {"tiny": "resnet10-w2", "shallow": "plain5-w16", "resnext": "resnext11-2x4-w8"},
}
SIZES |= {"fast": SIZES["published"], "quick": SIZES["small"]}


def get_config(recipe: str = "published") -> ConfigDict:
    teacher, student = (
        runpy.run_path(str(Path(__file__).with_name(f"{name}.py")))["get_config"](recipe)
        for name in ("teacher", "student")
    )
    config = paper.study(teacher, student, **SIZES[recipe])
    if recipe == "quick":
        config.evaluation.images = 500
        config.ladder = ""  # launch/audit.py does it
    elif recipe == "small":
        config.only = (
            "teacher,second_teacher,student,control,tiny_student,shallow_student,shallow_control,"
            "untrained"
        )
        config.evaluation.whole = False
    return config
