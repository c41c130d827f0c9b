"""scripts/vllm-names: names are read from source text, runs and gaps are kept, and what changed is listed."""

from __future__ import annotations

import runpy
import zipfile
from pathlib import Path

import pytest
import yaml

from rocbench.rules.load import FOLDER

ROOT = Path(__file__).parents[2]
TOOL = runpy.run_path(str(ROOT / "scripts" / "vllm-names"), run_name="vllm_names")
Release = TOOL["Release"]

CACHE = """
BlockSize = Literal[1, 8, 16]
CacheDType = Literal["auto", "fp8"]
A2A_NO: Final = "passthrough"

class CacheConfig:
    block_size: SkipValidation[BlockSize] = None
    cache_dtype: CacheDType | str = "auto"
    mode: Literal["a", "b"] | None = None
    free: str | Literal["x"] = "x"
    gpu_memory_utilization: float = Field(default=0.9, gt=0)
    prefix: bool = True
    hf_overrides: dict[str, Any] = field(default_factory=dict)
    a2a: Literal["naive", "passthrough"] = "naive"
"""
ARGUMENTS = """
class EngineArgs:
    seed: int | None = None

    @staticmethod
    def add_cli_args(parser):
        cache_kwargs = get_kwargs(CacheConfig)
        cache_kwargs["a2a"]["choices"].remove(A2A_NO)
        group.add_argument("--block-size", "-bs", **cache_kwargs["block_size"])
        group.add_argument("--kv-cache-dtype", **cache_kwargs["cache_dtype"])
        mode_kwargs = cache_kwargs["mode"]
        group.add_argument("--mode", **mode_kwargs)
        group.add_argument("--free", **{**cache_kwargs["free"], "default": None})
        group.add_argument("--gpu-memory-utilization", **cache_kwargs["gpu_memory_utilization"])
        group.add_argument("--prefix", "--no-prefix", **cache_kwargs["prefix"])
        group.add_argument("--a2a", **cache_kwargs["a2a"])
        group.add_argument("--quiet", action="store_true")
        group.add_argument("--seed", type=int)

    def _set_default_args(self):
        return 1
"""
ENVS = """
environment_variables: dict[str, Callable[[], Any]] = {
    "VLLM_A": lambda: os.getenv("VLLM_A", "0"),
    "VLLM_B": lambda: None,
}
"""
BACKENDS = """
class AttentionBackendEnum(Enum):
    TRITON_ATTN = "a"
    ROCM_ATTN = "b"

class MambaAttentionBackendEnum(Enum):
    MAMBA = "c"
"""
REGISTRY = """
_TEXT = {
    "LlamaForCausalLM": ("llama", "LlamaForCausalLM"),
    "EagleLlamaForCausalLM": ("eagle", "EagleLlamaForCausalLM"),
    "BertModel": ("bert", "BertModel"),
}
"""


def source(folder, **changed):
    """An unpacked release made of these files; a keyword replaces the text of one."""
    files = {
        "config/cache.py": changed.get("cache", CACHE),
        "engine/arg_utils.py": changed.get("arguments", ARGUMENTS),
        "envs.py": changed.get("envs", ENVS),
        "v1/attention/backends/registry.py": BACKENDS,
        "model_executor/models/registry.py": changed.get("registry", REGISTRY),
        "utils/argparse_utils.py": changed.get("argparse", ""),
    }
    for name, text in files.items():
        path = folder / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "vllm"


def test_a_release_is_read_from_its_source(tmp_path):
    """Flags with types and short names, variables, values that argparse enforces, and generation models."""
    release = TOOL["read"](source(tmp_path))
    assert release.flags == {
        "block-size": ("str", ("bs",)),
        "kv-cache-dtype": ("str", ()),
        "mode": ("str", ()),
        "free": ("str", ()),
        "gpu-memory-utilization": ("float", ()),
        "prefix": ("bool", ()),
        "a2a": ("str", ()),
        "quiet": ("switch", ()),
        "seed": ("int", ()),
    }
    assert release.env == {"VLLM_A", "VLLM_B"}
    assert release.values == {
        "attention-backend": {"TRITON_ATTN", "ROCM_ATTN"},
        "kv-cache-dtype": {"auto", "fp8"},
        "block-size": {"1", "8", "16"},
        "mode": {"a", "b"},
        "a2a": {"naive"},
    }
    assert release.architectures == {"LlamaForCausalLM"}


