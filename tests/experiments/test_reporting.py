"""What a report shows of runs, and what it leaves out."""

import re
import shutil

import pytest
import torch

import bype
from bype.core.errors import InputError
from bype.data.images import Images
from bype.evaluation.latents import in_two_dimensions
from bype.evaluation.neighbours import nearest_by_pixels
from bype.experiments.reporting import write_report


def written(runs, out, **options):
    result = write_report(runs, out, samples=5, items=60, device="cpu", **options)
    return out.read_text(), result


@pytest.fixture(scope="module")
def page(copies, tmp_path_factory):
    """The page on the run of the prior bype."""
    return written([copies["bype"]], tmp_path_factory.mktemp("page") / "r.html")[0]


def test_the_nearest_items_are_those_of_all_distances():
    generator = torch.Generator().manual_seed(0)
    items, points = (torch.rand(n, 1, 3, 3, generator=generator) for n in (5200, 4))
    expected = torch.cdist(points.flatten(1), items.flatten(1)).topk(3, largest=False).indices
    assert torch.equal(nearest_by_pixels(points, Images(items), 3).rows, expected)
    assert nearest_by_pixels(items[[5100, 7]], Images(items), 1).rows.flatten().tolist() == [5100, 7]


def test_latents_of_two_dimensions_are_shown_as_they_are():
    means = torch.randn(20, 2)
    assert torch.equal(in_two_dimensions(means, 0)[0], means)
    assert in_two_dimensions(torch.randn(20, 5), 0)[0].shape == (20, 2)


def test_a_page_has_every_part_of_a_run(page):
    for title in (
        "Training", "Nearest-neighbour accuracy over K", "Reconstructions", "Samples", "Points of the prior",
        "Interpolations", "Latent map", "Most and least usual test items",
    ):  # fmt: skip
        assert f">{title}</h" in page
    assert len(re.findall(r"<circle ", page)) == 60
    assert len(re.findall(r'<button class="point"', page)) == 20


def test_points_are_in_the_order_of_their_weights(page):
    weights = [float(w) for w in re.findall(r'aria-label="point \d+, weight ([\d.]+) %', page)]
    assert weights == sorted(weights, reverse=True)
    assert sum(weights) == pytest.approx(100, abs=0.5)


def test_the_ranked_items_have_the_lowest_and_highest_likelihood(copies, page):
    loaded = bype.Run.open(copies["bype"]).load("cpu")
    nll = -bype.log_likelihood(loaded.model, loaded.data.test.first(60), 5)
    shown = [int(i) for i in re.findall(r"</span>digits:test\[(\d+)\]", page)]
    assert shown[:10] == nll.argsort(descending=True)[:10].tolist()
    assert shown[10:] == nll.argsort()[:10].tolist()


def test_the_same_runs_give_the_same_page(copies, tmp_path, page):
    assert written([copies["bype"]], tmp_path / "again.html")[0] == page


def test_several_runs_are_compared_with_paired_intervals(copies, tmp_path):
    runs = [copies[prior] for prior in ("standard", "vamp", "exemplar")]
    page, result = written(runs, tmp_path / "r.html")
    from bype.experiments.comparison import compare

    second = compare(runs, samples=5, items=60, device="cpu")["differences"][0]
    assert f">{second['low']:.2f} to {second['high']:.2f}<" in page or f">{second['low']:.3g} to " in page
    assert page.count("paired by example") >= 1
    assert result["runs"] == [str(run) for run in runs]
    assert all(f"-s{i}" not in page for i in range(3))


@pytest.mark.parametrize("prior", ["bype", "exemplar"])
def test_a_run_without_its_data_is_shown_as_far_as_it_can_be(copies, tmp_path, monkeypatch, prior):
    """Only the exemplar prior is made of the items, so that its model cannot be loaded either."""

    def gone(self):
        raise InputError("digits: not found")

    from bype.runs.dataset import RunDataset

    monkeypatch.setattr(RunDataset, "load", lambda *a, **k: gone(None))
    page, result = written([copies[prior]], tmp_path / "r.html")
    assert any("digits: not found" in note for note in result["notes"])
    assert "digits: not found" in page
    assert ">Training</h2>" in page
    assert ">Latent map</h3>" not in page
    assert (">Samples</h3>" in page) == (prior == "bype")


def test_rows_of_a_table_have_no_pictures(tmp_path):
    pytest.importorskip("pandas")
    table = tmp_path / "t.csv"
    generator = torch.Generator().manual_seed(0)
    table.write_text("a,b\n" + "".join(f"{x:.3f},{y:.3f}\n" for x, y in torch.randn(80, 2, generator=generator)))
    config = bype.Config(str(table), likelihood="mixed", epochs=1, warmup=0, latent_dim=2, hidden_dim=8, device="cpu")
    bype.fit(config, tmp_path / "run")
    page, _ = written([tmp_path / "run"], tmp_path / "r.html")
    assert "The rows of a table have no pictures" in page
    assert ">Latent map</h3>" in page
    assert 'class="tile' not in page


def test_bad_input_is_refused_by_name(copies, tmp_path):
    run = copies["standard"]
    with pytest.raises(InputError, match="expected one or more different runs, got none"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(InputError, match="different runs"):
        write_report([run, run], tmp_path / "r.html")
    with pytest.raises(InputError, match="not a run folder"):
        write_report([tmp_path / "nothing"], tmp_path / "r.html")
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "metrics.jsonl").write_text("{broken\n{}\n")
    assert "Its training is not shown" in written([copy], tmp_path / "r.html")[0]
