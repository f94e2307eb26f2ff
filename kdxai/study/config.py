"""Every setting of a study, with its default."""

from collections.abc import Collection

from ml_collections import ConfigDict

VERSION = 2  # of the layout of a study's directory; another one is not continued


def evaluation() -> ConfigDict:
    """What is explained, and how much of it."""
    return ConfigDict(
        {
            "images": 1000,  # random test images, as many as the paper took
            "whole": True,  # measure the rest of the test split too, in a table of its own
            "methods": "cam",  # names in kdxai.explain.METHODS (or mask), with commas
            "metrics": "",  # beyond the core, names in kdxai.measures.EXTRA, with commas
            "stage": "last",  # of the model, at whose end maps are drawn, such as stage2
            "baseline": "blur",  # of perturbation: blur, mean or black
            "seed": 0,  # which images are drawn, and the bootstrap
            "resamples": 2000,  # of the bootstrap intervals, 100 to 100,000
            "sanity": 200,  # of these images, on which the metrics are checked; 0: no checks
            "gallery": 6,  # images in the figure of maps, at most 100: the first of those drawn
        }
    )


def claim(
    says: str, metric: str, pair: tuple[str, str], direction: str, matters: float
) -> dict[str, str | float]:
    """An entry of the ledger of claims; its fields are those of `study.claims.judge`."""
    one, other = pair
    fields: dict[str, str | float] = {"says": says, "metric": metric, "one": one, "other": other}
    return fields | {"direction": direction, "matters": matters}


def claims(models: Collection[str]) -> ConfigDict:
    """The paper's claims about some of `models`, and their controls.

    The margin 0.02 is half of what the paper found in average drop; what is bad or collapses loses
    more, 0.05; accuracy may lose one point.
    """
    student, control = ("student", "teacher"), ("student", "control")
    shallow, tiny = ("shallow_student", "teacher"), ("tiny_student", "teacher")
    declared = {
        "c1_drop": claim("The student's drop is lower", "average_drop", student, "lower", 0.02),
        "c2_complexity": claim(
            "The student's maps are less complex", "complexity", student, "lower", 0.02
        ),
        "c3_coherency": claim(
            "The student's maps are more coherent", "ssim", student, "higher", 0.02
        ),
        "c4_accuracy": claim(
            "The student reaches its teacher's accuracy", "accuracy", student, "not_lower", 0.01
        ),
        "c5_shallow": claim(
            "A very shallow student explains badly", "adcc", shallow, "lower", 0.05
        ),
        "c6a_slight": claim("A slight compression helps", "adcc", student, "higher", 0.02),
        "c6b_aggressive": claim(
            "An aggressive compression makes explanations collapse", "adcc", tiny, "lower", 0.05
        ),
        # Is it distillation at all, or any training of a model of that size?
        "control_drop": claim(
            "Distillation lowers the drop", "average_drop", control, "lower", 0.02
        ),
        "control_complexity": claim(
            "Distillation makes maps less complex", "complexity", control, "lower", 0.02
        ),
        "control_coherency": claim(
            "Distillation makes maps more coherent", "ssim", control, "higher", 0.02
        ),
    }
    return ConfigDict(
        {name: one for name, one in declared.items() if {one["one"], one["other"]} <= {*models}}
    )


def study(
    teacher: ConfigDict,
    student: ConfigDict,
    *,
    tiny: str,
    shallow: str,
    resnext: str,
) -> ConfigDict:
    """A study of a teacher, a student distilled from it, and their controls.

    The settings of every model are those of `training.config`, save that the data set is one for
    all and `teacher` names another model of the study.

    Args:
      teacher, student: complete training configs.
      tiny, shallow, resnext: names of the models that take the student's or the teacher's place.
    """

    def like(config: ConfigDict, **changes: object) -> ConfigDict:
        copy = config.copy_and_resolve_references()
        with copy.unlocked():
            del copy["data"]
        copy.update_from_flattened_dict(changes)
        return copy

    distilled = {"teacher": "teacher"}
    another = {"seed": teacher.seed + 1000, "augment.seed": teacher.augment.seed + 1000}
    foreign = {"model.name": resnext, "model.dropout": 0.0}
    models = {
        "teacher": like(teacher),
        # Equal to the teacher but for its seed: the floor under every difference.
        "second_teacher": like(teacher, **another),
        "student": like(student, **distilled),
        "control": like(student),
        "tiny_student": like(student, **distilled, **{"model.name": tiny}),
        "shallow_student": like(student, **distilled, **{"model.name": shallow}),
        "shallow_control": like(student, **{"model.name": shallow}),
        "untrained": like(student, **{"epochs": 0, "optim.warmup_epochs": 0.0}),
        # The published student was distilled from such a one, not from the teacher.
        "resnext": like(teacher, **foreign),
        "resnext_student": like(student, teacher="resnext"),
    }
    return ConfigDict(
        {
            "version": VERSION,
            "data": teacher.data,
            "seeds": 1,  # the whole study again, with model seeds + 0, 1, ...
            "only": "teacher,student,control,untrained",  # of the models below; all: every one
            "cell": "",  # i/n: do the i-th of n shares of the work, and write no report
            "models": models,
            "compare": (
                ("student", "teacher"),
                ("student", "control"),
                ("second_teacher", "teacher"),
                ("tiny_student", "teacher"),
                ("shallow_student", "teacher"),
                ("shallow_student", "shallow_control"),
                ("untrained", "teacher"),
                ("resnext_student", "resnext"),
            ),  # those that are there
            "ladder": "teacher,student,control,resnext_student",  # replay the paper's protocol on
            "claims": claims(models),
            "across": "auto",  # verdicts: seeds where there are two, else images; or name one
            "evaluation": evaluation(),
        }
    )
