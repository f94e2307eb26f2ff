"""Explain and measure models that are there: directories, or classifiers of one's own.

    python launch/explain.py --config configs/explain.py \
        --config.models=teacher=runs/teacher,student=runs/student --workdir runs/explained

A model is a directory of launch/train.py or launch/import.py (or of a study, such as
runs/quick/seed0/teacher), or `path/to/file.py:function`, a function that returns a
`kdxai.External`; `--config.data.name` then says which data, unless a model does. A name given
several times is a population, `resnet56=a,resnet56=b,resnet20=c,resnet20=d`; of two names, a
network and what it was compressed to are a pair, all others are independent. A place whose own name
has a comma before an `=` stands in a tuple,
`--config.models="('one=runs/lr=0.1,wd=0', 'two=runs/student')"`.

`--config.methods=cam,grad_cam,random,mask` draws other maps, the names are those of
kdxai.explain.METHODS, `--config.options.integrated_gradients.steps=64` sets an option of one;
`--config.metrics=perturbation,road` adds measures that need more forward passes, names in
kdxai.measures.MEASURES:

- faithfulness: `perturbation` (insertion, deletion), `road`, `arcc`, `correlation` (infidelity and
  others), `regions` (IROF and others), `axioms` (completeness, input shift);
- robustness: `sensitivity`, `stability`;
- sanity: `randomisation` of the model, `smoothed_randomisation`, `cascade` (stage after stage);
- the map alone: `compactness`;
- localisation: `grid`, the grid pointing game, which needs no masks but four classes, and `ranking`
  (AUC and top-k against masks).

Claims to be judged, and in a few words what each model is (`roles`), are said in a copy of this
file; the first model is the one that others are compared with, unless `compare` names pairs:

    "roles": {"small": "pruned"},
    "claims": {"drop": studies.claim("Pruned networks drop more", "average_drop",
                                     ("small", "large"), "higher", 0.02)},

Pictures of one's own need neither a data set nor labels:

    python launch/explain.py --config configs/explain.py --config.models=student=runs/student \
        --config.images='photos/*.jpg' --config.methods=grad_cam,layer_cam --workdir runs/photos

`images` are files, folders and patterns, with commas between them or as a tuple; a pattern stands
in quotes, as a shell would make several arguments of it. PNG, JPEG, WebP and BMP of any size are
turned as their EXIF orientation says, resized, and cut to the middle that the model takes. The
predicted class is explained, and with `--config.classes=282,espresso` (numbers or names) others
too. gallery.html shows all, overlays/ has every map, top5.csv the most probable classes. It takes
some seconds to compile each model and method, then several pictures a second.
"""

from ml_collections import ConfigDict, FieldReference

from kdxai.study import config as studies
from kdxai.training import config as training


def get_config() -> ConfigDict:
    return ConfigDict(
        {
            "models": FieldReference("", object),  # NAME=PLACE,... or a tuple of NAME=PLACE
            "data": training.data(),  # name None: that of the models
            **studies.told(),
            **studies.evaluation(),
            "images": FieldReference(1000, object),  # random test images; or pictures of one's own
            "classes": FieldReference((), object),  # explained in pictures beside the predicted one
        }
    )
