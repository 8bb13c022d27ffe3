"""The operations of the integer arithmetic (docs/integer_arithmetic.md) in numpy's int64: the oracle of kernels/*/test_*_fixed.py.

Arrays hold int64 within the range of int32 unless said otherwise. A kernel's int32 arrays pass the bindings as views of float32.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

FRACTION = 15
LEAST, MOST = -(1 << 31), (1 << 31) - 1
NO_SCALE = -64
Ints = NDArray[np.int64]


def saturate(x: Any) -> Ints:
    return np.clip(np.asarray(x, np.int64), LEAST, MOST)


def mul16(a: Any, m: Any) -> Ints:
    return (np.asarray(a, np.int64) * m) >> 16


def mul15(a: Any, h: Any) -> Ints:
    return saturate((np.asarray(a, np.int64) * h + (1 << 14)) >> 15)


def mul31(a: Any, b: Any) -> Ints:
    return saturate((np.asarray(a, np.int64) * b + (1 << 30)) >> 31)


def shift_down(a: Any, n: Any) -> Ints:
    a, n = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(n, np.int64))
    return np.where(n >= 0, a >> np.clip(n, 0, 31), saturate(a << np.clip(-n, 0, 31)))


def round_down(a: Any, n: Any) -> Ints:
    a, n = np.broadcast_arrays(np.asarray(a, np.int64), np.asarray(n, np.int64))
    s = np.clip(n, 1, 31)
    return np.where(n > 0, (a + (np.int64(1) << (s - 1))) >> s, shift_down(a, n))


def magnitude(x: Any) -> Ints:
    x = np.asarray(x, np.int64)
    return np.where(x < 0, -1 - x, x)


def width(m: Any) -> Ints:
    """Bits of m >= 0."""
    return np.array([int(v).bit_length() for v in np.ravel(m)], np.int64).reshape(np.shape(m))


def row_width(x: Any) -> Ints:
    """(..., n) -> (...): bits of the largest magnitude."""
    return width(magnitude(x).max(axis=-1, initial=0))


def scaled(values: Any) -> tuple[Ints, Ints]:
    """Floats -> mantissa (0 or 2^14 .. 2^15 - 1 in magnitude, halves away from zero) and exponent."""
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    mantissa = np.trunc(fraction * 32768 + np.copysign(0.5, fraction)).astype(np.int64)
    over = np.abs(mantissa) == 32768
    mantissa, exponent = np.where(over, mantissa // 2, mantissa), exponent - 15 + over
    return mantissa, np.where(mantissa == 0, NO_SCALE, exponent).astype(np.int64)


def words(mantissa: Any, exponent: Any) -> NDArray[np.int32]:
    """What a kernel reads: the mantissa in the odd half, the exponent in the even half."""
    packed = (np.asarray(mantissa, np.int64) << 16) | (np.asarray(exponent, np.int64) & 0xFFFF)
    return packed.astype(np.int32)


def from_words(packed: Any) -> tuple[Ints, Ints]:
    packed = np.asarray(packed, np.int64)
    return packed >> 16, ((packed & 0xFFFF) ^ 0x8000) - 0x8000


def weight_scales(scales: NDArray[np.float32], bits: int) -> tuple[Ints, Ints]:
    """Scales of weights as mantissa in 0 .. 65535 and exponent."""
    if bits == 16:
        raw = scales.astype(np.float16).view(np.uint16).astype(np.int64)
        field, fraction = raw >> 10 & 31, raw & 1023
        return np.where(field > 0, 1024 + fraction, fraction) << 5, np.maximum(field, 1) - 30
    raw = np.ascontiguousarray(scales, np.float32).view(np.uint32).astype(np.int64)
    field, fraction = raw >> 23 & 255, raw & 0x7FFFFF
    mantissa, exponent = (np.where(field > 0, (1 << 23) + fraction, fraction) + 128) >> 8, np.maximum(field, 1) - 142
    return np.where(mantissa == 65536, 32768, mantissa), exponent + (mantissa == 65536)


def scalar(value: float) -> tuple[int, int]:
    """A float32 as mantissa and exponent of a normal number's 24 bits."""
    raw = int(np.float32(value).view(np.uint32))
    field, fraction = raw >> 23 & 255, raw & 0x7FFFFF
    return ((1 << 23) + fraction if field else fraction), max(field, 1) - 150


def inverse_rms(x: Ints, eps: float) -> tuple[int, int, int]:
    """Of one row: (lift, mantissa, shift) of 1 / rms."""
    bits = int(row_width(x))
    s = max(0, bits - 15)
    q = np.clip(round_down(x, s), -32767, 32767)
    mean = (int((q * q).sum()) << 16) // len(x)
    mantissa, exponent = scalar(eps)
    up = exponent + 46 - 2 * s
    mean += mantissa << min(up, 38) if up >= 0 else mantissa >> -up
    if mean == 0:
        return 0, 0, 0
    even = (64 - mean.bit_length()) & ~1
    return 31 - bits, min(MOST, (1 << 62) // math.isqrt(mean << even)), s + 32 - bits - even // 2


def normed(x: Ints, weight: tuple[Ints, Ints], eps: float) -> Ints:
    """One row divided by its root mean square, times a weight."""
    lift, mantissa, shift = inverse_rms(x, eps)
    unit = round_down(mul31(x << lift, mantissa), shift)
    return round_down(mul15(unit, weight[0]), -8 - weight[1])


def activations(values: Any) -> Ints:
    """Floats -> activations."""
    return saturate(np.floor(np.asarray(values, np.float64) * (1 << FRACTION) + 0.5))


def floats(x: Any) -> NDArray[np.float64]:
    """Activations -> floats."""
    return np.asarray(x, np.float64) / (1 << FRACTION)


def view(x: Any) -> NDArray[np.float32]:
    """Activations as a kernel's float arrays."""
    return np.ascontiguousarray(x, np.int32).view(np.float32)


def ints(x: NDArray[np.float32]) -> Ints:
    """The reverse."""
    return x.view(np.int32).astype(np.int64)
