"""A PostgreSQL server of one's own, for the tests that need a real one.

It keeps its files in a folder of its own and listens on a socket there, so that nobody else can
reach it. As PostgreSQL refuses to run as root, root runs it as another user.
"""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any


@cache
def programs() -> Path | None:
    """The folder of `initdb` and `pg_ctl`; Debian keeps it off the path."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else []
    places += sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    return places[-1] if places and (places[-1] / "initdb").exists() else None


def missing() -> str | None:
    """Why no server can be started here; None if one can."""
    if programs() is None:
        return "needs the programs of PostgreSQL, such as Debian's package postgresql"
    return None if find_spec("psycopg") else "needs the Python package psycopg"


@contextmanager
def server(*, durable: bool = False) -> Iterator[str]:
    """A fresh server; gives the URL of its database, and leaves nothing behind. A durable one waits
    for the disk at each commit, as real ones do."""
    where = programs()
    assert where is not None
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    user = _user()
    if user is not None:
        os.chown(home, user["user"], user["group"])
    data = str(home / "data")

    def call(program: str, *args: str) -> None:
        done = subprocess.run(
            [where / program, "-D", data, *args],
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **(user or {}),
        )
        assert done.returncode == 0, done.stderr

    try:
        call("initdb", "-U", "attar", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        fsync = "on" if durable else "off"
        options = f"-k {home} -c listen_addresses='' -c fsync={fsync} -c shared_buffers=16MB"
        call("pg_ctl", "-w", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://attar@/postgres?host={home}"
        finally:
            call("pg_ctl", "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _user() -> dict[str, Any] | None:
    """Whose rights the server gets, for `subprocess`; None: those of this process."""
    if os.getuid():
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = names.get("postgres") or names["nobody"]
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
