"""What dcgm-exporter tells of GPUs, for checks of several suites."""

from __future__ import annotations

import math

#: What dcgm-exporter tells by default (its default-counters.csv), by what it is about, with what is possible at most.
METRICS = {
    "utilisation": ("DCGM_FI_DEV_GPU_UTIL", 100.0),
    "memory": ("DCGM_FI_DEV_FB_USED", math.inf),
    "temperature": ("DCGM_FI_DEV_GPU_TEMP", 200.0),
    "power": ("DCGM_FI_DEV_POWER_USAGE", math.inf),
}
#: From here on a number says that there is no value: DCGM_INT64_BLANK of dcgm_structs.h.
BLANK = float(0x7FFFFFFFFFFFFFF0)


def can_be(what: str, value: float) -> bool:
    """Whether a value of one of :data:`METRICS` can be true."""
    return 0 <= value <= min(METRICS[what][1], BLANK - 1024)
