"""Named random streams: reproducible, and never the same draws twice."""

from __future__ import annotations

from vlm_jax.data.streams import STREAMS, stream


def test_no_two_streams_share_their_draws():
    assert 0 not in STREAMS.values() and len(set(STREAMS.values())) == len(STREAMS)
    # What each room asks for, at numbers that collided before: (seed, 1, 0) was (seed, 1), and (seed, n) any of them.
    asked = [("split", (1,)), ("validation", (1,)), ("mixture", (1, 0)), ("augment", (0,)), ("augment", (1,))]
    draws = [tuple(stream(name, 1, *numbers).integers(0, 2**32, 4)) for name, numbers in asked]
    assert len(set(draws)) == len(draws)


def test_the_same_arguments_give_the_same_draws():
    assert (stream("mixture", 3, 1, 2).permutation(9) == stream("mixture", 3, 1, 2).permutation(9)).all()
    assert (stream("mixture", 3, 1, 2).random(4) != stream("mixture", 4, 1, 2).random(4)).any()
