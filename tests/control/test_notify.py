"""Who is told of a run gets to know it; who can't be told holds up nobody."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from onggi.control.errors import BadPlanError
from onggi.control.model import Kind, Reason, Run, State
from onggi.control.notify import Notify, check_notify, check_urls, message, notify

from .notify_helpers import WAIT_S, MailServer, Webhook, serving
from .plan_helpers import is_one_line, plan

RUN = Run(
    12, "photos", Kind.BACKUP, Reason.SCHEDULE, State.FAILED, due_s=1_795_485_600,
    not_before_s=1_795_485_600, started_s=1_795_485_605.5, ended_s=1_795_485_665, attempt=4,
    exit_code=6, message="no space left on /mnt/backup: 4096 bytes are free",
)  # fmt: skip
DONE = replace(
    RUN, state=State.WARNED, archive="/mnt/backup/photos/2026.onggi", archive_bytes=5 << 29,
    findings=3, verified=True, exit_code=1, message="", attempt=1,
)  # fmt: skip
BERLIN = plan(timezone="Europe/Berlin")


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    server = Webhook()
    with serving(server):
        yield server


# --- what people read --------------------------------------------------------------------------


def test_a_failure_is_told_with_what_people_need() -> None:
    assert message(RUN, BERLIN, "cellar") == (
        "Onggi on cellar: backup of photos failed",
        "The backup of photos failed, on cellar.\n"
        "\n"
        "no space left on /mnt/backup: 4096 bytes are free\n"
        "\n"
        "source:   /srv/photos\n"
        "target:   /mnt/backup\n"
        "due:      2026-11-24 03:00:00 CET\n"
        "started:  2026-11-24 03:00:05 CET\n"
        "ended:    2026-11-24 03:01:05 CET\n"
        "run:      12, attempt 4, exit code 6\n",
    )


def test_a_backup_with_warnings_is_told_with_its_archive() -> None:
    subject, body = message(DONE, None, "cellar")
    assert subject == "Onggi on cellar: backup of photos succeeded with warnings"
    assert body == (
        "The backup of photos succeeded with warnings, on cellar.\n"
        "\n"
        "due:      2026-11-24 02:00:00 UTC\n"
        "started:  2026-11-24 02:00:05 UTC\n"
        "ended:    2026-11-24 02:01:05 UTC\n"
        "archive:  /mnt/backup/photos/2026.onggi, 2.5 GiB\n"
        "verified: yes\n"
        "findings: 3\n"
        "run:      12, exit code 1\n"
    )


@pytest.mark.parametrize("state", [state for state in State if state.is_final])
@pytest.mark.parametrize("kind", list(Kind))
def test_every_end_of_every_kind_has_words(kind: Kind, state: State) -> None:
    subject, body = message(replace(RUN, kind=kind, state=state), BERLIN, "cellar")
    assert subject.isprintable()
    assert subject.removeprefix("Onggi on cellar: ") in body


def test_a_message_can_not_steer_a_terminal_or_a_header() -> None:
    hostile = replace(RUN, message="a\r\nBcc: x\x1b[2J\ud800\0" + "y" * 100_000)
    subject, body = message(hostile, plan(timezone="Mars/Olympus"), "cellar")
    assert subject.isprintable()
    assert all(line.isprintable() for line in body.split("\n"))
    assert "a??Bcc: x?[2J??yyy" in body
    assert len(body) < 5000


# --- webhooks ----------------------------------------------------------------------------------


def test_a_webhook_gets_the_message(webhook: Webhook) -> None:
    assert notify(RUN, BERLIN, Notify((webhook.url("hook"),))) == []
    path, got = webhook.got.get(timeout=WAIT_S)
    assert path == "/hook"
    assert got["title"].endswith(": backup of photos failed")
    assert "no space left on /mnt/backup" in got["message"]
    assert got["type"] == "failure"


@pytest.mark.parametrize(
    ("state", "kind"), [("succeeded", "success"), ("warned", "warning"), ("missed", "warning"),
                        ("lost", "failure"), ("cancelled", "info")],
)  # fmt: skip
def test_services_are_told_how_bad_it_is(webhook: Webhook, state: str, kind: str) -> None:
    wanted = Notify((webhook.url("hook"),), on=(state,))
    assert notify(replace(RUN, state=State(state)), BERLIN, wanted) == []
    assert webhook.got.get(timeout=WAIT_S)[1]["type"] == kind


def test_an_end_that_nobody_wants_to_hear_of_is_not_told(webhook: Webhook, tmp_path: Path) -> None:
    wanted = Notify((webhook.url("hook"),), f"touch {tmp_path}/told", on=("failed",))
    assert notify(DONE, BERLIN, wanted) == []
    assert webhook.got.empty()
    assert not (tmp_path / "told").exists()


def test_one_that_fails_is_named_without_its_secrets_and_the_others_are_told(
    webhook: Webhook,
) -> None:
    urls = (
        webhook.url("401", "user:sesame@"),
        webhook.url("hook"),
        "json://user:sesame@127.0.0.1:1/sesame",
        "nosuch://user:sesame@127.0.0.1/sesame",
    )
    errors = notify(RUN, BERLIN, Notify(urls))
    host = f"json://127.0.0.1:{webhook.server_port}"
    assert [error.partition("127.0.0.1:1: ")[0] for error in errors] == [
        f"number 1 of urls: {host}: Failed to send JSON POST notification: Verification Failed., "
        "error=401.",
        "number 3 of urls: json://",
        "number 4 of urls: apprise can't take this nosuch:// URL",
    ]
    assert "sesame" not in " ".join(errors)
    assert {webhook.got.get(timeout=WAIT_S)[0] for _ in range(2)} == {"/401", "/hook"}


@pytest.mark.parametrize(
    ("path", "said"),
    [("silent", "json://.*: A Connection error"), ("drip", "no answer within 10 s")],
)
def test_a_webhook_that_hangs_holds_up_nobody(
    webhook: Webhook, path: str, said: str, tmp_path: Path
) -> None:
    started_s = time.monotonic()
    wanted = Notify((webhook.url(path), webhook.url("hook")), f"touch {tmp_path}/told")
    (error,) = notify(RUN, BERLIN, wanted, limit_s=10)
    assert re.match(f"number 1 of urls: {said}", error)
    assert time.monotonic() - started_s < 30
    assert webhook.hung_up.get(timeout=WAIT_S) == path, "nobody is left who sends"
    assert {webhook.got.get(timeout=WAIT_S)[0] for _ in range(2)} == {f"/{path}", "/hook"}
    assert (tmp_path / "told").exists(), "the command ran all the same"


# --- mail --------------------------------------------------------------------------------------


def test_a_mail_arrives_as_it_was_written() -> None:
    server = MailServer()
    text = "no space: <b>ä_b*</b> 日本\\n & so on"
    with serving(server):
        assert notify(replace(RUN, message=text), BERLIN, Notify((server.url(),))) == []
    mail = server.got.get(timeout=WAIT_S)
    assert mail["Subject"].endswith(": backup of photos failed")
    assert mail["To"] == "admin@example.org"
    assert "onggi@example.org" in mail["From"]
    plain = mail.get_body(("plain",))
    assert plain is not None
    assert text in plain.get_content()


def test_a_mail_that_is_refused_is_an_error() -> None:
    server = MailServer()
    with serving(server):
        (error,) = notify(RUN, BERLIN, Notify((server.url("nobody"),)))
    assert error.startswith("number 1 of urls: mailto://")
    assert is_one_line(BadPlanError(error))
    assert server.got.empty()


def test_a_mail_server_that_is_silent_holds_up_nobody() -> None:
    server = MailServer(silent=True)
    with serving(server):
        errors = notify(RUN, BERLIN, Notify((server.url(),)), limit_s=2)
    assert errors == ["number 1 of urls: no answer within 2 s"]


# --- apprise -----------------------------------------------------------------------------------


def test_apprise_is_not_imported_here() -> None:
    code = (
        "import sys; import onggi.control.notify, onggi.control.plan_file as f\n"
        "f.read_plan_file('''[notify]\nurls = ['json://x']''')\n"
        "sys.exit('apprise' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def _with_other_apprise(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "apprise.py").write_text(text)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("PYTHONPATH", path)


def test_without_apprise_it_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _with_other_apprise(tmp_path, "raise ImportError", monkeypatch)
    wanted = Notify(("json://127.0.0.1:1", "json://127.0.0.1:2"))
    assert notify(RUN, None, wanted) == [
        f"number {number} of urls: messages to URLs need apprise; install onggi[control]"
        for number in (1, 2)
    ]
    with pytest.raises(BadPlanError, match="number 1 of urls: messages to URLs need"):
        check_urls(wanted)


def test_a_defect_of_apprise_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with_other_apprise(tmp_path, "raise RuntimeError('broken')", monkeypatch)
    assert notify(RUN, None, Notify(("json://127.0.0.1:1",))) == [
        "number 1 of urls: it ended with 1: RuntimeError: broken"
    ]


def test_urls_are_checked_by_apprise_without_a_message(webhook: Webhook) -> None:
    check_urls(Notify())
    check_urls(Notify((webhook.url("hook"), "mailto://user:sesame@example.org")))
    with pytest.raises(BadPlanError) as refused:
        check_urls(Notify((webhook.url("hook"), "jsn://user:sesame@example.org/sesame")))
    assert str(refused.value) == "notify: number 2 of urls: apprise can't take this jsn:// URL"
    assert webhook.got.empty()


# --- commands ----------------------------------------------------------------------------------


def _script(folder: Path, text: str) -> Path:
    path = folder / "tell me"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def test_a_command_gets_the_run_in_its_environment_and_on_its_input(tmp_path: Path) -> None:
    script = _script(
        tmp_path,
        f"cat > {tmp_path}/input; env > {tmp_path}/env; printf '%s|' \"$@\" > {tmp_path}/args",
    )
    command = f"'{script}' --to \"a b\" '$HOME;`id`' *"
    assert notify(DONE, BERLIN, Notify(command=command)) == []
    given = json.loads((tmp_path / "input").read_text())
    assert given["run_id"] == 12
    assert given["state"] == "warned"
    assert given["archive"] == "/mnt/backup/photos/2026.onggi"
    assert (tmp_path / "args").read_text() == "--to|a b|$HOME;`id`|*|", "no shell reads it"
    told = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    for name in ("PWD", "SHLVL", "_", "OLDPWD"):  # of the shell that the script has
        told.pop(name, None)
    assert told.pop("ONGGI_SUBJECT").endswith(": backup of photos succeeded with warnings")
    assert told == {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "ONGGI_RUN": "12",
        "ONGGI_PLAN": "photos",
        "ONGGI_KIND": "backup",
        "ONGGI_STATE": "warned",
        "ONGGI_MESSAGE": "",
        "ONGGI_ARCHIVE": "/mnt/backup/photos/2026.onggi",
    }


def test_a_command_has_the_environment_that_the_caller_gives(tmp_path: Path) -> None:
    script = _script(tmp_path, f'echo "$GREETING $ONGGI_STATE" > {tmp_path}/said')
    given = {"PATH": os.defpath, "GREETING": "hello", "ONGGI_STATE": "old"}
    assert notify(RUN, None, Notify(command=f"'{script}'"), given) == []
    assert (tmp_path / "said").read_text() == "hello failed\n"


def test_a_hostile_message_reaches_a_command_in_one_piece(tmp_path: Path) -> None:
    script = _script(tmp_path, f'cat > {tmp_path}/input; echo "$ONGGI_MESSAGE" > {tmp_path}/said')
    hostile = replace(RUN, message="a\0b\n\ud800ä" + "y" * 1_000_000)
    assert notify(hostile, None, Notify(command=f"'{script}'")) == []
    assert (tmp_path / "said").read_text().startswith("a?b??äyyy")
    assert json.loads((tmp_path / "input").read_text())["message"] == hostile.message


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("sh -c 'echo first >&2; echo why not >&2; echo; exit 3'", "it ended with 3: why not"),
        ("false", "it ended with 1: it does not say why"),
        ("sh -c 'kill -9 $$'", "it ended with -9: it does not say why"),
        ("/nowhere/program", "can't run .*: No such file or directory"),
        ("/usr", "can't run .*: Permission denied"),
        ("no-such-program-anywhere", "can't run .*: No such file or directory"),
    ],
)
def test_a_command_that_fails_is_an_error_of_one_line(command: str, said: str) -> None:
    (error,) = notify(RUN, None, Notify(command=command))
    assert re.search(said, error)
    assert is_one_line(BadPlanError(error))


def test_a_command_that_hangs_is_ended() -> None:
    started_s = time.monotonic()
    (error,) = notify(RUN, None, Notify(command="sleep 1000"), limit_s=0.5)
    assert error == "the command 'sleep 1000': no answer within 0.5 s"
    assert time.monotonic() - started_s < 10


# --- what may be -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"urls": "json://x"}, "urls must be a list of texts, in quotes"),
        ({"urls": [7]}, "urls must be a list of texts, in quotes"),
        ({"urls": None}, "urls must be a list of texts"),
        (
            {"urls": ["json://ok", "me@example.org"]},
            "number 2 of urls is no URL; write one such as",
        ),
        ({"urls": ["json://a b"]}, "number 1 of urls is no URL"),
        ({"urls": ["json://a\n"]}, "number 1 of urls is no URL"),
        ({"urls": ["json://" + "x" * 5000]}, "number 1 of urls is no URL"),
        ({"urls": ["json://x"] * 51}, "there are 51 urls; write 50 at most"),
        ({"on": ["fialed"]}, "on has 'fialed' in it; write succeeded, warned, failed, cancelled, "),
        ({"on": ["running"]}, "on has 'running' in it; write"),
        ({"on": "failed"}, "on must be a list of texts"),
        ({"command": None}, "command is None; write text, in quotes"),
        ({"command": ["tell", "me"]}, "command is .*; write text, in quotes"),
        ({"command": "tell 'me"}, "command is .*; it has no closing quotation"),
        ({"command": "tell me\\"}, "command is .*; it has no escaped character"),
        ({"command": "  "}, "command is '  '; write a program's name first"),
        ({"command": "'' x"}, "command is .*; write a program's name first"),
        ({"command": "a\0b"}, "command is .*; write text, in quotes"),
        ({"comand": "x"}, "there is no key 'comand'; did you mean command?"),
    ],
)
def test_who_can_not_be_told_is_refused_with_one_clear_line(
    given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadPlanError, match=f"^notify: {said}") as refused:
        Notify.from_dict(given)
    assert is_one_line(refused.value)


def test_who_is_told_goes_through_json_and_back() -> None:
    wanted = Notify(("json://u:p@h/x?a=b",), "tell 'me now'", ("succeeded", "cancelled"))
    assert Notify.from_dict(json.loads(json.dumps(wanted.as_dict()))) == check_notify(wanted)
    assert Notify.from_dict({}) == Notify((), "", ("failed", "warned", "lost", "missed"))


def test_passwords_are_not_in_the_text_of_who_is_told() -> None:
    assert "sesame" not in repr(Notify(("json://u:sesame@h",)))
    for url in ("u:sesame@h", "json://u:sesame@h/ x"):
        with pytest.raises(BadPlanError) as refused:
            Notify.from_dict({"urls": [url]})
        assert "sesame" not in str(refused.value)
