#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The GPU engine's plugin as it is built: one export, nothing of libvgg that it would have to
find, none of the libraries that it opens at run time; and `vgg devices` loads it, on a machine
with a GPU and on one without, and says so where a driver has no GPU.

plugin.py PLUGIN [VGG [LIBCUDA]]        LIBCUDA: a driver without a GPU (tests/plans/driver.c)"""
import os
import re
import subprocess
import sys

from symbols import nm_symbols, run, tell

ENTRY = "vgg_engine_entry"
# What is opened where it is there, by its soname or by the CUDA runtime in the plugin.
OPENED = ("libcuda.", "libcudart.", "libcudnn", "libcublas", "libnvrtc")
# What a machine without a GPU is told; anything else there is a plugin that does not work.
NO_GPU = r"no NVIDIA (driver|GPU)"


def check_exports(nm_text):
    found = nm_symbols(nm_text)
    problems = [f"{name}: exported, expected nothing but {ENTRY}"
                for _, name in found if name != ENTRY]
    if ("T", ENTRY) not in found:
        problems.append(f"{ENTRY}: not exported as a function")
    return problems


def check_imports(nm_text):
    return [f"{name}: undefined, but a plugin is given what it needs of libvgg"
            for _, name in nm_symbols(nm_text) if name.startswith("vgg_")]


def check_needed(dynamic):
    needed = re.findall(r"NEEDED\).*\[(.*)\]", dynamic)
    problems = [f"{name}: linked, expected to be opened at run time" for name in needed
                if name.startswith(OPENED)]
    problems += [f"{path}: the plugin's own path" for path in
                 re.findall(r"R(?:UN)?PATH\).*\[(.*)\]", dynamic)]
    if not needed:
        problems.append("NEEDED: nothing, not even the C library")
    return problems


def check_devices(status, text):
    """Of `vgg devices` with this plugin alone."""
    problems = [] if status == 0 else [f"vgg devices: status {status}"]
    if not re.search(r"^cpu +\S", text, re.M):
        problems.append("vgg devices: no line of the processor")
    gpu = re.search(r"^cuda:0 +(?!refused)\S.*compute capability", text, re.M)
    reason = re.search(rf"^cudnn +refused: .*{NO_GPU}", text, re.M)
    if not gpu and not reason:
        problems.append("vgg devices: neither a GPU nor the reason why there is none")
    return problems if not problems else problems + text.splitlines()


def check_no_gpu(status, text):
    """Of `vgg devices` where there is a driver and no GPU."""
    problems = [] if status == 0 else [f"vgg devices without a GPU: status {status}"]
    if not re.search(r"^cudnn +refused: no NVIDIA GPU was found$", text, re.M):
        problems.append("vgg devices: a driver without a GPU is not told as such")
    return problems if not problems else problems + text.splitlines()


def devices(plugin, vgg, check, **more):
    env = dict(os.environ, VGG_PLUGIN_DIR=os.path.dirname(os.path.abspath(plugin)), **more)
    done = subprocess.run([vgg, "devices"], env=env, text=True, check=False, timeout=120,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    return check(done.returncode, done.stdout)


def main():
    plugin = sys.argv[1]
    problems = check_exports(run("nm", "-D", "--defined-only", plugin))
    problems += check_imports(run("nm", "-D", "--undefined-only", plugin))
    problems += check_needed(run("readelf", "-d", plugin))
    if len(sys.argv) > 2:
        problems += devices(plugin, sys.argv[2], check_devices)
    if len(sys.argv) > 3:
        problems += devices(plugin, sys.argv[2], check_no_gpu,
                            LD_LIBRARY_PATH=os.path.dirname(os.path.abspath(sys.argv[3])))
    tell(problems)


if __name__ == "__main__":
    main()
