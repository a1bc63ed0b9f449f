#!/usr/bin/python3
"""Square 65536 numbers on the first NVIDIA GPU that this job may use, by the driver alone; tell, as JSON, what came."""

import ctypes
import json
import sys

COUNT = 65536
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry square(.param .u64 out)
{
    .reg .b32 %r<6>;
    .reg .b64 %d<4>;
    ld.param.u64 %d1, [out];
    cvta.to.global.u64 %d2, %d1;
    mov.u32 %r1, %ctaid.x;
    mov.u32 %r2, %ntid.x;
    mov.u32 %r3, %tid.x;
    mad.lo.s32 %r4, %r1, %r2, %r3;
    mul.lo.s32 %r5, %r4, %r4;
    mul.wide.s32 %d3, %r4, 4;
    add.s64 %d2, %d2, %d3;
    st.global.u32 [%d2], %r5;
    ret;
}
"""
cuda = ctypes.CDLL("libcuda.so.1")


def call(name: str, *arguments: object) -> None:
    """Call the CUDA driver; end with what it answered when that is not success."""
    if status := getattr(cuda, name)(*arguments):
        sys.exit(f"{name} answered {status}")


devices, device = ctypes.c_int(), ctypes.c_int()
context, module, kernel = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
memory = ctypes.c_uint64()
call("cuInit", 0)
call("cuDeviceGetCount", ctypes.byref(devices))
call("cuDeviceGet", ctypes.byref(device), 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
call("cuModuleLoadData", ctypes.byref(module), PTX)
call("cuModuleGetFunction", ctypes.byref(kernel), module, b"square")
call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(4 * COUNT))
arguments = (ctypes.c_void_p * 1)(ctypes.cast(ctypes.byref(memory), ctypes.c_void_p))
call("cuLaunchKernel", kernel, COUNT // 256, 1, 1, 256, 1, 1, 0, None, arguments, None)
call("cuCtxSynchronize")
result = (ctypes.c_uint32 * COUNT)()
call("cuMemcpyDtoH_v2", result, memory, ctypes.c_size_t(4 * COUNT))
wrong = sum(value != index * index % 2**32 for index, value in enumerate(result))
print(json.dumps({"devices": devices.value, "computed": COUNT, "wrong": wrong}))
