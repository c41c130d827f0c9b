"""Pass, regression, cannot tell: rules, outcomes, exit codes, and what CI reads."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from pydantic import ValidationError

from cellrows import cells, table
from rocbench.errors import ConfigError, Exit, InputError
from rocbench.judgement import gate, gatereport, render
from rocbench.judgement.ablate import ablate
from rocbench.judgement.compare import compare
from rocbench.judgement.gaterules import GateRules
from rocbench.settings import yamlfile

RULES = GateRules(relative=({"metric": "output_throughput", "worse_by": "5%"},))
BASE = table(*(cells(1000, cov=0.01, concurrency=c, seed=c) for c in (8, 64)))


def again(factor=1.0, n=5, cov=0.01, **fields):
    """The baseline's cells measured again, times a factor."""
    return table(*(cells(1000 * factor, cov=cov, n=n, concurrency=c, seed=c + 50, **fields) for c in (8, 64)))


def test_a_regression_is_found_and_named():
    """Ten per cent less throughput: exit 1, and the cells by name."""
    result = gate.gate(again(0.9), BASE, RULES)
    assert result.exit_code == Exit.DONE_WITH_FAULTS
    bad = [item for item in result.items if item.outcome == "regression"]
    assert [("concurrency=8" in item.cell, "concurrency=64" in item.cell) for item in bad] == [
        (True, False),
        (False, True),
    ]
    assert "-" in bad[0].detail


def test_equal_runs_pass():
    """A run against another like it passes: a loss of 5 % is ruled out."""
    assert gate.gate(again(), BASE, RULES).exit_code == Exit.DONE


def test_a_gain_passes():
    """Better is not a regression."""
    assert gate.gate(again(1.2), BASE, RULES).exit_code == Exit.DONE


def test_a_loss_within_the_rule_passes():
    """Two per cent less is told from zero and still allowed."""
    assert gate.gate(again(0.98, cov=0.002), BASE, RULES).exit_code == Exit.DONE


def test_one_repeat_cannot_tell():
    """n=1 decides nothing: exit 3."""
    result = gate.gate(again(n=1), BASE, RULES)
    assert result.exit_code == Exit.CANNOT_TELL
    assert "at least 3 are needed" in result.items[0].detail


def test_noise_cannot_tell_and_says_what_would():
    """CoV 10 % cannot rule out a loss of 5 %, and says how many repeats would."""
    result = gate.gate(again(cov=0.1), BASE, RULES)
    assert result.outcome == "cannot tell"
    assert "pairs of repeats are enough to decide" in " ".join(item.detail for item in result.items)


def test_the_repeats_that_would_tell_depend_on_where_the_loss_lies():
    """A loss near the rule's takes many more than none, or than a large one."""
    figures = {"unit_sd": 0.03, "unit_df": 20.0, "pooling": 5.0, "units": 5}
    compared = compare(BASE, again())
    none, near, large = (
        gate._needed(figures | {"effect": effect}, RULES.relative[0], RULES, 1, compared)
        for effect in (0, -0.04, -0.08)
    )
    assert near > 10 * none
    assert large == 6  # more than there were


@pytest.mark.parametrize(
    ("policy", "code"), [("report", Exit.CANNOT_TELL), ("pass", Exit.DONE), ("fail", Exit.DONE_WITH_FAULTS)]
)
def test_the_policy_decides_on_cannot_tell(policy, code):
    """What cannot be told becomes 3, 0 or 1, as the rules say."""
    rules = RULES.model_copy(update={"cannot_tell": policy})
    assert gate.gate(again(n=1), BASE, rules).exit_code == code


def test_a_missing_cell_cannot_pass():
    """A cell of the baseline that this run lacks is not passed over."""
    result = gate.gate(table(cells(1000, seed=9)), BASE, RULES)
    missing = [item for item in result.items if item.detail == "missing in this run"]
    assert len(missing) == 1
    assert result.outcome == "cannot tell"


def test_invalid_rows_cannot_pass():
    """A run whose rows are void has not shown anything."""
    assert gate.gate(again(valid=False), BASE, RULES).outcome == "cannot tell"


FAILED = {"valid": False, "reasons": "error_rate;concurrency_not_delivered", "success_rate": 0.6}


def _with(rows, **fields):
    """The run measured again, some rows of its first cell otherwise."""
    run = again()
    for name, value in fields.items():
        run.loc[run.index[:rows], name] = value
    return run


