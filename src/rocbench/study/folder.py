"""Find and read studies: `configs/studies/NAME/` with study.yaml, tables.yaml and sweeps/."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from rocbench.errors import ConfigError
from rocbench.settings import catalog, yamlfile
from rocbench.settings.schema import Sweep
from rocbench.study.schema import Study, Tables


@dataclass(frozen=True, slots=True)
class StudyFolder:
    """The files of a study."""

    path: Path
    study: Study
    sweeps: dict[str, Sweep]
    """By the name of their file."""
    tables: Tables | None


def names() -> list[str]:
    """The names of all known studies, sorted."""
    return sorted(
        {path.parent.name for root in catalog.folders("studies") for path in root.glob("*/study.yaml")}
    )


def read(name: str) -> StudyFolder:
    """A study by name, or by the path of its folder.

    Raises:
        ConfigError: there is no such study, or one of its files is wrong.
    """
    path = _path_of(name)
    study = yamlfile.load(path / "study.yaml", Study)
    files = dict.fromkeys(sweep for method in study.methods.values() for sweep in method.sweeps)
    sweeps = {file: yamlfile.load(path / "sweeps" / f"{file}.yaml", Sweep) for file in files}
    tables = path / "tables.yaml"
    return StudyFolder(path, study, sweeps, yamlfile.load(tables, Tables) if tables.is_file() else None)


def _path_of(name: str) -> Path:
    for path in (Path(name), *(root / name for root in catalog.folders("studies"))):
        if (path / "study.yaml").is_file():
            return path
    near = difflib.get_close_matches(name, names(), n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names())}"
    raise ConfigError(f"no study named {name!r}", fix=hint)
