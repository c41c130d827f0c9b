"""The HTML report as a person has it: opened from a file in a real browser, wide and narrow."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.browser

DRAWN = 'document.documentElement.dataset.drawn === "yes"'
WIDTHS = {1280: False, 390: True}
"""CSS pixels, and whether it is a phone."""

UNITS = {"requests", "tokens/s"}
"""Titles of axes that are their unit."""
PLOTS = """
[...document.querySelectorAll("figure.chart")].map((chart) => {
  const box = chart.querySelector(".plot");
  const texts = (selector) => [...box.querySelectorAll(selector)].map((e) => e.textContent.trim());
  const area = (e) => { const r = e.getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; };
  const areas = (selector) => [...box.querySelectorAll(selector)].map(area);
  return {
    id: chart.id,
    views: chart.querySelectorAll("option").length || 1,
    points: box.data.reduce((n, trace) => n + trace.x.filter((x) => x !== null).length, 0),
    drawn: box.querySelectorAll(".scatterlayer path.js-line, .scatterlayer path.point").length,
    x: texts(".xtitle, .x2title"), y: texts('[class$="title"][class^="y"]'),
    rows: texts(".ytick text"),
    xticks: areas(".xtick text"), yticks: areas(".ytick text"),
    legend: areas(".legend")[0], top: area(box)[1] + box._fullLayout._size.t,
    entries: texts(".legendtext"),
    box: area(box),
  };
})
"""


def opened(browser, path, width):
    """The page at a width, every plot drawn."""
    browser.errors.clear()
    browser.requests.clear()
    browser.size(width, 900, mobile=WIDTHS[width])
    browser.open(path, DRAWN)
    return browser


def overlapping(areas):
    """Pairs of boxes that cover one another by more than a pixel."""
    return [
        (a, b)
        for i, a in enumerate(areas)
        for b in areas[i + 1 :]
        if min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1
    ]


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_fails_and_nothing_is_asked_of_the_network(browser, page, width):
    """No console error, no exception, no request: the file is all there is."""
    opened(browser, page, width)
    assert browser.errors == []
    assert browser.requests == []
    assert page.stat().st_size < 8_000_000


@pytest.mark.parametrize("width", WIDTHS)
def test_every_view_of_every_plot_is_drawn(browser, page, width):
    """Lines or points in each, axes that name their unit, labels that do not touch, legend above the plot."""
    opened(browser, page, width)
    ids = [plot["id"] for plot in browser.evaluate(PLOTS)]
    assert {name.partition("-")[0] for name in ids} == {"throughput", "pareto", "ttft", "itl", "time"}
    most = max(plot["views"] for plot in browser.evaluate(PLOTS))
    for view in range(most):
        choose(browser, view)
        for plot in browser.evaluate(PLOTS):
            told = (plot["id"], view)
            assert plot["points"] > 3, told
            assert plot["drawn"] >= 1, told
            assert plot["x"], told
            assert all("," in title or title in UNITS for title in (*plot["x"], *plot["y"])), told
            assert overlapping(plot["xticks"]) == [], told
            assert overlapping(plot["yticks"]) == [], told
            assert plot["legend"][3] <= plot["top"] + 2, told
            assert plot["legend"][2] <= plot["box"][2], told
    assert browser.errors == []


def choose(browser, view):
    """Choose the n-th view in every menu that has so many."""
    browser.evaluate(
        f"""(async () => {{
          for (const menu of document.querySelectorAll("figure.chart select")) {{
            if (menu.options.length > {view}) {{
              menu.selectedIndex = {view};
              menu.dispatchEvent(new Event("change"));
              await new Promise((done) => setTimeout(done, 20));
            }}
          }}
        }})()"""
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_is_as_wide_as_the_screen(browser, page, width):
    """Nothing sticks out sideways: wide tables scroll in their own box, plots shrink."""
    opened(browser, page, width)
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    for plot in browser.evaluate(PLOTS):
        assert plot["box"][0] >= 0
        assert plot["box"][2] <= width
        assert plot["box"][2] - plot["box"][0] > 0.85 * min(width, 1132)
    sizes = browser.evaluate(
        '[...document.querySelectorAll("p, td, th, summary, a")].map((e) => parseFloat(getComputedStyle(e).fontSize))'
    )
    assert min(sizes) >= 12


@pytest.mark.parametrize("width", WIDTHS)
def test_the_simulated_banner_stays_in_sight(browser, page, width):
    """It is at the top when the page opens, and still there at its end; each legend says so too."""
    opened(browser, page, width)
    look = """(() => { const r = document.querySelector(".banner").getBoundingClientRect();
      return [r.top, r.bottom, r.width, document.querySelector(".banner").innerText]; })()"""
    for place in ("0", "document.documentElement.scrollHeight"):
        browser.evaluate(f"window.scrollTo(0, {place})")
        top, bottom, across, text = browser.evaluate(look)
        assert (top, across) == (0, width)
        assert bottom > 20
        assert "SIMULATED" in text
    entries = [
        name
        for plot in browser.evaluate(PLOTS)
        if not plot["id"].startswith("time")
        for name in plot["entries"]
    ]
    models = [name for name in entries if name not in ("roofline bound", "Pareto frontier")]
    assert models
    assert all("(simulated)" in name for name in models)


def test_hover_tells_the_figures(browser, page):
    """The mouse on a mark shows configuration, load, throughput, latency and verdict."""
    opened(browser, page, 1280)
    place = """(() => {
      const box = document.querySelector('figure.chart[id^="throughput"] .plot');
      box.scrollIntoView({block: "center"});
      const points = box.querySelectorAll(".scatterlayer path.point");
      const r = points[1].getBoundingClientRect();
      return [r.left + r.width / 2, r.top + r.height / 2];
    })()"""
    x, y = browser.evaluate(place)
    browser.move(x, y)
    browser.wait("document.querySelector('.hoverlayer .hovertext')")
    text = browser.evaluate("document.querySelector('.hoverlayer .hovertext').textContent")
    for part in (
        "(simulated)",
        "users",
        "output tokens/s",
        "TTFT p50",
        "TPOT p50",
        "roofline bound",
        "valid",
    ):
        assert part in text


def test_invalid_rows_are_hollow_and_say_why(browser, page):
    """The voided cell's marks are open, no line goes to them, and their hover text names the code."""
    opened(browser, page, 1280)
    traces = json.loads(
        browser.evaluate(
            """JSON.stringify(document.querySelector('figure.chart[id^="throughput"] .plot').data.filter(
               (trace) => trace.name.endsWith(", invalid")))"""
        )
    )
    (bad,) = traces
    assert bad["mode"] == "markers"
    assert all(symbol.endswith("-open") for symbol in bad["marker"]["symbol"])
    assert all("prefix_cache_hits" in text for text in bad["text"])


