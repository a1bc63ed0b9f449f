"""Tell, as JSON, how many GPUs NVIDIA's driver offers here: none where its library is not there or finds none."""

import ctypes
import json

count = ctypes.c_int()
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    print(json.dumps({"devices": 0, "why": str(error)}))
else:
    status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
    print(json.dumps({"devices": 0 if status else count.value, "why": f"the driver answered {status}"}))
