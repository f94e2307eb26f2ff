import runpy

import pytest
from scripts import ROOT

SHORT = sorted(path for path in (ROOT / "examples").glob("*.py") if path.stem != "torch_model")


@pytest.mark.slow
@pytest.mark.parametrize("script", SHORT, ids=lambda p: p.name)
def test_examples_run_and_are_short(script, capsys):
    assert len(script.read_text().splitlines()) <= 25
    if script.stem == "compare":
        pytest.importorskip("ml_collections", reason="kdxai.compare needs kdxai[study]")
    runpy.run_path(str(script))
    assert "adcc" in capsys.readouterr().out
