"""One jitted step, one loop, for every system."""
