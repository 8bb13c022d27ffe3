"""No kernel on Hexagon takes more packets than recorded (tools/hexagon/packets.py)."""

from __future__ import annotations

import json

import pytest

from tools.hexagon.client import TestServer
from tools.hexagon.packets import RECORD, count, multiplications
from tools.instruction_counts import grown


@pytest.fixture(scope="module")
def counted(server: TestServer) -> dict[str, int]:
    return count(server)


def test_no_kernel_takes_more_packets(counted: dict[str, int]) -> None:
    problems = grown(json.loads(RECORD.read_text()), counted, "packets")
    assert not problems, "if it must be so: python -m tools.hexagon.packets --record\n" + "\n".join(problems)


def test_packets_are_the_same_at_every_run(server: TestServer, counted: dict[str, int]) -> None:
    assert count(server) == counted


def test_no_more_multiplications_a_packet_than_two_vrmpy_make(counted: dict[str, int]) -> None:
    for name, packets in counted.items():
        work = multiplications(name)
        assert work is None or work / packets < (256 if "A8" in name else 128), name  # one byte of an activation, or two


@pytest.mark.parametrize(("tokens", "least"), [(1, 99), (4, 111)])
def test_layers_of_4_bit_weights_are_near_the_ceiling(counted: dict[str, int], tokens: int, least: float) -> None:
    name = f"linear W4A16, {tokens} x 2048 x 2048, groups of 128"
    assert (multiplications(name) or 0) / counted[name] >= least
