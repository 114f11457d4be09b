"""Metrics and plots of a user's own stages, of names and forms that the pipeline does not use."""

import io
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from tests.tools.compare import comparing
from tests.tools.compare.comparing import REPORT, Repository, Run, wrong
from tools.compare import __main__ as command

pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")  # in DVC

PLOTS = """
  - out/map of it.png
  - Zeit | "quoted":
      x: size
      y:
        out/latency.csv: [ms, other]
  - 每类:
      template: bar_horizontal
      x: name
      y:
        out/bars.json: v
  - Words:
      x: name
      y:
        out/bars.json: name
  - Gone:
      x: a
      y:
        out/gone.csv: b
"""
FILES = ["out/map of it.png", "out/latency.csv", "out/bars.json", "out/速度.json"]


@pytest.fixture
def made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Repository:
    """A repository whose dvc.yaml has one more stage, with metrics and plots."""
    for name in comparing.environment():
        monkeypatch.delenv(name)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    repository = comparing.create(tmp_path / "project", capsys)
    monkeypatch.chdir(repository.path)
    repository.put(Run(wrong(0, 10)))
    foreign(repository, 3, "ms")
    repository.commit("Base")
    return repository


def foreign(repository: Repository, value: int, column: str) -> None:
    """Adds the stage to dvc.yaml and what it makes, the image in DVC's cache."""
    content = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    content["stages"]["own"] = {
        "cmd": "echo own",
        "outs": ["out/map of it.png"],
        "metrics": [{"out/速度.json": {"cache": False}}],
        "plots": [{"out/latency.csv": {"cache": False, "x": "size", "y": column}}],
    }
    content["plots"] = yaml.safe_load(PLOTS)
    Path("dvc.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    Path("out").mkdir(exist_ok=True)
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8), 40 * value, np.uint8)).save(stream, "png")
    Path(FILES[0]).write_bytes(stream.getvalue())
    Path(FILES[1]).write_text(f"size,ms,other\n1,{value},3\n2,7,4\n", encoding="utf-8")
    bars = [{"name": "a", "v": value}, {"name": "猫", "v": 2}]
    Path(FILES[2]).write_text(json.dumps({"rows": bars}), encoding="utf-8")
    numbers = {"p50": value, "deep": {"x": 1.5}, "text": "fast", "flag": True}
    Path(FILES[3]).write_text(json.dumps(numbers), encoding="utf-8")
    Path("out/.gitignore").write_text("*.png\n", encoding="utf-8")
    repository.put_cached(FILES[0])
    lock = yaml.safe_load(Path("dvc.lock").read_text(encoding="utf-8"))
    outs = [repository.hashed(name) for name in (FILES[0], FILES[3], FILES[1])]
    lock["stages"]["own"] = {"cmd": "echo own", "outs": outs}
    Path("dvc.lock").write_text(yaml.safe_dump(lock, allow_unicode=True), encoding="utf-8")


def test_a_foreign_stage_has_its_metrics_and_plots_in_the_report(made: Repository) -> None:
    made.put(Run(wrong(0, 9)))
    foreign(made, 5, "ms")
    found = made.compare("HEAD")
    assert found.code == 0, found.err
    report = found.report
    assert "| <code>out/速度.json</code> | <code>p50</code> | 3 | 5 | +2 |" in report
    assert "| <code>out/速度.json</code> | <code>deep.x</code> | 1.5 | 1.5 | +0 |" in report
    assert "<code>text</code>" not in report
    assert "evaluate/metrics.json" not in report  # the pipeline's own are above
    for title in ("out/map of it.png", 'Zeit &#124; "quoted"', "每类", "out/latency.csv"):
        assert f"**{title}**\n\n![" in report
    assert "before and after, by size: ms last 7, other last 4](declared-" in report
    assert "**Words**: not drawn, out/bars.json has no numbers in name" in report
    assert "**Gone**: not drawn, the work tree has no table out/gone.csv" in report
    before, after = sorted(REPORT.parent.glob("declared-*-*.png"))[::-1]
    assert after.read_bytes() == Path(FILES[0]).read_bytes()
    assert before.read_bytes() != after.read_bytes()
    page = REPORT.with_suffix(".html").read_text(encoding="utf-8")
    assert page.count("<img") == report.count("![")
    first = {path.name: path.read_bytes() for path in REPORT.parent.iterdir()}
    made.compare("HEAD")
    assert {path.name: path.read_bytes() for path in REPORT.parent.iterdir()} == first


