"""Multiply two matrices on each GPU of this machine and say what came out, as JSON. Needs the driver, and nothing else.

    {"devices": [{"name": "NVIDIA H100 80GB HBM3", "bus": "00000000:00:06.0", "memory": 84929347584, "wrong": 0}]}

The program for the GPU is PTX, which the driver compiles for whatever it finds (CUDA driver API 12, PTX ISA 6.0). The
matrices hold small whole numbers, so that the product is exact. Told a number of seconds, it then multiplies larger
ones on all GPUs at once for as long.
"""

import ctypes
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

#: Calls a function of the driver by its name, and ends the program with the driver's words when that fails.
Call = Callable[..., None]

SIZE, THREADS = 64, 256
#: A product of this size keeps a GPU busy for milliseconds: far longer than it takes to ask for the next.
LARGE = 2048
PTX = b"""
.version 6.0
.target sm_50
.address_size 64
.visible .entry gemm(.param .u64 pa, .param .u64 pb, .param .u64 pc, .param .u32 pn)
{
    .reg .pred %p<3>;
    .reg .f32 %f<4>;
    .reg .b32 %r<12>;
    .reg .b64 %d<10>;
    ld.param.u64 %d1, [pa];
    ld.param.u64 %d2, [pb];
    ld.param.u64 %d3, [pc];
    ld.param.u32 %r1, [pn];
    cvta.to.global.u64 %d1, %d1;
    cvta.to.global.u64 %d2, %d2;
    cvta.to.global.u64 %d3, %d3;
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.s32 %r5, %r2, %r3, %r4;
    mul.lo.s32 %r6, %r1, %r1;
    setp.ge.s32 %p1, %r5, %r6;
    @%p1 bra DONE;
    div.s32 %r7, %r5, %r1;
    rem.s32 %r8, %r5, %r1;
    mov.f32 %f1, 0f00000000;
    mov.u32 %r9, 0;
LOOP:
    mad.lo.s32 %r10, %r7, %r1, %r9;
    mul.wide.s32 %d4, %r10, 4;
    add.s64 %d5, %d1, %d4;
    ld.global.f32 %f2, [%d5];
    mad.lo.s32 %r11, %r9, %r1, %r8;
    mul.wide.s32 %d6, %r11, 4;
    add.s64 %d7, %d2, %d6;
    ld.global.f32 %f3, [%d7];
    fma.rn.f32 %f1, %f2, %f3, %f1;
    add.s32 %r9, %r9, 1;
    setp.lt.s32 %p2, %r9, %r1;
    @%p2 bra LOOP;
    mul.wide.s32 %d8, %r5, 4;
    add.s64 %d9, %d3, %d8;
    st.global.f32 [%d9], %f1;
DONE:
    ret;
}
"""


def main() -> int:
    """Print what each GPU made of it."""
    cuda = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *words: object) -> None:
        status = getattr(cuda, name)(*words)
        if status:
            text = ctypes.c_char_p()
            cuda.cuGetErrorString(status, ctypes.byref(text))
            raise SystemExit(f"{name}: {(text.value or b'unknown error').decode()} ({status})")

    call("cuInit", 0)
    count = ctypes.c_int()
    call("cuDeviceGetCount", ctypes.byref(count))
    seconds = float(sys.argv[1]) if sys.argv[1:] else 0.0
    with ThreadPoolExecutor(max(count.value, 1)) as pool:  # a context is current to one thread
        devices = list(pool.map(lambda number: device(call, number, seconds), range(count.value)))
    print(json.dumps({"devices": devices}))
    return 0


def device(call: Call, number: int, seconds: float) -> dict[str, object]:
    """One GPU: its name, address, memory, and how well it multiplies; then it is kept busy for some seconds."""
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    call("cuDeviceGet", ctypes.byref(handle), number)
    name, bus, memory = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32), ctypes.c_size_t()
    call("cuDeviceGetName", name, len(name), handle)
    call("cuDeviceGetPCIBusId", bus, len(bus), handle)
    call("cuDeviceTotalMem_v2", ctypes.byref(memory), handle)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), handle)
    call("cuCtxSetCurrent", context)
    try:
        wrong = multiplied(call)
        if seconds:
            keep_busy(call, seconds)
    finally:
        call("cuDevicePrimaryCtxRelease_v2", handle)
    return {"name": name.value.decode(), "bus": bus.value.decode(), "memory": memory.value, "wrong": wrong}


def multiplied(call: Call) -> int:
    """How many elements of the product are not what they must be."""
    count = SIZE * SIZE
    left = [(7 * at + 3) % 11 - 5 for at in range(count)]
    right = [(5 * at + 1) % 13 - 6 for at in range(count)]
    found = ctypes.create_string_buffer(4 * count)
    with prepared(call, SIZE) as (memory, launch):
        for one, values in zip(memory[:2], (left, right), strict=True):
            call("cuMemcpyHtoD_v2", one, struct.pack(f"{count}f", *values), ctypes.c_size_t(4 * count))
        launch()
        call("cuCtxSynchronize")
        call("cuMemcpyDtoH_v2", found, memory[2], ctypes.c_size_t(4 * count))
    wanted = [
        float(sum(left[row * SIZE + k] * right[k * SIZE + column] for k in range(SIZE)))
        for row in range(SIZE)
        for column in range(SIZE)
    ]
    return sum(a != b for a, b in zip(struct.unpack(f"{count}f", found.raw), wanted, strict=True))


def keep_busy(call: Call, seconds: float) -> None:
    """Multiply without a pause; what comes out is of no interest."""
    end = time.monotonic() + seconds
    with prepared(call, LARGE) as (_, launch):
        while time.monotonic() < end:
            for _ in range(8):  # so that the GPU has a next one while it is waited for
                launch()
            call("cuCtxSynchronize")


@contextmanager
def prepared(call: Call, size: int) -> Iterator[tuple[list[ctypes.c_uint64], Callable[[], None]]]:
    """Memory of the current GPU for two matrices and their product, and how to have it made."""
    module, kernel = ctypes.c_void_p(), ctypes.c_void_p()
    call("cuModuleLoadData", ctypes.byref(module), PTX)
    call("cuModuleGetFunction", ctypes.byref(kernel), module, b"gemm")
    memory = [ctypes.c_uint64() for _ in range(3)]
    for one in memory:
        call("cuMemAlloc_v2", ctypes.byref(one), ctypes.c_size_t(4 * size * size))
    side = ctypes.c_uint32(size)
    words = (ctypes.c_void_p * 4)(*(ctypes.cast(ctypes.byref(one), ctypes.c_void_p) for one in (*memory, side)))
    blocks = (size * size + THREADS - 1) // THREADS
    yield memory, lambda: call("cuLaunchKernel", kernel, blocks, 1, 1, THREADS, 1, 1, 0, None, words, None)
    for one in memory:
        call("cuMemFree_v2", one)
    call("cuModuleUnload", module)


if __name__ == "__main__":
    sys.exit(main())
