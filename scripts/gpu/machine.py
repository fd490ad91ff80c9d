# SPDX-License-Identifier: Apache-2.0
"""What figures depend on: GPU, driver, versions, the commit. Nothing here needs a GPU."""
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import time

PACKAGES = ("torch", "triton", "nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-nvrtc")
GPU_FIELDS = {
    "name": "gpu", "driver_version": "driver", "memory.total": "memory_mib",
    "clocks.sm": "sm_mhz", "clocks.max.sm": "sm_max_mhz", "clocks.mem": "memory_mhz",
    "temperature.gpu": "temperature_c", "power.draw": "power_w",
}


def ask(*command):
    """A program's output; empty where there is no such program or it failed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=30,
                              check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def gpu():
    line = ask("nvidia-smi", f"--query-gpu={','.join(GPU_FIELDS)}",
               "--format=csv,noheader,nounits").split("\n")[0]
    values = [value.strip() for value in line.split(",")]
    if len(values) != len(GPU_FIELDS):
        return {"gpu": None}
    return dict(zip(GPU_FIELDS.values(), values))


def version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            found = re.search(r"model name\s*:\s*(.*)", file.read())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


def describe(commit, prebuilt):
    nvcc = re.search(r"release ([\d.]+)", ask(shutil.which("nvcc") or "nvcc", "--version"))
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "commit": commit,
        "prebuilt": prebuilt, **gpu(), "processor": processor(),
        "processors": len(os.sched_getaffinity(0)), "system": platform.platform(),
        "python": platform.python_version(), "nvcc": nvcc[1] if nvcc else None,
        "packages": {name: version(name) for name in PACKAGES},
    }
