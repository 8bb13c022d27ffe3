"""The public API: load a checkpoint, ask about images."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from . import _core
from .checkpoint import Checkpoint, open_checkpoint
from .devices import DEVICES, INTEGER_DEVICES, NPU_DEVICE, REMOTE_DEVICES
from .errors import DeviceError
from .generation import GenerationConfig, Result, Score, eos_token_ids
from .hardware import HardwareSpec
from .images import DEFAULT_MAX_PIXELS, Rgb, load_images
from .machine import usable_cores
from .placement import Placement, with_tile_size
from .plan import Plan, plan_engine
from .prompt import Picture, Prompt, Scale, check_context, check_scale, check_visual_tokens, expand, make_picture
from .session_pool import SessionPool
from .stream import Call, Stream, answer
from .tensors import DECODED
from .tokenizer import ImagePart, Message, Part, Tokenizer, check_files

if TYPE_CHECKING:
    from .chat import Chat

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_CONTEXT_LENGTH = 4096
_DEMO = Path(__file__).parent / "demo" / "model"
_NPU_THREADS = 4  # vector units that every NPU of the supported architectures has
_SCORE_CHUNK = 64  # answer tokens whose logits are held at once


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    pin_threads: bool = False,
    activation_bits: int = 16,
    kv_bits: int | None = None,
    context_length: int | None = None,
    device: str | None = None,
    fallback: Literal["cpu", "hexagon-ref"] | None = None,
    vtcm: int | str | None = None,
    spec: str | os.PathLike[str] | HardwareSpec | None = None,
    plan: str | os.PathLike[str] | None = None,
    tile_size: int | Literal["auto"] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: bool = True,
    verify: bool = False,
) -> Engine:
    """Loads a checkpoint folder (docs/checkpoint.md); without a path, the demo model that ships with the package.

    threads: default the physical cores this process may use. pin_threads: bind each to a core of its own, for machines
    with nothing else to do (the caller's own thread is left alone). activation_bits: 16 (exact enough, the default) or 8
    (faster). kv_bits: of the KV cache of a session, 16 (the default) or 8 (half the memory and traffic, less exact; all
    that "hexagon-ref" and "hexagon-sim" have).
    context_length: tokens a session can hold, default 4096 or what the model was made for, if that is less.
    cache_dir: where the weights packed for this machine are kept. progress: show a bar while packing. verify: check every
    byte of the cached weights (else: after packing, after every start of the system, and when the file has changed).

    Where it runs (docs/plan.md; none of these changes a bit of the result): device "cpu", or "cpu-staged", which copies
    every operand through fast memory as an NPU would. vtcm: bytes of fast memory that activations may take, such as
    "8MiB"; default what `spec` has. spec: the machine to plan for (`hypervl_engine.hardware.load_spec`), default this
    one. plan: a file that `Plan.save` wrote; it brings its spec and budget.
    Device "hexagon-ref" does change results: it computes in integers throughout, what the NPU will (docs/integer_arithmetic.md),
    with plain C++ and therefore slowly; in place, or through fast memory if `spec` is a machine that copies. Device "hexagon-sim" gives
    the same results from the DSP program in an emulator (docs/hexagon.md), much more slowly; every session has a process of its own.
    Device "hexagon" is to give them from a Snapdragon's NPU, planned for `spec` hexagon-v73 if none is given, with 4 threads there
    by default; it has been tested against a stand-in of the vendor's library only. fallback: the device to use instead, with a
    RuntimeWarning, when one of those two is not there (`load` gives an engine for the other) or fails (calls of generate,
    encode and score that would end with a DeviceError give the result of the other).
    tile_size: side of the tiles in pixels, default the checkpoint's; "auto" lets the scheduler choose the side of least
    predicted time a pixel. Another side than the checkpoint was trained with does change results.

    The tokenizer is read when the first text comes; a broken one is a CheckpointError there.

    Raises FileNotFoundError when there is no such folder, or no emulator for "hexagon-sim", CheckpointError when it is
    not a usable checkpoint or the plan is another's, MemoryError naming the smallest budget that works when `vtcm` is
    too small (or what the NPU has, when it is too large), DeviceError when "hexagon" is not there or refuses a session,
    ValueError for other arguments out of range.
    """
    if device is not None and device not in DEVICES:
        raise ValueError(f"device is {device!r}: expected {', '.join(DEVICES[:-1])} or {DEVICES[-1]}")
    if fallback not in (None, "cpu", "hexagon-ref") or (fallback and device not in REMOTE_DEVICES):
        raise ValueError(f"fallback is {fallback!r}: expected cpu or hexagon-ref, for a device among {' and '.join(REMOTE_DEVICES)}")

    def instead() -> Engine:
        assert fallback is not None
        return load(
            path, threads=threads, pin_threads=pin_threads, activation_bits=activation_bits, kv_bits=given_kv_bits,
            context_length=context_length, device=fallback, tile_size=tile_size, cache_dir=cache_dir, progress=progress, verify=verify,
        )  # fmt: skip

    given_kv_bits = kv_bits
    if threads is not None and not 1 <= threads <= 1024:
        raise ValueError(f"threads is {threads}: expected 1 to 1024")
    if activation_bits not in (8, 16):
        raise ValueError(f"activation_bits is {activation_bits}: expected 16 or 8")
    if kv_bits is None:
        kv_bits = 8 if device in INTEGER_DEVICES else 16
    if kv_bits not in (8, 16):
        raise ValueError(f"kv_bits is {kv_bits}: expected 16 or 8")
    if device in INTEGER_DEVICES and kv_bits != 8:
        raise ValueError(f"kv_bits is {kv_bits}: device {device} has KV caches of 8 bits only")
    if path is None and not (_DEMO / "config.json").is_file():
        raise FileNotFoundError("this build has no demo model: give the path of a checkpoint folder")
    checkpoint = open_checkpoint(_DEMO if path is None else Path(path))
    limit = int(checkpoint.parsed_config.text_config.max_position_embeddings)
    if context_length is None:
        context_length = min(limit, DEFAULT_CONTEXT_LENGTH)
    if not 2 <= context_length <= limit:
        raise ValueError(f"context_length is {context_length}: expected 2 to {limit}, which the model was made for")
    generation = checkpoint.generation_config
    # A big tokenizer takes longer to read than all the rest, and in a thread of its own keeps the interpreter from the rest meanwhile.
    folder, config, eos = checkpoint.folder, checkpoint.parsed_config, eos_token_ids(generation)
    check_files(folder)
    weights = checkpoint.open_weights(cache_dir=cache_dir, progress=progress, verify=verify)
    default_threads = _NPU_THREADS if device == NPU_DEVICE else usable_cores()
    placement = Placement.choose(threads or default_threads, device, vtcm, spec, plan, cache_dir)
    if pin_threads:
        placement = placement.pinned()
    if tile_size is not None:
        checkpoint = with_tile_size(checkpoint, tile_size, weights, placement, activation_bits, kv_bits)
    if not placement.integer and not placement.spec.staged:
        weights.make_private_later(DECODED)
    try:
        model = placement.model(checkpoint.config, weights, activation_bits, kv_bits, context_length)
    except FileNotFoundError as error:  # the emulator
        if fallback is None:
            raise
        _warn_of_fallback(device, fallback, error, 2)
        return instead()
    if placement.file is not None:
        placement.file.check_model(model)
    engine = Engine(checkpoint, model, lambda: Tokenizer(folder, config, eos), context_length, activation_bits, kv_bits, placement)
    if device == NPU_DEVICE or fallback:
        try:
            engine.open_device()
        except (DeviceError, MemoryError) as error:
            if fallback is None:
                raise
            _warn_of_fallback(device, fallback, error, 2)
            return instead()
    if fallback:
        engine.set_fallback(fallback, instead)
    return engine


def _warn_of_fallback(device: str | None, fallback: str, error: Exception, stacklevel: int) -> None:
    warnings.warn(f"{fallback} is used instead of device {device}: {error}", RuntimeWarning, stacklevel=stacklevel + 1)


def _falls_back(method: F) -> F:
    """Lets another engine answer when the device fails and `load` was told so."""

    @wraps(method)
    def call(self: Engine, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except DeviceError as error:
            return method(self._fallen_back(error), *args, **kwargs)

    return cast(F, call)


class Engine:
    """A loaded model. Immutable and thread-safe: calls from several threads run side by side, each in its session."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        model: _core.Model,
        read_tokenizer: Callable[[], Tokenizer],
        context_length: int,
        activation_bits: int,
        kv_bits: int,
        placement: Placement,
    ) -> None:
        """Use `load`."""
        self.spec = placement.spec
        self.arithmetic: Literal["float", "integer"] = "integer" if placement.integer else "float"
        self.config = checkpoint.parsed_config
        self.path = checkpoint.folder
        self._read_tokenizer = read_tokenizer
        self.model = model
        self.context_length = context_length
        self.activation_bits = activation_bits
        self.kv_bits = kv_bits
        self.branches: tuple[str, ...] = tuple(self.config.vision_configs)
        self.default_branch: str = self.config.default_branch
        self.generation_config = GenerationConfig.from_checkpoint(checkpoint.generation_config)
        self._pool = SessionPool()
        self._fallback: tuple[str, Callable[[], Engine]] | None = None
        self._instead: Engine | None = None

    def open_device(self) -> None:
        """Starts the session that the first call will use. DeviceError, MemoryError."""
        self._pool.end(self._pool.start(self.new_session))

    def set_fallback(self, device: str, make: Callable[[], Engine]) -> None:
        """What answers a call of generate, encode or score that ends with a DeviceError."""
        self._fallback = (device, make)

    def _fallen_back(self, error: DeviceError) -> Engine:
        if self._fallback is None:
            raise error
        device, make = self._fallback
        _warn_of_fallback(self.spec.name, device, error, 3)
        self._instead = self._instead or make()
        return self._instead

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Read when it is first asked for. CheckpointError when its files are not usable."""
        return self._read_tokenizer()

    @_falls_back
    def generate(self, image: Any, prompt: str, **options: Any) -> Result:
        """Answers a prompt about an image, and returns when the answer is complete.

        image: anything `load_image` reads, a list of such, or None for text only. prompt: may be empty with an image.
        branch: one of `engine.branches`. scale: "auto" (the model chooses) or a number in (0, 1]; min_scale: a floor
        for "auto". max_new_tokens, temperature, top_k, top_p, min_p, repetition_penalty, seed, stop, logprobs,
        thinking, speculate: as in GenerationConfig; those not given come from `config`, or without it from
        `engine.generation_config`. system: a system message. max_visual_tokens, max_pixels: caps over all images and
        of each one.

        Raises ValueError (an argument or image is not valid; the prompt does not fit the context), FileNotFoundError,
        CancelledError, KeyboardInterrupt; the engine stays usable after each of them.
        """
        with self.stream(image, prompt, **options) as stream:
            for _ in stream:
                pass
            return stream.result

    def stream(
        self,
        image: Any,
        prompt: str,
        *,
        branch: str | None = None,
        scale: Scale = "auto",
        min_scale: float | None = None,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
        repetition_penalty: float | None = None,
        seed: int | None = None,
        stop: str | Sequence[str] | None = None,
        logprobs: int | None = None,
        thinking: bool | None = None,
        speculate: Literal["lookup"] | None = None,
        system: str | None = None,
        max_visual_tokens: int | None = None,
        max_pixels: int | None = None,
        config: GenerationConfig | None = None,
    ) -> Stream:
        """Like `generate`, but yields the text in pieces; `.result` is there at the end.

        Arguments, images and lengths are checked here; the work is done as the stream is iterated.
        """
        chosen = (config or self.generation_config).with_options(
            max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p,
            repetition_penalty=repetition_penalty, seed=seed, stop=stop, logprobs=logprobs, thinking=thinking,
            speculate=speculate,
        )  # fmt: skip
        branch = self.check_branch(branch)
        call = self._pool.start(self.new_session)
        try:
            assert call.session is not None
            built = self._prompt(call.session, image, prompt, system, chosen.thinking, scale, min_scale, max_visual_tokens, max_pixels)
            work = answer(call, call.session, self.tokenizer, built, branch, chosen)
        except BaseException:
            self._pool.end(call)
            raise
        return Stream(work, call, lambda one, _: self._pool.end(one))

    def chat(self, system: str | None = None, **options: Any) -> Chat:
        """A conversation of several turns on one KV cache. options: defaults of `Chat.ask`'s keyword arguments."""
        from .chat import Chat

        return Chat(self, system, **options)

    @_falls_back
    def score(
        self,
        image: Any,
        prompt: str,
        answer: str,
        *,
        branch: str | None = None,
        scale: Scale = "auto",
        min_scale: float | None = None,
        thinking: bool = False,
        system: str | None = None,
        max_visual_tokens: int | None = None,
        max_pixels: int | None = None,
    ) -> Score:
        """How likely the model finds `answer`, token by token.

        Raises as `generate` does; an empty answer is a ValueError.
        """
        branch = self.check_branch(branch)
        answer_ids, offsets = self.tokenizer.encode_with_offsets(answer)
        if not answer_ids:
            raise ValueError("the answer to score is empty")
        call = self._pool.start(self.new_session)
        try:
            session = call.session
            assert session is not None
            built = self._prompt(
                session, image, prompt, system, thinking, scale, min_scale, max_visual_tokens, max_pixels,
                room=len(answer_ids),
            )  # fmt: skip
            input_ids, images = built.rest(0)
            call.run(session.prefill, input_ids, images, branch)
            logprobs = self._logprobs(session.last_logits()[None, :], answer_ids[:1])
            for start in range(0, len(answer_ids) - 1, _SCORE_CHUNK):
                chunk = answer_ids[start : min(start + _SCORE_CHUNK, len(answer_ids) - 1)]
                logits = call.run(session.prefill, np.asarray(chunk, dtype=np.int32), (), branch, True)
                assert logits is not None
                logprobs += self._logprobs(logits, answer_ids[start + 1 : start + 1 + len(chunk)])
        finally:
            self._pool.end(call)
        return Score(answer, tuple(answer_ids), tuple(logprobs), tuple(offsets))

    @_falls_back
    def encode(
        self,
        image: Any,
        branch: str | None = None,
        scale: Scale = "auto",
        *,
        min_scale: float | None = None,
        max_pixels: int | None = None,
    ) -> NDArray[np.float32]:
        """(visual_tokens, hidden) float32: an image's embeddings as the language model sees them, in token order."""
        branch = self.check_branch(branch)
        check_scale(scale, min_scale)
        images = self._load(image, max_pixels)
        if len(images) != 1:
            raise ValueError(f"got {len(images)} images: encode takes one")
        call = self._pool.start(self.new_session)
        try:
            session = call.session
            assert session is not None
            picture = make_picture(self.model, session, images[0], scale, min_scale)
            return call.run(session.encode, picture.rgb, picture.scale, branch)
        finally:
            self._pool.end(call)

    def plan(self, image_size: tuple[int, int], **options: Any) -> Plan:
        """What an image of (width, height) pixels takes: blocks, bytes, predicted times. options: as in `plan_engine`.

        Nothing runs. Raises ValueError for arguments out of range; MemoryError when the budget is too small.
        """
        return plan_engine(self, image_size, **options)

    @property
    def budget(self) -> int:
        """Bytes of fast memory that every Program was planned for."""
        return self.model.budget

    @property
    def stats(self) -> dict[str, Any]:
        """Memory and traffic of the call that ended last, in bytes (plain data).

        fast_peak_bytes is measured (the highest byte of fast memory that anything wrote), fast_planned_bytes what the
        plans say; arena_bytes all activation memory; programs, on "hexagon-sim": packets and runs of each Program. Before
        the first call: what is known from loading.
        """
        known = {"device": self.spec.name, "fast_budget_bytes": self.budget, "weight_bytes": self.model.weight_bytes}
        return {**known, **self._pool.last_stats}

    def cancel(self) -> None:
        """From any thread: every call that is running on this engine raises CancelledError within a layer."""
        self._pool.cancel()

    def info(self) -> dict[str, Any]:
        """What is loaded and how it runs (plain data, for JSON)."""
        text = self.config.text_config
        return {
            "path": str(self.path),
            "branches": list(self.branches),
            "default_branch": self.default_branch,
            "layers": text.num_hidden_layers,
            "hidden_size": text.hidden_size,
            "vocab_size": text.vocab_size,
            "tile_size": self.config.tiling.tile_size,
            "vrc": self.config.vrc_config is not None,
            "context_length": self.context_length,
            "activation_bits": self.activation_bits,
            "kv_bits": self.kv_bits,
            "threads": self.model.threads,
            "pinned_cpus": list(self.model.cpus),
            "device": self.spec.name,
            "arithmetic": self.arithmetic,
            "fast_budget_bytes": self.budget,
            "weight_bytes": self.model.weight_bytes,
            "cpu": _core.cpu_info(),
        }

    def check_branch(self, branch: str | None) -> str:
        """The branch to use. ValueError for one that the checkpoint does not have."""
        if branch is None:
            return self.default_branch
        if branch not in self.branches:
            raise ValueError(f"branch is {branch!r}: this checkpoint has {', '.join(self.branches)}")
        return branch

    def new_session(self) -> _core.Session:
        """A KV cache, arena and random state of one's own; the engine's calls take theirs from a pool."""
        return _core.Session(self.model, self.context_length)

    def watch(self, session: _core.Session) -> Call:
        """Makes work on a session that is not the pool's (a chat's) reachable for `cancel`, until `forget`."""
        return self._pool.watch(session)

    def forget(self, call: Call) -> None:
        """Ends what `watch` began."""
        self._pool.forget(call)

    def pictures(self, session: _core.Session, image: Any, scale: Scale, min_scale: float | None, max_pixels: int | None) -> list[Picture]:
        """Decodes images and plans their tiles."""
        check_scale(scale, min_scale)
        return [make_picture(self.model, session, rgb, scale, min_scale) for rgb in self._load(image, max_pixels)]

    def _load(self, image: Any, max_pixels: int | None) -> list[Rgb]:
        return load_images(image, max_pixels=DEFAULT_MAX_PIXELS if max_pixels is None else max_pixels)

    def _prompt(
        self, session: _core.Session, image: Any, prompt: str, system: str | None, thinking: bool, scale: Scale,
        min_scale: float | None, max_visual_tokens: int | None, max_pixels: int | None, room: int = 1,
    ) -> Prompt:  # fmt: skip
        pictures = self.pictures(session, image, scale, min_scale, max_pixels)
        check_visual_tokens(self.model, pictures, max_visual_tokens)
        messages = [] if system is None else [Message("system", (check_text("system", system),))]
        messages.append(user_message(prompt, len(pictures)))
        ids = self.tokenizer.prompt(messages, thinking=thinking)
        built = expand(ids, self.tokenizer.image_token_id, pictures)
        check_context(built, self.context_length - room + 1)
        return built

    def _logprobs(self, logits: NDArray[np.float32], targets: Sequence[int]) -> list[float]:
        """logits (n, vocab), targets n ids -> natural log-probabilities among the tokens of the tokenizer."""
        values = logits[:, : self.tokenizer.vocab_size].astype(np.float64)
        top = values.max(axis=1)
        norm = top + np.log(np.exp(values - top[:, None]).sum(axis=1))
        return [float(v) for v in values[np.arange(len(targets)), targets] - norm]


def check_text(name: str, value: object) -> str:
    """TypeError unless it is text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {type(value).__name__}: expected str")
    return value


def user_message(prompt: str, images: int) -> Message:
    """Images first, then the text. ValueError when there is neither."""
    if not check_text("prompt", prompt).strip() and not images:
        raise ValueError("the prompt is empty: expected text, or an image")
    parts: list[Part] = [ImagePart() for _ in range(images)]
    return Message("user", (*parts, prompt) if prompt else tuple(parts))
