"""Floating-point operations, counted from the traced program: matrix products and convolutions, two a multiply-add.

What is cheap (norms, softmax, the optimiser) does not count, and nothing is counted twice: a step's operations are
those of its loss and gradients without rematerialisation, whatever the run recomputes ("model FLOPs"; Chowdhery et al.
2022, appendix B).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax


def count(fn: Callable[..., Any], *args: Any) -> int:
    """Operations of fn(*args); the arguments may be abstract. Bodies of scans count as often as they run.

    Of a conditional the costliest branch counts; the body of a `while_loop`, whose turns are not known, counts once.
    """
    return _of_jaxpr(jax.make_jaxpr(fn)(*args).jaxpr)


def _of_jaxpr(jaxpr: Any) -> int:
    return sum(_of_equation(equation) for equation in jaxpr.eqns)


def _of_equation(equation: Any) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        out_features = kernel[params["dimension_numbers"].rhs_spec[0]]
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // out_features
    inner = [_of_jaxpr(jaxpr) for jaxpr in _inside(params)]
    if name == "cond":
        return max(inner, default=0)
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _inside(params: dict[str, Any]) -> Iterator[Any]:
    """The programs that an equation runs."""
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            jaxpr = getattr(item, "jaxpr", item)
            if hasattr(jaxpr, "eqns"):
                yield jaxpr
