"""Turn the user's input (a sweep, overrides, a URL) into a plan. Reads the profiles; computes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from rocbench import __version__
from rocbench.baseurl import root_of
from rocbench.commands import options
from rocbench.conduct import rows
from rocbench.conduct.bind import ClientOptions
from rocbench.errors import ConfigError, InputError
from rocbench.judgement.promise import Promise
from rocbench.plan import expand as planner
from rocbench.plan import promised
from rocbench.plan.expand import Overrides, Plan, Sources
from rocbench.settings import catalog, yamlfile
from rocbench.settings.schema import Images, Length, Sweep, SweepModel, Workload, check_url
from rocbench.store import runs
from rocbench.store.folder import RunFolder
from rocbench.tables.row import Row

LOAD_KEYS = ("duration_s", "max_duration_s", "max_requests", "transport", "keep_stamps")
REQUEST_KEYS = ("isl", "osl", "images", "api", "extra_body")
SWEEP_KEYS = ("repeats", "seed", "concurrency", "rate")
POWER_KEYS = ("effect", "cov")
MOST_EARLIER = 40
"""Earlier runs that are read for the spread of repeats: the newest."""


def plan(name: str | None, overrides: Overrides, changes: Mapping[str, Any] | None = None) -> Plan:
    """Return the plan of a sweep, with the values of the command line over those of the YAML."""
    sweep, path = catalog.sweep(name)
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    sweep = _changed(sweep, changes)
    if sweep.load.shape.kind == "trace" and (lengths := {"isl", "osl"} & changes.keys()):
        raise InputError(
            f"--{min(lengths)} has no effect on a trace: its lines give the length of each request"
        )
    return planner.expand(sweep, sources(sweep, overrides, changes, path), overrides)


def promises(plan: Plan, earlier: Path) -> tuple[Promise, ...]:
    """Return what the repeats of a plan can tell, by its stated CoV or by the runs in a folder; runs that cannot be read
    are ignored.
    """
    rows_: list[Row] = []
    if plan.sweep.power.cov is None and earlier.is_dir():
        with suppress(InputError, OSError):
            for folder in runs.find(earlier, lambda _: None)[-MOST_EARLIER:]:
                with suppress(InputError, OSError):
                    rows_ += folder.rows
    return promised.of(plan, rows_)


def adhoc(
    base_url: str,
    model: str | None,
    level: Mapping[str, Any],
    changes: Mapping[str, Any],
    overrides: Overrides,
) -> Plan:
    """Return the plan of a sweep against a running server, without a YAML file.

    Raises:
        InputError: the model or the levels are missing, or a value cannot be used.
    """
    if model is None:
        raise InputError("--model is missing", fix="give a model name that the server lists under /v1/models")
    if not level:
        raise InputError("--concurrency is missing", fix="give numbers of users: --concurrency 1,64,1000")
    try:
        check_url(base_url)
    except ValueError as error:
        raise InputError(str(error), where="--base-url") from None
    given = {key: value for key, value in changes.items() if value is not None}
    server = {"kind": "attached", "base_url": root_of(base_url)}
    raw: dict[str, Any] = {
        "name": "adhoc",
        "server": server,
        "vllm": overrides.vllm,
        "models": [{"profile": model}],
        "workloads": ["adhoc"],
        "load": {"shape": {"kind": "open" if "rate" in level else "closed"}},
    }
    try:
        sweep = Sweep.model_validate(raw | dict(level))
    except ValidationError as error:
        raise InputError(yamlfile.first_fault(error), where="command line") from None
    sweep = _changed(sweep, {k: v for k, v in given.items() if k not in REQUEST_KEYS})
    default = Workload(
        name=f"{given.get('isl', 512)}-{given.get('osl', 128)}", isl=Length(mean=512), osl=Length(mean=128)
    )
    workload = _reshaped(default, given).model_copy(update={"name": default.name})
    profile = catalog.model(model) if model in catalog.names("models") else None
    hardware = catalog.hardware(overrides.hardware) if overrides.hardware else None
    return planner.expand(
        sweep, Sources({model: profile} if profile else {}, {"adhoc": workload}, hardware), overrides
    )


def resumed(run: Path, client: ClientOptions) -> tuple[Plan, ClientOptions]:
    """Return the plan of a run folder, built again from its files, and its client options with the given ones over them.

    Raises:
        InputError: this bench builds another plan, so old and new rows would not be comparable.
    """
    folder = RunFolder.open(run, resume=True)
    stored = folder.whole_plan()
    plan = rows.stored(stored, folder.manifest)
    if _runs(rows.plan_json(plan, Overrides(), None)) != _runs(stored):
        version = folder.manifest.get("rocbench")
        if cause := rows.unlike(stored):
            reason, fix = cause
        elif version == __version__:
            reason, fix = (
                "plan.json, or a rule or profile of this installation, has changed since the plan was made",
                "restore the changed file",
            )
        else:
            reason, fix = (
                f"rules, physics or defaults have changed since rocbench {version}",
                f"finish the run with rocbench {version}",
            )
        raise InputError(
            f"the installed rocbench would now plan different cells from those stored in this run: {reason}",
            where=str(run),
            fix=f"{fix}, or start a new run",
        )
    given = {name: value for name, value in asdict(client).items() if value is not None}
    return plan, replace(rows.client(stored), **given)


def _runs(plan_: Mapping[str, Any]) -> list[Any]:
    """Return the servers and launches of plan.json, for a comparison."""
    servers = [
        [server.get(name) for name in ("server_id", "argv", "env")] for server in plan_.get("servers") or ()
    ]
    return [servers, plan_.get("launches")]


def sources(
    sweep: Sweep, overrides: Overrides, changes: Mapping[str, Any] | None = None, file: Path | None = None
) -> Sources:
    """Read every profile of a sweep; all faults of all files come in one message.

    Args:
        sweep: the sweep.
        overrides: values from the command line; only `hardware` is used.
        changes: values from the command line for the workloads.
        file: the sweep's file, for the line of an unknown name.

    Raises:
        ConfigError: a profile is missing or wrong.
    """
    faults: list[str] = []
    models, workloads, hardware = {}, {}, None
    named = [m if isinstance(m, SweepModel) else SweepModel(profile=m) for m in sweep.models]
    for place, entry in enumerate(named):
        try:
            profile = catalog.model(entry.profile)
            path = entry.path and str(Path(entry.path).expanduser())  # the printed command is quoted
            models[entry.profile] = profile.model_copy(update={"path": path}) if path else profile
        except ConfigError as error:
            if sweep.server.kind != "attached":
                faults.append(_placed(error, file, ("models", place, "profile")))
    for name, location in _workloads_named(sweep, named).items():
        try:
            workloads[name] = _reshaped(catalog.workload(name), changes or {})
        except ConfigError as error:
            faults.append(_placed(error, file, location))
    try:
        hardware = catalog.hardware(overrides.hardware or sweep.hardware)
    except ConfigError as error:
        faults.append(_placed(error, None if overrides.hardware else file, ("hardware",)))
    if faults:
        raise ConfigError("\n".join(faults))
    return Sources(models, workloads, hardware)


def _workloads_named(sweep: Sweep, models: list[SweepModel]) -> dict[str, yamlfile.Location]:
    """Return the name of every workload, and its first location in the sweep."""
    lists: dict[yamlfile.Location, Iterable[str]] = {("workloads",): sweep.workloads}
    lists |= {("models", place, "workloads"): entry.workloads or () for place, entry in enumerate(models)}
    lists |= {("blocks", place, "workloads"): block.workloads for place, block in enumerate(sweep.blocks)}
    lists |= {("matrix",): sweep.matrix.axes().get("workload", ())}
    lists |= {("factors",): sweep.factors.get("workload", ())}
    locations: dict[str, yamlfile.Location] = {}
    for location, names in lists.items():
        for place, name in enumerate(names):
            locations.setdefault(name, (*location, place))
    return locations


def _placed(error: ConfigError, path: Path | None, location: yamlfile.Location) -> str:
    """Return the message of a fault, with the line of an unknown name; a fault inside a profile has its own place."""
    if path is None or error.where:
        return error.text()
    return ConfigError(error.what, where=yamlfile.place(path, location), fix=error.fix).text()


def _reshaped(workload: Workload, changes: Mapping[str, Any]) -> Workload:
    """Return a workload with the request options of the command line."""
    update: dict[str, Any] = {key: changes[key] for key in ("api", "extra_body") if changes.get(key)}
    if changes.get("isl") and workload.dataset is not None:
        raise ConfigError(
            f"--isl has no effect on workload {workload.name}: its prompts come from {workload.dataset.path}"
        )
    for key in ("isl", "osl"):
        if changes.get(key):
            update[key] = {"mean": changes[key]}
    if changes.get("images"):
        update["images"] = _images(changes["images"])
    if not update:
        return workload
    try:
        return Workload.model_validate(
            workload.model_dump(exclude=set(update)) | update | {"name": f"{workload.name}*"}
        )
    except ValidationError as error:
        raise InputError(yamlfile.first_fault(error), where="command line") from None


def _images(text: str) -> Images:
    """Parse `COUNTxWIDTHxHEIGHT`."""
    try:
        count, width, height = (int(part) for part in text.split("x"))
        return Images(count=count, width=width, height=height)
    except (ValueError, ValidationError):
        raise options.unreadable(text, "--images", "COUNTxWIDTHxHEIGHT: 1x512x512") from None


def _changed(sweep: Sweep, changes: Mapping[str, Any]) -> Sweep:
    """Return a sweep with the values of the command line, validated again."""
    raw = sweep.model_dump()
    for key in LOAD_KEYS:
        if key in changes:
            raw["load"][key] = changes[key]
    for key in POWER_KEYS:
        if key in changes:
            raw["power"][key] = changes[key]
    for key in SWEEP_KEYS:
        if key in changes:
            raw[key] = changes[key]
    if "rate" in changes and sweep.load.shape.kind == "closed":
        raw["load"]["shape"] = {"kind": "open"}
        raw["concurrency"] = ()
    if "concurrency" in changes or "rate" in changes:
        for entry in raw["models"]:
            if isinstance(entry, dict):
                entry["concurrency"] = entry["rate"] = None
        for block in raw["blocks"]:
            block["concurrency"] = block["rate"] = ()
    if "max_duration_s" not in changes and raw["load"]["max_duration_s"] < raw["load"]["duration_s"]:
        raw["load"]["max_duration_s"] = raw["load"]["duration_s"]
    for key in ("api_key_env", "headers", "insecure"):
        if key in changes:
            raw["server"][key] = changes[key]
    try:
        return Sweep.model_validate(raw)
    except ValidationError as error:
        raise InputError(yamlfile.first_fault(error), where="command line") from None
