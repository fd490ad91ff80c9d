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


def tool(name):
    """A program on the PATH or of the toolkit; None where there is none."""
    toolkit = os.path.join(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "bin")
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), toolkit]))


def ask(*command, limit=30):
    """A program's output; empty where there is no such program or it failed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace",
                              timeout=limit, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def smi_choice(name):
    """The words that choose the GPU of that name for nvidia-smi; None where it can't be told
    which one it is. CUDA and nvidia-smi number GPUs differently."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
    listed = [line.partition(", ") for line in ask(
        "nvidia-smi", "--query-gpu=uuid,name", "--format=csv,noheader", limit=15).splitlines()]
    found = [uuid for uuid, _, called in listed if called.strip() == name and
             (not visible.startswith("GPU-") or uuid.startswith(visible))]
    if len(listed) == 1 and len(found) == 1:
        return []
    return ["-i", found[0]] if len(found) == 1 else None


def gpu(name, choice):
    """What nvidia-smi says of the GPU that the engine calls `name`; of one that can't be told
    from others the driver alone, which they share."""
    fields = list(GPU_FIELDS) if choice is not None else ["driver_version"]
    line = "" if name is None else ask(
        "nvidia-smi", *(choice or []), f"--query-gpu={','.join(fields)}",
        "--format=csv,noheader,nounits", limit=15).split("\n")[0]
    values = [value.strip() for value in line.split(",")]
    known = dict(zip((GPU_FIELDS[f] for f in fields), values)) if len(values) == len(fields) else {}
    return {**known, "gpu": name}


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


def describe(commit, prebuilt, name, choice):
    """`name` is the GPU's, None where there is none; `choice`: smi_choice()."""
    nvcc = re.search(r"release ([\d.]+)", ask(tool("nvcc") or "nvcc", "--version"))
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "commit": commit,
        "prebuilt": prebuilt, **gpu(name, choice), "processor": processor(),
        "processors": len(os.sched_getaffinity(0)), "system": platform.platform(),
        "python": platform.python_version(), "nvcc": nvcc[1] if nvcc else None,
        "packages": {name: version(name) for name in PACKAGES},
    }
