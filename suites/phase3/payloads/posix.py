#!/usr/bin/python3
"""Do what programs do with files, in the folder given, and tell as JSON what was seen of each."""

import errno
import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

folder = Path(sys.argv[1])
seen: dict[str, object] = {}


def refused(call: Callable[..., object], *args: object) -> str:
    """The name of the error that a call gives, or OK."""
    try:
        call(*args)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "OK"


one = folder / "one"
descriptor = os.open(one, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
os.write(descriptor, b"alpha")
os.close(descriptor)
seen["create"] = one.stat().st_size
seen["create twice"] = refused(os.open, one, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
seen["read"] = one.read_text()
with one.open("a") as file:
    file.write("beta")
seen["append"] = one.read_text()
with one.open("r+b") as raw:
    raw.seek(2)
    raw.write(b"XX")
seen["overwrite"] = one.read_text()
os.truncate(one, 3)
seen["truncate"] = one.read_text()
os.truncate(one, 6)
seen["grow"] = one.read_bytes().hex()
with one.open("r+b") as raw:
    raw.seek(2**20)
    raw.write(b"end")
content = one.read_bytes()
seen["hole"] = [len(content), content[6 : 2**20].count(0), content[-3:].decode()]
two = folder / "two"
one.rename(two)
seen["rename"] = [one.exists(), two.exists()]
(folder / "three").write_text("three")
(folder / "three").rename(two)
seen["rename over"] = two.read_text()
two.chmod(0o640)
seen["chmod"] = oct(stat.S_IMODE(two.stat().st_mode))
os.chown(two, 65534, 65534)
seen["chown"] = [two.stat().st_uid, two.stat().st_gid]
os.utime(two, (1000000000, 1000000001))
seen["times"] = int(two.stat().st_mtime)
(folder / "soft").symlink_to("two")
seen["symbolic link"] = [str((folder / "soft").readlink()), (folder / "soft").read_text()]
os.link(two, folder / "hard")
seen["hard link"] = [two.stat().st_nlink, (folder / "hard").read_text()]
two.unlink()
seen["hard link alone"] = [(folder / "hard").stat().st_nlink, (folder / "hard").read_text()]
deep = folder / "a" / "b" / "c" / "d"
deep.mkdir(parents=True)
(deep / "leaf").write_text("leaf")
seen["nested"] = sum(len(names) for _, _, names in os.walk(folder / "a"))
seen["remove full"] = refused(os.rmdir, folder / "a")
(folder / "a").rename(folder / "z")
seen["rename folder"] = (folder / "z" / "b" / "c" / "d" / "leaf").read_text()
held = (folder / "z" / "b" / "c" / "d" / "leaf").open()
(folder / "z" / "b" / "c" / "d" / "leaf").unlink()
seen["deleted while open"] = held.read()
held.close()
for name in ("z/b/c/d", "z/b/c", "z/b", "z"):
    (folder / name).rmdir()
(folder / "soft").unlink()
seen["delete"] = sorted(path.name for path in folder.iterdir())
seen["read deleted"] = refused(os.open, folder / "soft", os.O_RDONLY)
print(json.dumps(seen))
