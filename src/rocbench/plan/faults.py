"""Faults of a plan: impossible flags, GPUs, images, axes and cells. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from rocbench.errors import ConfigError
from rocbench.plan.identity import configuration_name
from rocbench.plan.planned import Group, Overrides, Plan, PlanFault, Skip
from rocbench.redact import hides
from rocbench.rules.load import shipped
from rocbench.settings.schema import Server, Sweep
from rocbench.sim.argv import UsageError, parse
from rocbench.variables import MORE, is_secret


def not_simulated(sweep: Sweep, group: Group, overrides: Overrides) -> str | None:
    """Return the reason why a simulated server would not start: no vLLM version, or refused flags; None if it starts.

    A real vLLM checks its flags itself: a build can have flags that no release has.
    """
    if sweep.server.kind != "simulated" or group.resolution is None:
        return None
    if group.vllm is None:
        return "a simulated server needs a vLLM version\n  fix: give a version, for example --vllm 0.33.0, or set `vllm` in the sweep"
    if overrides.force:
        return None
    try:
        parse(group.resolution.argv(), group.vllm, shipped().names)
    except UsageError as error:
        return f"the simulated vLLM {group.vllm} refuses the flags of this server: {error}"
    return None


def no_image(group: Group) -> str:
    """Fault: a server in a container has no image."""
    return (
        f"the profile has no container image for vLLM {group.vllm or 'unknown'}\n"
        "  fix: set `server.image`, with a digest (name@sha256:...), or `image` in the profile's `serve` entry"
    )


def wrong_gpus(group: Group, server: Server) -> str | None:
    """Return the fault in `server.gpus`; None if there is none, or no GPU is named."""
    if server.gpus is None or group.resolution is None or group.hardware is None:
        return None
    facts, gpus = group.resolution.facts, group.hardware.gpus
    beyond = [gpu for gpu in server.gpus if not 0 <= gpu < gpus]
    if group.hardware.gpu is not None and beyond:
        return f"server.gpus lists GPU {beyond[0]}, but the node has GPUs 0 to {gpus - 1}"
    if len(set(server.gpus)) < len(server.gpus):
        return "server.gpus lists a GPU twice"
    needed = facts.gpus_needed // facts.nodes
    if group.hardware.gpu is not None and len(server.gpus) < needed:
        return f"server.gpus lists {len(server.gpus)} GPUs, but this server needs {needed}"
    return None


def nothing_left(only: str | None, skipped: list[Skip]) -> str:
    """Return the reason that a plan has no cell."""
    if only:
        return f"no cell matches --only {only!r}"
    if not skipped:
        return "the plan is empty: `matrix.exclude`, or the `models` of the blocks, excluded every cell"
    return "the plan is empty, because every cell was excluded: " + "; ".join(
        f"{s.key}: {s.reason}" for s in skipped[:3]
    )


def without_effect(sweep: Sweep, overrides: Overrides) -> Iterator[PlanFault]:
    """Yield options that take effect only when a server is started."""
    if sweep.server.kind != "attached":
        return
    given = {
        "--set": overrides.args or overrides.env,
        "--tp": overrides.tp,
        "--aiter": overrides.aiter,
    }
    if without := [option for option, value in given.items() if value]:
        yield PlanFault(" ".join(without), "has no effect on a running server: remove it")


def hidden_axes(sweep: Sweep) -> Iterator[PlanFault]:
    """Yield axes whose values are never written: their cells could not be distinguished or resumed."""
    for name in (*sweep.matrix.axes(), *sweep.factors):
        if hides(name):
            yield PlanFault(
                f"axis `{name}`",
                "cell keys and files must show the values of an axis, but bench hides the values of variables with such a name\n"
                f"  fix: {_how_to_show(name)}",
            )


def _how_to_show(axis: str) -> str:
    if is_secret(axis.removeprefix("env.")):
        return "use another axis: the name indicates a secret"
    return f"if the values are not secrets, allow bench to show them: export {MORE}={axis.removeprefix('env.')} (docs/secrets.md)"


def twice(groups: list[Group]) -> Iterator[PlanFault]:
    """Yield cells that two servers share: one measurement would count as both."""
    seen: dict[str, Group] = {}
    for group in groups:
        for cell in group.cells:
            other = seen.setdefault(cell.cell_id, group)
            if other is group:
                continue
            same = configuration_name(other.model, other.axes)
            yield PlanFault(
                cell.key,
                f"is planned twice: the server of {same} has the same flags and variables\n"
                "  fix: remove one of the two models, axis values or factor levels that produce this server",
            )


def raise_faults(plan: Plan) -> None:
    """Raise all faults of a plan in one message.

    Raises:
        ConfigError: the plan has faults.
    """
    if plan.faults:
        raise ConfigError("\n".join(f"{fault.where}: {fault.message}" for fault in plan.faults))
