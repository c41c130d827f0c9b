"""One table of hostile strings over all outputs: as data they stay what they are, and nothing obeys them."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from typer.testing import CliRunner

import hostile
from rocbench import cli
from rocbench.report import static
from rocbench.report.live import LiveScreen, PlainScreen
from rocbench.server.command import shell_line
from rocbench.store.cells import read_cells
from rocbench.store.folder import RunFolder
from rocbench.tables.parts import Identity
from rocbench.tables.row import Row
from synthetic_runs import write_run

SWEEP = {
    "name": "hostile",
    "vllm": "0.14.1",
    "models": ["llama-3.1-405b"],
    "workloads": ["short"],
    "concurrency": list(range(1, len(hostile.STRINGS) + 1)),
    "repeats": 1,
}
TEXTS = tuple(hostile.STRINGS.values())
RUNNER = re.compile(r"^\s*::[a-z-]+(?: .*)?::|##\[|##vso\[", re.IGNORECASE | re.MULTILINE)
SAID = ("model", "vllm_version", "common_error", "failure_message", "plan_differences", "attention_backend")
"""Columns that hold names of others, or words of a server."""


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run folder in which each cell has one of the strings for its names and words."""
    path = tmp_path_factory.mktemp("hostile") / "run"
    write_run(path, SWEEP)
    for part in (path / "parts" / "cells").glob("*.json"):
        row = json.loads(part.read_text())
        text = TEXTS[int(row["concurrency"]) - 1]
        row |= dict.fromkeys(SAID, text) | {"key": f"{text}/short/c{row['concurrency']}", "valid": True}
        row |= {"load_notes": json.dumps([text]), "axes": json.dumps({"tp": text})}
        part.write_text(json.dumps(row))
    for name in ("plan.json", "manifest.json"):
        value = json.loads((path / name).read_text())
        value |= {"sweep": TEXTS[18]} if name == "manifest.json" else {}
        for server in value.get("servers", ()):
            server |= {"model": TEXTS[20], "argv": ["vllm", "serve", *TEXTS], "axes": {"tp": TEXTS[16]}}
            server["warnings"] = list(TEXTS)
        (path / name).write_text(json.dumps(value))
    folder = RunFolder.open(path)
    folder.finish()
    return path


def bench(*words: object) -> str:
    """A command's standard output, which must end well."""
    done = CliRunner().invoke(cli.app, [str(word) for word in words], catch_exceptions=False)
    assert done.exit_code in (0, 1, 3), done.output
    return done.stdout


def controls(text: str, keep: str = "\n") -> set[str]:
    """Characters that a terminal or a reader would obey, and commands that a CI runner would."""
    found = {c for c in text if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c not in keep}
    return found | {c[0] for c in RUNNER.finditer(text)}


def check_csv(text: str) -> None:
    """No cell that a spreadsheet takes for a formula."""
    assert not controls(text)
    for cell in (cell for row in csv.reader(io.StringIO(text)) for cell in row):
        assert not re.match(r"[=@\t\r\uff1d]|[+-].*[A-Za-z(|!]", cell), cell


def test_data_stay_as_they_are(run):
    """In parquet and JSON as given; in CSV made harmless, and the same when it is read back."""
    wanted = {text: f"{text}/short/c{at}" for at, text in enumerate(TEXTS, start=1)}
    for name in ("cells.parquet", "cells.csv"):
        frame = read_cells(run / name)
        assert dict(zip(frame.model, frame.key, strict=True)) == wanted, name
        assert frame.common_error.tolist() == frame.model.tolist()
    check_csv((run / "cells.csv").read_text())
    bench("export", run, "--format", "jsonl", "--out", run / "jsonl")
    lines = [json.loads(line) for line in (run / "jsonl" / "cells.jsonl").read_text().splitlines()]
    assert {line["model"] for line in lines} == set(TEXTS)


def test_half_a_character_costs_no_row(tmp_path):
    """JSON can hold it, and no file: it is shown."""
    folder = RunFolder.create(tmp_path / "run")
    folder.write_cell(Identity("run", "c", 1, False), {"model": "a\ud800b"}, {})
    for name in ("cells.csv", "cells.parquet"):
        assert read_cells(tmp_path / "run" / name).model.tolist() == ["a<U+D800>b"]


def test_csv_of_every_command(run):
    """And of the exports; figures that begin with a sign stay figures."""
    check_csv(bench("query", "select model, -1.5 as figure from cells", "--results", run, "--csv"))
    assert "\n'=cmd|'/c calc'!A0,-1.5\n" in bench(
        "query", "select model, -1.5 as figure from cells", "--results", run, "--csv"
    )
    check_csv(bench("summary", run, "--csv"))
    check_csv(bench("history", "--results", run, "--csv"))
    bench("export", run, "--format", "csv-long", "--out", run / "long")
    check_csv((run / "long" / "cells-long.csv").read_text())


