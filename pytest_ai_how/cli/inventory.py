"""``inventory``: what of this machine can be given to virtual machines."""

from __future__ import annotations

import argparse
import json
import sys

from pytest_ai_how.pci.inventory import as_data, as_yaml, shown, table
from pytest_ai_how.pci.sysfs import read_host


def pci(args: argparse.Namespace) -> int:
    """Show GPUs and what goes with them. A machine without any is no failure."""
    host = read_host()
    functions = shown(host, everything=args.all)
    if args.json:
        lines = [json.dumps(as_data(host, functions), indent=1)]
    elif args.yaml:
        lines = as_yaml(host)
    else:
        lines = table(host, functions)
    sys.stdout.write("\n".join(lines) + "\n")
    return 0
