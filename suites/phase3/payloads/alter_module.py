#!/usr/bin/python3
"""Copy a kernel module, with one text in it replaced by another of the same length.

Arguments: the module (.ko or .ko.xz), the copy, the text, the other text.
"""

import json
import lzma
import sys
from pathlib import Path

source, copy, old, new = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3].encode(), sys.argv[4].encode()
packed = source.suffix == ".xz"
content = source.read_bytes()
if packed:
    content = lzma.decompress(content)
found = content.count(old)
content = content.replace(old, new)
if packed:
    # What the kernel can unpack: CRC32, and a small dictionary (Documentation/staging/xz.rst).
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 2**20}]
    content = lzma.compress(content, check=lzma.CHECK_CRC32, filters=filters)
copy.write_bytes(content)
print(json.dumps({"replaced": found if len(old) == len(new) else 0}))
