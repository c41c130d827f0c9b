"""What is written: the page, the Markdown, the plots and the tables of a study."""

from __future__ import annotations

import html
import json
import math
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from rocbench import __version__
from rocbench.report import (
    document,
    markdown,
    material,
    page,
    plotly_page,
    static,
    study,
    study_results,
    write,
)
from rocbench.report.chart import Chart, Panel, Series, View
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
MEGABYTES = 1_000_000


class Outward(HTMLParser):
    """Collects every reference that leaves the page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        """Looks at one element."""
        for name, value in attrs:
            if name in {"src", "href", "action", "data"} and not (value or "").startswith(("#", "data:")):
                self.found.append((tag, name, value))


@pytest.fixture(scope="module")
def written(small_run, tmp_path_factory):
    """A report with its study tables on disk."""
    out = tmp_path_factory.mktemp("report")
    return out, write.report([small_run], out, with_study=True)


def test_the_page_refers_to_nothing_outside(written):
    """No script, style, picture or link of another place."""
    out, _ = written
    text = (out / "report.html").read_text(encoding="utf-8")
    outward = Outward()
    outward.feed(re.sub(r"<script>.*?</script>", "", text, flags=re.DOTALL))
    assert outward.found == []
    assert "@import" not in text.partition("</style>")[0]
    assert len(text) < 8 * MEGABYTES


def test_the_page_has_the_banner_and_every_plot(written, small_run):
    """The simulated banner stands before all else, and each chart has its data."""
    out, done = written
    text = (out / "report.html").read_text(encoding="utf-8")
    body = text.partition("<body>")[2]
    assert body.index("SIMULATED") < body.index("<h1>")
    made = document.build(material.read_runs([small_run]))
    for chart in made.charts():
        found = re.search(rf'id="{re.escape(chart.id)}".*?application/json">(.*?)</script>', text, re.DOTALL)
        assert found is not None
        assert len(json.loads(found[1])) == len(chart.views)
        assert chart.synthetic == "simulated"
        assert f'{html.escape(chart.title)} <span class="tag">simulated</span></h3>' in text
    assert done.banner[0] == "SIMULATED"


def test_verdicts_stay_in_sight(written):
    """Every column of verdicts is marked, so that a wide table does not scroll it away."""
    out, _ = written
    text = (out / "report.html").read_text(encoding="utf-8")
    assert len(re.findall(r'<th class="[nst] v">verdict</th>', text)) == text.count(">verdict</th>") >= 2
    assert re.search(r"\.v \{ position: sticky; right: 0;", text)


def test_one_point_has_axes_around_it():
    """As far as the ticks go: a decade to each side would be full of labels that touch."""
    series = Series("a", (8.0,), (116.0,), symbol=0)
    (figure,) = plotly_page.figures(
        Chart("c", "t", "", (View("", (Panel("y", (series,), log_y=True),), "x", log_x=True),))
    )
    ranges = [figure["layout"][axis]["range"] for axis in ("xaxis", "yaxis")]
    assert [[round(10**end) for end in pair] for pair in ranges] == [[4, 16], [58, 231]]


def test_a_measured_run_has_no_banner(small_run):
    """The mark is of simulated rows alone."""
    (run,) = material.read_runs([small_run])
    rows = tuple(row | {"simulated": False} for row in run.rows)
    made = document.build([replace(run, rows=rows)])
    assert "SIMULATED" not in page.html(made).partition("<body>")[2]


def test_a_number_beyond_all_bounds_is_a_gap_in_the_page():
    """JSON has no infinity, and a page with one would draw nothing."""
    assert json.loads(page.script_json([{"y": (1.0, math.inf, math.nan)}])) == [{"y": [1.0, None, None]}]


def test_words_from_files_cannot_become_markup():
    """A name with markup in it is text in the page, and cannot end a script."""
    evil = "</script><script>alert(1)</script>"
    chart = Chart("c", evil, evil, (View("", (Panel("y", (Series(evil, (1.0,), (1.0,)),)),), "x"),))
    assert "</script>" not in page.script_json(plotly_page.figures(chart))
    (figure,) = json.loads(page.script_json(plotly_page.figures(chart)))
    assert "<" not in figure["data"][0]["name"]  # plotly takes some HTML
    assert html.unescape(figure["data"][0]["name"]) == evil
    assert str(page.code(f"`{evil}` {evil}")).count("<script>") == 0


def test_every_plot_is_a_png_and_an_svg(written):
    """Both files of each plot, not empty, and named in report.md."""
    out, done = written
    pictures = sorted((out / write.PLOTS).glob("*.png"))
    assert len(pictures) == done.plots
    text = (out / "report.md").read_text(encoding="utf-8")
    for path in pictures:
        with Image.open(path) as image:
            assert image.width > 900
            colours = image.convert("RGB").getcolors(maxcolors=1 << 24) or []
            assert len(colours) > 20
        assert path.with_suffix(".svg").read_text(encoding="utf-8").rstrip().endswith("</svg>")
        assert f"]({write.PLOTS}/{path.name})" in text


@pytest.mark.filterwarnings("error")
def test_a_long_legend_takes_nothing_from_the_axes():
    """The figure grows by the legend's lines."""
    series = tuple(Series("a" * 80 + str(n), (1.0, 2.0), (1.0, 2.0)) for n in range(30))
    figure = static.draw(Chart("c", "t", "", ()), View("", (Panel("y", series),), "x"))
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert ax.get_window_extent().height / figure.dpi > 1.5  # inches


