"""Five operating theatres: what a centre's endoscope, light and camera do to every image of it."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_jax.simulator.blocks import RGB


@dataclass(frozen=True, slots=True)
class Centre:
    """One centre's equipment.

    Attributes:
      tint: gain of the colour channels.
      border: radius of the image circle, in half image sides; `softness`, the width of its edge.
      reach: distance (mm) at which the light has fallen to half.
      exposure: mean brightness that the camera's control aims at.
      gloss: strength of reflections.
      blur: sigma in pixels of a 224-pixel image.
      noise: standard deviation at full strength, 0-1.
      quality: of the recording's compression, JPEG scale.
    """

    tint: RGB
    border: float
    softness: float
    reach: float
    exposure: float
    gloss: float
    blur: float
    noise: float
    quality: int


CENTRES: tuple[Centre, ...] = (
    Centre((1.00, 1.00, 1.00), 0.97, 0.02, 16.0, 0.46, 1.0, 0.35, 0.032, 92),
    Centre((1.10, 0.97, 0.90), 0.92, 0.05, 14.0, 0.50, 1.3, 0.70, 0.042, 80),
    Centre((0.93, 1.00, 1.07), 0.99, 0.02, 18.0, 0.44, 0.8, 0.25, 0.025, 94),
    Centre((1.06, 0.93, 0.97), 0.95, 0.03, 15.0, 0.54, 1.1, 0.50, 0.038, 86),
    Centre((0.98, 1.05, 0.96), 0.89, 0.08, 13.0, 0.40, 0.9, 0.95, 0.052, 72),
)
"""The centre of a procedure is its surgeon's: two surgeons a centre."""
