"""The rules between the settings of `parallel`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from vlm_jax.config.schema import Config


def parallel_rules(config: Config) -> Iterator[str]:
    """One line for every setting of `parallel` that does not fit another."""
    parallel = config.parallel
    sizes = {name: getattr(parallel, name) for name in ("data", "fsdp", "tensor")}
    for name, size in sizes.items():
        if size != -1 and size < 1:
            yield f"config key 'parallel.{name}' must be -1 (what is left) or at least 1, got {size}"
    if list(sizes.values()).count(-1) > 1:
        yield f"only one of 'parallel.data', 'parallel.fsdp' and 'parallel.tensor' may be -1, got {sizes}"
    if parallel.mesh != "custom" and (sizes["data"], sizes["fsdp"]) != (-1, 1):
        yield f"config key 'parallel.mesh' is {parallel.mesh!r}: leave out parallel.data and parallel.fsdp, or it"
    if parallel.mesh in ("data", "fsdp") and sizes["tensor"] != 1:
        yield f"config key 'parallel.mesh' is {parallel.mesh!r}: leave out parallel.tensor, or take tensor or hybrid"
    if parallel.coordinator and not re.fullmatch(r".+:\d+", parallel.coordinator):
        yield f"config key 'parallel.coordinator' must be HOST:PORT, got {parallel.coordinator!r}"
    if parallel.num_processes and parallel.process_id >= parallel.num_processes:
        yield f"config key 'parallel.process_id' must be below parallel.num_processes ({parallel.num_processes})"
