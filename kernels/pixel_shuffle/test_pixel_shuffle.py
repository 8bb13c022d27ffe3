"""Space to depth against a numpy transpose."""

import numpy as np
from hypervl_engine import _testing
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=40, deadline=None)
@given(
    out_h=st.integers(1, 4), out_w=st.integers(1, 5), factor=st.integers(1, 4), cols=st.integers(1, 40), data=st.data()
)
def test_equals_numpy(out_h: int, out_w: int, factor: int, cols: int, data: st.DataObject) -> None:
    grid_h, grid_w, tokens = out_h * factor, out_w * factor, out_h * out_w
    x = np.arange(grid_h * grid_w * cols, dtype=np.float32).reshape(grid_h * grid_w, cols)
    expected = x.reshape(out_h, factor, out_w, factor, cols).transpose(0, 2, 1, 3, 4).reshape(tokens, -1)
    middle = data.draw(st.integers(0, tokens))
    for variant in _testing.available_variants("pixel_shuffle"):
        out = np.full_like(expected, np.nan)
        _testing.pixel_shuffle(variant, x, grid_h, grid_w, factor, out, (middle, tokens))
        _testing.pixel_shuffle(variant, x, grid_h, grid_w, factor, out, (0, middle))
        assert np.array_equal(out, expected)
        # Tokens [middle, last) by themselves, from the lines of the input they read.
        last = data.draw(st.integers(middle, tokens))
        lines = slice(middle // out_w * factor * grid_w, -(-last // out_w) * factor * grid_w)
        part = np.full((last - middle, expected.shape[1]), np.nan, np.float32)
        _testing.pixel_shuffle(
            variant, x[lines].copy(), grid_h, grid_w, factor, part, (middle, last), x_first=lines.start, out_first=middle
        )
        assert np.array_equal(part, expected[middle:last])