def test_a_server_that_fails_in_every_row_is_a_regression():
    """Where the baseline's did not: by the cell's name and the code, beside the rows that were left out."""
    result = gate.gate(_with(5, **FAILED), BASE, RULES)
    (item,) = (item for item in result.items if item.rule == gate.SERVER_RULE)
    assert (item.outcome, result.exit_code) == ("regression", Exit.DONE_WITH_FAULTS)
    assert "concurrency=8" in item.cell
    assert item.detail == "5 of 5 rows: error_rate; in the baseline, 0 of 5 rows"
    spoiled = {"valid": False, "reasons": "client_saturated"}
    for base in (FAILED, spoiled):
        assert gate.gate(_with(5, **FAILED), _with(5, **base), RULES).outcome == "cannot tell"


@pytest.mark.parametrize(
    "fields",
    [
        FAILED,
        FAILED | {"reasons": "error_rate;client_saturated"},
        {"valid": False, "reasons": "server_failed"},
        {"replaced_reasons": "error_rate;few_samples_p99"},
    ],
)
def test_a_server_that_failed_once_cannot_pass(fields):
    """Also where the row was measured once more: the luckier attempt does not hide the other."""
    result = gate.gate(_with(1, **fields), BASE, RULES)
    assert [i.outcome for i in result.items if i.rule == gate.SERVER_RULE] == ["cannot tell"]
    assert result.exit_code == Exit.CANNOT_TELL


def test_rows_that_were_left_out_are_told_in_every_form():
    """What the measuring machine spoiled may be left out, with its code and how many."""
    result = gate.gate(_with(1, valid=False, reasons="client_saturated;throttled"), BASE, RULES)
    told = "concurrency=8 load_shape=closed: 1 of 5 rows is void: client_saturated"
    assert result.outcome == "pass"
    assert all(told in form(result) for form in (gatereport.text, gatereport.gate_page, gatereport.junit))
    assert told in gatereport.as_dict(result)["notes"][0]
    assert "n=5 and 4, void rows excluded: 0 and 1" in gatereport.text(result)


def test_a_limit_on_success_judges_rows_that_failures_voided():
    """The share of requests that succeeded is true of a row that is void by those that did not."""
    limit = GateRules(relative=(), limits=("success_rate >= 0.99",))
    (item,) = (
        i for i in gate.gate(_with(5, **FAILED), None, limit).items if "8" in i.cell and ">=" in i.rule
    )
    assert (item.outcome, item.detail) == ("regression", "0.6 [0.6, 0.6], n=5")


def test_limits_beside_relative_rules():
    """An SLO limit fails by its cell; one repeat is judged by the spread of the other cells' repeats."""
    rules = GateRules(relative=(), limits=("p99_ttft_ms <= 2000", "output_throughput > 500"))
    run = table(
        cells(1500, metric="p99_ttft_ms", concurrency=8, output_throughput=900.0),
        cells(2500, metric="p99_ttft_ms", concurrency=64, output_throughput=900.0),
        cells(1990, metric="p99_ttft_ms", cov=0.02, concurrency=128, output_throughput=900.0),
        cells(3000, metric="p99_ttft_ms", n=1, concurrency=256, output_throughput=900.0),
    )
    result = gate.gate(run, None, rules)
    outcomes = [item.outcome for item in result.items if item.rule.startswith("p99")]
    assert outcomes == ["pass", "regression", "cannot tell", "regression"]
    outcomes = [item.outcome for item in result.items if item.rule.startswith("output")]
    assert outcomes == ["pass"] * 4
    assert result.exit_code == Exit.DONE_WITH_FAULTS


def test_single_repeats_near_a_limit_are_no_regression():
    """24 cells 2 % inside a limit, measured once: nothing shows how far repeats differ, unless earlier runs do."""
    rules = GateRules(relative=(), limits=("p99_ttft_ms <= 2000",))
    run = table(
        *(cells(1960, metric="p99_ttft_ms", cov=0.03, n=1, concurrency=c, seed=c) for c in range(1, 25))
    )
    assert {item.outcome for item in gate.gate(run, None, rules).items} == {"cannot tell"}
    past = table(
        *(
            cells(1960, metric="p99_ttft_ms", cov=0.03, n=3, concurrency=c, seed=c, run_id="past").assign(
                cell_id=run["cell_id"].iloc[c - 1]
            )
            for c in range(1, 25)
        )
    )
    assert {item.outcome for item in gate.gate(run, None, rules, history=past).items} == {"cannot tell"}
    far = run.assign(p99_ttft_ms=run["p99_ttft_ms"] * 0.7)
    assert {item.outcome for item in gate.gate(far, None, rules, history=past).items} == {"pass"}


