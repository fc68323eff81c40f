"""Image networks that baselines and the hybrid image encoder see through."""
