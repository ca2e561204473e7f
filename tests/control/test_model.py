"""States of runs: one table, and nothing that is not in it."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest

from onggi.control.errors import TransitionError
from onggi.control.model import ACTIVE, BEGINNINGS, TRANSITIONS, Happening, State, after, diagram

DOCS = Path(__file__).parents[2] / "docs/control.md"


@pytest.mark.parametrize(("state", "happening"), [*product(State, Happening)])
def test_only_what_the_table_has_can_happen(state: State, happening: Happening) -> None:
    if (state, happening) in TRANSITIONS:
        assert after(state, happening) is TRANSITIONS[state, happening]
    else:
        with pytest.raises(TransitionError, match=f"a run that is {state} can't {happening}"):
            after(state, happening)


def test_nothing_happens_to_a_run_that_is_over() -> None:
    assert not {state for state, _ in TRANSITIONS if state.is_final}
    for state in State:
        assert state.is_final or any(one is state for one, _ in TRANSITIONS)


def test_every_state_can_be_reached_and_every_run_can_end() -> None:
    seen, todo = set(BEGINNINGS), [*BEGINNINGS]
    while todo:
        one = todo.pop()
        for (before, _), then in TRANSITIONS.items():
            if before is one and then not in seen:
                seen.add(then)
                todo.append(then)
    assert seen == set(State)


def test_what_is_found_dead_never_stays_at_work() -> None:
    for state in ACTIVE:
        assert after(state, Happening.VANISH) is State.LOST


def test_the_diagram_in_the_documentation_is_made_from_the_table() -> None:
    assert f"```mermaid\n{diagram()}```" in DOCS.read_text()
