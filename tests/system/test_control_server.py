"""The server itself: where it listens, who may ask it, why it does not start, and systemd."""

from __future__ import annotations

import grp
import json
import os
import re
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from .control_helpers import (
    AS_NOBODY,
    MOST_S,
    Site,
    free_port,
    said_by,
    until,
)
from .control_helpers import site as site
from .mount_helpers import NOBODY, ONGGI_AS_NOBODY, tried

UNIT = Path(__file__).parents[2] / "control" / "onggi.service"


def test_a_server_says_where_it_is_and_ends_on_a_signal(site: Site) -> None:
    site.serve()
    assert site.said == f"onggi: serving at {site.socket}\n"
    assert site.stop() == f"onggi: serving at {site.socket}\n"
    told = subprocess.Popen(
        [*site.command, "serve", "--json", "--quiet"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert told.stdout is not None
    ready = json.loads(told.stdout.readline())
    assert (ready["type"], ready["command"]) == ("ready", "serve")
    assert (ready["state"], ready["socket"]) == (str(site.state), str(site.socket))
    site.onggi.ok("status")
    told.send_signal(signal.SIGINT)
    assert told.communicate(timeout=MOST_S) == (b"", b"")
    assert told.returncode == 0
    assert not site.socket.exists()


def test_two_servers_do_not_share_a_state_or_a_socket(site: Site) -> None:
    other = site.folder / "other"
    site.serve()
    ran = site.onggi.fails(7, "serve", "--socket", other / "socket")
    assert ran.err == f"onggi: another server uses {site.state}\n"
    assert "another server" in said_by(site.onggi("serve", "--json"), 7)
    ran = site.onggi.fails(7, "serve", "--state", other)
    assert ran.err == f"onggi: can't listen at {site.socket}: another server does\n"
    site.onggi.ok("status")
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        ran = site.onggi.fails(
            7, "serve", "--state", other, "--socket", other / "socket", "--http", f":{port}"
        )
    assert f"can't listen at 127.0.0.1:{port}: Address already in use" in ran.err
    assert not (other / "socket").exists()
    site.onggi.ok("status")
    site.kill()
    assert site.socket.exists()
    site.serve()  # in the place of one that was killed
    site.onggi.ok("status")


def test_a_server_that_cannot_start_says_why_in_one_line(site: Site) -> None:
    site.state.mkdir()
    site.socket.write_text("something of somebody")
    assert "it is no socket" in site.onggi.fails(7, "serve").err
    assert site.socket.read_text() == "something of somebody"
    site.socket.unlink()
    long = site.folder / ("x" * 120)
    assert "too long" in site.onggi.fails(7, "serve", "--socket", long).err
    assert "can't listen" in site.onggi.fails(7, "serve", "--socket", "/proc/x/socket").err
    assert "/proc/x" in site.onggi.fails(6, "serve", "--state", "/proc/x").err
    (site.state / "token").write_text("short\n")
    assert "too short" in site.onggi.fails(2, "serve", "--http", "127.0.0.1:8710").err
    (site.state / "token").unlink()
    database = site.state / "onggi.db"
    whole = database.read_bytes()
    with sqlite3.connect(database) as sql:
        sql.execute(
            "INSERT INTO _yoyo_migration VALUES ('of-the-future', '9999', '2099-01-01 00:00:00')"
        )
    sql.close()
    assert "made by a newer Onggi" in site.onggi.fails(6, "serve").err
    database.write_bytes(b"this is no database " * 1000)
    assert "onggi.db: file is not a database" in site.onggi.fails(6, "serve").err
    database.write_bytes(whole)
    site.serve()


@pytest.mark.needs("root", "setpriv")
def test_a_user_without_rights_gets_nothing(site: Site) -> None:
    site.serve()
    site.add("mine")
    site.succeed("mine")
    site.folder.chmod(0o755)
    places = ("env", f"ONGGI_SOCKET={site.socket}", f"ONGGI_STATE={site.state}")
    for words in (("status",), ("plan", "rm", "mine")):
        done = tried(*places, *ONGGI_AS_NOBODY, *words)
        assert done.returncode == 8, done
        assert b"you may not use" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = tried(*places, *AS_NOBODY, "serve")
    assert done.returncode == 6, done
    assert b"Permission denied" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    site.check("mine")
    assert len(site.states("mine")) == 1


@pytest.mark.needs("root", "setpriv")
def test_the_members_of_a_group_may_ask_if_the_server_says_so(site: Site) -> None:
    site.serve("--group", grp.getgrgid(NOBODY).gr_name)
    site.folder.chmod(0o755)
    status = site.socket.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o660, NOBODY)
    site.add("ours")
    as_nobody = ("env", f"ONGGI_SOCKET={site.socket}", *ONGGI_AS_NOBODY)
    done = tried(*as_nobody, "run", "ours", "--wait")
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"succeeded\n")
    site.check("ours")


