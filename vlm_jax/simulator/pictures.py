"""Arrays as the bytes that a data set holds: JPEG images, PNG masks and depth maps."""

from __future__ import annotations

import cv2
import numpy as np
import simplejpeg


def jpeg(rgb: np.ndarray, quality: int) -> bytes:
    """uint8[H, W, 3] as JPEG with 4:2:0 colour."""
    return simplejpeg.encode_jpeg(np.ascontiguousarray(rgb), quality, "RGB", "420")


def png(values: np.ndarray) -> bytes:
    """uint8 or uint16 [H, W] as a grey PNG, lossless."""
    done, encoded = cv2.imencode(".png", values)
    if not done:
        raise RuntimeError(f"OpenCV could not encode a {values.dtype} array of shape {values.shape} as PNG")
    return encoded.tobytes()


def hundredths(depth: np.ndarray) -> np.ndarray:
    """Millimetres f32[H, W] as uint16 hundredths, for `png`: 0 where there is no finite depth, 655.35 mm at most."""
    known = np.isfinite(depth) & (depth > 0)
    return np.where(known, np.clip(np.rint(np.where(known, depth, 0) * 100), 1, 65535), 0).astype(np.uint16)
