import pytest

from kdxai import progress
from kdxai.progress import Lines


def test_names_are_printed_as_they_are(capsys):
    with progress.progress() as bar:
        bar.add_task("run[1]", total=1, note="")
        bar.console.print("[red]/run[1]:b: epoch 1", highlight=False)
    assert "[red]/run[1]:b: epoch 1" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """Seconds, as a list of one that a test sets."""
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Lines, "told", 1000.0)
    return now


def test_a_log_has_a_line_a_minute(clock, capsys):
    with progress.progress() as bar:
        assert isinstance(bar, Lines)
        task = bar.add_task("cam of [red]", total=2000, note="")
        bar.update(task, completed=10)
        assert capsys.readouterr().err == ""
        clock[0] += 60
        bar.update(task, completed=1200)
        bar.update(task, completed=1300)
        assert capsys.readouterr().err.startswith("cam of [red]: 1,200 of 2,000")


def test_short_tasks_share_the_minute(clock, capsys):
    for name in ("one", "two", "three"):
        with progress.progress() as bar:
            task = bar.add_task(name, total=4, note="40 images/s")
            clock[0] += 25
            bar.update(task, completed=4)
    assert capsys.readouterr().err.startswith("three: 4 of 4, 40 images/s")


def test_the_others_of_a_cluster_say_nothing(clock, capsys):
    with progress.progress(quiet=True) as bar:
        task = bar.add_task("train", total=4, note="")
        clock[0] += 100
        bar.update(task, completed=4)
    assert capsys.readouterr().err == ""
