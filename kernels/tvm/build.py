"""Run by cmake/tvm_kernels.cmake: build.py OUT_DIR OBJCOPY ISA... writes OUT_DIR/KERNEL_ISA.o.

pip gives every build another Python, which makes the build tool run this again: objects compiled from the same
schedules by the same TVM are kept, without importing TVM (seconds).
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path


def fingerprint(names: list[str]) -> str:
    """Of everything the objects depend on."""
    digest = hashlib.sha256(f"{version('apache-tvm')} {names}".encode())
    for source in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def main(out_dir: Path, objcopy: str, names: list[str]) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    stamp = out_dir / "stamp.json"
    wanted = fingerprint(names)
    try:
        made = json.loads(stamp.read_text())
    except (OSError, ValueError):
        made = {}
    paths = [out_dir / name for name in made.get("objects", [])]
    if made.get("fingerprint") == wanted and all(path.is_file() for path in paths):
        for path in paths:
            path.touch()
        return
    stamp.unlink(missing_ok=True)

    from compiler import compile_all  # imports TVM

    objects = [path.name for path in compile_all(out_dir, objcopy, names)]
    stamp.write_text(json.dumps({"fingerprint": wanted, "objects": objects}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
