"""The kinds of operations in a step's profile: by what a compiled program fuses, not by how XLA names it."""

from __future__ import annotations

import importlib.util
from collections import Counter

import jax
import jax.numpy as jnp
import pytest


@pytest.fixture(scope="module")
def step_profile(repository):
    spec = importlib.util.spec_from_file_location("step_profile", repository / "benchmarks/step_profile.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_kinds_of_a_compiled_program(step_profile):
    """XLA gives sums and products of a CPU the same kind of name."""

    def step(x, w):
        y = jax.lax.fori_loop(0, 3, lambda _, v: jnp.tanh(v @ w), x)
        return y.sum(axis=0), x.T + 0.0

    text = jax.jit(step).lower(jnp.ones((64, 64)), jnp.ones((64, 64))).compile().as_text()
    found = step_profile.kinds(text)
    seen = Counter(found.values())
    assert seen["holder"] >= 1 and seen["products"] >= 1 and seen["sums over axes"] >= 1
    assert seen["elementwise work"] >= 1
    assert all(found[name] == "products" for name in found if name.startswith("dot"))


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("  %p = f32[4,4] parameter(0)\n  ROOT %d = f32[4,4] dot(%p, %p), lhs_contracting_dims={1}\n", "products"),
        ("  %p = f32[4,4] parameter(0)\n  ROOT %r = f32[4] reduce(%p, %c), dimensions={0}\n", "sums over axes"),
        ("  %p = f32[4,4] parameter(0)\n  ROOT %t = f32[4,4] transpose(%p), dimensions={1,0}\n", "copies and moves"),
        ("  %p = f32[4,4] parameter(0)\n  ROOT %e = f32[4,4] exponential(%p)\n", "elementwise work"),
    ],
)
def test_a_fusion_is_what_it_holds(step_profile, body, kind):
    text = f"%inner (p: f32[4,4]) -> f32[4,4] {{\n{body}}}\n\nENTRY %main (a: f32[4,4]) -> f32[4,4] {{\n"
    text += "  %a = f32[4,4] parameter(0)\n  ROOT %ynn_fusion.1 = f32[4,4] fusion(%a), kind=kCustom, calls=%inner\n}\n"
    assert step_profile.kinds(text)["ynn_fusion.1"] == kind
