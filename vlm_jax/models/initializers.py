"""How weights start: truncated normal, 0.02 at BERT's width (Devlin et al. 2019), zero biases."""

from __future__ import annotations

from jax.nn import initializers

REFERENCE_WIDTH = 768
REFERENCE_STDDEV = 0.02


def weights(width: int) -> initializers.Initializer:
    """Truncated normal whose deviation is 0.02 at width 768 and grows as the width shrinks.

    BERT and ViT publish 0.02 for 768; keeping `stddev * sqrt(width)` constant keeps the scale of every product, so
    that a narrow model of the same family starts as a wide one does.
    """
    return initializers.truncated_normal(REFERENCE_STDDEV * (REFERENCE_WIDTH / width) ** 0.5)


zeros = initializers.zeros
ones = initializers.ones
constant = initializers.constant