def asked(port: int, path: str, token: str | None, method: str = "GET") -> tuple[int, bytes]:
    """Return status and body of an answer over HTTP."""
    request = Request(f"http://127.0.0.1:{port}{path}", method=method)
    if token is not None:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urlopen(request, timeout=MOST_S) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_over_http_only_who_knows_the_token_gets_something(site: Site) -> None:
    port = free_port()
    no_umask = ("sh", "-c", 'umask 0; exec "$@"', "sh")
    site.serve("--http", f"127.0.0.1:{port}", prefix=no_umask)
    path = site.state / "token"
    assert f"http://127.0.0.1:{port}/ (its token is in {path})" in site.said
    token = path.read_text().strip()
    assert token not in site.said
    site.add("seen", every="1d")
    site.succeed("seen")
    for private in (path, site.socket, *site.state.glob("logs/*"), *site.state.glob("*.db")):
        assert stat.S_IMODE(private.stat().st_mode) & 0o077 == 0, private
    assert stat.S_IMODE(site.state.stat().st_mode) == 0o700
    for given in (None, "", token[:-1], token + "x"):
        for method, where in (
            ("GET", "/api/status"), ("GET", "/metrics"), ("POST", "/api/plans/seen/run"),
            ("DELETE", "/api/plans/seen"),
        ):  # fmt: skip
            status, body = asked(port, where, given, method)
            assert status in (401, 403, 429), (given, where)
            assert b"seen" not in body
    until(lambda: site.states("seen") == [("backup", "manual", "succeeded")])
    site.stop()  # which forgets how many wrong tokens there were
    site.serve("--http", f"127.0.0.1:{port}")
    assert path.read_text().strip() == token
    status, body = asked(port, "/api/status", token)
    assert status == 200
    assert [volume["plan"] for volume in json.loads(body)["volumes"]] == ["seen"]
    status, body = asked(port, "/metrics", token)
    assert status == 200
    assert b'onggi_plan_last_success_age_seconds{plan="seen"}' in body
    status, body = asked(port, "/api/plans/seen/run", token, "POST")
    assert status == 200
    assert site.ended(json.loads(body)["run"]["run_id"])["state"] == "succeeded"
    assert asked(port, "/api/plans/none", token)[0] == 404
    site.check("seen")


def test_whatever_comes_to_its_socket_the_server_goes_on(site: Site) -> None:
    site.serve()
    start = b"POST /api/plans HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
    for request in (
        b"",
        b"\x00\xff no HTTP\r\n\r\n",
        start[:20],
        start,
        start.replace(b"100", b"1"),
    ):
        with socket.socket(socket.AF_UNIX) as rude:
            rude.connect(os.fspath(site.socket))
            rude.sendall(request)
    for words in (("logs", 2**63), ("cancel", 10**30)):
        assert "there is no run" in site.onggi.fails(2, *words).err
    site.onggi.ok("plan", "ls")
    assert "Traceback" not in site.said


# --- systemd -------------------------------------------------------------------------------------


@pytest.mark.needs("systemd-analyze")
def test_the_unit_is_one_for_systemd(tmp_path: Path) -> None:
    text = UNIT.read_text()
    [line] = re.findall(r"^ExecStart=(\S+) (.*)$", text, re.MULTILINE)
    assert line[1] == "serve --quiet"
    unit = tmp_path / "onggi.service"
    unit.write_text(text.replace(line[0], sys.executable))  # one that there is here
    done = tried("systemd-analyze", "verify", "--man=no", unit)
    assert (done.returncode, b"onggi" in done.stderr) == (0, False), done.stderr
    unit.write_text(unit.read_text().replace("Restart=", "Restrat="))
    assert b"Restrat" in tried("systemd-analyze", "verify", "--man=no", unit).stderr


@pytest.mark.parametrize("is_abstract", [False, True], ids=["path", "abstract"])
def test_systemd_is_told_when_the_server_answers(is_abstract: bool, site: Site) -> None:
    address = os.fspath(site.folder / "notify")
    address = f"@{address}" if is_abstract else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        told.bind("\0" + address[1:] if is_abstract else address)
        told.settimeout(MOST_S)
        site.serve(prefix=("env", f"NOTIFY_SOCKET={address}"))
        assert told.recv(1000) == b"READY=1"
        site.onggi.ok("status")
        site.stop()
    if not is_abstract:  # and now nobody is there
        site.serve(prefix=("env", f"NOTIFY_SOCKET={address}"))
        until(lambda: f"can't tell systemd at {address}: " in site.said)
        site.onggi.ok("status")
