"""Tokens, cookies, origins, and how many wrong tokens one may try."""

from __future__ import annotations

import pytest

from onggi.control.access import (
    COOKIE_S,
    WrongTokens,
    is_own_page,
    is_same,
    is_session,
    new_session,
)

NOW_S = 1_795_550_400.0


def test_only_the_token_is_the_token() -> None:
    assert is_same("secret", "secret")
    for given in ("", "Secret", "secret ", "secre", "secrets", "s\u00e9cret", "\udcff"):
        assert not is_same(given, "secret")


def test_an_empty_token_lets_nobody_in() -> None:
    assert not is_same("", "")
    assert not is_session(new_session("", NOW_S), "", NOW_S)


def test_a_session_is_good_until_it_ends() -> None:
    session = new_session("secret", NOW_S)
    assert is_session(session, "secret", NOW_S)
    assert is_session(session, "secret", NOW_S + COOKIE_S - 1)
    assert not is_session(session, "secret", NOW_S + COOKIE_S)


def test_a_session_is_good_for_its_token_alone() -> None:
    assert not is_session(new_session("secret", NOW_S), "another", NOW_S)


def test_no_part_of_a_session_can_be_changed() -> None:
    session = new_session("secret", NOW_S)
    for at, char in enumerate(session):
        changed = session[:at] + ("1" if char != "1" else "2") + session[at + 1 :]
        assert not is_session(changed, "secret", NOW_S), at


@pytest.mark.parametrize(
    "session", ["", ".", "..", "a.b.c", "9" * 5000, "\u0662.x.y", "\udcff.a.b"]
)
def test_what_is_no_session_is_refused(session: str) -> None:
    assert not is_session(session, "secret", NOW_S)


def test_two_sessions_differ() -> None:
    assert new_session("secret", NOW_S) != new_session("secret", NOW_S)


@pytest.mark.parametrize(
    ("origin", "host", "is_own"),
    [
        ("http://nas:8420", "nas:8420", True),
        ("https://backup.example", "backup.example", True),  # a proxy speaks TLS
        ("http://NAS:8420", "nas:8420", True),
        ("http://[::1]:8420", "[::1]:8420", True),
        ("http://nas:8421", "nas:8420", False),
        ("http://evil.example", "nas:8420", False),
        ("http://nas.evil.example:8420", "nas:8420", False),
        ("http://nas:8420@evil.example", "nas:8420", False),
        ("null", "nas:8420", False),
        ("null", "null", False),
        ("", "nas:8420", False),
        ("", "", False),
        ("http://", "", False),
        ("http://nas:x", "nas:x", False),
        ("http://[", "[", False),
    ],
)
def test_only_pages_of_this_server_are_its_own(origin: str, host: str, is_own: bool) -> None:
    assert is_own_page({"origin": origin, "host": host}) is is_own


def test_ten_wrong_tokens_are_enough_for_five_minutes() -> None:
    wrong = WrongTokens()
    assert [wrong.note("a", NOW_S + each) for each in range(11)] == [True] * 10 + [False]
    assert wrong.note("b", NOW_S + 11)
    assert not wrong.note("a", NOW_S + 299)
    assert wrong.note("a", NOW_S + 300.5)
    assert not wrong.note("a", NOW_S + 300.6)


def test_a_right_token_takes_no_attempt_away() -> None:
    wrong = WrongTokens()
    for each in range(100):
        assert wrong.note("a", NOW_S + each)
        wrong.forget("a")


def test_many_addresses_together_are_bounded_too() -> None:
    wrong = WrongTokens()
    tried = sum(wrong.note(str(each), NOW_S) for each in range(20_000))
    assert tried == 1000
    assert len(wrong._times) <= 4096  # pyright: ignore[reportPrivateUsage]
    assert wrong.note("a", NOW_S + 301)


def test_a_clock_that_is_set_back_locks_nobody_out() -> None:
    wrong = WrongTokens()
    for _ in range(11):
        wrong.note("a", NOW_S)
    assert not wrong.note("a", NOW_S)
    assert wrong.note("a", NOW_S - 86_400)
