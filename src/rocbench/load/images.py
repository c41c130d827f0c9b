"""Synthetic images: real PNG or JPEG files, each with different pixels, so that image caches do not help."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from rocbench.load.prompts import Key
from rocbench.load.spec import Images

_TILES = 16


def picture(plan: Images, key: Key, number: int, index: int) -> bytes:
    """The file of image `index` of request `number`: a mosaic of random colours in the requested size."""
    colours = key.generator("image", number * 1000 + index).integers(
        0, 256, (_TILES, _TILES, 3), dtype=np.uint8
    )
    mosaic = Image.fromarray(colours).resize((plan.width, plan.height), Image.Resampling.NEAREST)
    out = io.BytesIO()
    if plan.format == "png":
        mosaic.save(out, "PNG", compress_level=1)
    else:
        mosaic.save(out, "JPEG", quality=85)
    return out.getvalue()


def data_url(plan: Images, key: Key, number: int, index: int) -> str:
    """The picture as a data URL for chat messages."""
    encoded = base64.b64encode(picture(plan, key, number, index)).decode("ascii")
    return f"data:image/{plan.format};base64,{encoded}"
