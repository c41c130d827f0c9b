"""`bench import`: rows measured by other tools."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rocbench import jsontext, textfile
from rocbench.commands import options
from rocbench.errors import Exit, InputError

if TYPE_CHECKING:
    from rocbench.settings.schema import ModelProfile


LARGEST = 256 << 20
"""Maximum bytes of one file: results with the times of every token of 10,000 requests have 100 MB."""
MOST_VALUES = 20_000_000


def import_(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE", help="CSV with the columns of bench, or JSON of `vllm bench serve`."),
    ],
    out: Annotated[Path, options.option("DIR", "Write this new run folder.")],
    hardware: Annotated[
        str | None,
        options.option("NAME", "Use this hardware profile. Default: the profile in the row, if any."),
    ] = None,
    model: Annotated[
        str | None, options.option("NAME", "Use this model profile for rows without a known model.")
    ] = None,
    tp: Annotated[
        int | None,
        options.option("GPUS", "Set the tensor parallel size of rows without one.", min=1, max=1024),
    ] = None,
    vllm: Annotated[
        str | None, options.option("VERSION", "Set the vLLM version of rows without one.")
    ] = None,
) -> None:
    """Import results of other tools, label them as imported, and run every check for which they have the data."""
    import datetime

    from rocbench import console, importing
    from rocbench.settings import catalog
    from rocbench.store.folder import RunFolder
    from rocbench.tables.parts import Identity

    given = {name: value for name, value in (("tp", tp), ("vllm_version", vllm)) if value is not None}
    fallback = (_profile(model) or catalog.model(model)) if model is not None else None
    doubts: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for path in files:
        records = _read(path)
        if not records:
            raise InputError("holds no rows", where=str(path))
        for number, record in enumerate(records, start=1):
            row = importing.checked(record, f"{path}: row {number}" if len(records) > 1 else str(path))
            model_name = row.get("model")
            profile = _profile(model_name)
            if model_name is not None and profile is None:
                doubts[_doubt(str(model_name), fallback)] = None
            profile = profile or fallback
            node = hardware or row.get("hardware")
            filled = given | row
            if profile is not None:
                filled["model"] = profile.name
            hardware_profile = catalog.hardware(str(node)) if node else None
            rows.append(importing.complete(filled, profile, hardware_profile, path.name))
    for doubt in doubts:
        typer.echo(doubt, err=True)
    rows = importing.numbered(rows)
    folder = RunFolder.create(out)
    at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    run_id = f"import-{out.name}"
    folder.write_json("plan.json", {"imported": [path.name for path in files]})
    folder.write_json(
        "manifest.json", {"run_id": run_id, "begun_at": at, "sweep": "import", "imported": True}
    )
    for row in rows:
        folder.write_cell(Identity(run_id, row["cell_id"], int(row["repeat"])), row, {}, tables=False)
    folder.finish()
    console.show_cells(folder.cells(), folder.path)
    if any(row["valid"] is False for row in rows):
        raise typer.Exit(int(Exit.DONE_WITH_FAULTS))


def _read(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a CSV or JSON file, by its extension.

    Raises:
        InputError: the file cannot be read.
    """
    from rocbench import importing

    try:
        if path.suffix.lower() == ".csv":
            import pandas as pd

            frame = pd.read_csv(io.StringIO(textfile.read_text(path, most=LARGEST)))
            return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]
        data = _json(textfile.read_text(path, most=LARGEST), str(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read: {error}", where=str(path), fix="give a CSV or a JSON file"
        ) from None
    results = data if isinstance(data, list) else [data]
    return [importing.from_vllm_bench(result, str(path)) for result in results]


def _json(text: str, where: str) -> Any:
    """Parse JSON, or one JSON text per line, as `vllm bench serve --append-result` writes it.

    NaN and Infinity are accepted: the tool writes them.
    """
    try:
        return jsontext.parse(text, where, finite=False, most=MOST_VALUES)
    except InputError:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) < 2 or not lines[0][1].rstrip().endswith("}"):
            raise
        return [
            jsontext.parse(line, f"{where}:{number}", finite=False, most=MOST_VALUES)
            for number, line in lines
        ]


def _profile(name: Any) -> ModelProfile | None:
    """Return the profile of a name or Hugging Face id, in any case; None if there is none."""
    from rocbench.settings import catalog

    profile = catalog.named_model(name) if isinstance(name, str) else None
    return catalog.model(profile) if profile else None


def _doubt(name: str, fallback: ModelProfile | None) -> str:
    """Return the warning about rows of a model without a profile."""
    from rocbench.rules.flags import nearest
    from rocbench.settings import catalog

    near = nearest(name.rpartition("/")[2].lower(), catalog.names("models")) or "."
    effect = (
        f"use --model {fallback.name}"
        if fallback
        else "are not checked against hardware limits; name a profile with --model"
    )
    return f"no profile matches the model {name!r}{near} Its rows {effect}"
