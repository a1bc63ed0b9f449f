#!/usr/bin/python3
"""Set (with a value) or read the extended attribute user.ai_how of a file; tell the value, or the error, as JSON."""

import errno
import json
import os
import sys

path, values = sys.argv[1], sys.argv[2:]
try:
    for value in values:
        os.setxattr(path, "user.ai_how", value.encode())
    print(json.dumps({"value": os.getxattr(path, "user.ai_how").decode(), "names": os.listxattr(path)}))
except OSError as error:
    print(json.dumps({"error": errno.errorcode[error.errno or 0]}))
