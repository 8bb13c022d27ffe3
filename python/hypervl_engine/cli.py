"""The command line: generate, chat, convert, info, bench.

Exit codes: 0 done; 1 failed, or the answer was not the expected one; 2 usage or bad input; 130 interrupted. Errors are
one line on stderr (HVL_DEBUG=1 shows the traceback).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from .devices import DEVICES
from .errors import CheckpointError, HyperVLError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # keeps the interpreter's last flush quiet
        return 1
    except (ValueError, OSError, CheckpointError, MemoryError, HyperVLError) as error:
        if os.environ.get("HVL_DEBUG", "") not in ("", "0"):
            raise
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"hypervl-engine: {text}", file=sys.stderr)
        return 2 if isinstance(error, ValueError | OSError | CheckpointError) else 1


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(prog="hypervl-engine", description="Answers questions about images.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    one = commands.add_parser("generate", help="answer one prompt", description="Answers one prompt about images.")
    _add_model(one)
    _add_generation(one)
    one.add_argument("prompt", help="the question; - reads it from standard input")
    one.add_argument("-i", "--image", action="append", default=[], metavar="FILE", help="may be given several times")
    one.add_argument("--expect", metavar="TEXT", help="exit with 1 when the answer is another one")
    one.add_argument("--stream", action="store_true", help="print the text as it comes")
    one.add_argument("--trace", metavar="FILE", help="write what ran when, beside what was planned (Chrome format, for Perfetto)")
    one.add_argument("--json", action="store_true", help="print text, tokens, logprobs, finish_reason and stats")
    one.set_defaults(run=_generate)

    chat = commands.add_parser(
        "chat", help="talk in several turns",
        description="One question a line. /image FILE adds an image to the next one, /reset starts anew, /quit ends.",
    )  # fmt: skip
    _add_model(chat)
    _add_generation(chat)
    chat.add_argument("-i", "--image", action="append", default=[], metavar="FILE", help="for the first question")
    chat.add_argument("--json", action="store_true", help="one JSON object for each answer")
    chat.set_defaults(run=_chat)

    from . import convert

    convert_parser = commands.add_parser("convert", help="make a checkpoint", description=convert.__doc__)
    convert.add_arguments(convert_parser)
    convert_parser.set_defaults(run=convert.run)

    info = commands.add_parser("info", help="what this machine and a checkpoint offer")
    _add_model(info)
    info.add_argument("--json", action="store_true", help="as JSON")
    info.set_defaults(run=_info)

    bench = commands.add_parser(
        "bench", help="how fast a checkpoint runs here, and what the machine could do",
        description="model: prefill, decode and tiles of a checkpoint, with their shares of the machine's limits. "
        "roofline: the limits alone, for 1 to --threads threads: memory reads and multiplications a second.",
    )  # fmt: skip
    bench.add_argument("what", nargs="?", choices=("model", "roofline"), default="model", help="default: model")
    _add_model(bench)
    bench.add_argument("--prompt-tokens", type=int, default=256)
    bench.add_argument("--new-tokens", type=int, default=64)
    bench.add_argument("--repeat", type=int, default=5, help="runs of each measurement, of which the median counts")
    bench.add_argument("--json", action="store_true", help="as JSON")
    bench.set_defaults(run=_bench)

    plan = commands.add_parser(
        "plan", help="what an image takes on a machine: blocks, bytes, predicted times",
        description="Plans every Program that an image needs. Nothing runs; all times are predictions (docs/plan.md).",
    )  # fmt: skip
    _add_model(plan)
    plan.add_argument(
        "--target", metavar="NAME|FILE", help="cpu, cpu-staged, a preset such as hexagon-v73, or a JSON file; default: this machine"
    )
    plan.add_argument("--image", type=_size, default=(1024, 768), metavar="WxH", help="pixels (default: 1024x768)")
    plan.add_argument("--branch", help="vision branch, e.g. base or large")
    plan.add_argument("--scale", type=float, default=1.0, help="of the image, in (0, 1] (default: 1)")
    plan.add_argument("--text-tokens", type=int, default=32, help="of the prompt beside the image (default: 32)")
    plan.add_argument("--vtcm", metavar="SIZE", help="bytes of fast memory, such as 8MiB; default: what the target has")
    plan.add_argument("--json", action="store_true", help="print everything as JSON")
    plan.add_argument("--out", metavar="FOLDER", help="write plan.json, report.json, trace.json (Perfetto) and plan.svg there")
    plan.set_defaults(run=_plan)

    calibrate = commands.add_parser(
        "calibrate", help="measure this CPU for the cost model",
        description="Times the engine's kernels for about ten seconds, best while nothing else runs; plans use the figures from then on.",
    )  # fmt: skip
    calibrate.add_argument("--threads", type=int, help="default: the physical cores this process may use")
    calibrate.add_argument("--cache-dir", metavar="FOLDER", help="where the figures are kept")
    calibrate.add_argument("--json", action="store_true", help="print the hardware spec as JSON")
    calibrate.add_argument("--quiet", action="store_true", help="no progress bar")
    calibrate.set_defaults(run=_calibrate)
    return parser


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--model", metavar="FOLDER", help="checkpoint (default: the demo model)")
    parser.add_argument("--threads", type=int, help="default: the physical cores this process may use")
    parser.add_argument("--activation-bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--kv-bits", type=int, choices=(8, 16), help="of the KV cache (default: 16; those named hexagon have 8 only)")
    parser.add_argument(
        "--device", choices=DEVICES,
        help="cpu (default); cpu-staged; hexagon-ref: the NPU's integer arithmetic, slow (docs/integer_arithmetic.md); "
        "hexagon-sim: the same in an emulator, slower still; or hexagon: on a Snapdragon's NPU, untested there (docs/hexagon.md)",
    )  # fmt: skip
    parser.add_argument("--fallback", choices=("cpu", "hexagon-ref"), help="device to use when hexagon is not there or fails")
    parser.add_argument("--context-length", type=int, help="tokens a conversation can hold")
    parser.add_argument("--cache-dir", metavar="FOLDER", help="where packed weights are kept")
    parser.add_argument("--quiet", action="store_true", help="no progress bars")


def _add_generation(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--system", metavar="TEXT", help="system message")
    parser.add_argument("--branch", help="vision branch, e.g. base or large")
    parser.add_argument("--scale", type=_scale, default="auto", help='"auto" or a number in (0, 1]')
    parser.add_argument("--min-scale", type=float, help="floor for the automatic scale")
    parser.add_argument("--max-new-tokens", type=int)
    parser.add_argument("--temperature", type=float, help="0: always the likeliest token")
    parser.add_argument("--top-k", type=int)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--min-p", type=float)
    parser.add_argument("--repetition-penalty", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--stop", action="append", metavar="TEXT", help="may be given several times")
    parser.add_argument("--logprobs", type=int, metavar="N", help="report the N likeliest alternatives (with --json)")
    parser.add_argument("--thinking", action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--speculate", choices=("lookup",), help="guess tokens from the context and verify several at once")
    parser.add_argument("--max-visual-tokens", type=int)
    parser.add_argument("--max-pixels", type=int)


def _size(text: str) -> tuple[int, int]:
    width, x, height = text.lower().partition("x")
    if not (x and width.isascii() and width.isdecimal() and height.isascii() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"expected WIDTHxHEIGHT in pixels, such as 1024x768, got {text!r}")
    return int(width), int(height)


_GENERATION = (
    "branch", "scale", "min_scale", "max_new_tokens", "temperature", "top_k", "top_p", "min_p", "repetition_penalty",
    "seed", "stop", "logprobs", "thinking", "speculate", "max_visual_tokens", "max_pixels",
)  # fmt: skip


def _scale(text: str) -> float | str:
    return text if text == "auto" else float(text)


def _load(options: argparse.Namespace) -> Any:
    from .engine import load

    return load(
        options.model, threads=options.threads, activation_bits=options.activation_bits, kv_bits=options.kv_bits,
        context_length=options.context_length, device=options.device, fallback=options.fallback, cache_dir=options.cache_dir,
        progress=not options.quiet,
    )  # fmt: skip


def _generation(options: argparse.Namespace) -> dict[str, Any]:
    return {name: getattr(options, name) for name in _GENERATION}


def _as_json(result: Any) -> str:
    return json.dumps(dataclasses.asdict(result), ensure_ascii=False)


def _generate(options: argparse.Namespace) -> int:
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    engine = _load(options)
    with engine.stream(options.image or None, prompt, system=options.system, **_generation(options)) as stream:
        if options.trace is not None:
            stream.record()
        for piece in stream:
            if options.stream and not options.json:
                print(piece, end="", flush=True)
        result = stream.result
    if options.trace is not None:
        _write_trace(engine, options, result.stats, stream.trace)
    if options.json:
        print(_as_json(result))
    else:
        print("" if options.stream else result.text)
    if options.expect is not None and result.text.strip() != options.expect.strip():
        print(f"hypervl-engine: expected {options.expect!r}, the answer is {result.text!r}", file=sys.stderr)
        return 1
    return 0


def _write_trace(engine: Any, options: argparse.Namespace, stats: Any, measured: Any) -> None:
    """The run's trace, and with one image the plan for it."""
    from .images import DEFAULT_MAX_PIXELS, load_image
    from .plan_view import measured_process, processes
    from .trace import write_trace

    if len(options.image) != 1:
        write_trace(options.trace, [measured_process(measured)])
        return
    height, width = load_image(options.image[0], max_pixels=options.max_pixels or DEFAULT_MAX_PIXELS).shape[:2]
    text_tokens = stats.prompt_tokens - len(engine.model.image_token_ids(height, width, stats.scale))
    plan = engine.plan((width, height), branch=stats.branch, scale=stats.scale, text_tokens=text_tokens)
    write_trace(options.trace, processes(plan, measured))


