"""What phase 6 reads of machines in one round trip with all else that is read of them."""

from __future__ import annotations

from pytest_ai_how.facts import Fact
from pytest_ai_how.services.apptainer import CONFIG, POLICY

# A status of the program itself is no reason to know nothing: what it says instead is the failure to be told.
_ANY = frozenset(range(256))
# Where the program and its helpers lie is told by itself; without it the places of Debian's packages are searched.
_SET_UID = """
built=$(apptainer buildcfg 2>/dev/null)
libexec=$(printf '%s\\n' "$built" | sed -n 's/^LIBEXECDIR=//p') bin=$(printf '%s\\n' "$built" | sed -n 's/^BINDIR=//p')
exec find -L "${libexec:-/usr/libexec}/apptainer" "${bin:-/usr/bin}/apptainer" -type f -perm /6000 2>&1
"""

#: What ``apptainer --version`` says, if it is only that there is none.
VERSION: Fact[str] = Fact("Apptainer's version", ("sh", "-c", "apptainer --version 2>&1"), str.strip, _ANY)
#: What ``apptainer buildcfg`` says, likewise: how the program was built.
BUILD: Fact[str] = Fact("how Apptainer was built", ("sh", "-c", "apptainer buildcfg 2>&1"), str.strip, _ANY)
#: The text of Apptainer's configuration, and of its execution control list.
CONFIG_TEXT: Fact[str] = Fact(CONFIG, ("cat", CONFIG), str)
POLICY_TEXT: Fact[str] = Fact(POLICY, ("cat", POLICY), str)
#: The programs of Apptainer that run as somebody else than who starts them, by path; other lines are what find objects
#: to, which exits with 1 then.
SET_UID: Fact[list[str]] = Fact(
    "set-uid programs of Apptainer", ("sh", "-c", _SET_UID), str.splitlines, frozenset({0, 1})
)
