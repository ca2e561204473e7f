"""Generate the database, SQL dump and log text of the benchmark volume.

Owns what such files look like: orders with names, numbers, times, hashes and remarks; web server
and system logs. Everything comes from seeded generators, so the same seed gives the same text.
Knows nothing about volumes.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path

_START = datetime(2024, 1, 1, tzinfo=UTC)
_STATES = ("new", "paid", "packed", "sent", "delivered", "returned", "cancelled")
_GIVEN = ("Ada", "Bo", "Chiara", "Dmitri", "Eun-ji", "Farah", "Goro", "Hana", "Ines", "Jun")
_FAMILY = ("Abe", "Berg", "Castro", "Dao", "Evans", "Fischer", "Garcia", "Han", "Ito", "Jansen")
_PATHS = ("/", "/api/orders", "/api/customers", "/static/app.js", "/static/site.css", "/search")
_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0.0.0 Safari/537.36",
    "curl/8.5.0",
)
_DAEMONS = ("systemd[1]", "sshd[812]", "kernel", "cron[640]", "postgres[1204]", "app[2207]")

_COLUMNS = {
    "id": "bigint",
    "created": "text",
    "customer": "text",
    "email": "text",
    "state": "text",
    "quantity": "integer",
    "price": "real",
    "token": "text",
    "remark": "text",
}
_NAMES = ", ".join(_COLUMNS)
_TABLE = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())

# Rows that are made between two looks at the file's size.
_BATCH = 5_000
_ROWS_IN_A_TABLE = 100_000

Row = tuple[int, str, str, str, str, int, float, str, str]


def orders(rng: random.Random, remarks: Sequence[str]) -> Iterator[Row]:
    """Yield rows without end: rising ids and times, skewed states, random tokens, real prose."""
    moment = _START
    number = 0
    while True:
        number += 1
        moment += timedelta(milliseconds=rng.randrange(1, 90_000))
        given, family = rng.choice(_GIVEN), rng.choice(_FAMILY)
        yield (
            number,
            moment.isoformat(sep=" ", timespec="milliseconds"),
            f"{given} {family}",
            f"{given}.{family}{rng.randrange(10_000)}@example.org".lower(),
            _STATES[min(int(rng.expovariate(0.9)), len(_STATES) - 1)],
            1 + int(rng.expovariate(0.7)),
            round(rng.lognormvariate(3, 1), 2),
            f"{rng.getrandbits(96):024x}",
            rng.choice(remarks),
        )


def log_lines(rng: random.Random, messages: Sequence[str]) -> Iterator[str]:
    """Yield lines without end: runs of web server requests with system messages between them."""
    moment = _START
    while True:
        moment += timedelta(seconds=rng.expovariate(2))
        address = f"10.{rng.randrange(4)}.{rng.randrange(256)}.{rng.randrange(256)}"
        if rng.random() < 0.25:
            stamp = moment.strftime("%b %d %H:%M:%S")
            yield f"{stamp} db1 {rng.choice(_DAEMONS)}: {rng.choice(messages)} ({address})\n"
            continue
        stamp = moment.strftime("%d/%b/%Y:%H:%M:%S +0000")
        path = f"{rng.choice(_PATHS)}?id={rng.randrange(1_000_000)}"
        status = rng.choices((200, 304, 404, 500), (88, 8, 3, 1))[0]
        size = int(rng.lognormvariate(8, 1.5))
        agent = rng.choice(_AGENTS)
        yield f'{address} - - [{stamp}] "GET {path} HTTP/1.1" {status} {size} "-" "{agent}"\n'


def write_database(path: Path, size_bytes: int, seed: int, remarks: Sequence[str]) -> None:
    """Write an SQLite database of about the given size: one table with two indexes."""
    rows = orders(random.Random(seed), remarks)
    connection = sqlite3.connect(path)
    try:
        connection.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            f"CREATE TABLE orders ({_TABLE}, PRIMARY KEY (id));"
            "CREATE INDEX orders_email ON orders (email);"
            "CREATE INDEX orders_created ON orders (created);"
        )
        insert = f"INSERT INTO orders ({_NAMES}) VALUES ({', '.join('?' * len(_COLUMNS))})"
        while path.stat().st_size < size_bytes:
            connection.executemany(insert, islice(rows, _BATCH))
            connection.commit()
    finally:
        connection.close()


def write_dump(path: Path, size_bytes: int, seed: int, remarks: Sequence[str]) -> None:
    """Write SQL text in the shape of a pg_dump: settings, tables, and their rows as COPY blocks."""
    rows = orders(random.Random(seed), remarks)
    written = table = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("--\n-- PostgreSQL database dump\n--\n\nSET client_encoding = 'UTF8';\n\n")
        while written < size_bytes:
            table += 1
            name = f"public.orders_{table}"
            file.write(f"CREATE TABLE {name} ({_TABLE});\n\nCOPY {name} ({_NAMES}) FROM stdin;\n")
            for row in islice(rows, _ROWS_IN_A_TABLE):
                written += file.write("\t".join(map(str, row)) + "\n")
                if written >= size_bytes:
                    break
            file.write("\\.\n\n")
        file.write("--\n-- PostgreSQL database dump complete\n--\n")


def write_log(path: Path, size_bytes: int, seed: int, messages: Sequence[str]) -> None:
    """Write log text of about the given size."""
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for line in log_lines(random.Random(seed), messages):
            written += file.write(line)
            if written >= size_bytes:
                break