def test_a_limit_on_a_percentile_of_few_requests_is_told():
    """Twenty requests have no p99."""
    run = table(cells(1500, metric="p99_ttft_ms", n=1, ttft_n=20))
    result = gate.gate(run, None, GateRules(relative=(), limits=("p99_ttft_ms <= 2000",)))
    assert "comes from 20 requests, but needs 368" in result.notes[0]


def test_where_chooses_cells():
    """A rule holds for the cells it names, and one that meets none is an error."""
    rules = GateRules(relative=(), limits=({"limit": "p99_ttft_ms <= 1", "where": {"concurrency": [64]}},))
    run = table(cells(5, metric="p99_ttft_ms", concurrency=8), cells(5, metric="p99_ttft_ms", concurrency=64))
    assert len(gate.gate(run, None, rules).items) == 1
    with pytest.raises(InputError, match="matches no cell"):
        gate.gate(
            run,
            None,
            GateRules(relative=(), limits=({"limit": "p99_ttft_ms <= 1", "where": {"model": "x"}},)),
        )
    with pytest.raises(InputError, match="no column"):
        gate.gate(
            run, None, GateRules(relative=(), limits=({"limit": "p99_ttft_ms <= 1", "where": {"x": 1}},))
        )


def test_a_missing_baseline_is_bad_input():
    """Relative rules without a baseline are an error of the user, not a verdict."""
    with pytest.raises(InputError, match="need a baseline"):
        gate.gate(BASE, None, RULES)


def test_unlike_runs_are_refused():
    """A simulated run does not pass against a real baseline: it is refused."""
    with pytest.raises(InputError, match="simulated"):
        gate.gate(again(simulated=True), BASE, RULES)


def test_rules_are_read_from_yaml(tmp_path):
    """gate.yaml with percentages, limits as text and with `where`."""
    path = tmp_path / "gate.yaml"
    path.write_text(
        "cannot_tell: fail\n"
        "relative:\n  - {metric: output_throughput, worse_by: 3%}\n"
        "limits:\n  - p99_ttft_ms <= 2000\n  - {limit: success_rate >= 0.999, where: {model: [a, b]}}\n"
    )
    rules = yamlfile.load(path, GateRules)
    assert rules.relative[0].worse_by == pytest.approx(0.03)
    assert [rule.limit for rule in rules.limits] == ["p99_ttft_ms <= 2000", "success_rate >= 0.999"]


@pytest.mark.parametrize(
    "text",
    [
        "limits: [p99_ttft_ms < = 5]",
        "limits: [colour <= 5]",
        "relative: [{metric: input_throughput}]",
        "relativ: []",
        "relative: []",
        "relative: [{metric: output_throughput, worse_by: -3%}]",
        "relative: [{metric: output_throughput, worse_by: 5}]",
    ],
)
def test_bad_rules_are_refused_with_their_place(tmp_path, text):
    """A limit that cannot be read, an unknown column, a metric without direction, a misspelt key."""
    path = tmp_path / "gate.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError, match=r"gate.yaml:1"):
        yamlfile.load(path, GateRules)


def test_rules_are_frozen():
    """Rules do not change under a running gate."""
    with pytest.raises(ValidationError):
        RULES.alpha = 0.5


def test_junit_opens_in_a_parser():
    """A test case per item, failures and skips counted as CI shows them."""
    result = gate.gate(again(0.9), BASE, RULES)
    root = ET.fromstring(gatereport.junit(result))
    suite = root.find("testsuite")
    assert suite.attrib["tests"] == suite.attrib["failures"] == "2"
    assert len(root.findall(".//failure")) == 2
    undecided = ET.fromstring(gatereport.junit(gate.gate(again(n=1), BASE, RULES)))
    assert undecided.attrib["skipped"] == "2"
    assert undecided.find(".//skipped").attrib["message"].startswith("cannot tell")


def test_markdown_and_text_lead_with_the_outcome():
    """The summary for people: outcome, counts, regressions first."""
    result = gate.gate(again(0.9), BASE, RULES)
    told = gatereport.gate_page(result)
    assert told.startswith("## Performance gate: regression")
    assert "2 regression, 0 cannot tell, 0 pass" in told
    assert "**regression**" in told
    assert gatereport.text(result).endswith("gate: regression")
    assert gatereport.as_dict(result)["outcome"] == "regression"


