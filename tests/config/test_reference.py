"""docs/reference/config.md, made from the schema and its comments."""

from __future__ import annotations

from vlm_jax.config import reference, values
from vlm_jax.config.study import StudyConfig


def test_the_reference_is_what_the_schema_says(repository):
    text = (repository / "docs" / "reference" / "config.md").read_text()
    assert text == reference.render() + "\n", "docs/reference/config.md is old: run `make reference`"
    for key in (*values.leaves(), *values.leaves(StudyConfig)):
        assert f"| `{key}` |" in text


def test_every_setting_says_what_it_means():
    """Where the formatter breaks a line that is too long, the comment leaves the line of its field, and is lost."""
    rows = [line for line in reference.render().splitlines() if line.startswith("| `")]
    assert len(rows) == len(values.leaves()) + len(values.leaves(StudyConfig))
    assert not [row for row in rows if row.endswith("|  |")], "no comment on the field's own line"
