"""docs/reference/config.md, made from the schema and its comments."""

from __future__ import annotations

import inspect
import re

from vlm_jax.config import reference, schema, values


def test_the_reference_is_what_the_schema_says(repository):
    text = (repository / "docs" / "reference" / "config.md").read_text()
    assert text == reference.render() + "\n", "docs/reference/config.md is old: run `make reference`"
    for key in values.leaves():
        assert f"| `{key}` |" in text


def test_no_comment_of_a_setting_is_lost():
    """Where the formatter breaks a line that is too long, the comment leaves the line of its field."""
    source = inspect.getsource(schema)
    broken = re.findall(r"^    (\w+): \w+ = \($", source, re.MULTILINE)
    assert not broken, f"shorten the comments of {broken}: docs/reference/config.md has lost them"
    described = len(re.findall(r"^    \w+: [^#\n]+= [^#\n]+# ", source, re.MULTILINE))
    rows = [line for line in reference.render().splitlines() if line.startswith("| `")]
    assert len([row for row in rows if not row.endswith("|  |")]) == described
