#!/usr/bin/python3
"""Take the port that the launcher gave this job, on its first machine, and run a command while it is taken.

python3 occupied.py COMMAND …        exits as the command does
"""

import os
import socket
import subprocess
import sys


def main() -> int:
    """See above."""
    with socket.create_server(("", int(os.environ["AI_HOW_PORT"]))):
        print(f"taken: {os.uname().nodename}:{os.environ['AI_HOW_PORT']}", flush=True)
        return subprocess.run(sys.argv[1:], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