def test_a_subject_of_odd_letters_and_a_setting_of_git_break_no_history(made: Repository) -> None:
    made.put(Run(wrong(0, 9)))
    signer = Path("signer").absolute()  # what gpg says to Git when it signs, and when it verifies
    made_by = "#!/bin/sh\ncat >/dev/null\nprintf '[GNUPG:] SIG_CREATED \\n' >&2\n"
    made_by += "echo 'Good signature' >&2\n"
    signer.write_text(f"{made_by}echo '-----BEGIN PGP SIGNATURE-----'\n", encoding="utf-8")
    signer.chmod(0o755)
    for key, value in (("gpg.program", str(signer)), ("log.showSignature", "true")):
        subprocess.run(["git", "config", key, value], check=True)
    made.commit("Line\u2028separator\x0band more")
    subprocess.run(["git", "commit", "-q", "--amend", "--no-edit", "-S"], check=True)
    assert b"Good signature" in subprocess.check_output(["git", "log", "-1"])
    found = made.compare("HEAD")
    assert found.code == 0, found.err
    assert "separator" in found.report


def test_an_error_of_the_system_is_told_in_two_lines(
    made: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "_write", full)
    assert made.fails("HEAD").startswith("No space left on device.")


def test_own_plots_of_dvcs_templates_and_pictures_of_other_kinds_are_not_lost(
    made: Repository,
) -> None:
    content = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    content["plots"] += [
        {"Mine": {"template": "confusion", "x": "size", "y": {"out/latency.csv": "other"}}},
        {"out/same.gif": {}},
        {"out/other.gif": {}},
    ]
    Path("dvc.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    for name, value in (("same", b"GIF89a"), ("other", b"GIF89a")):
        Path(f"out/{name}.gif").write_bytes(value)
    made.commit("Plots")
    Path("out/other.gif").write_bytes(b"GIF87a")
    Path("out/latency.csv").write_text("size,ms,other\n1,9,5\n2,8,6\n", encoding="utf-8")
    report = made.compare("HEAD").report
    assert "**Mine**" in report
    assert "out/same.gif" not in report
    assert "**out/other.gif**: not drawn, pictures end in .png, .jpg, .svg" in report


def test_a_plot_that_says_the_same_is_not_drawn_again(made: Repository) -> None:
    report = made.compare("HEAD").report
    assert "quoted" not in report
    assert "out/map of it" not in report


def test_results_that_are_out_of_date_are_named_so(made: Repository) -> None:
    params = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(params.replace("epochs: 5", "epochs: 9"), encoding="utf-8")
    report = made.compare("--no-images", "HEAD").report
    assert "| File | Metric | Before | After, **out of date** | Difference |" in report


def test_without_images_the_metrics_are_shown_alone(made: Repository) -> None:
    foreign(made, 5, "ms")
    report = made.compare("--no-images", "HEAD").report
    assert "<code>p50</code> | 3 | 5 | +2 |" in report
    assert "quoted" not in report
    assert list(REPORT.parent.glob("*.png")) == []


def test_a_stage_that_is_new_has_new_metrics(made: Repository) -> None:
    base = made.git("rev-parse", "HEAD")
    made.git("mv", FILES[3], "out/later.json")
    text = Path("dvc.yaml").read_text(encoding="utf-8").replace("速度", "later")
    Path("dvc.yaml").write_text(text, encoding="utf-8")
    report = made.compare("--no-images", base).report
    assert "| <code>out/later.json</code> | <code>p50</code> | – | 3 | new |" in report
    assert "| <code>out/速度.json</code> | <code>p50</code> | 3 | – | gone |" in report


def test_damaged_data_is_named_and_the_rest_is_shown(made: Repository) -> None:
    foreign(made, 5, "ms")
    Path("out/bars.json").write_text("{", encoding="utf-8")
    report = made.compare("HEAD").report
    assert "**每类**: not drawn, the work tree has no table out/bars.json" in report
    assert "<code>p50</code> | 3 | 5 | +2 |" in report


def test_many_plots_of_long_names_leave_a_report_that_can_be_posted(made: Repository) -> None:
    foreign(made, 5, "ms")
    content = yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))
    many = [f"{'| long name ' * 60}{at}" for at in range(40)]
    plot = {"x": "size", "y": {"out/latency.csv": ["ms", "other"]}}
    content["plots"] = [{name: plot} for name in many]
    Path("dvc.yaml").write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    found = made.compare("HEAD")
    assert found.code == 0, found.err
    assert len(list(REPORT.parent.glob("declared-*.png"))) == 12
    assert "Gone" not in found.report  # no longer declared
    assert "And 29 more plots: <code>dvc plots diff</code>." in found.report


def test_metrics_are_shown_where_plots_cannot_be_read(
    made: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError("failed to load directory")

    monkeypatch.setattr("dvc.repo.plots.Plots.collect", missing)
    made.put(Run(wrong(0, 11)))
    foreign(made, 4, "ms")
    report = made.compare("HEAD").report
    assert "Plots: not known, failed to load directory." in report
    assert "<code>p50</code> | 3 | 4 | +1 |" in report
