from kdxai.progress import progress


def test_names_are_printed_as_they_are(capsys):
    with progress() as bar:
        bar.add_task("run[1]", total=1, note="")
        bar.console.print("[red]/run[1]:b: epoch 1", highlight=False)
    assert "[red]/run[1]:b: epoch 1" in capsys.readouterr().err
