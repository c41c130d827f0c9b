"""Estimates before a run: a cell's bounds and its duration. Pure; the formulas are in `physics/`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rocbench.model.architecture import from_config
from rocbench.model.images import image_tokens
from rocbench.physics import kv, layout, roofline, weights
from rocbench.physics.roofline import RequestShape
from rocbench.physics.steps import StepModel
from rocbench.rules.resolve import Resolution
from rocbench.settings.schema import Assume, Hardware, Load, ModelProfile, Workload
from rocbench.units import size


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimate of a cell; None where the hardware or the model does not give it."""

    image_tokens: int = 0
    """Image tokens of one request, in addition to its ISL."""
    kv_capacity_tokens: int | None = None
    """KV tokens of one engine, as its log reports them."""
    users_that_fit: int | None = None
    """Users whose ISL, images and OSL fit into the KV caches of all engines; more are queued or preempted."""
    roofline_output_throughput: float | None = None
    """Upper bound of output tokens/s: no server on this hardware can exceed it."""
    duration_s: float | None = None
    """Warm-up, window and tail, with steps at the assumed share of the speed that physics expects."""
    server_load_s: float | None = None
    cannot_fit: str | None = None
    """The reason that the cell cannot run."""
    in_doubt: str | None = None
    """The parts of the model's shape that are not understood. The cell is planned even if it would not run with
    the rest of the shape.
    """


NOTHING_KNOWN = Estimate()
FIXED_S = 5.0
"""Seconds of each measurement to reset the cache, read the server's fields, connect users and write results."""


def estimate(
    profile: ModelProfile,
    hardware: Hardware,
    resolution: Resolution,
    workload: Workload,
    load: Load,
    *,
    concurrency: int | None,
    assume: Assume | None = None,
) -> Estimate:
    """Estimate capacity, bound and time of one cell on hardware whose physics are known."""
    assume = assume or Assume()
    if hardware.gpu is None:
        return Estimate(duration_s=3 * load.duration_s, server_load_s=60.0)
    arch = from_config(profile.config)
    args = resolution.flags()
    plan = layout.from_args(args)
    seqs = _int(args.get("max-num-seqs")) or 1024
    capacity = kv_capacity(profile, hardware, resolution)
    shape = request_shape(workload, profile)
    tokens = int(shape.isl + shape.osl)
    reason = cannot_start(profile, capacity, resolution)
    if reason is None and capacity is not None and capacity.tokens < tokens:
        reason = f"the KV cache holds {capacity.tokens:,} tokens, but one request needs {tokens:,}"
    unsure = weights.doubts(arch, profile.checkpoint, hardware)
    if reason is not None and not unsure:
        return Estimate(cannot_fit=reason)
    if capacity is not None and not capacity.fits:
        capacity = None
    model = StepModel(arch, profile.checkpoint, hardware, plan)

    def request_s(users: int) -> float:
        step_s = model.cost(*steady_step(workload, shape.image_tokens, users)) / assume.efficiency
        return shape.osl * step_s

    best = roofline.bound(arch, profile.checkpoint, hardware, plan, concurrency, shape, users=seqs * plan.dp)
    return Estimate(
        image_tokens=int(shape.image_tokens),
        kv_capacity_tokens=capacity.tokens if capacity else None,
        users_that_fit=plan.dp * kv.users_that_fit(capacity, arch, plan, tokens) if capacity else None,
        roofline_output_throughput=best.output_throughput if best else None,
        duration_s=sum(
            measurement_s(load, min(concurrency or seqs, seqs), max_requests(load, concurrency), request_s)
        ),
        server_load_s=assume.start_s
        + weights.checkpoint_bytes(arch, profile.checkpoint) / assume.load_bytes_per_s,
        in_doubt=_in_doubt(profile, reason, unsure) if unsure else None,
    )


def _in_doubt(profile: ModelProfile, reason: str | None, doubts: Sequence[str]) -> str:
    """Describe the parts of a model that are not understood, and the consequence for its plan."""
    told = "; ".join(doubts)
    if all(doubt.startswith("hardware: ") for doubt in doubts):
        shape = f"{profile.name}: {told.removeprefix('hardware: ')}"
    else:
        shape = f"{profile.name}: parts of the model's config are not understood ({told})"
    if reason is None:
        return f"{shape}; KV cache size, roofline and time estimate may be wrong"
    return (
        f"{shape}; by what is known, the model would not run ({reason}); the plan includes the model anyway"
    )


def shape_doubts(profile: ModelProfile, hardware: Hardware | None = None) -> tuple[str, ...]:
    """Return the parts of a profile's shape and weights that are not understood, and hardware figures that may change."""
    return weights.doubts(from_config(profile.config), profile.checkpoint, hardware)


def kv_capacity(profile: ModelProfile, hardware: Hardware, resolution: Resolution) -> kv.KvCapacity | None:
    """The KV cache of one engine; None where the hardware's physics or a deciding setting is unknown."""
    args = resolution.flags()
    # Their defaults differ by version: with neither known, no capacity is reported.
    if resolution.facts.vllm is None and not settled(args):
        return None
    return kv_capacity_of(profile, hardware, args, resolution.facts.vllm, resolution.facts.block_size)


def settled(args: Mapping[str, object]) -> bool:
    """Return True if flags (names without dashes) set the two values whose defaults decide a KV cache."""
    return bool(args.get("gpu-memory-utilization") and args.get("max-num-batched-tokens"))