def test_the_axis_can_be_made_linear_and_back(browser, page):
    """The button changes the scale of the plot, and its own words."""
    opened(browser, page, 1280)
    kind = """document.querySelector('figure.chart[id^="throughput"] .plot').layout.yaxis.type"""
    press = """document.querySelector('figure.chart[id^="throughput"] .scale').click()"""
    assert browser.evaluate(kind) == "log"
    browser.evaluate(press)
    browser.wait(f"{kind} === 'linear'")
    browser.evaluate(press)
    browser.wait(f"{kind} === 'log'")
    assert browser.errors == []


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_of_effects_are_readable(browser, comparison, width):
    """Each row of an ablation and of a comparison has its name, and names do not touch."""
    opened(browser, comparison, width)
    plots = {plot["id"]: plot for plot in browser.evaluate(PLOTS)}
    effects = [plot for name, plot in plots.items() if name.startswith(("ablation", "comparison"))]
    assert len(effects) == 3
    for plot in effects:
        assert plot["points"] >= 4
        assert len(plot["rows"]) >= 4
        assert overlapping(plot["yticks"]) == []
        assert overlapping(plot["xticks"]) == []
        assert any("change of" in title for title in plot["x"])
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    assert browser.errors == []


def test_turning_the_phone_redraws(browser, page):
    """From narrow to wide the plots take the room they get."""
    opened(browser, page, 390)
    browser.size(1280, 900)
    browser.wait("document.querySelector('figure.chart .plot svg').getBoundingClientRect().width > 900")
    assert browser.errors == []
