"""Check of a plan's files before any server starts: one request of each cell is made, but not sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rocbench.conduct import bind
from rocbench.conduct.bind import ClientOptions
from rocbench.errors import InputError
from rocbench.load.requestfactory import RequestFactory
from rocbench.load.spec import Dialect, LoadSpec, Target, Trace
from rocbench.plan.expand import Cell, Group, Plan, PlanFault, Run, level_of

_UNUSED_URL = "http://127.0.0.1:9"


def examined(plan: Plan, client: ClientOptions) -> Plan:
    """The plan with the faults of its datasets, traces and tokenizers, and notes on them."""
    faults: dict[PlanFault, None] = {}
    notes: dict[str, None] = {}
    checked = set()
    for group, cell in _cells(plan):
        spec = _spec(plan, group, cell, client)
        requests, shape = spec.requests, spec.shape
        trace = shape if isinstance(shape, Trace) else None
        if trace is None and requests.dataset is None and spec.target.tokenizer is None:
            continue
        if trace is not None and requests.dataset is not None:
            message = (
                f"a trace replay sends only the requests of its trace, not the dataset of workload {cell.workload.name}\n"
                "  fix: name a workload without a dataset, or another load.shape"
            )
            faults[PlanFault(cell.key, message)] = None
            continue
        limit = _max_model_len(group)
        case = repr((spec.target, requests.dataset, requests.resolved_api, trace, limit))
        if case in checked:
            continue
        checked.add(case)
        try:
            source = RequestFactory(spec, Dialect(), wire=False)
            source.make(0, 0)
        except InputError as error:
            fix = f"\n  fix: {error.fix}" if error.fix else ""
            faults[PlanFault(error.where, error.what + fix)] = None
            continue
        notes |= dict.fromkeys(source.notes)
        if limit is not None:
            notes |= dict.fromkeys(_too_long(source, limit, group.model))
    return replace(plan, faults=(*plan.faults, *faults), notes=(*plan.notes, *notes))


def _cells(plan: Plan) -> Iterator[tuple[Group, Cell]]:
    for group in plan.groups:
        yield from ((group, cell) for cell in group.cells)
        for workload in group.searches:
            assert plan.sweep.search is not None
            level = level_of(plan.sweep, plan.sweep.search.low)
            yield group, Cell("", f"{group.model}/{workload.name}/search", workload, level, plan.sweep.load)


def _spec(plan: Plan, group: Group, cell: Cell, client: ClientOptions) -> LoadSpec:
    target = bind.with_tokens(Target(_UNUSED_URL, group.model), group, plan.sweep, cell.workload, client)
    return bind.load_on(target, plan.sweep, Run(cell, 1), "plan", client)


def _max_model_len(group: Group) -> int | None:
    """--max-model-len as a number; None if the plan does not set it."""
    limit = group.resolution.flag("max-model-len") if group.resolution else None
    return limit if isinstance(limit, int) and not isinstance(limit, bool) else None


def _too_long(source: RequestFactory, limit: int, model: str) -> Iterator[str]:
    """A note if the server will refuse requests because of their lengths in the file."""
    turns = [turn for talk in source.conversations for turn in talk]
    too_long = sum((turn.isl or 0) + (turn.osl or 0) > limit for turn in turns)
    if too_long:
        yield (
            f"{model} will refuse {too_long} of {len(turns)} requests in the file: "
            f"they need more tokens than --max-model-len {limit}"
        )
