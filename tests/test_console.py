"""What commands print: figures that line up, nothing shown as zero that is not."""

import json
import sys
import warnings

import pytest

from atlas import cli
from atlas.console import Progress, answer, print_table
from atlas.formatting import format_p


def test_figures_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"neuron": 7, "score": 12.3456, "p": 0.0001, "label": "cat", "confirmed": True, "near": None},
        {"neuron": 1024, "score": -3.0, "p": 0.25, "label": "a  long\nname", "confirmed": False, "near": 0.5},
        {"neuron": 5, "score": 0.001, "p": 2e-11, "label": "", "confirmed": False, "near": float("nan")},
    ]
    print_table(rows)
    assert capsys.readouterr().out.splitlines() == [
        "neuron  score       p  label        confirmed   near",
        "     7   12.3    1e-4  cat          yes",
        "  1024   -3.0    0.25  a long name  no         0.500",
        "     5  1e-03  < 1e-5               no           nan",
    ]


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (0.0, "< 1e-5"),
        (9e-300, "< 1e-5"),
        (1e-5, "1e-5"),
        (4.4e-4, "4e-4"),
        (0.001, "0.001"),
        (0.0456, "0.046"),
        (0.0949, "0.095"),
        (0.1, "0.10"),
        (0.456, "0.46"),
        (1.0, "1.00"),
        (None, "–"),
        (float("nan"), "–"),
    ],
)
def test_a_probability_is_never_shown_as_zero(p: float | None, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert format_p(p) == said
    print_table([{"neuron": 1, "q": p, "raise_p": p, "p_valence": p, "quick": 0.5}])
    _, row = capsys.readouterr().out.splitlines()
    assert [cell for cell in map(str.strip, row.split("  ")) if cell] == ["1", said, said, said, "0.500"]


def test_nothing_and_zeros(capsys: pytest.CaptureFixture[str]) -> None:
    print_table([])
    print_table([{"x": 0.0}, {"x": 0.0}])
    assert capsys.readouterr().out == "x\n0\n0\n"
    print_table([{"x": 0.123456789}], as_json=True)
    assert json.loads(capsys.readouterr().out) == [{"x": 0.123456789}]


def test_a_warning_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def warn() -> int:
        warnings.warn("not optimal yet", UserWarning, stacklevel=1)
        return 0

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert answer("decompose", warn) == 0
    assert capsys.readouterr().err == "decompose: not optimal yet\n"


def test_what_takes_longer_than_a_second_each_is_not_said_to_stand_still(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter((0.0, 9.0, 9.0))
    monkeypatch.setattr("atlas.console.time.monotonic", lambda: next(now))
    with Progress(6, "receipts", "images") as progress:
        progress.done = 6
    assert capsys.readouterr().err == "receipts: 6 of 6 images, 1.5 s each, 9 s\n"


@pytest.mark.parametrize("name", ["stdout", "stderr"])
def test_a_closed_stream_is_no_mistake(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, name, None)
    assert cli.main(["look", "texts:emotions"]) == 0
    assert cli.main(["check", "nowhere"]) == 1
    getattr(sys, name).close()
