"""`bench import`: rows of other tools."""

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
"""Bytes of one file: results with the times of every token of 10,000 requests have 100 MB."""
MOST_VALUES = 20_000_000


def import_(
    files: Annotated[list[Path], typer.Argument(help="CSV with our columns, or `vllm bench serve` JSON.")],
    out: Annotated[Path, typer.Option(help="The new run folder.")],
    hardware: options.HardwareName = None,
    model: Annotated[
        str | None, typer.Option(help="Model profile, where a row names none that is known.")
    ] = None,
    tp: options.Tp = None,
    vllm: options.Vllm = None,
) -> None:
    """Take rows measured by other tools, mark them, and apply every check that their data allow."""
    import datetime

    from rocbench import console, importing
    from rocbench.settings import catalog
    from rocbench.store.folder import RunFolder
    from rocbench.tables.parts import Identity

    given = {"tp": tp, "vllm_version": vllm}
    fallback = _stated(model) if model is not None else None
    doubts: dict[str, None] = {}
    rows: list[dict[str, Any]] = []
    for path in files:
        read = _read(path)
        if not read:
            raise InputError("holds no row", where=str(path))
        for number, found in enumerate(read, start=1):
            row = importing.checked(found, f"{path}: row {number}" if len(read) > 1 else str(path))
            name = row.get("model")
            own = _profile(name)
            profile = own or fallback
            if name is not None and own is None:
                doubts[_doubt(str(name), fallback)] = None
            named = hardware or row.get("hardware")
            filled = {k: v for k, v in given.items() if v is not None} | row
            if profile is not None:
                filled["model"] = profile.name
            known = catalog.hardware(str(named)) if named else None
            rows.append(importing.complete(filled, profile, known, path.name))
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
    """Rows of a file, by its ending.

    Raises:
        InputError: it cannot be read as such.
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
    """A JSON text, or one JSON text a line, as `vllm bench serve --append-result` leaves it.

    NaN and Infinity are taken: the tool writes them.
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
    """The profile of a name, a Hugging Face id included, whatever its case; None where there is none."""
    from rocbench.settings import catalog

    found = catalog.named_model(name) if isinstance(name, str) else None
    return catalog.model(found) if found else None


def _stated(name: str) -> ModelProfile:
    """The profile that --model names.

    Raises:
        ConfigError: there is none, with the nearest name.
    """
    from rocbench.settings import catalog

    return _profile(name) or catalog.model(name)


def _doubt(name: str, taken: ModelProfile | None) -> str:
    """What becomes of rows of a model that has no profile."""
    from rocbench.rules.flags import nearest
    from rocbench.settings import catalog

    near = nearest(name.rpartition("/")[2].lower(), catalog.names("models")) or "."
    kept = (
        f"taken as --model {taken.name}" if taken else "held against no hardware limit; name one with --model"
    )
    return f"no profile matches the model {name!r}{near} Its rows are {kept}"
