"""benchmarks/equivalence.py finds that equal numbers are equal, and that one changed bit is not."""

import runpy
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "equivalence.py"


def test_equal_numbers_are_equal_and_one_changed_number_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = runpy.run_path(str(SCRIPT))
    main, reference = names["main"], tmp_path / "reference.safetensors"
    every_case = list(names["cases"]())
    some = [case for case in every_case if case[0] in ("vae", "gmmvae:bayes")]
    main.__globals__["cases"] = lambda: iter(some)

    def call(action: str) -> int:
        monkeypatch.setattr(sys, "argv", [str(SCRIPT), action, str(reference)])
        return int(main())

    assert call("--write") == 0
    assert call("--compare") == 0
    assert "2 of 2 cases identical" in capsys.readouterr().out
    tensors = load_file(reference)
    gradient = tensors["gmmvae:bayes/trace/gradient/guide.encoder.layers.3.weight"]
    gradient[0, 0] *= 1 + 1e-15
    save_file(tensors, reference)
    assert call("--compare") == 1
    out = capsys.readouterr().out
    assert "gmmvae:bayes: 1 of" in out
    assert "1 of 2 cases identical" in out
