"""Explain and measure trained models, without training any.

    python launch/explain.py --config configs/explain.py \
        --config.models=teacher=runs/teacher,student=runs/student --workdir runs/explained

The models are work directories of launch/train.py (or of a study, such as runs/quick/seed0/teacher)
with the same data set; a directory whose own name has a comma before an `=` stands in a tuple,
`--config.models="('one=runs/lr=0.1,wd=0', 'two=runs/student')"`.

`--config.methods=cam,grad_cam,random,mask` draws other maps, the names are those of
kdxai.explain.METHODS; `--config.metrics=perturbation,road,sensitivity,randomisation` adds measures
that need more forward passes, those of kdxai.measures.EXTRA: also `cascade`, what is left of a map
while the model is randomised stage after stage, and `grid`, the grid pointing game, which needs no
masks but four classes.
"""

from ml_collections import ConfigDict, FieldReference

from kdxai.study import config as studies


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "models": FieldReference("", object),  # NAME=PLACE,... or a tuple of NAME=PLACE
            "data": studies.data(),
            **studies.told(),
            **studies.evaluation(),
        }
    )