@pytest.mark.parametrize(
    ("there", "text"),
    [
        (["1", "2", "3", "4"], []),
        (["2", "3", "4"], ["since: 2"]),
        (["1", "2"], ["until: 2"]),
        (["3"], ["since: 3", "until: 3"]),
        (["1", "3"], ["spans: [[null, 1], [3, 3]]"]),
        (["2", "4"], ["spans: [[2, 2], [4, null]]"]),
    ],
)
def test_runs_and_gaps_are_written_and_read_again(there, text):
    """A name that went and came back keeps each of its runs."""
    order = ["1", "2", "3", "4"]
    written = TOOL["written"](TOOL["spans"](there, order))
    assert written == text
    entry = yaml.load("{" + ", ".join(written) + "}", Loader=yaml.BaseLoader)
    spans = [[None if end == "null" else end for end in span] for span in entry.pop("spans", [])]
    assert TOOL["holders"](entry | ({"spans": spans} if spans else {}), order) == there


def test_the_shipped_files_are_what_the_tool_writes_of_them():
    """Reading both files and writing them again changes nothing, so a release can be added to them alone."""
    texts = {
        name: (FOLDER / name).read_text(encoding="utf-8") for name in ("names.yaml", "architectures.yaml")
    }
    releases = TOOL["known"](*(yaml.safe_load(text) for text in texts.values()))
    assert TOOL["names_text"](releases) == texts["names.yaml"]
    assert TOOL["architectures_text"](releases) == texts["architectures.yaml"]


def test_a_release_that_is_added_leaves_the_others_as_they_are(tmp_path):
    """What every release has is still in every release after the files were written and one was added."""
    old = TOOL["read"](source(tmp_path))
    texts = [TOOL[name]({"0.1.0": old}) for name in ("names_text", "architectures_text")]
    releases = TOOL["known"](*map(yaml.safe_load, texts))
    assert releases == {"0.1.0": old}
    both = {**releases, "0.2.0": TOOL["read"](source(tmp_path))}
    assert "since:" not in TOOL["names_text"](both) + TOOL["architectures_text"](both)


def test_a_flag_that_lost_its_fixed_set_takes_any_value():
    """The releases without a set have `*`."""
    old = Release({"size": ("int", ())}, {"VLLM_A"}, {"size": {"1", "16"}})
    new = Release({"size": ("int", ())}, {"VLLM_A"}, {})
    values = yaml.safe_load(TOOL["names_text"]({"0.1.0": old, "0.2.0": new}))["values"]
    assert values == {
        "size": {"*": {"since": "0.2.0"}, "1": {"until": "0.1.0"}, "16": {"until": "0.1.0"}},
    }
    assert list(TOOL["changes"](old, new)) == ["--size takes any value now"]


def test_what_came_and_went_is_listed():
    """New, removed and changed names of every kind."""
    old = Release({"a": ("int", ()), "b": ("str", ())}, {"VLLM_A"}, {"b": {"x"}}, {"OldForCausalLM"})
    new = Release({"b": ("json", ()), "c": ("str", ())}, {"VLLM_B"}, {"b": {"y"}}, {"NewForCausalLM"})
    assert list(TOOL["changes"](old, new)) == [
        "flags, new: c",
        "flags, removed: a",
        "variables, new: VLLM_B",
        "variables, removed: VLLM_A",
        "architectures, new: NewForCausalLM",
        "architectures, removed: OldForCausalLM",
        "type of --b: ('str', ()) is now ('json', ())",
        "values of --b, new: y",
        "values of --b, removed: x",
    ]