def test_simulated_gates_say_so():
    """A gate on simulated runs is marked wherever it is shown."""
    sides = again(simulated=True), again(simulated=True, cov=0.011)
    result = gate.gate(*sides, RULES)
    assert "Simulated: no GPU was measured" in gatereport.gate_page(result)
    assert "simulated: no GPU was measured" in gatereport.text(result)


def test_predicted_is_not_called_simulated():
    """Rows of virtual time are predictions wherever they are judged, though the simulated server's model made them."""
    sides = [again(simulated=True, predicted=True, cov=cov) for cov in (0.01, 0.011)]
    held = gate.gate(*sides, RULES)
    assert "Predicted: no GPU was measured" in gatereport.gate_page(held)
    assert "predicted: no GPU was measured" in gatereport.text(held)
    assert gatereport.as_dict(held)["predicted"]
    assert "predicted: no GPU was measured" in render.comparison(compare(*sides))
    arms = table(*(cells(axes={"aiter": level}, simulated=True, predicted=True) for level in ("off", "on")))
    assert "predicted: no GPU was measured" in render.ablation(ablate(arms, {"aiter": ["off", "on"]}))


def test_the_text_is_folded_at_the_width_of_the_terminal():
    """No line of the table is longer than the terminal is wide."""
    said = gatereport.text(gate.gate(again(), BASE, RULES), 80)
    assert all(len(line) <= 80 for line in said.splitlines() if line.startswith((" ", "model", "cell", "-")))


def test_a_number_that_is_not_worth_measuring_names_its_unit():
    """Pairs are what more of would be needed, as in a comparison."""
    details = [item.detail for item in gate.gate(again(0.95, cov=0.3), BASE, RULES).items]
    assert any("needs more than 100 pairs" in detail for detail in details)


NEAR = table(*(cells(1960, metric="p99_ttft_ms", cov=0.03, n=4, concurrency=c, seed=c) for c in (8, 64)))
LIMIT = GateRules(relative=(), limits=("p99_ttft_ms <= 2000",))


def _judged_interval(detail):
    """The ends of the interval in an item's text."""
    found = re.search(r"\[([\d,.]+), ([\d,.]+)\]", detail)
    assert found is not None
    return [float(end.replace(",", "")) for end in found.groups()]


def test_the_interval_beside_a_limit_is_the_one_that_was_judged():
    """A limit outside the interval that is shown is never "cannot tell", and one inside it always is."""
    for value in range(1800, 2200, 20):
        rules = GateRules(relative=(), limits=(f"p99_ttft_ms <= {value}",))
        for item in gate.gate(NEAR, None, rules).items:
            low, high = _judged_interval(item.detail)
            assert (item.outcome == "cannot tell") == (low <= value <= high)


def test_an_open_limit_says_why_and_what_would_decide():
    """The interval contains the limit, and so many repeats would decide; one repeat alone needs others."""
    details = [item.detail for item in gate.gate(NEAR, None, LIMIT).items if item.outcome == "cannot tell"]
    assert details
    assert all("the interval contains the limit: " in detail for detail in details)
    assert any("repeats are enough to decide" in detail for detail in details)
    single = table(cells(1960, metric="p99_ttft_ms", n=1))
    (item,) = gate.gate(single, None, LIMIT).items
    assert item.detail.endswith("no other repeats show how far they differ: 3 repeats would")


def test_looks_widen_the_intervals_of_limits_too():
    """A run that is judged after each repeat spends its error over all looks, on limits as on changes."""
    once, often = (
        _judged_interval(gate.gate(NEAR, None, LIMIT.model_copy(update={"looks": n})).items[0].detail)
        for n in (1, 10)
    )
    assert often[0] < once[0] < once[1] < often[1]


def test_limits_know_earlier_repeats_before_there_is_a_baseline():
    """One repeat is judged by the spread of earlier runs of its cell, although none is of this sweep."""
    single = table(cells(1000, metric="p99_ttft_ms", n=1))
    past = single.iloc[[0] * 5].assign(
        run_id="past", repeat=range(1, 6), p99_ttft_ms=[990.0, 1000, 1005, 1010, 995]
    )
    found = gate.without_baseline(single, LIMIT, "none", past)
    assert [item.outcome for item in found.items] == ["pass"]