def kv_capacity_of(
    profile: ModelProfile,
    hardware: Hardware,
    args: Mapping[str, object],
    vllm: str | None,
    block_size: int | None = None,
) -> kv.KvCapacity | None:
    """Return the KV cache of one engine by its flags (names without dashes); None without known physics."""
    return kv.kv_capacity_tokens(
        from_config(profile.config),
        profile.checkpoint,
        hardware,
        layout.from_args(args),
        float(str(args.get("gpu-memory-utilization") or 0.9)),
        vllm=vllm,
        max_model_len=_length(args),
        max_num_batched_tokens=_int(args.get("max-num-batched-tokens")) or 8192,
        max_num_seqs=_int(args.get("max-num-seqs")) or 1024,
        block_size=block_size or 16,
        kv_cache_memory_bytes=_int(args.get("kv-cache-memory-bytes")),
    )


def cannot_start(profile: ModelProfile, capacity: kv.KvCapacity | None, resolution: Resolution) -> str | None:
    """Return the reason that vLLM exits at start for lack of GPU memory, with a fix; None if it starts or nothing
    is known.

    The derived capacity is on the high side (docs/physics.md): a model that does not fit it does not fit the server.
    """
    if capacity is None:
        return None
    args = resolution.flags()
    fixed = "kv-cache-memory-bytes" in args
    share = 1.0 if fixed else 1 - capacity.outside / capacity.hbm_bytes
    may = f"the {size(capacity.hbm_bytes * share)} per GPU that vLLM may use"
    if capacity.weights > capacity.hbm_bytes * share:
        return f"the weights take {size(capacity.weights)} per GPU, more than {may}: raise tp, to spread them over more GPUs"
    if not capacity.fits:
        return (
            f"weights, activations, graphs and buffers fill {may} and leave no room for a KV cache: raise tp"
        )
    length = _length(args)
    whole = length and kv.sequence_bytes_per_rank(
        from_config(profile.config), layout.from_args(args), float(length)
    )
    if not whole or whole <= capacity.kv_bytes:
        return None
    return (
        f"the KV cache holds {capacity.tokens:,} tokens, fewer than --max-model-len {length:,}: vLLM refuses to "
        f"start; lower --max-model-len to at most {capacity.tokens:,}, or raise "
        + ("--kv-cache-memory-bytes" if fixed else "--gpu-memory-utilization or tp")
    )


def prompt_images(workload: Workload, profile: ModelProfile) -> int:
    """Return the tokens of a request's images, in addition to its ISL."""
    images = workload.images
    return image_tokens(profile.config, images.count, images.width, images.height) if images else 0


def request_shape(workload: Workload, profile: ModelProfile) -> RequestShape:
    """Return the mean request of a workload, with its images; a shared prefix counts as cached."""
    images = prompt_images(workload, profile)
    longest = images + (workload.isl.high or workload.isl.mean) + (workload.osl.high or workload.osl.mean)
    varies = "lognormal" in (workload.isl.kind, workload.osl.kind)
    return RequestShape(
        isl=workload.isl.mean + images,
        osl=workload.osl.mean,
        cached=workload.isl.mean * workload.shared_prefix_ratio,
        image_tokens=images,
        longest=None if varies else longest,
    )


def max_requests(load: Load, concurrency: int | None) -> int | None:
    """Return the requests after which a level ends; None if its duration ends it."""
    if load.max_requests is None or load.max_requests_per_user is None:
        return load.max_requests
    return min(load.max_requests, load.max_requests_per_user * (concurrency or 1))


def steady_step(
    workload: Workload, image_tokens: float, users: int
) -> tuple[float, float, float, float, float]:
    """Return the mean work of a step in a closed loop's steady state, as `StepModel.cost` takes it.

    Each step decodes one token of every user and computes users x ISL / OSL prompt tokens. Prompts of a pool are
    in the cache.
    """
    isl, osl = workload.isl.mean + image_tokens, workload.osl.mean
    computed = 0.0 if workload.prompt_pool else users / osl
    prefill = computed * isl
    return prefill, prefill * isl / 2, users, users * (isl + osl / 2), computed * image_tokens


def measurement_s(
    load: Load, users: int, requests: int | None, request_s: Callable[[int], float]
) -> tuple[float, float]:
    """Return seconds of one measurement: the measured ones, and the others.

    A window has a warm-up and a tail of one turnover each. A level that ends after a number of requests is
    measured as a whole.

    Args:
        users: requests in flight at once.
        requests: the number that ends the level; None if a duration ends it.
        request_s: maps users in a steady loop to the seconds of one request.
    """
    if requests is not None:
        users = min(users, requests)
        full, last = divmod(requests, users)
        seconds = full * request_s(users) + (request_s(last) if last else 0.0)
        return min(seconds, load.max_duration_s), FIXED_S
    turnover = request_s(users)
    window = min(max(load.duration_s, load.min_requests_per_user * turnover), load.max_duration_s)
    return window, 2 * turnover + FIXED_S


def _length(args: Mapping[str, object]) -> int | None:
    """Return --max-model-len; None where the server derives it (unset, auto, -1)."""
    length = _int(args.get("max-model-len"))
    return length if length and length > 0 else None


def _int(value: object) -> int | None:
    return int(value) if isinstance(value, int | float) else None
