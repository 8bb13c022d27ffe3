"""Tokens a second with prompt lookup over those without, in turns in one process.

    python tools/bench_speculation.py -m FOLDER [--threads 2] [--activation-bits 16] [--new-tokens 64] [--rounds 5]

Three texts: one that the model repeats (the ids of its own greedy answer, given as the context: the answer follows it), one sampled
from all of the vocabulary, and one sampled from the two best ids, which makes short matches all the time that lead nowhere.
Of each the median of the rounds' ratios; tokens of both ways are compared.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from hypervl_engine.engine import load

TEXTS: dict[str, dict[str, Any]] = {
    "repeats its context": {},
    "from the whole vocabulary": {"temperature": 50.0},
    "from the two best": {"temperature": 50.0, "top_k": 2},
}


def generate(session: Any, prompt: np.ndarray, count: int, how: dict[str, Any], speculate: bool) -> tuple[list[int], float]:
    """The ids and the seconds, prefill left out."""
    session.reset()
    session.prefill(prompt)
    session.seed(7)
    ids = [session.sample(**how)["id"]]
    start = time.perf_counter()
    while len(ids) < count:
        if speculate:
            ids += [s["id"] for s in session.speculate(ids[-1], count - len(ids), **how)]
        else:
            session.decode(ids[-1])
            ids.append(session.sample(**how)["id"])
    return ids, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-m", "--model", required=True, metavar="FOLDER")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--activation-bits", type=int, choices=(8, 16), default=16)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    engine = load(options.model, threads=options.threads, activation_bits=options.activation_bits, context_length=1024)
    session = engine.new_session()
    start = np.random.default_rng(0).integers(0, 1000, 64).astype(np.int32)
    answer, _ = generate(session, start, 128, {}, False)
    prompts = dict.fromkeys(TEXTS, start) | {"repeats its context": np.asarray([*start, *answer, *start], np.int32)}
    for text, how in TEXTS.items():
        ratios = []
        for _ in range(options.rounds + 1):  # the first warms up
            plain, plain_s = generate(session, prompts[text], options.new_tokens, how, False)
            session.reset_stats()
            guessed, guessed_s = generate(session, prompts[text], options.new_tokens, how, True)
            if plain != guessed:
                raise SystemExit(f"{text}: the tokens differ")
            ratios.append(plain_s / guessed_s)
        stats = session.stats()
        print(
            f"{text:28} {np.median(ratios[1:]):6.2f}x  ({min(ratios[1:]):.2f} to {max(ratios[1:]):.2f}; "
            f"{stats['accepted_tokens']} of {stats['drafted_tokens']} guesses right in {options.new_tokens} tokens)"
        )


if __name__ == "__main__":
    main()
