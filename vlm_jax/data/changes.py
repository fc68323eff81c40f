"""What augmentation does on the host to a record of training; what a device does better is in `augment`."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_jax.config.schema import Config
from vlm_jax.contract import TASKS
from vlm_jax.data.streams import stream


@dataclass(frozen=True)
class Changes:
    """What augmentation on the host does to one record.

    Attributes:
      flip: mirror image, labels and texts.
      drop_text: one flag a task; True = the last segment of its prompt (the context) is not known.
      drop_image: the image is not there.
    """

    flip: bool = False
    drop_text: tuple[bool, ...] = (False,) * len(TASKS)
    drop_image: bool = False


NO_CHANGES = Changes()


def draw_changes(config: Config, slot: int, pictured: bool = True) -> Changes:
    """What happens to the record in slot `slot`: a function of the seed and the slot.

    Without an image (`pictured` false, or dropped here) the context stays: else nothing would tell sentences apart.
    """
    augment = config.augment
    if not (augment.flip or augment.drop_text or augment.drop_image):
        return NO_CHANGES
    draws = stream("augment", config.seed, slot).random(2 + len(TASKS))
    drop_image = bool(draws[1] < augment.drop_image)
    return Changes(
        flip=bool(draws[0] < augment.flip),
        drop_image=drop_image,
        drop_text=tuple(bool(pictured and not drop_image and d < augment.drop_text) for d in draws[2:]),
    )