def test_static_plots_are_the_same_when_made_again(small_run, tmp_path):
    """A plot in a repository changes only when its data do."""
    made = document.build(material.read_runs([small_run]))
    charts = made.charts()[:1]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        static.write(charts, tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_study_tables_are_written_in_three_forms(written):
    """study.md has all that a study needs; each table is also CSV and LaTeX."""
    out, done = written
    text = (out / "study.md").read_text(encoding="utf-8")
    for heading in (
        "Hardware",
        "Software",
        "Model architectures",
        "KV cache by architecture",
        "Workloads",
        "Results, text-2048-512",
        "Results, deepseek-v3.2",
        "Saturation",
        "Reliability",
        "Variability between repeats",
        "Physical limits",
        "Limits",
    ):
        assert f"## {heading}\n" in text
    assert {path.suffix for path in (out / write.STUDY).iterdir()} == {".csv", ".tex"}
    assert out / "study.md" in done.paths
    assert "SIMULATED" in text


def test_the_workloads_of_a_study_have_each_cells_own_bounds(small_run):
    """The sweep's load is not that of every block, and prompts may come again."""
    (run,) = material.read_runs([small_run])
    first = run.rows[0]["cell_id"]
    rows = [
        row | {"max_requests": 75, "load_spec": '{"max_requests_per_user": 1}'}
        if row["cell_id"] == first
        else row
        for row in run.rows
    ]
    for server in run.plan["servers"]:
        for cell in server["cells"]:
            cell["workload"]["prompt_pool"] = 1 if cell["cell_id"] == first else None
    (one, *others) = study_results.workloads([replace(run, rows=tuple(rows))]).rows
    assert "75 requests, at most 1 per user" in one
    assert "1, repeated" in one
    assert all("each unique" in other and "at least" in other[-1] for other in others)
    assert others


def test_a_study_marks_what_is_invalid(small_run):
    """The voided cell has no figure among the results, and its reason beside it."""
    tables = {table.id: table for table in study.build(material.read_runs([small_run]))}
    results = tables["results-workload-text-2048-512"]
    (row,) = [row for row in results.rows if "qwen" in row[0] and row[1] == "256 users"]
    assert row[2:4] == ("0", "-")
    assert row[-1] == "INVALID: prefix_cache_hits"


def fixed_run(path):
    """A run of given figures: golden text must not change with the physics."""
    folder = RunFolder.create(path)
    folder.write_json(
        "manifest.json", {"run_id": "fixed", "begun_at": "2026-01-01T00:00:00", "sweep": "fixed"}
    )
    folder.write_json("plan.json", {"sweep": {"slo": {"ttft_ms": 2000, "tpot_ms": 60, "e2el_ms": None}}})
    for model, top in (("deepseek-v3.2", 9000.0), ("qwen3-vl-235b", 12000.0)):
        for users, share in ((1, 0.05), (64, 0.97), (256, 1.0)):
            for repeat in (1, 2, 3):
                void = model.startswith("qwen") and users == 256
                tokens = top * share * (1 + 0.01 * repeat) * (2 if void else 1)
                row = {
                    "key": f"{model}/text-2048-512/c{users}",
                    "model": model,
                    "workload": "text-2048-512",
                    "concurrency": users,
                    "load_shape": "closed",
                    "output_throughput": tokens,
                    "output_throughput_per_gpu": tokens / 8,
                    "roofline_output_throughput": 2 * top,
                    "roofline_share": tokens / top / 2,
                    "median_ttft_ms": 10.0 * users,
                    "median_tpot_ms": 5.0 + users / 4,
                    "goodput_share": 0.5 if users > 64 else 1.0,
                    "goodput": 0.1 * users,
                    "valid": not void,
                    "reasons": "prefix_cache_hits" if void else "few_samples_p99" if users == 1 else "",
                    "simulated": True,
                    "hardware": "mi325x",
                    "tp": 8,
                }
                folder.write_cell(Identity("fixed", f"{model}-{users}", repeat), row, {})
    return folder


def test_the_markdown_is_as_in_the_golden_file(tmp_path):
    """Summary and plots of report.md, word for word (UPDATE_GOLDEN=1 rewrites it)."""
    made = document.build(material.read_runs([fixed_run(tmp_path / "fixed")]))
    files = {chart.id: [(view.name, chart.id) for view in chart.views[:1]] for chart in made.charts()}
    shown = replace(made, servers=(), after=(), subtitle="2026-01-01")
    text = markdown.report_markdown(shown, files, "plots").replace(__version__, "VERSION")
    path = GOLDEN / "fixed.md"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


def test_servers_are_told_with_the_reason_of_each_flag(written):
    """The command to paste, and who set what."""
    out, _ = written
    text = (out / "report.md").read_text(encoding="utf-8")
    assert "vllm serve deepseek-ai/DeepSeek-V3.2" in text
    assert "| flag or variable | value | set by | why | source |" in text


def test_a_folder_that_was_opened_again_gives_the_same(small_run):
    """The report needs nothing but what is on disk."""
    fresh = document.build(material.read_runs([small_run]))
    again = document.build(material.read_runs([RunFolder.open(small_run.path)]))
    assert fresh == again
