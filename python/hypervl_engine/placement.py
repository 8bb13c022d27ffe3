"""Where a model runs: the machine it is planned for, the budget of fast memory, the side of its tiles."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from . import _core
from .checkpoint import Checkpoint
from .devices import INTEGER_DEVICES, NPU_DEVICE, remote_options
from .hardware import Figure, HardwareSpec, cpu_spec, load_spec
from .machine import core_cpus
from .plan import PlanFile, parse_bytes

_ROOMY = 1 << 34  # bytes that any model's Programs fit into
TILE_SIDES = range(128, 513, 32)  # what "auto" chooses from, as far as the model's unit divides them


@dataclass(frozen=True)
class Placement:
    """A spec for the threads and the device, a budget in bytes, and the plans of a file, if one was given.

    integer: activations are int32 with a fixed binary point instead of float32.
    """

    threads: int
    spec: HardwareSpec
    budget: int
    file: PlanFile | None
    integer: bool = False
    cpus: list[int] = field(default_factory=list)  # that threads are bound to

    @classmethod
    def choose(
        cls,
        threads: int,
        device: str | None,
        vtcm: int | str | None,
        spec: str | os.PathLike[str] | HardwareSpec | None,
        plan: str | os.PathLike[str] | None,
        cache_dir: str | os.PathLike[str] | None,
    ) -> Placement:
        """From the arguments of `load`. ValueError when they contradict each other; FileNotFoundError for files."""
        if plan is not None:
            if spec is not None or vtcm is not None:
                raise ValueError("a plan brings its spec and its budget: give plan, or spec and vtcm")
            file = PlanFile.read(plan)
            if file.spec.name in INTEGER_DEVICES and device not in INTEGER_DEVICES:
                raise ValueError(f"{plan}: made for device {file.spec.name}, not for {device or 'cpu'}")
            if device in INTEGER_DEVICES:
                file = replace(file, spec=file.spec.with_figures({}, name=device, staged=file.spec.staged))
            elif device is not None and (device == "cpu-staged") != file.spec.staged:
                raise ValueError(f"{plan}: made for device {'cpu-staged' if file.spec.staged else 'cpu'}, not for {device}")
            if (made_for := int(file.spec.figures["contexts"].value)) < threads:
                raise ValueError(f"{plan}: made for {made_for} threads, not for {threads}: load with threads={made_for}, or plan again")
            return cls(threads, file.spec, file.budget, file, device in INTEGER_DEVICES)
        if spec is None and device == NPU_DEVICE:
            spec = "hexagon-v73"
        given = cpu_spec(threads, device == "cpu-staged", cache_dir=cache_dir)
        if spec is not None:
            given = load_spec(spec, threads=threads, cache_dir=cache_dir)
            given = given.with_figures(
                {"contexts": Figure(float(threads), "the threads asked for", "assumed")}, name=given.name, staged=given.staged
            )
        if device in INTEGER_DEVICES:  # in place or staged, as the spec says
            given = given.with_figures({}, name=device, staged=given.staged)
        elif device is not None and (device == "cpu-staged") != given.staged:
            given = given.with_figures({}, name=device, staged=device == "cpu-staged")
        budget = given.budget if vtcm is None else parse_bytes(vtcm, "vtcm")
        return cls(threads, given, budget, None, device in INTEGER_DEVICES)

    def pinned(self) -> Placement:
        """With every thread bound to a core of its own. ValueError when there are fewer cores than threads."""
        cpus = core_cpus()
        if len(cpus) < self.threads:
            raise ValueError(f"pin_threads: {self.threads} threads, but this process may use {len(cpus)} physical cores")
        return replace(self, cpus=cpus[: self.threads])

    def model(
        self,
        config: dict[str, Any],
        weights: _core.WeightStore,
        activation_bits: int,
        kv_bits: int,
        context_length: int = 2,
    ) -> _core.Model:
        """The model with every Program of full tiles and of the text planned. MemoryError naming the smallest budget that works."""

        remote = remote_options(self.spec.name)

        def make(budget: int, plans: list[dict[str, Any]]) -> _core.Model:
            return _core.Model(
                config,
                weights,
                threads=self.threads,
                spec=self.spec.values(),
                activation_bits=activation_bits,
                kv_bits=kv_bits,
                budget=budget,
                context_length=context_length,
                cpus=self.cpus,
                plans=plans,
                integer=self.integer,
                **remote,
            )

        try:
            return make(self.budget, self.file.plans if self.file is not None else [])
        except MemoryError as error:
            roomy, side = make(_ROOMY, []), config["tiling"]["tile_size"]
            programs = [
                program
                for branch in config["vision_configs"]
                for _, program, _ in _core.model_programs(roomy, branch, [(side, side)], context_length)
            ]
            needed = max(_core.smallest_budget(program, self.spec.values()) for program in programs)
            raise MemoryError(f"{error}; for all of this model: at least {needed} bytes (vtcm={needed})") from None


def with_tile_size(
    checkpoint: Checkpoint,
    tile_size: int | Literal["auto"],
    weights: _core.WeightStore,
    placement: Placement,
    activation_bits: int,
    kv_bits: int,
) -> Checkpoint:
    """The checkpoint with tiles of another side. ValueError for a side that its patches and projector do not divide."""
    config = checkpoint.parsed_config
    shuffle = config.tiling.pixel_shuffle
    unit = max(vision.patch_size for vision in config.vision_configs.values()) * shuffle
    if tile_size == "auto":
        model = placement.model(checkpoint.config, weights, activation_bits, kv_bits)
        tile_size = best_tile_size(model, config.default_branch, placement, [side for side in TILE_SIDES if side % unit == 0])
    if isinstance(tile_size, bool) or not isinstance(tile_size, int) or tile_size < unit or tile_size % unit or tile_size > 8192:
        raise ValueError(f"tile_size is {tile_size!r}: expected auto or a multiple of {unit} from {unit} to 8192")
    return replace(checkpoint, parsed_config=replace(config, tiling=replace(config.tiling, tile_size=tile_size)))


def best_tile_size(model: _core.Model, branch: str, placement: Placement, sides: list[int]) -> int:
    """The side of least predicted encode time a pixel (tower and projector). MemoryError when one does not fit the budget."""
    values = placement.spec.values()

    def ms_per_pixel(side: int) -> float:
        stages = _core.model_programs(model, branch, [(side, side)], 2)
        return sum(
            float(_core.describe_plan(program, plan, values)["predicted_ms"])
            for stage, program, plan in stages if stage.startswith(("tile", "projector"))
        ) / side**2  # fmt: skip

    return min(sides, key=ms_per_pixel)
