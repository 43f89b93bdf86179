"""What is shown while a command works, on a terminal and elsewhere."""

import io
import sys
from types import SimpleNamespace

import pytest

from bype.core import console
from bype.training import terminal as display
from bype.training.epoch import EpochInfo
from bype.training.terminal import epochs


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")

    def begin():  # in the test itself: between the phases of a test its runner sets stderr
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return begin


def info(epoch, skipped=0):
    return EpochInfo(epoch, 0.5, 30.25, 29.0, 2.5, 31.75, True, 1.5, 0.1, skipped)


def test_epochs_are_a_bar_on_a_terminal(terminal, capsys):
    err = terminal()
    with epochs("runs/one") as show:
        for epoch in (1, 2):
            show(info(epoch), SimpleNamespace(best_val_loss=31.75, best_epoch=epoch, epochs=3))
    text = err.getvalue()
    assert text.startswith("runs/one\n")
    assert "\x1b[" in text, "drawn in place"
    last = [line for line in text.splitlines() if "/3" in line][-1]
    assert "2/3" in last
    assert "val 31.75 best 31.75 @ 2 1.50 s" in last
    assert capsys.readouterr().out == ""


def test_items_and_downloads_are_bars_on_a_terminal(terminal):
    err = terminal()
    with console.items("runs/one") as show:
        show(0, 10)
        show(5, 10)
    with console.downloads() as show:
        show("a.gz", 1, 4)
        show("b.gz", 2, 2)
        show("a.gz", 3, 4)
    text = err.getvalue()
    for shown in ("5/10", "runs/one", "3/4", "a.gz", "2/2", "b.gz"):
        assert shown in text


def test_the_bar_moves_within_an_epoch(terminal, monkeypatch):
    monkeypatch.setattr(display, "BAR_EVERY", 0.0)
    err = terminal()
    with epochs("runs/one") as show:
        show.step(SimpleNamespace(epoch=0, epochs=1), 1, 4)
        show.step(SimpleNamespace(epoch=0, epochs=1), 3, 4)
        assert show.bar.tasks[0].completed == 0.75
        assert show.bar.tasks[0].total == 1
    assert "0/1" in err.getvalue()


def test_a_log_has_a_line_on_the_steps_only_every_so_many_seconds(capsys, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(display, "time", SimpleNamespace(monotonic=lambda: now[0]))
    with epochs("runs/one") as show:
        for step in range(1, 101):  # a second each: the line of the epoch itself follows the last
            now[0] += 1
            show.step(SimpleNamespace(epoch=1, epochs=10), step, 100)
    # After 30 seconds, 29 steps since the first one; 8.7 epochs, 870 steps, are left.
    assert capsys.readouterr().err.splitlines() == [
        f"runs/one  epoch 2/10  step {step}/100  at most 14 min left" for step in (30, 60, 90)
    ]


def test_a_short_epoch_has_no_line_on_its_steps(capsys):
    with epochs("runs/one") as show:
        for step in range(1, 101):
            show.step(SimpleNamespace(epoch=0, epochs=10), step, 100)
    assert capsys.readouterr().err == ""


def test_elsewhere_they_are_lines(capsys):
    with epochs("runs/one") as show:
        show(info(2, skipped=4), SimpleNamespace(best_val_loss=31.75, best_epoch=2, epochs=3))
    with console.downloads() as show:
        for done in (1, 2, 100, 101, 1000):
            show("a.gz", 1000 * done, 1_000_000)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "runs/one  epoch 2/3  beta 0.50  loss 30.25  val 31.75  best 31.75 @ 2  1.50 s/epoch  skipped 4",
        "a.gz  0.0 of 1.0 MB",
        "a.gz  0.1 of 1.0 MB",
        "a.gz  1.0 of 1.0 MB",
    ]


def test_the_time_left_is_of_the_scoring_under_way(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.items("run") as show:
        # The second scoring is of as many items; the third one of more, of which an earlier process did 30.
        for done, total, at in (
            (0, 10, 0), (5, 10, 40), (10, 10, 80),
            (0, 10, 80), (4, 10, 120), (8, 10, 121), (10, 10, 160),
            (30, 50, 160), (35, 50, 200),
        ):  # fmt: skip
            now[0] = at
            show(done, total)
    assert capsys.readouterr().err.splitlines() == [
        "run  5/10 examples  40 s left",
        "run  4/10 examples  60 s left",
        "run  35/50 examples  120 s left",
    ]


def test_a_table_is_not_cut_where_nobody_reads_along(capsys):
    console.table([{"prior": "standard", "nll": 1.23456}, {"prior": "b" * 150}], "digits")
    out, err = capsys.readouterr()
    assert err == ""
    assert "1.23" in out
    assert "b" * 150 in out


@pytest.mark.parametrize("columns", ["0", "1", "7", "-3", "many", "", "80"])
def test_a_table_is_printed_whatever_columns_says(monkeypatch, capsys, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    console.table([{"metric": "nll_paper", "value": 24.4}], "runs/first on digits (test)")
    out = capsys.readouterr().out
    assert "nll_paper" in out
    assert "24.40" in out


def test_a_bar_is_shown_whatever_columns_says(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with console.items("run") as show:
        show(3, 10)
    assert "3/10" in capsys.readouterr().err
