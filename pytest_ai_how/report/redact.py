"""Keeps secrets out of everything that is written down."""

from __future__ import annotations

import base64
import re

REDACTED = "[redacted]"
# Shorter strings occur by chance in ordinary output, and redacting those would destroy the evidence.
SHORTEST = 6
# A line of a PEM block or of a key file; shorter lines of a secret are headers and padding.
_LONG_LINE = 20

# What to look for in lower case before a pattern is tried at all (most output holds none of it), the pattern, and what
# to put in its place. No pattern may start with an unbounded repetition: on a megabyte without blanks that takes hours.
_PATTERNS: tuple[tuple[tuple[str, ...], re.Pattern[str], str], ...] = (
    # RFC 7468 and OpenSSH; a block whose end was cut off is redacted to the end of the text.
    (
        ("private key-----",),
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        REDACTED,
    ),
    # password=, StoragePass= (slurmdbd.conf), MYSQL_PASSWORD=, secret_key: …
    (
        ("pass", "secret", "key", "token"),
        re.compile(
            r"""(?ix) ( (?: password | passwd | passphrase | storagepass | secret[_-]?(?:access[_-]?)?key
                | api[_-]?key | access[_-]?token | auth[_-]?token )
                ["']? \s* [=:] \s* ) (?: "[^"\n]*" | '[^'\n]*' | [^\s"',;&]+ )"""
        ),
        rf"\1{REDACTED}",
    ),
    # IDENTIFIED BY '…' (SQL that makes an account)
    (("identified",), re.compile(r"(?i)(identified\s+by\s+)(?:'[^'\n]*'|\"[^\"\n]*\")"), rf"\1{REDACTED}"),
    # HTTP credentials, in a header and in an address
    (("authorization",), re.compile(r"(?i)(authorization:\s*(?:basic|bearer)\s+)[^\s\"']+"), rf"\1{REDACTED}"),
    (
        ("://",),
        re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://[^\s:/@]{1,256}:)[^\s/@]{1,256}(?=@)"),
        rf"\1{REDACTED}",
    ),
    # AWS-like access key identifiers
    (("akia", "asia"), re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
)


class Redactor:
    """Replaces registered secrets and what looks like one by ``[redacted]``.

    Registered secrets (the munge key, private keys, the accounting password) are replaced as they are and in base64
    and hexadecimal; of a secret with several lines, each long line too.
    """

    def __init__(self) -> None:
        self._secrets: set[str] = set()

    def register(self, *secrets: str | bytes) -> None:
        """Replace ``secrets`` from now on. Raises :class:`ValueError` for one too short to be told from output."""
        for secret in secrets:
            self._register(secret)

    def _register(self, secret: str | bytes) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        if len(raw.strip()) < SHORTEST:
            raise ValueError(f"a secret of {len(raw.strip())} characters cannot be redacted: use {SHORTEST} or more")
        self._secrets.update((base64.b64encode(raw).decode(), raw.hex(), raw.hex().upper()))
        # Latin-1 maps each byte to one character and back, so a binary key is found in binary content too.
        self._secrets.update((raw.strip().decode("latin-1"), raw.strip().decode(errors="replace")))
        lines = raw.decode(errors="replace").splitlines()
        if len(lines) > 1:
            self._secrets.update(s for line in lines if len(s := line.strip()) >= _LONG_LINE and "-----" not in s)

    def text(self, text: str) -> str:
        """Return ``text`` without secrets."""
        # The longest first: a secret that contains another is replaced whole.
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        lower = text.lower()
        for needles, pattern, replacement in _PATTERNS:
            if any(needle in lower for needle in needles):
                text = pattern.sub(replacement, text)
        return text

    def data(self, data: bytes) -> bytes:
        """Return ``data`` without secrets, whatever its encoding."""
        try:
            return self.text(data.decode()).encode()
        except UnicodeDecodeError:
            return self.text(data.decode("latin-1")).encode("latin-1")
