"""``${NAME}`` and ``${NAME:-default}`` in the strings of a configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pytest_ai_how.marked import ExpansionError, nearest, shown

# In this order: an escaped dollar, a braced form (checked below), a bare name (refused: it would stay unexpanded).
_DOLLAR = re.compile(r"\$\$|\$\{(?P<braced>[^}]*)(?P<end>\}?)|\$(?P<bare>[A-Za-z_]\w*)", re.ASCII)
_BRACED = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?P<or>:-(?P<default>[^${]*))?", re.DOTALL)


def expander(environ: Mapping[str, str]) -> Callable[[str], str]:
    """A function that expands one string.

    As in a shell, ``${NAME:-default}`` takes the default when the variable is unset or empty; ``$$`` is a dollar.
    What a variable holds is never expanded again. The function raises :class:`ExpansionError` for an unbound name
    and for any other ``${…}``.
    """

    def replace(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        if found["bare"]:
            raise ExpansionError(f"{shown(found[0])} is not expanded; write ${{{found['bare']}}}, or $$ for a dollar")
        form = _BRACED.fullmatch(found["braced"])
        if form is None or not found["end"]:
            raise ExpansionError(f"{shown(found[0])} is not understood; write ${{NAME}} or ${{NAME:-default}}")
        value = environ.get(form["name"])
        if form["or"]:
            return value or form["default"]
        if value is None:
            hint = nearest(form["name"], list(environ))
            raise ExpansionError(
                f"variable {form['name']} is not set; set it, or write ${{{form['name']}:-default}}"
                + (f" ({hint})" if hint else "")
            )
        return value

    return lambda text: _DOLLAR.sub(replace, text)