@pytest.mark.parametrize("format_", ["vllm-bench", "inferencex", "pytorch", "aiperf"])
def test_exports_of_other_tools(run, tmp_path, format_):
    """JSON, in files whose names stay within the folder."""
    out = tmp_path / "deep" / "out"
    bench("export", run, "--format", format_, "--out", out)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert path.is_relative_to(out)
        assert path.name.isprintable()
        json.loads(path.read_text())


class Tags(HTMLParser):
    """Elements and attributes of a page, but for the texts of scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()
        self.links: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag, attrs):
        """Note it."""
        self.scripts += tag == "script"
        self.links += [value or "" for name, value in attrs if tag == "a" and name == "href"]
        self.seen |= {tag} | {f"{tag}.{name}" for name, _ in attrs}


@pytest.mark.parametrize("pictures", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_reports(run, tmp_path, monkeypatch, pictures):
    """Markdown, page, pictures, and a study's CSV and LaTeX."""
    if not pictures:
        monkeypatch.setattr(static, "write", lambda charts, _: {c.id: [("", c.id)] for c in charts})
    bench("report", run, "--out", tmp_path, "--study")

    for name in ("report.md", "study.md"):
        text = (tmp_path / name).read_text()
        assert not controls(text)
        told = MarkdownIt("commonmark").enable("table").parse(text)
        inline = [child for token in told for child in token.children or ()]
        assert not {"html_block", "html_inline", "link_open"} & {token.type for token in (*told, *inline)}
        assert all(c.attrs["src"].startswith("plots/") for c in inline if c.type == "image")
        kinds = [token.type for token in told]
        piped = sum(line.startswith("|") for line in text.splitlines())
        assert piped == kinds.count("tr_open") + kinds.count("table_open")  # and their rules
    page = (tmp_path / "report.html").read_text()
    tags = Tags()
    tags.feed(page)
    assert not {"img", "b", "iframe", "a.onclick"} & tags.seen
    assert tags.scripts == 2 + page.count('<figure class="chart"')
    assert set(tags.links) <= {link for link in tags.links if link.startswith("#")}
    assert "<b>%{x}" not in "".join(re.findall(r'<script type="application/json">(.*?)</script>', page))
    assert not controls(re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL), "\n\t")
    for path in tmp_path.rglob("*.svg"):
        ET.parse(path)
    for path in tmp_path.rglob("*.csv"):
        check_csv(path.read_text())
    tex = [path.read_text() for path in tmp_path.rglob("*.tex")]
    assert tex
    assert not any("\\input" in text or "\\frac" in text for text in tex)
    assert all(path.name.isprintable() for path in tmp_path.rglob("*"))


def test_screens(run, capsys, monkeypatch):
    """Tables and lines of every reading command, and both views of a sweep."""
    for words in (("summary", run), ("summary", run, "--end-table"), ("history", "--results", run)):
        assert not controls(bench(*words), "\n")
    assert not controls(bench("query", "select model, key from cells", "--results", run))
    for text in TEXTS:
        row = Row({"key": text, "valid": None, "output_throughput": 1.0, "reasons": ""})
        plain, live = PlainScreen(), LiveScreen()
        said = io.StringIO()
        live._console.file, live._console._force_terminal = said, True
        for screen in (plain, live):
            screen.row(row)
            screen.note(text)
        shown = re.sub(r"\x1b\[[\d;]*m", "", said.getvalue())
        assert not controls(shown), text
        assert len(shown.splitlines()) <= 2 + text.count("\n") + text.count("[link") + 2
    capsys.readouterr()


def test_judgements(run, tmp_path):
    """The gate's JUnit XML and Markdown, a comparison's tables."""
    summary, junit = tmp_path / "s.md", tmp_path / "j.xml"
    bench("gate", run, "--baseline", run / "cells.csv", "--junit", junit, "--markdown", summary)
    suite = ET.parse(junit)
    assert len(list(suite.iter("testcase"))) >= len(TEXTS)
    told = MarkdownIt("commonmark").enable("table").parse(summary.read_text())
    inline = [child for token in told for child in token.children or ()]
    assert not {"html_block", "html_inline", "link_open", "image"} & {t.type for t in (*told, *inline)}
    for words in ((), ("--format", "md"), ("--format", "csv")):
        assert not controls(bench("compare", run / "cells.csv", run / "cells.csv", *words))


def test_a_line_to_paste():
    """A shell gives each word back as it was."""
    words = [text for text in TEXTS if "\x00" not in text]
    line = shell_line(["printf", "%s\\0", *words], {})
    done = subprocess.run(["sh", "-c", line], capture_output=True, check=True)
    assert done.stdout.decode().split("\x00")[:-1] == words
    assert shlex.split(line)[2:] == words
