"""What surgery has done to one side, and what may be seen there by the landmark table (what rules
out what in one view is in `scene.nameable`)."""

from __future__ import annotations

from dataclasses import dataclass

from vlm_jax.simulator import anatomy, stations


@dataclass(frozen=True, slots=True)
class SideState:
    """What surgery has done to one side so far. `current` is the step under way; `turned`, that it is past its turn."""

    done: frozenset[int] = frozenset()
    current: int = 0
    turned: bool = False
    missing: frozenset[int] = frozenset()
    stump: bool = False
    roomy: bool = False

    def begun(self, step: int) -> bool:
        """True from the step's first activity on."""
        return step in self.done or step == self.current

    def passed(self, step: int) -> bool:
        """True from the step's turn on."""
        return step in self.done or (step == self.current and self.turned)


def available(number: int, state: SideState) -> bool:
    """Whether the table's first step and end allow this landmark to be seen on a side in this state."""
    landmark = anatomy.landmark(number)
    if number in state.missing or not any(state.begun(step) for step in landmark.first):
        return False
    if number == 13 and not state.begun(8) and not state.roomy:
        return False
    if landmark.begins_at_turn and not state.passed(landmark.first[0]):
        return False
    if number == 5 and state.passed(3):
        return state.stump and not state.passed(10)
    if landmark.ends is None:
        return True
    return not (state.passed(landmark.ends) if landmark.ends_at_turn else landmark.ends in state.done)


def in_view(region: str, state: SideState, scope: int) -> tuple[int, ...]:
    """Landmarks that a view may show, in its layout's order; what the renderer occludes is not known here."""
    numbers = stations.LAYOUTS[region]
    kept = [n for n in numbers if available(n, state) and scope in anatomy.landmark(n).scopes]
    if region == "anterior ethmoid" and not state.passed(5):
        kept = [n for n in kept if n != 10]  # the bulla hides it
    return tuple(kept)
