"""The folder of a profile: whole or not there, replaced only when asked, and read back as it was."""

import contextlib
import dataclasses
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from evm_deploy import reporting
from evm_deploy.errors import InputError, MissingToolError, OutputError
from evm_deploy.profiling.report import ProfileReport
from evm_deploy.profiling.summaries import add_summaries
from evm_deploy.reporting import figures, profile_folder


@pytest.fixture
def unpainted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves the PNG files out, which take a second."""
    monkeypatch.setattr(figures, "write_figures", lambda folder, *arguments: (folder / "latency.png").write_bytes(b""))


def test_a_folder_holds_everything(report: ProfileReport, tmp_path: Path) -> None:
    reporting.write(tmp_path / "p", [report])
    names = {path.relative_to(tmp_path / "p").as_posix() for path in (tmp_path / "p").rglob("*") if path.is_file()}
    assert names == {
        "profile.json",
        "report.md",
        "report.html",
        "traces/1.json",
        "flames/1.svg",
        *(f"plots/{name}.png" for name in ("latency", "steadiness", "operators", "accuracy", "roofline-1")),
    }
    assert reporting.read([tmp_path / "p"]) == [report]
    assert json.loads((tmp_path / "p/traces/1.json").read_text())["traceEvents"]
    ET.parse(tmp_path / "p/flames/1.svg")


@pytest.mark.usefixtures("unpainted")
def test_several_profiles_in_one_folder(report: ProfileReport, tmp_path: Path) -> None:
    other = dataclasses.replace(report, results=report.results[:1], ratios=())
    reporting.write(tmp_path / "p", [report, other])
    assert reporting.read([tmp_path / "p"]) == [report, other]
    assert reporting.read([tmp_path / "p/profile-2.json", tmp_path / "p"]) == [other, report, other]


@pytest.mark.usefixtures("unpainted")
def test_an_existing_folder_stays(report: ProfileReport, tmp_path: Path) -> None:
    reporting.write(tmp_path / "p", [report])
    with pytest.raises(OutputError, match="exists"):
        reporting.check_free(tmp_path / "p")
    with pytest.raises(OutputError, match="exists"):
        reporting.write(tmp_path / "p", [report])
    one = dataclasses.replace(report, results=report.results[1:3], ratios=())
    reporting.write(tmp_path / "p", [one], overwrite=True)
    assert reporting.read([tmp_path / "p"]) == [add_summaries(one)]
    assert not (tmp_path / "p/traces").exists()


@pytest.mark.usefixtures("unpainted")
@pytest.mark.parametrize("module", ["jinja2", "matplotlib.figure"])
def test_what_is_missing_is_found_before_measuring(
    tmp_path: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingToolError, match=module.partition(".")[0]):
        reporting.check_free(tmp_path / "p")


@pytest.mark.parametrize("name", ["notes.txt", "plots/mine.jpg", "traces/x.json"])
def test_a_folder_with_something_of_the_users_is_not_replaced(report: ProfileReport, tmp_path: Path, name: str) -> None:
    reporting.write(tmp_path / "p", [report])
    (tmp_path / "p" / name).write_text("mine")
    with pytest.raises(OutputError, match=r"which is not part of the profile"):
        reporting.write(tmp_path / "p", [report], overwrite=True)
    assert (tmp_path / "p" / name).read_text() == "mine"


def test_a_folder_of_another_kind_is_not_replaced(report: ProfileReport, tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/report.html").write_text("mine")
    with pytest.raises(OutputError, match="is not a profile"):
        reporting.write(tmp_path / "p", [report], overwrite=True)
    assert (tmp_path / "p/report.html").read_text() == "mine"


def test_a_failure_leaves_nothing(report: ProfileReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(figures, "write_figures", fail)
    with pytest.raises(KeyboardInterrupt):
        reporting.write(tmp_path / "below/p", [report])
    assert list(tmp_path.iterdir()) == []


def test_one_page(report: ProfileReport, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    reporting.write_page(page, [report])
    assert "</html>" in page.read_text()
    with pytest.raises(OutputError, match="exists"):
        reporting.check_page(page)
    reporting.write_page(page, [report], overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_a_page_of_the_users_stays(report: ProfileReport, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<html>mine</html>")
    for place in (page, tmp_path):
        with pytest.raises(OutputError, match="it is not a report"):
            reporting.write_page(place, [report], overwrite=True)
    assert page.read_text() == "<html>mine</html>"
    with pytest.raises(OutputError, match="not a folder"):
        reporting.write_page(tmp_path / "no/such/folder.html", [report])


def test_statistics_that_a_device_left_out_are_computed(report: ProfileReport, tmp_path: Path) -> None:
    raw = dataclasses.replace(
        report, results=tuple(dataclasses.replace(one, summary=None) for one in report.results), ratios=()
    )
    (tmp_path / "raw.json").write_text(raw.to_json())
    (found,) = reporting.read([tmp_path / "raw.json"])
    assert [one.summary for one in found.results] == [one.summary for one in report.results]
    assert found.ratios == report.ratios


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read"), (b"{", "not a JSON object"), (b"{}", "is not a profile")]
)
def test_what_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=words):
        reporting.read([tmp_path / "a.json"])


def test_none_too_many_and_a_folder_of_others(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 profiles"):
        reporting.read([])
    with pytest.raises(InputError, match=f"{profile_folder.MOST + 1} profiles"):
        reporting.read([tmp_path / "a"] * (profile_folder.MOST + 1))
    with pytest.raises(InputError, match=r"holds no profile\.json"):
        reporting.read([tmp_path])


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    with (tmp_path / "huge.json").open("wb") as stream:
        stream.truncate(1 << 40)
    with pytest.raises(InputError, match="more than"):
        reporting.read([tmp_path / "huge.json"])


def test_a_page_is_not_put_into_the_folder_beside_it(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    for page in ("p", "p/page.html"):
        with pytest.raises(OutputError, match="inside --out"):
            reporting.check_page(tmp_path / page, overwrite=True, beside=tmp_path / "p")
    reporting.check_page(tmp_path / "page.html", beside=tmp_path / "p")


@pytest.mark.parametrize(
    "changed",
    [
        {"load_ms": -1.0},
        {"load_ms": float("nan")},
        {"first_ms": float("inf")},
        {"samples_ms": [1e300]},
        {"size_bytes": -1},
        {"accuracy": 5.0},
    ],
)
def test_figures_that_cannot_be_are_refused(report: ProfileReport, tmp_path: Path, changed: dict[str, object]) -> None:
    value = json.loads(report.to_json())
    value["results"][0].update(changed)
    (tmp_path / "p.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match="not valid"):
        reporting.read([tmp_path / "p.json"])


def test_statistics_in_a_file_are_not_believed(report: ProfileReport, tmp_path: Path) -> None:
    flattered = dataclasses.replace(report.results[0], summary=report.results[1].summary)
    told = dataclasses.replace(report, results=(flattered, *report.results[1:]))
    (tmp_path / "p.json").write_text(told.to_json())
    assert reporting.read([tmp_path / "p.json"]) == [report]


@pytest.mark.parametrize("value", [0.0, -1.0, 1e-308, 1e308])
@pytest.mark.parametrize("name", ["gflops", "gbytes", "int8_gops", "cache_gbytes"])
def test_a_rate_that_no_machine_has_is_refused(report: ProfileReport, name: str, value: float) -> None:
    document = json.loads(report.to_json())
    document["results"][0]["operators"]["roofline"][name] = value
    with pytest.raises(InputError, match="a rate is not within"):
        ProfileReport.from_json(json.dumps(document).encode())


@pytest.mark.parametrize(("value", "taken"), [(0.0, True), (1e-308, False), (-1.0, False), (1e308, False)])
def test_a_time_that_no_clock_shows_is_refused(report: ProfileReport, value: float, taken: bool) -> None:
    document = json.loads(report.to_json())
    document["results"][0]["samples_ms"][0] = value
    with contextlib.nullcontext() if taken else pytest.raises(InputError, match="a sample is not 0 or within"):
        ProfileReport.from_json(json.dumps(document).encode())
