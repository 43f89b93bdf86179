"""`bype explore` from the command line."""

import json
import re
import signal
import socket
import sys
import time
import urllib.request

import pytest

pytest.importorskip("starlette", reason="the extra app is not installed")
pytest.importorskip("uvicorn", reason="the extra app is not installed")


def _explore(path, *options):
    from bype import cli

    sys.argv = ["bype", "explore", str(path), "--port", "0", "--items", "5", "--samples", "2", *options]
    cli.main()


def _url(log):
    for _ in range(600):
        found = re.search(r"http://[^ \"]+", log.read_text() if log.exists() else "")
        if found:
            return found[0]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_a_signal_and_then_ends_quietly(copies, start, tmp_path, number):
    process = start(_explore, copies["standard"])
    url = _url(tmp_path / "log")
    assert url.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(url) as answer:
        assert b"24 samples of the prior" in answer.read()
    import os

    os.kill(process.pid, number)
    process.join(20)
    assert process.exitcode == 128 + number
    text = (tmp_path / "log").read_text()
    assert text.splitlines()[-1] == "bype: stopped"
    assert "Traceback" not in text


def test_json_names_the_address(copies, start, tmp_path):
    start(_explore, copies["standard"], "--json")
    _url(tmp_path / "log")
    line = next(line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("{"))
    assert json.loads(line)["url"].startswith("http://127.0.0.1:")


def test_a_port_in_use_is_one_line(copies, run_cli):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        code, out, err = run_cli("explore", copies["standard"], "--port", port)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert "in use" in err
    assert "--port" in err


def test_no_run_and_a_foreign_host_exit_with_2(copies, tmp_path, run_cli):
    assert run_cli("explore", tmp_path, "--port", 0)[0] == 2
    code, _, err = run_cli("explore", copies["standard"], "--host", "192.0.2.1", "--port", 0)
    assert code == 2
    assert "--host 192.0.2.1" in err


def test_a_missing_extra_is_named(copies, run_cli, monkeypatch):
    monkeypatch.delitem(sys.modules, "bype.explorer.app", raising=False)
    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in [n for n in sys.modules if n.startswith(("starlette.", "bype.explorer.guard"))]:
        monkeypatch.delitem(sys.modules, name)
    code, _, err = run_cli("explore", copies["standard"])
    assert code == 2
    assert "pip install 'bype[app]'" in err