def _chat(options: argparse.Namespace) -> int:
    engine = _load(options)
    chat = engine.chat(options.system, **_generation(options))
    images: list[str] = list(options.image)
    status = 0
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        command, _, argument = line.strip().partition(" ")
        if not line or command == "/quit":
            return status
        if command == "/image":
            images.append(argument.strip())
        elif command == "/reset":
            chat.reset()
            images.clear()
        elif line.strip() or images:
            try:
                _turn(chat, line.rstrip("\n"), images, options.json)
            except (ValueError, OSError) as error:  # a bad picture or a turn too long: the conversation goes on
                print(f"hypervl-engine: {error}", file=sys.stderr)
                status = 2
            images = []


def _turn(chat: Any, prompt: str, images: list[str], as_json: bool) -> None:
    with chat.stream(prompt, images or None) as stream:
        for piece in stream:
            if not as_json:
                print(piece, end="", flush=True)
        print(_as_json(stream.result) if as_json else "", flush=True)


def _info(options: argparse.Namespace) -> int:
    from . import info

    report = info()
    try:
        report["model"] = _load(options).info()
        report["model"].pop("cpu")
    except FileNotFoundError:
        if options.model is not None:
            raise
        report["model"] = "none: this build has no demo model"
    if options.json:
        print(json.dumps(report, indent=2))
        return 0
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{name}:")
            for inner, detail in value.items():
                print(f"  {inner}: {_plain(detail)}")
        else:
            print(f"{name}: {_plain(value)}")
    return 0


