"""Flax modules of the systems that the vision-language model is compared with."""