def test_changed_defaults_of_pinned_flags_are_listed(tmp_path):
    """Pinned flags, variables, and the functions that compute defaults; nothing else."""
    old = TOOL["defaults_of"](source(tmp_path / "old"))
    new = TOOL["defaults_of"](
        source(
            tmp_path / "new",
            cache=CACHE.replace("0.9", "0.92").replace('"x"\n', '"y"\n'),
            arguments=ARGUMENTS.replace("return 1", "return 2"),
            envs=ENVS.replace('"0"', '"1"'),
        )
    )
    assert sorted(TOOL["changed_defaults"](old, new, ["gpu-memory-utilization", "block-size"])) == [
        "EngineArgs._set_default_args() of vllm/engine/arg_utils.py changed: read the defaults that it sets again",
        "default of CacheConfig.gpu_memory_utilization: Field(default=0.9, gt=0) is now Field(default=0.92, gt=0)",
        "default of VLLM_A: lambda: os.getenv('VLLM_A', '0') is now lambda: os.getenv('VLLM_A', '1')",
    ]


def test_rules_whose_cited_lines_changed_are_listed(tmp_path):
    """Lines that only moved are the same; a citation without lines of the release before is about its file."""
    rules = [
        {"id": "moved", "source": "v0.2.0 config/cache.py:2-3"},
        {"id": "lines", "source": "v0.1.0 envs.py:9; v0.2.0 config/cache.py:2, 11"},
        {"id": "file", "source": "vllm/config/cache.py; v0.2.0 envs.py:3"},
        {"flag": "pinned", "source": "v0.1.0 config/cache.py:7"},
        {"id": "gone", "source": "v0.2.0 v1/attention/backends/registry.py:2"},
        {"id": "never", "source": "v0.1.0 no/such.py:2"},
    ]
    old = source(tmp_path / "old")
    new = source(tmp_path / "new", cache="\n\n" + CACHE.replace("0.9", "0.92"))
    (new / "v1/attention/backends/registry.py").unlink()
    assert list(TOOL["to_read_again"](old, new, "0.2.0", TOOL["citations"](rules))) == [
        "config/cache.py:2, 11 is not the same: lines",
        "config/cache.py changed: file, pinned",
        "v1/attention/backends/registry.py is gone: gone",
    ]


def test_only_python_files_of_vllm_are_unpacked(tmp_path, monkeypatch):
    """A release in the cache is not downloaded; the wheel is unpacked into the cache once."""
    wheels = []

    def download(argv, check):
        wheels.append(argv[-1])
        with zipfile.ZipFile(Path(argv[argv.index("--dest") + 1]) / "vllm-0.9.9-x.whl", "w") as wheel:
            for name in ("vllm/envs.py", "vllm/_C.so", "vllm-0.9.9.dist-info/METADATA"):
                wheel.writestr(name, "text")
        return type("Done", (), {"returncode": 0})

    monkeypatch.setenv("ROCBENCH_VLLM_SOURCES", str(tmp_path / "cache"))
    monkeypatch.setattr("subprocess.run", download)
    assert TOOL["fetch"]("0.9.9") == TOOL["fetch"]("0.9.9") == tmp_path / "cache" / "v0.9.9" / "vllm"
    assert wheels == ["vllm==0.9.9"]
    assert [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()] == ["envs.py"]


def test_a_release_that_pairs_flags_has_the_opposite_of_each_boolean_one(tmp_path):
    """EnableDisableAction gives `--enable-x` a `--disable-x`, and the reverse; other types have no opposite."""
    names = ("enable-a", "disable-b", "enable-c")
    lines = ['    parser.add_argument("--enable-a", action=BooleanOptionalAction)']
    lines += ['    parser.add_argument("--disable-b", action=BooleanOptionalAction)']
    lines += ['    parser.add_argument("--enable-c", type=int)']
    arguments = "def add_cli_args(parser):\n" + "\n".join(lines) + "\n"
    alone = TOOL["read"](source(tmp_path / "old", arguments=arguments))
    assert set(alone.flags) == set(names)
    action = "class EnableDisableAction(BooleanOptionalAction):\n    pass\n"
    both = TOOL["read"](source(tmp_path / "new", arguments=arguments, argparse=action))
    assert set(both.flags) == {*names, "disable-a", "enable-b"}
