#!/usr/bin/python3
"""Wait in a container until the containers of all NODES are there; tell, as JSON, who was and when.

Arguments: a folder that all nodes see, and how many containers are to meet there.
"""

import json
import os
import sys
import time
from pathlib import Path

folder, wanted = Path(sys.argv[1]), int(sys.argv[2])
started = time.time()
(folder / os.uname().nodename).write_text("here")
deadline = time.monotonic() + 20
while len(list(folder.iterdir())) < wanted and time.monotonic() < deadline:
    time.sleep(0.02)
print(
    json.dumps(
        {
            "node": os.uname().nodename,
            "container": os.environ.get("APPTAINER_CONTAINER", ""),
            "met": sorted(path.name for path in folder.iterdir()),
            "started": started,
            "ended": time.time(),
        }
    )
)
