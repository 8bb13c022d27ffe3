"""`Plan`: what the engine will do with an image, in how much memory, and how long that should take; saved, loaded, compared."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import _core
from .errors import CheckpointError
from .hardware import HardwareSpec, load_spec
from .hardware.cpu import engine_version
from .hardware.spec import read_json

if TYPE_CHECKING:
    from .engine import Engine

MAX_PLAN_BYTES = 256 << 20
DEFAULT_TEXT_TOKENS = 32
_FORMAT = "hypervl-engine plan"
_REQUEST = {
    "width": int, "height": int, "scale": (int, float), "branch": str, "text_tokens": int, "context_length": int, "activation_bits": int,
    "kv_bits": int,
}  # fmt: skip
_FILE = {
    "format": str, "engine_version": str, "plan_version": int, "checkpoint": str, "request": dict, "spec": dict, "budget": int,
    "stages": list,
}  # fmt: skip
_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@dataclass(frozen=True)
class Stage:
    """One Program and its Plan (csrc/schedule/plan.h, as plain data).

    name: "vrc", "tile 256x256", "projector 256x256" (height x width), "prefill", "decode" or "head". runs: for this image;
    of decode and head, for each new token. rows, position: of the run that is predicted, None where a Program has no such
    thing: prefill is its middle chunk, decode the first token after the prompt.
    """

    name: str
    runs: int
    rows: int | None
    position: int | None
    plan: dict[str, Any]


@dataclass(frozen=True)
class PlanFile:
    """What a file of plans says, read and checked as far as this can be done without the model."""

    engine_version: str
    checkpoint: str
    request: dict[str, Any]
    spec: HardwareSpec
    budget: int
    stages: tuple[Stage, ...]

    @property
    def plans(self) -> list[dict[str, Any]]:
        """The Plans alone, as `_core.Model` takes them: each is used for the Program it was made for."""
        return [stage.plan for stage in self.stages]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "format": _FORMAT,
            "engine_version": self.engine_version,
            "plan_version": _core.PLAN_VERSION,
            "checkpoint": self.checkpoint,
            "request": self.request,
            "spec": self.spec.to_dict(),
            "budget": self.budget,
            "stages": [
                {"name": s.name, "runs": s.runs, "rows": s.rows, "position": s.position, "plan": s.plan} for s in self.stages
            ],
        }  # fmt: skip

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that differ when anything in the plan does."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:16]

    def check_model(self, model: _core.Model) -> None:
        """CheckpointError unless the plan was made for this checkpoint."""
        if (mine := _core.model_fingerprint(model)) != self.checkpoint:
            raise CheckpointError(f"the plan was made for another checkpoint ({self.checkpoint}, not {mine}): plan again")

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> PlanFile:
        """Reads a file. ValueError naming it and what is wrong; FileNotFoundError."""
        values = read_json(path, MAX_PLAN_BYTES)
        where = str(path)
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ValueError(f"{where}: expected a plan that `hypervl-engine plan` or Plan.save wrote")
        made, mine = (values.get("engine_version"), values.get("plan_version")), (engine_version(), _core.PLAN_VERSION)
        if made != mine:
            raise ValueError(f"{where}: made by engine and plan version {made}, these are {mine}: plan again")
        _fields(values, where, **_FILE)
        _fields(values["request"], f"{where}: request", **_REQUEST)
        stages = []
        for index, entry in enumerate(values["stages"]):
            _fields(entry, f"{where}: stages[{index}]", name=str, runs=int, rows=(int, type(None)), position=(int, type(None)), plan=dict)
            stages.append(Stage(**entry))
        spec = HardwareSpec.from_dict(values["spec"], f"{where}: spec")
        return cls(values["engine_version"], values["checkpoint"], values["request"], spec, values["budget"], tuple(stages))


@dataclass(frozen=True, eq=False)
class Plan:
    """Every Program that an image needs, planned for a machine. Two are equal when all they say is.

    file: what is saved. programs: parallel to its stages. memory: bytes, by name (docs/plan.md). All times are
    predictions of the cost model.
    """

    file: PlanFile
    programs: tuple[_core.Program, ...] = field(repr=False)
    memory: dict[str, int]
    image: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return self.file == other.file if isinstance(other, Plan) else NotImplemented

    def __hash__(self) -> int:
        return int(self.hash, 16)

    @property
    def hash(self) -> str:
        """16 hexadecimal digits that differ when anything in the plan does."""
        return self.file.hash

    @property
    def spec(self) -> HardwareSpec:
        return self.file.spec

    @property
    def stages(self) -> tuple[Stage, ...]:
        return self.file.stages

    @cached_property
    def reports(self) -> tuple[dict[str, Any], ...]:
        """`_core.describe_plan` of each stage: ops, buffers, allocations, predicted times of one run."""
        return tuple(self.describe(index) for index in range(len(self.stages)))

    def describe(self, index: int, events: int = 0) -> dict[str, Any]:
        """The report of one stage; with the events of the first `events` repetitions of each section."""
        stage = self.stages[index]
        values = self.spec.values()
        return _core.describe_plan(
            self.programs[index], stage.plan, values, rows=stage.rows, position=stage.position, events=events
        )  # fmt: skip

    @cached_property
    def totals(self) -> dict[str, float]:
        """Predicted milliseconds: vrc, encode, project, prefill, ttft (their sum and the first token's head), decode (a token)."""
        ms = {"vrc": 0.0, "tile": 0.0, "projector": 0.0, "prefill": 0.0, "decode": 0.0, "head": 0.0}
        for stage, report in zip(self.stages, self.reports, strict=True):
            ms[stage.name.split()[0]] += stage.runs * float(report["predicted_ms"])
        return {
            "vrc_ms": ms["vrc"],
            "encode_ms": ms["tile"],
            "project_ms": ms["projector"],
            "prefill_ms": ms["prefill"],
            "ttft_ms": ms["vrc"] + ms["tile"] + ms["projector"] + ms["prefill"] + ms["head"],
            "decode_ms": ms["decode"] + ms["head"],
        }

    def to_dict(self) -> dict[str, Any]:
        """Everything, for --json: what `save` writes apart from the Plans themselves, and the reports, memory and totals."""
        content = self.file.to_dict()
        for stage, report in zip(content["stages"], self.reports, strict=True):
            del stage["plan"]
            stage["report"] = report
        content["format"] = "hypervl-engine plan report"
        return {**content, "hash": self.hash, "image": self.image, "memory": self.memory, "predicted": self.totals}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes JSON that `Plan.load` and `load(..., plan=path)` read."""
        Path(path).write_text(json.dumps(self.file.to_dict()) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: str | os.PathLike[str], engine: Engine) -> Plan:
        """Reads a saved plan and checks every part of it against the engine's Programs.

        Raises ValueError (damaged, edited so that it does not hold, of another version or other settings of the engine),
        CheckpointError (of another checkpoint), FileNotFoundError.
        """
        file = PlanFile.read(path)
        file.check_model(engine.model)
        request = file.request
        for name in ("context_length", "activation_bits", "kv_bits"):
            mine = getattr(engine, name)
            if request[name] != mine:
                raise ValueError(f"{path}: made for a {name} of {request[name]}, the engine has {mine}: plan again")
        try:
            size, branch = (request["width"], request["height"]), engine.check_branch(request["branch"])
            layout = _Layout(engine, size, branch, request["scale"], request["text_tokens"])
            expected = [stage[:4] for stage in layout.stages]
            found = [(s.name, s.runs, s.rows, s.position) for s in file.stages]
            if found != expected:
                raise ValueError(f"expected the stages {expected}, got {found}")
            programs = tuple(program for *_, program, _ in layout.stages)
            for stage, program in zip(file.stages, programs, strict=True):
                _core.check_plan(program, stage.plan)
                _check_same(stage, file)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return layout.plan(file, programs)


def plan_engine(
    engine: Engine,
    image_size: tuple[int, int],
    *,
    target: str | os.PathLike[str] | HardwareSpec | None = None,
    budget: int | str | None = None,
    branch: str | None = None,
    scale: float = 1.0,
    text_tokens: int = DEFAULT_TEXT_TOKENS,
) -> Plan:
    """Plans an image of (width, height) pixels.

    target: what `load_spec` takes; None: what the engine itself runs on, with its own plans. budget: bytes of fast memory
    ("8MiB"); None: the engine's, or all that the target has. scale: of the image, as the VRC would choose it.
    text_tokens: of the prompt beside the image.

    Raises ValueError for arguments out of range, and when the image does not fit the engine's context; MemoryError naming
    the smallest budget that works when this one does not.
    """
    branch = engine.check_branch(branch)
    layout = _Layout(engine, image_size, branch, scale, text_tokens)
    own = target is None and budget is None
    spec = engine.spec if target is None else load_spec(target, threads=engine.model.threads)
    size = parse_bytes(budget, "budget") if budget is not None else engine.budget if own else spec.budget
    request = {
        "width": layout.width, "height": layout.height, "scale": float(scale), "branch": branch, "text_tokens": text_tokens,
        "context_length": engine.context_length, "activation_bits": engine.activation_bits, "kv_bits": engine.kv_bits,
    }  # fmt: skip
    values = spec.values()
    stages = tuple(
        Stage(name, runs, rows, position, plan if own else _core.make_plan(program, values, size))
        for name, runs, rows, position, program, plan in layout.stages
    )
    file = PlanFile(engine_version(), _core.model_fingerprint(engine.model), request, spec, size, stages)
    return layout.plan(file, tuple(program for *_, program, _ in layout.stages))


class _Layout:
    """What an image needs of an engine: which Programs, how often, and the memory that does not depend on plans."""

    def __init__(self, engine: Engine, image_size: tuple[int, int], branch: str, scale: float, text_tokens: int) -> None:
        self.engine = engine
        self.width, self.height = _sides(image_size)
        if isinstance(text_tokens, bool) or not isinstance(text_tokens, int) or text_tokens < 0:
            raise ValueError(f"text_tokens is {text_tokens!r}: expected a whole number from 0 on")
        if not 0.0 < scale <= 1.0:  # NaN is in no range
            raise ValueError(f"scale is {scale!r}: expected a number above 0 and at most 1")
        model = engine.model
        self.image = model.plan_image(self.height, self.width, scale)
        sizes = Counter(_core.tile_sizes(model, self.height, self.width, scale))  # in the order they come
        prompt = len(model.image_token_ids(self.height, self.width, scale)) + text_tokens
        if prompt >= engine.context_length:
            raise ValueError(
                f"an image of {self.width}x{self.height} at scale {scale:g} and {text_tokens} tokens of text make {prompt} "
                f"tokens, the context holds {engine.context_length} and one must be left for the answer: lower the scale, "
                "or load the model with a larger context_length"
            )
        chunks = -(-prompt // _core.PREFILL_CHUNK)
        runs: dict[str, tuple[int, int | None, int | None]] = {
            "vrc": (1, None, None),
            "prefill": (chunks, min(_core.PREFILL_CHUNK, prompt), (chunks - 1) // 2 * _core.PREFILL_CHUNK),
            "decode": (1, 1, prompt),
            "head": (1, 1, None),
        }
        for (height, width), count in sizes.items():
            for part in ("tile", "projector"):
                runs[f"{part} {height}x{width}"] = (count, None, None)
        self.stages = [
            (name, *runs[name], program, plan)
            for name, program, plan in _core.model_programs(model, branch, list(sizes), engine.context_length)
        ]

    def plan(self, file: PlanFile, programs: tuple[_core.Program, ...]) -> Plan:
        """The Plan with its lines of memory."""
        bound: dict[str, int] = {}
        for program in programs:
            for name, size in program.bound_bytes.items():
                bound[name] = max(bound.get(name, 0), size)
        embeds = bound.pop("image_embeds")
        del bound["image"]  # the resized image, a line of its own
        config = self.engine.config
        if config.tiling.token_order == "raster":  # rows run across tiles: all embeddings of the image are kept
            embeds = self.image["visual_tokens"] * config.text_config.hidden_size * 4
        height, width = self.image["resized"]
        memory = {
            "weights": self.engine.model.weight_bytes,
            "fast_budget": file.budget,
            "fast_peak": max(stage.plan["peak_bytes"] for stage in file.stages),
            "ddr_arena": max(stage.plan["ddr_bytes"] for stage in file.stages),
            "session_blocks": sum(bound.values()),
            "kv_cache": max(program.state_bytes for program in programs),
            "image_source": self.width * self.height * 3,
            "image_resized": width * height * 3,
            "visual_embeddings": embeds,
        }
        return Plan(file, programs, memory, dict(self.image))


def parse_bytes(value: int | str, name: str) -> int:
    """Bytes from a number or text such as "8MiB", "512 KiB", "8388608". ValueError naming `name`."""
    if isinstance(value, str):
        text = value.strip().lower().replace(" ", "")
        digits = text.rstrip("abgikm")
        unit = _UNITS.get(text[len(digits) :])
        if unit is not None and digits.replace(".", "", 1).isdecimal() and digits.isascii() and len(digits) <= 20:
            value = int(float(digits) * unit)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= 1 << 40:
        raise ValueError(f"{name} is {value!r}: expected bytes, such as 8388608 or 8MiB, from 1 to 1 TiB")
    return value


def _sides(image_size: Any) -> tuple[int, int]:
    """(width, height). ValueError."""
    try:
        width, height = image_size
    except (TypeError, ValueError):
        raise ValueError(f"image_size is {image_size!r}: expected (width, height) in pixels") from None
    for side in (width, height):
        if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= 1 << 24:
            raise ValueError(f"image_size is {image_size!r}: expected two whole numbers from 1 to 2^24")
    return width, height


def _fields(values: Any, where: str, **types: Any) -> None:
    """ValueError unless `values` is an object of exactly these fields, each of its type."""
    if not isinstance(values, dict) or set(values) != set(types):
        got = ", ".join(map(str, values)) if isinstance(values, dict) else repr(values)[:100]
        raise ValueError(f"{where}: expected the fields {', '.join(types)}, got {got}")
    for name, kind in types.items():
        value = values[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{where}: {name}: unexpected value {repr(value)[:100]}")


def _check_same(stage: Stage, file: PlanFile) -> None:
    """A stage's Plan is for the machine and the budget that the file names."""
    for name, value in (("spec", file.spec.name), ("staged", file.spec.staged), ("budget", file.budget)):
        if stage.plan[name] != value:
            raise ValueError(f"{stage.name}: {name}: expected {value!r}, got {stage.plan[name]!r}")
