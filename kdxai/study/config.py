"""Every setting of a study, with its default."""

from ml_collections import ConfigDict


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


def study(teacher: ConfigDict, student: ConfigDict) -> ConfigDict:
    """A study of a teacher, a student distilled from it, and a control trained without it.

    The settings of every model are those of `training.config`, save that the data set is one for
    all and `teacher` names another model of the study.
    """
    data = teacher.data
    student = student.copy_and_resolve_references()
    student.teacher = "teacher"
    control = student.copy_and_resolve_references()
    control.teacher = ""
    models = {"teacher": teacher, "student": student, "control": control}
    for config in models.values():
        with config.unlocked():
            del config["data"]
    return ConfigDict(
        {
            "data": data,
            "seeds": 1,  # the whole study again, with model seeds + 0, 1, ...
            "models": models,
            "compare": (("student", "teacher"), ("student", "control")),
            "evaluation": evaluation(),
        }
    )
