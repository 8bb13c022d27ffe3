"""From messages and pictures to the ids that are prefilled: scales, placeholders, limits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import _core
from .images import Rgb

Scale = float | Literal["auto"]


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image with the scale it will be read at; compared by identity, because pixels are."""

    rgb: Rgb
    scale: float
    plan: _core.ImagePlan
    token_ids: NDArray[np.int32]


@dataclass(frozen=True)
class Prompt:
    """Ids with every image's tokens in place."""

    ids: NDArray[np.int32]
    keys: tuple[object, ...]  # what equals what when a cache is reused: the id, or (picture, index) within an image
    pictures: tuple[Picture, ...]

    def common_prefix(self, keys: Sequence[object]) -> int:
        """Length of the common beginning with `keys`, never ending inside an image."""
        size = 0
        for mine, other in zip(self.keys, keys, strict=False):
            if mine != other:
                break
            size += 1
        while size and size < len(self.keys) and _inside_image(self.keys[size]):
            size -= 1
        return size

    def rest(self, start: int) -> tuple[NDArray[np.int32], list[tuple[Rgb, float]]]:
        """Ids from `start` on and the images whose tokens are among them."""
        pictures = [key[0] for key in self.keys[start:] if isinstance(key, tuple) and key[1] == 0]
        return self.ids[start:], [(picture.rgb, picture.scale) for picture in pictures]


def _inside_image(key: object) -> bool:
    return isinstance(key, tuple) and key[1] > 0


def check_scale(scale: Scale, min_scale: float | None) -> None:
    """ValueError unless scale is "auto" or in (0, 1] and min_scale, where given, is in (0, 1] and not above scale."""
    if scale != "auto" and not _is_share(scale):
        raise ValueError(f'scale is {scale!r}: expected "auto" or a number above 0 and at most 1')
    if min_scale is not None and not _is_share(min_scale):
        raise ValueError(f"min_scale is {min_scale!r}: expected a number above 0 and at most 1")
    if min_scale is not None and scale != "auto" and float(scale) < min_scale:
        raise ValueError(f"scale {scale} is below min_scale {min_scale}: give one of the two")


def _is_share(value: object) -> bool:
    """True for a number in (0, 1]; NaN is in no range."""
    return isinstance(value, int | float | np.floating) and not isinstance(value, bool) and 0.0 < float(value) <= 1.0


def make_picture(
    model: _core.Model, session: _core.Session, rgb: Rgb, scale: Scale, min_scale: float | None
) -> Picture:
    """Chooses the scale (by the VRC when it is "auto") and plans the tiles."""
    chosen = float(session.vrc_scale(rgb)) if scale == "auto" else float(scale)
    if min_scale is not None:
        chosen = max(chosen, float(min_scale))
    height, width = rgb.shape[:2]
    plan = model.plan_image(height, width, chosen)
    return Picture(rgb, chosen, plan, model.image_token_ids(height, width, chosen))


def check_visual_tokens(model: _core.Model, pictures: Sequence[Picture], limit: int | None) -> None:
    """ValueError when the pictures have more visual tokens together than the caller allows."""
    total = sum(picture.plan["visual_tokens"] for picture in pictures)
    if limit is None or total <= limit:
        return
    for step in range(19, 0, -1):
        scale = step * 0.05
        if sum(_visual_tokens(model, picture.rgb, min(scale, picture.scale)) for picture in pictures) <= limit:
            advice = f"scale={scale:.2f} would fit"
            break
    else:
        advice = "no scale from 0.05 on would fit"
    raise ValueError(f"{total} visual tokens, max_visual_tokens is {limit}: {advice}")


def _visual_tokens(model: _core.Model, rgb: Rgb, scale: float) -> int:
    height, width = rgb.shape[:2]
    return model.plan_image(height, width, scale)["visual_tokens"]


def expand(ids: Sequence[int], image_token_id: int, pictures: Sequence[Picture]) -> Prompt:
    """Puts every picture's tokens in the place of its one placeholder. ValueError when their numbers differ."""
    places = sum(1 for i in ids if i == image_token_id)
    if places != len(pictures):
        raise ValueError(
            f"the prompt has {places} image places for {len(pictures)} images: the chat template must write one "
            "image token (config.json's image_token_id) for each image"
        )
    keys = list(_keys(ids, image_token_id, iter(pictures)))
    flat = [key if isinstance(key, int) else int(key[0].token_ids[key[1]]) for key in keys]
    return Prompt(np.asarray(flat, dtype=np.int32), tuple(keys), tuple(pictures))


def _keys(
    ids: Sequence[int], image_token_id: int, pictures: Iterator[Picture]
) -> Iterator[int | tuple[Picture, int]]:
    for i in ids:
        if i == image_token_id:
            picture = next(pictures)
            yield from ((picture, k) for k in range(len(picture.token_ids)))
        else:
            yield int(i)


def check_context(prompt: Prompt, context_length: int) -> None:
    """ValueError when the prompt leaves no room for a single new token."""
    if len(prompt.ids) < context_length:
        return
    visual = sum(len(picture.token_ids) for picture in prompt.pictures)
    raise ValueError(
        f"the prompt has {len(prompt.ids)} tokens ({visual} of them for {len(prompt.pictures)} images), the context "
        f"holds {context_length} and one must be left for the answer: shorten it, lower the scale, or load the model "
        "with a larger context_length"
    )
