"""Text generation: prefill, one jitted loop, strategies, and `System`, which answers a batch."""
