"""Collectives read from HLO text: every form of groups, loops, reduce-scatters in disguise; and a real program."""

from __future__ import annotations

import pytest

from vlm_jax.parallel.collectives import collectives

PLAIN = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}

%body (p: (s32[], f32[8,4])) -> (s32[], f32[8,4]) {
  %p = (s32[], f32[8,4]{1,0}) parameter(0)
  %x = f32[8,4]{1,0} get-tuple-element(%p), index=1
  %all-reduce.1 = f32[8,4]{1,0} all-reduce(%x), channel_id=1, GROUPS, to_apply=%add, metadata={op_name="jit(step)/dot"}
  ROOT %out = (s32[], f32[8,4]{1,0}) tuple(%x, %all-reduce.1)
}

%condition (p.1: (s32[], f32[8,4])) -> pred[] {
  ROOT %less = pred[] constant(true)
}

ENTRY %main (q: f32[8,4]) -> f32[8,4] {
  %q = f32[8,4]{1,0} parameter(0)
  %while.1 = (s32[], f32[8,4]{1,0}) while(%q), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"12"}}
BODY
}
"""  # noqa: E501


def program(body: str = "", groups: str = "replica_groups=[2,4]<=[8]") -> str:
    return PLAIN.replace("GROUPS", groups).replace("BODY", body)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        ("replica_groups=[2,4]<=[8]", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("replica_groups=[4,2]<=[2,4]T(1,0)", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("replica_groups={{0,1},{2,3}}", ((0, 1), (2, 3))),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", ((0, 1, 2, 3), (4, 5, 6, 7))),
        ("replica_groups=mesh['axis_0'=2,'axis_1'=4] {'axis_0'}", ((0, 4), (1, 5), (2, 6), (3, 7))),
        ("replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", ((0, 2, 4, 6), (1, 3, 5, 7))),
    ],
)
def test_groups_in_every_notation_and_the_trips_of_a_loop(groups, expected):
    [one] = collectives(program(groups=groups))
    n = len(expected[0])
    assert (one.groups, one.times, one.payload, one.source) == (expected, 12, 128, "jit(step)/dot")
    assert one.sent == pytest.approx(2 * (n - 1) / n * 128 * 12)


def test_the_trips_of_a_loop_without_a_note_are_its_bound():
    noted = ', backend_config={"known_trip_count":{"n":"12"}}'
    bound = "%bound = s32[] constant(7)\n  ROOT %less = pred[] compare(%i, %bound), direction=LT"
    text = program().replace(noted, "").replace("ROOT %less = pred[] constant(true)", bound)
    assert [one.times for one in collectives(text)] == [7]
    assert [one.times for one in collectives(program().replace(noted, ""))] == [1], "nothing tells"


@pytest.mark.parametrize(
    ("line", "kind", "sent"),
    [
        ("%g = bf16[8,8]{1,0} all-gather(%q), replica_groups=[1,8]<=[8], dimensions={0}", "all-gather", 7 / 8 * 128),
        (
            "%g = (bf16[1,8]{1,0}, bf16[8,8]{1,0}) all-gather-start(%q), replica_groups=[1,8]<=[8], dimensions={0}",
            "all-gather",
            7 / 8 * 128,
        ),
        ("%g = f32[1,4]{1,0} reduce-scatter(%q), replica_groups=[1,8]<=[8], to_apply=%add", "reduce-scatter", 7 * 16),
        ("%g = f32[8,4]{1,0} all-to-all(%q), replica_groups=[2,4]<=[8]", "all-to-all", 3 / 4 * 128),
        ("%g = f32[8,4]{1,0} collective-permute(%q), source_target_pairs={{0,1},{1,0}}", "collective-permute", 128),
        (
            "%g = (f32[8,4]{1,0}, s8[2]{0}) all-reduce(%q, %q), replica_groups=[1,8]<=[8], to_apply=%add",
            "all-reduce",
            2 * 7 / 8 * 130,
        ),
        (
            "%g = f32[8,4]{1,0} all-reduce(%q), replica_groups=[1,8]<=[8], to_apply=%add\n"
            "  %s = f32[1,4]{1,0} dynamic-slice(%g, %i, %j), dynamic_slice_sizes={1,4}",
            "reduce-scatter",
            7 / 8 * 128,
        ),
        (  # each device goes on with a half, and not with an eighth
            "%g = f32[8,4]{1,0} all-reduce(%q), replica_groups=[1,8]<=[8], to_apply=%add\n"
            "  %s = f32[4,4]{1,0} dynamic-slice(%g, %i, %j), dynamic_slice_sizes={4,4}",
            "all-reduce",
            2 * 7 / 8 * 128,
        ),
        (
            "%g = f32[8,4]{1,0} all-reduce(%q), replica_groups=[1,8]<=[8], to_apply=%add\n"
            "  %s = f32[1,4]{1,0} dynamic-slice(%g, %i, %j), dynamic_slice_sizes={1,4}\n"
            "  %t = f32[8,4]{1,0} add(%g, %q)",
            "all-reduce",
            2 * 7 / 8 * 128,
        ),
    ],
)
def test_bytes_that_a_device_sends(line, kind, sent):
    alone = "replica_groups=[8,1]<=[8]"  # the one in the loop is among single devices: nothing is sent
    [one] = collectives(program("  " + line, alone))
    assert (one.kind, one.times) == (kind, 1) and one.sent == pytest.approx(sent)


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="ENTRY"):
        collectives("nothing")
    with pytest.raises(ValueError, match="part of a mesh axis"):
        collectives(program(groups="replica_groups=mesh['a'=8] {'a':(1)2}"))
