"""The paper's protocol on trained models, literally, then repaired one flaw at a time.

    python launch/audit.py --config configs/audit.py \
        --config.models=teacher=runs/teacher,student=runs/student,control=runs/control \
        --workdir runs/audit

    python launch/audit.py --config configs/audit.py:quick --workdir runs/audit

takes the models that `launch/study.py --config configs/study.py:quick --workdir runs/quick` leaves;
`--config.study=DIRECTORY` those of any study, with all its seeds.
"""

from ml_collections import ConfigDict, FieldReference

from kdxai.errors import UserError
from kdxai.study import config as studies
from kdxai.study import paper
from kdxai.training import config as training


def get_config(recipe: str = "default") -> ConfigDict:
    if recipe not in ("default", "quick"):
        raise UserError(f"audit.py has the recipe quick, or none, not '{recipe}'")
    return ConfigDict(
        {
            "study": "runs/quick" if recipe == "quick" else "",  # a study's work directory, or
            "models": FieldReference("", object),  # NAME=PLACE,... or a tuple of NAME=PLACE
            "data": training.data(),  # name None: that of the models
            "rungs": "",  # steps by name, with commas; "": all that the models provide
            **studies.told(),
            "compare": paper.COMPARE[:2],  # those that are there, else each with the first
            "claims": paper.claims(paper.ROLES),  # those whose models are there
            "images": 250 if recipe == "quick" else 1000,  # random ones, of either split
            "seed": 0,  # which images, and the bootstrap
            "resamples": 2000,
        }
    )
