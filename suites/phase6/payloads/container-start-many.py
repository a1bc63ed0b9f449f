#!/usr/bin/python3
"""Start many containers at once on this node, and let none end before all of them run; tell, as JSON, how it went.

Arguments: how many, and the command that starts one. Each container says "ready" and ends when its input is closed.
"""

import json
import subprocess
import sys
import time

INSIDE = "import sys; print('ready', flush=True); sys.stdin.read(); print('done')"
count, command = int(sys.argv[1]), sys.argv[2:]
started = time.monotonic()
call, pipe = [*command, "python3", "-c", INSIDE], subprocess.PIPE
processes = [subprocess.Popen(call, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(count)]
ready = [process.stdout.readline().strip() if process.stdout else "" for process in processes]
took = time.monotonic() - started
at_once = sum(word == "ready" and process.poll() is None for word, process in zip(ready, processes, strict=True))
ends = []
for process in processes:
    said, complaint = process.communicate()
    ends.append([process.returncode, said.strip(), complaint.strip()[-200:]])
print(json.dumps({"seconds": took, "at_once": at_once, "ends": ends}))
