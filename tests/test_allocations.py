"""Decoding a token and encoding a tile allocate nothing: malloc is counted by a preloaded library."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tools.reference import write_random

# Counts every allocation of the process. dlsym may allocate before the real functions are known: those come from a small buffer.
COUNTER = r"""
#include <dlfcn.h>
#include <stddef.h>
static char first[65536];
static size_t used;
static long count;
static void* (*real_malloc)(size_t);
static void* (*real_calloc)(size_t, size_t);
static void* (*real_realloc)(void*, size_t);
static void (*real_free)(void*);
long allocation_count(void) { return __atomic_load_n(&count, __ATOMIC_SEQ_CST); }
static void* early(size_t n) { void* p = first + used; used += (n + 63) / 64 * 64; return p; }
static void setup(void) {
  static int busy;
  if (busy) return;
  busy = 1;
  real_calloc = dlsym(RTLD_NEXT, "calloc");
  real_realloc = dlsym(RTLD_NEXT, "realloc");
  real_free = dlsym(RTLD_NEXT, "free");
  real_malloc = dlsym(RTLD_NEXT, "malloc");
}
#define COUNT __atomic_add_fetch(&count, 1, __ATOMIC_SEQ_CST)
void* malloc(size_t n) { COUNT; if (!real_malloc) setup(); return real_malloc ? real_malloc(n) : early(n); }
void* calloc(size_t m, size_t n) { COUNT; if (!real_malloc) setup(); return real_calloc ? real_calloc(m, n) : early(m * n); }
void* realloc(void* p, size_t n) { COUNT; if (!real_malloc) setup(); return real_realloc(p, n); }
void free(void* p) { if ((char*)p >= first && (char*)p < first + sizeof first) return; if (!real_malloc) setup(); real_free(p); }
"""

SCRIPT = """
import ctypes, sys
import numpy as np
from hypervl_engine.engine import load

count = ctypes.CDLL(None).allocation_count
count.restype = ctypes.c_long
engine = load(sys.argv[1], threads=2, context_length=1024, progress=False)
session = engine.new_session()
rgb = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
views = {tiles: np.ascontiguousarray(rgb[: 64 * tiles, :64]) for tiles in (1, 2, 4)}

def encode(tiles):
    session.encode(views[tiles], 1.0, "large")

def decode(tokens):
    for _ in range(tokens):
        session.decode(5)

def allocations(call, argument):
    before = count()
    call(argument)
    return count() - before

session.prefill(np.arange(40, dtype=np.int32))
for _ in range(3):  # Python's own caches fill
    for tiles in views:
        encode(tiles)
    decode(20)
assert allocations(lambda n: np.empty(n * 1000), 1) > 0, "the counter counts nothing"
print(*(min(allocations(encode, tiles) for _ in range(5)) for tiles in views))
print(*(min(allocations(decode, n) for _ in range(5)) for n in (1, 10, 50)))
"""


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> list[list[int]]:
    folder = tmp_path_factory.mktemp("allocations")
    (folder / "counter.c").write_text(COUNTER)
    library = folder / "counter.so"
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, folder / "counter.c", "-ldl"], check=True)
    checkpoint = write_random(folder / "checkpoint")
    environment = os.environ | {"LD_PRELOAD": str(library)}
    command = [sys.executable, "-c", SCRIPT, str(checkpoint)]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return [[int(n) for n in line.split()] for line in output.splitlines()]


def test_decode_allocates_nothing(counted: list[list[int]]) -> None:
    assert counted[1] == [0, 0, 0]


def test_a_tile_more_allocates_no_more(counted: list[list[int]]) -> None:
    one, two, four = counted[0]
    assert one == two == four
