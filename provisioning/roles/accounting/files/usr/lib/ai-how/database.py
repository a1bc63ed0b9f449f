#!/usr/bin/python3
"""Make MariaDB's own tables, and what the SQL on standard input adds, such that two builds make the same files.

Part of a build only, which removes it. ``SOURCE_DATE_EPOCH`` is the time that everything is dated with. A package's
own start leaves the time of its rows and files and a number made of that and of this machine's network address.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_DATA = Path("/var/lib/mysql")
# What Debian's package makes its own with (mariadb-server.postinst), but without InnoDB: what its threads do beside
# the SQL, and with it the numbers in its logs and pages, depends on how fast this machine is. A server that finds
# nothing of InnoDB's makes that at its start, which takes it 0.06 s.
_INSTALL = (
    *("bash", "/usr/bin/mariadb-install-db", "--rpm", "--cross-bootstrap", "--user=mysql", "--disable-log-bin"),
    *("--skip-test-db", "--skip-innodb", "--default-storage-engine=Aria"),
)
# MYSQLD_BOOTSTRAP names the program that mariadb-install-db hands all its SQL to.
_SERVER = '#!/bin/sh\n{ echo "SET timestamp=$SOURCE_DATE_EPOCH;"; cat; } | mariadbd "$@"\n'
# Where the number of a binary definition lies: the first of its extra segment's parts, type 0 with 16 bytes
# (sql/table.h: EXTRA2_TABLEDEF_VERSION; sql/unireg.cc).
_NUMBER = (b"\xfe\x01", b"\0\x10", 0x40)
_VIEW = re.compile(rb"(?<=^timestamp=)\d+$", re.MULTILINE)
# The first page of an index file, before its keys, has all of its times and its server's number
# (storage/maria/ma_open.c: _ma_state_info_write, _ma_base_info_write).
_HEAD = 8192


def definition(name: str, content: bytes, epoch: int) -> bytes:
    """A table's or view's definition (``.frm``) with a number that is its name's, or with the time of ``epoch``."""
    magic, kind, at = _NUMBER
    if content.startswith(b"TYPE=VIEW\n"):
        settled, found = _VIEW.subn(lambda old: b"%0*d" % (len(old[0]), epoch * 1_000_000), content)
        if found == 1:
            return settled
    elif content.startswith(magic) and content[at : at + 2] == kind:
        number = hashlib.sha256(name.encode()).digest()[:16]
        return content[: at + 2] + number + content[at + 18 :]
    raise ValueError(f"{name}: neither a view with one time stamp nor a table with a number of its own")


def index(name: str, content: bytes, server: bytes, times: range, epoch: int) -> bytes:
    """An Aria table's index file (``.MAI``), of no server, and with ``epoch`` for each of ``times``."""
    head, rest = content[:_HEAD], content[_HEAD:]
    if head.count(server) != 1:
        raise ValueError(f"{name}: holds its server's number {head.count(server)} times, expected once")
    head = head.replace(server, bytes(16))
    for moment in times:
        head = head.replace(moment.to_bytes(8, "big"), epoch.to_bytes(8, "big"))
    return head + rest


def make(sql: bytes, epoch: int) -> None:
    """Make all files anew. Raises CalledProcessError with what was said, ValueError for a file of another form."""
    began = int(time.time())
    for old in _DATA.iterdir():
        if not old.name.startswith("debian-"):
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    with tempfile.TemporaryDirectory() as folder:
        server, extra = Path(folder) / "server", Path(folder) / "sql"
        server.write_text(_SERVER)
        server.chmod(0o755)
        extra.write_bytes(sql)
        environment = {**os.environ, "MYSQLD_BOOTSTRAP": str(server), "SOURCE_DATE_EPOCH": str(epoch)}
        subprocess.run([*_INSTALL, f"--extra-file={extra}"], check=True, env=environment, stdin=subprocess.DEVNULL)
    # Without the log's positions tables are nobody's, and the log and its number can be left out: a server that finds
    # none makes them.
    indexes = sorted(_DATA.glob("*/*.MAI"))
    subprocess.run(["aria_chk", "--silent", "--zerofill", *map(str, indexes)], check=True, cwd=_DATA)
    # ma_control_file.c: 4 bytes of magic and version, then the server's number
    number = (_DATA / "aria_log_control").read_bytes()[4:20]
    for log in _DATA.glob("aria_log*"):
        log.unlink()
    times = range(began, int(time.time()) + 1)
    for file in indexes:
        file.write_bytes(index(str(file), file.read_bytes(), number, times, epoch))
    for file in sorted(_DATA.glob("*/*.frm")):
        file.write_bytes(definition(str(file.relative_to(_DATA)), file.read_bytes(), epoch))


if __name__ == "__main__":
    make(sys.stdin.buffer.read(), int(os.environ["SOURCE_DATE_EPOCH"]))