def _plain(value: Any) -> str:
    return " ".join(str(v) for v in value) if isinstance(value, list | tuple) else str(value)


def _bench(options: argparse.Namespace) -> int:
    if options.what == "roofline":
        return _roofline(options)
    from .bench import bench, table

    report = bench(
        _load(options), prompt_tokens=options.prompt_tokens, new_tokens=options.new_tokens, repeat=options.repeat,
        progress=not options.quiet,
    )  # fmt: skip
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


def _roofline(options: argparse.Namespace) -> int:
    from .machine import usable_cores
    from .roofline import roofline, table, thread_counts

    report = roofline(thread_counts(usable_cores() if options.threads is None else options.threads), runs=options.repeat)
    print(json.dumps(report, indent=2) if options.json else table(report))
    return 0


def _plan(options: argparse.Namespace) -> int:
    from pathlib import Path

    from .plan_view import table, write_files

    plan = _load(options).plan(
        options.image, target=options.target, budget=options.vtcm, branch=options.branch, scale=options.scale,
        text_tokens=options.text_tokens,
    )  # fmt: skip
    print(json.dumps(plan.to_dict()) if options.json else table(plan))
    if options.out is not None:
        for path in write_files(plan, Path(options.out)):
            print(f"wrote {path}", file=sys.stderr)
    return 0


def _calibrate(options: argparse.Namespace) -> int:
    from .hardware.calibrate import calibrated_spec, save_calibration
    from .machine import usable_cores

    threads = usable_cores() if options.threads is None else options.threads
    spec = calibrated_spec(threads, progress=not options.quiet)
    path = save_calibration(spec, cache_dir=options.cache_dir)
    if options.json:
        print(json.dumps(spec.to_dict(), indent=2))
        return 0
    for name, figure in spec.figures.items():
        print(f"{name:22} {figure.value:<14.6g} {figure.status}")
    print(f"kept in {path}")
    return 0
