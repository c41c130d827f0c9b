"""A gate's result for CI and for people: JUnit XML, Markdown, text, JSON. Pure."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import asdict
from typing import Any

from rocbench import plaintable
from rocbench.harmless import safe_markdown as line
from rocbench.harmless import visible
from rocbench.judgement.gate import GateResult, Item
from rocbench.judgement.render import synthetic

_SHOWN = {"pass": "pass", "regression": "**regression**", "cannot tell": "cannot tell"}


def junit(result: GateResult, name: str = "bench gate") -> str:
    """JUnit XML: a test case per item; "regression" fails, "cannot tell" is skipped (or fails, by policy)."""
    failing = [item for item in result.items if _fails(item, result)]
    skipped = [item for item in result.items if item.outcome == "cannot tell" and item not in failing]
    counts = {"tests": len(result.items), "failures": len(failing), "skipped": len(skipped), "errors": 0}
    attributes = {"name": name} | {key: str(value) for key, value in counts.items()}
    suites = ET.Element("testsuites", attributes)
    suite = ET.SubElement(suites, "testsuite", attributes)
    for item in result.items:
        case = ET.SubElement(suite, "testcase", {"classname": item.cell, "name": item.rule, "time": "0"})
        if item in failing:
            ET.SubElement(
                case, "failure", {"message": f"{item.outcome}: {item.detail}", "type": item.outcome}
            )
        elif item.outcome == "cannot tell":
            ET.SubElement(case, "skipped", {"message": f"cannot tell: {item.detail}"})
        else:
            ET.SubElement(case, "system-out").text = item.detail
    if result.notes:
        ET.SubElement(suite, "system-out").text = "\n".join(result.notes)
    for element in suites.iter():  # XML does not allow most control characters
        element.text = visible(element.text) if element.text else None
        element.attrib.update({key: visible(value) for key, value in element.attrib.items()})
    ET.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suites, encoding="unicode") + "\n"


def _fails(item: Item, result: GateResult) -> bool:
    return item.outcome == "regression" or (item.outcome == "cannot tell" and result.policy == "fail")


def gate_page(result: GateResult, title: str = "Performance gate") -> str:
    """A summary for a pull request: the outcome, then the items that need attention first."""
    order = {"regression": 0, "cannot tell": 1, "pass": 2}
    items = sorted(result.items, key=lambda item: order[item.outcome])
    counts = ", ".join(f"{sum(i.outcome == word for i in items)} {word}" for word in order)
    lines = [f"## {line(title)}: {result.outcome}", "", counts, ""]
    if result.synthetic:
        lines += [f"**{result.synthetic.capitalize()}: no GPU was measured.**", ""]
    lines += [
        plaintable.markdown_table(
            ["Cell", "Rule", "Outcome", "Figures"],
            [[item.cell, f"`{item.rule}`", _SHOWN[item.outcome], item.detail] for item in items],
        ),
        "",
    ]
    lines += [f"* {line(note)}" for note in result.notes]
    return "\n".join(lines).rstrip() + "\n"


def text(result: GateResult, width: int | None = None) -> str:
    """The items as an aligned table, its rows folded at `width`, and the outcome."""
    rows = [[item.cell, item.rule, item.outcome, item.detail] for item in result.items]
    lines = [plaintable.text_table(["cell", "rule", "outcome", "figures"], rows, width), *result.notes]
    if result.synthetic:
        lines.append(synthetic(result.synthetic))
    return "\n".join([*lines, f"gate: {result.outcome}"])


def as_dict(result: GateResult) -> dict[str, Any]:
    """The result as JSON values."""
    return {
        "outcome": result.outcome,
        "policy": result.policy,
        "simulated": bool(result.synthetic),
        "predicted": "predicted" in result.synthetic,
        "notes": list(result.notes),
        "items": [asdict(item) for item in result.items],
    }
