"""Every setting of a study, with its default."""

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
            "resamples": 2000,  # of the bootstrap intervals
            "gallery": 6,  # images in the figure of maps: the first of those drawn
        }
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
            "evaluation": evaluation(),
        }
    )
