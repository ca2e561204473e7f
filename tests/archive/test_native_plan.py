"""`plan_files` and its twin, `TreePlanner`, plan the same files the same way."""

from __future__ import annotations

import os
import random
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from onggi.archive import layout, pax, tree_plan
from onggi.archive.dedup import LEAST_BYTES
from onggi.archive.files import Found, found_by_mode
from onggi.archive.folders import Folder, Folders
from onggi.archive.plan import Geometry
from onggi.archive.selection import TreeOptions
from onggi.archive.tree_plan import Root, TreePlanner
from onggi.archive.unit_plan import UnitPlan

from .native_helpers import NATIVE, ODD_NAMES, TIMES_NS, in_python
from .tree_helpers import Catalogue, pack_path

UNIT_BYTES = 1 << 20
LEFT_OUT = (3, 77)
LONGEST_IN_A_HEADER = 155 + 1 + 100
NAMES = {
    (layout.OWNER_USER, 5): b"five", (layout.OWNER_GROUP, 5): b"g" * 31,
    (layout.OWNER_USER, 6): b"u" * 32, (layout.OWNER_GROUP, 7): b"g" * 40,
}  # fmt: skip


def file(name: bytes = b"f", **fields: Any) -> Found:
    """Return a file that is like most."""
    found = found_by_mode(name, stat.S_IFREG | 0o644)
    size = fields.get("size", 5)
    usual = {"size": size, "blocks": -(-size // 512), "nlink": 1, "ino": 9, "dev": 3}
    return found._replace(**{**usual, **fields})


class Planned:
    """What a planner made of files in a folder, whose path is `prefix`.

    Attributes:
        planned: for each whether it was taken as one that is like most.
    """

    def __init__(self, together: Sequence[Found], prefix: bytes, *, bulk: bool) -> None:
        self.catalogue = Catalogue(lambda kind, number: NAMES.get((kind, number), b""))
        self.catalogue.rows.add(layout.ENTRY_DIRECTORY, b"", 0)
        top = Folder(None, b"")
        planner = TreePlanner(
            [Root(top, found_by_mode(b"", stat.S_IFDIR), is_top=True)], Folders(),
            self.catalogue.rows, Geometry(UNIT_BYTES, 4096, 4096), self.catalogue.owner_name,
            TreeOptions(), {LEFT_OUT},
        )  # fmt: skip
        self.folder = top
        self.planned: list[bool] = []
        number = 0
        while number < len(together):
            if bulk:
                end = planner._add_files(top, together, number, 0, prefix)
                self.planned += [True] * (end - number)
                number = end
            if number < len(together):
                self.planned.append(planner._add_plain(top, together[number], 0, prefix))
                number += 1
        self.unit: UnitPlan = planner._cutter.unit
        self.offset = planner._cutter.offset
        self.catalogue.rows.finish(0)

    def all(self) -> tuple[object, ...]:
        """Return all that can be compared."""
        return self.planned, self.unit, self.offset, self.catalogue.raw()


def both(together: Sequence[Found], prefix: bytes = b"") -> Planned:
    """Return what the planner makes with the compiled function, which is what it makes without."""
    compiled = Planned(together, prefix, bulk=True)
    with in_python():
        python = Planned(together, prefix, bulk=False)
    compiled.unit.spans = [spans._replace(folder=python.folder) for spans in compiled.unit.spans]
    assert compiled.all() == python.all()
    return compiled


def end_of(together: Sequence[Found], prefix: bytes = b"", **changed: Any) -> int:
    """Return how many files the compiled function takes."""
    return call(together, prefix, **changed)[0]


def call(together: Sequence[Found], prefix: bytes = b"", **changed: Any) -> Any:
    """Call the compiled function; `changed` names arguments that are not the usual ones."""
    usual: dict[str, Any] = {
        "found": together, "first": 0, "prefix": prefix, "parent": 0, "row": 1, "name_offset": 0,
        "unit_start": 0, "at": 0, "zeros": 0, "room": UNIT_BYTES, "owner": (0, 0, b"", b""),
        "least_large": LEAST_BYTES, "is_new": None, "leave_out": (),
    }  # fmt: skip
    return NATIVE.plan_files(*{**usual, **changed}.values())


names = st.one_of(
    st.sampled_from(ODD_NAMES), st.binary(min_size=1, max_size=255),
    st.sampled_from([b".", b"..", b"", b"a/b", b"a\0b", b"n" * 256, b"x" * 99, b"x" * 100]),
)  # fmt: skip
prefixes = st.one_of(
    st.just(b""),
    st.builds(
        lambda parts: b"/".join(parts) + b"/",
        st.lists(st.binary(min_size=1, max_size=90).filter(lambda name: b"/" not in name),
                 min_size=1, max_size=4),
    ),
)  # fmt: skip
sizes = st.one_of(st.sampled_from([0, 1, 511, 512, 513, 16_383]), st.integers(0, 16_383))
times = st.one_of(
    st.sampled_from([*TIMES_NS, 2**33 * 10**9 - 1, 2**33 * 10**9, 10**9 - 1, 1_000_000_010]),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**33).map(lambda seconds: seconds * 10**9),
)
found = st.builds(
    lambda name, size, mode, uid, gid, mtime_ns, flags: file(
        name, size=size, mode=mode, uid=uid, gid=gid, mtime_ns=mtime_ns, file_flags=flags
    ),
    names, sizes, st.integers(0, 0o7777).map(lambda mode: mode | stat.S_IFREG),
    st.sampled_from([0, 5, 6, 7, 2**21 - 1, 2**21, 2**32 - 2]), st.sampled_from([0, 5, 7, 2**21]),
    times, st.sampled_from([0, 0, 0x10, 0x80_0000, 2**32 - 1]),
)  # fmt: skip


@given(together=st.lists(found, max_size=20), prefix=prefixes)
@example(together=[file(b"n" * 100)], prefix=b"p" * 155 + b"/")
@example(together=[file(b"n" * 100)], prefix=b"p" * 156 + b"/")
@example(together=[file(b"n" * 99)], prefix=b"/")
def test_files_of_any_kind_are_planned_as_the_twin_does(
    together: list[Found], prefix: bytes
) -> None:
    both(together, prefix)


def test_files_like_most_are_all_taken_at_once() -> None:
    together = [
        file(b"f%d" % number, size=number * 37 % 5000, mtime_ns=number * 123_456_789)
        for number in range(100)
    ]
    assert end_of(together) == 100
    assert all(both(together).planned)


@pytest.mark.parametrize("ns", [0, 1, 10, 500_000_000, 999_999_999, 123_456_000])
@pytest.mark.parametrize("seconds", [0, 1, 9, 10, 1_700_000_000, 2**33 - 1])
def test_times_are_in_the_header_as_tars_read_them(seconds: int, ns: int) -> None:
    mtime_ns = seconds * 10**9 + ns
    if mtime_ns > 2**63 - 1:
        mtime_ns = 2**63 - 1
    ((at, header),) = call([file(mtime_ns=mtime_ns)])[3]
    member = pax.TarMember(b"f", pax.TYPE_FILE, 0o644, 0, 0, b"", b"", 5, mtime_ns)
    assert (at, header) == (0, pax.encode_member(member))


@pytest.mark.parametrize("length", [99, 100, 101, 254, 255, 256, 257])
@pytest.mark.parametrize("name_bytes", [1, 50, 98, 99, 100, 101])
def test_paths_are_cut_where_a_header_wants_them(length: int, name_bytes: int) -> None:
    prefix = b"p" * max(length - name_bytes - 1, 0) + b"/"
    length = len(prefix) + name_bytes
    together = [file(b"n" * name_bytes)]
    assert both(together, prefix).planned == [True]
    fits = length <= 100 or (name_bytes <= 100 and 1 <= length - name_bytes - 1 <= 155)
    assert end_of(together, prefix) == fits
    assert not fits or length <= LONGEST_IN_A_HEADER


@pytest.mark.parametrize(
    "fields",
    [
        {"mode": stat.S_IFDIR | 0o755}, {"mode": stat.S_IFLNK | 0o777}, {"mode": 0o644},
        {"nlink": 2}, {"nlink": 0}, {"size": LEAST_BYTES}, {"size": LEAST_BYTES - 1, "blocks": 31},
        {"blocks": 0}, {"error": 13}, {"attributes": b"x"}, {"mtime_ns": -(2**63)},
        {"mtime_ns": 2**63}, {"mtime_ns": -1}, {"mtime_ns": 2**33 * 10**9}, {"uid": 1},
        {"gid": 1}, {"name": b"."}, {"name": b""}, {"name": b"a/b"}, {"name": b"a\0"},
        {"name": b"n" * 256}, {"file_flags": 2**32}, {"file_flags": -1}, {"size": -1},
        {"dev": LEFT_OUT[0], "ino": LEFT_OUT[1]},
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_like_most_files_is_left_to_python(fields: dict[str, Any]) -> None:
    together = [file(b"a"), file(b"b")._replace(**fields), file(b"c")]
    assert end_of(together, leave_out={LEFT_OUT}) == 1
    assert end_of(together, leave_out={LEFT_OUT}, first=1) == 1
    assert end_of(together, leave_out={LEFT_OUT}, first=2) == 3
    assert end_of(together, leave_out={LEFT_OUT}, first=3) == 3


@pytest.mark.parametrize(
    "owner", [(2**21, 0, b"", b""), (0, 2**21, b"", b""), (0, 0, b"u" * 32, b""),
              (0, 0, b"", b"g" * 32), (-1, 0, b"", b"")], ids=str,
)  # fmt: skip
def test_owners_that_need_pax_are_left_to_python(owner: tuple[int, int, bytes, bytes]) -> None:
    together = [file(uid=owner[0], gid=owner[1])]
    assert end_of(together, owner=owner) == 0


@pytest.mark.parametrize("zeros", [0, 511])
@pytest.mark.parametrize("at", [0, 700])
def test_a_unit_is_never_filled(at: int, zeros: int) -> None:
    """The one that fills it begins another, and is planned in Python."""
    together = [file(size=1000)]
    needed = zeros + 512 + 1000
    assert end_of(together, at=at, zeros=zeros, room=at + needed) == 0
    taken = call(together, at=at, zeros=zeros, room=at + needed + 1)
    assert (taken[0], taken[6], taken[7]) == (1, at + needed, 24)
    assert taken[3] == [(at, bytes(zeros) + taken[3][0][1][zeros:])]
    assert taken[4] == [(together[0], 0, 1000, at + zeros + 512)]


def test_of_large_files_it_is_asked_whether_one_of_the_length_is_known() -> None:
    together = [file(b"a", size=9), file(b"b", size=20_000), file(b"c", size=30_000)]
    asked: list[tuple[Found, int, int]] = []

    def is_new(found: Found, row: int, content_offset: int) -> bool:
        asked.append((found, row, content_offset))
        return found.size == 20_000

    taken = call(together, row=7, unit_start=10 * UNIT_BYTES, is_new=is_new)
    place = 10 * UNIT_BYTES + 512 + 512 + 512
    after = place + 20_000 + -20_000 % 512 + 512
    assert asked == [(together[1], 8, place), (together[2], 9, after)]
    assert taken[0] == 2
    assert int.from_bytes(taken[1][-80:][56:64], "little") == place

    def fails(*_: object) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        call(together, is_new=fails)
    asked.clear()
    assert end_of(together, is_new=is_new, room=20_000) == 1
    assert end_of(together, is_new=is_new, leave_out=[(3, 9)]) == 0
    assert asked == []


@pytest.mark.parametrize(
    "change",
    [
        {"found": 5}, {"found": [5]}, {"found": [()]}, {"first": -1}, {"first": 2}, {"prefix": ""},
        {"at": -1}, {"zeros": -1}, {"zeros": 512}, {"room": -1}, {"owner": ()},
        {"owner": (0, 0, "", b"")}, {"leave_out": 5}, {"least_large": -1}, {"row": "1"},
        {"found": [file()._replace(name="f")]}, {"found": [file()._replace(attributes="")]},
        {"found": [file()._replace(size=0.5)]}, {"found": [file()._replace(error=None)]},
    ],
    ids=str,
)  # fmt: skip
def test_only_wrong_types_raise(change: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        call(change.pop("found", [file()]), **change)


@pytest.mark.parametrize("unit_bytes", [20_480, 65_536, 802_816])
def test_an_archive_is_the_same_byte_for_byte(tmp_path: Path, unit_bytes: int) -> None:
    """Many files in units that are small, so that many a unit ends in a run of plain files."""
    for number in range(700):
        folder = tmp_path / ("d" * 60) / f"sub{number % 3}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (f"{number}" + "n" * (number % 110))
        # Some are as long as another, a few have the same bytes too.
        size = number * 61 % 6000 if number % 7 else 16_000 + number // 14 * 211
        path.write_bytes(random.Random(number // 28).randbytes(size))
        os.utime(path, ns=(0, number * 1_000_000_007 * (number % 2)))
    geometry = Geometry(unit_bytes, 8192, 4096)
    compiled = pack_path(tmp_path, geometry)
    with in_python():
        python = pack_path(tmp_path, geometry)
    assert compiled.data == python.data
    shared = [entry for entry in compiled.tree.entries() if entry.flags & layout.FLAG_SHARED]
    assert len(shared) > 10


def wrong(change: Callable[[list[Any]], None]) -> Callable[..., Any]:
    """Return the compiled function, whose answer is changed."""

    def plan_files(*arguments: Any) -> Any:
        answer = list(NATIVE.plan_files(*arguments))
        change(answer)
        return tuple(answer)

    return plan_files


@pytest.mark.parametrize("field", [1, 2, 3, 4, 5, 6, 7, 8])
def test_a_plan_with_a_wrong_field_is_caught(field: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def change(answer: list[Any]) -> None:
        if isinstance(answer[field], bytes):
            answer[field] = answer[field][:-1] + b"\xfe"
        elif isinstance(answer[field], int):
            answer[field] += 1
        else:
            answer[field] = answer[field][:-1]

    class Wrong:
        plan_files = staticmethod(wrong(change))

    monkeypatch.setattr(tree_plan, "native", Wrong)
    with pytest.raises(AssertionError):
        both([file(b"a"), file(b"b")])
