"""`bype report` from the command line."""


def test_a_report_is_written_and_described(copies, tmp_path, cli_json):
    out = tmp_path / "r.html"
    result = cli_json("report", copies["standard"], "--out", out, "--samples", 2, "--items", 20)
    assert result["out"] == str(out)
    assert result["bytes"] == out.stat().st_size
    assert result["notes"][0].startswith(f"{copies['standard']}: No metrics are recorded")


def test_another_ending_or_no_run_exits_with_2(copies, tmp_path, run_cli):
    code, _, err = run_cli("report", copies["standard"], "--out", tmp_path / "r.pdf")
    assert code == 2
    assert "expected a name that ends in .html" in err
    code, _, err = run_cli("report", tmp_path, "--out", tmp_path / "r.html")
    assert code == 2
    assert "not a run folder" in err
