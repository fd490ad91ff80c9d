# SPDX-License-Identifier: Apache-2.0
"""The file of all rows: {"runs": [what a run's figures depend on], "rows": {name: row}}.
Also what pages and people want to know of a row."""
import json
import os
import pathlib
import platform
import re
import statistics
import subprocess
import time

import machine
from contest import OURS

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = ("torch", "onnxruntime", "openvino", "ncnn", "MNN", "onednn")
# Variables with which the figures of libvgg would not be those of everyone.
TOUCHY = re.compile(r"^(VGG_|OMP_|KMP_|GOMP_|OPENBLAS_|MKL_|MALLOC_|LD_PRELOAD$|GLIBC_TUNABLES$)")


def commit():
    name = machine.ask("git", "-C", ROOT, "rev-parse", "HEAD") or "unknown"
    changed = machine.ask("git", "-C", ROOT, "status", "--porcelain", "--", "lib", "backends",
                          "examples", "tests/bench", "scripts/cpu")
    return name + ("-changed" if changed else "")


def versions(python):
    """Of the peers' packages, asked in their own environment."""
    code = ("import importlib.metadata as m, json, sys\n"
            "print(json.dumps({p: m.version(p) for p in sys.argv[1:] if p.lower() in"
            " {d.metadata['Name'].lower() for d in m.distributions()}}))")
    try:
        return json.loads(subprocess.run([python, "-c", code, *PACKAGES], capture_output=True,
                                         text=True, check=True, timeout=120).stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return {}


def memory_gib():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def system():
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.platform()


def describe(asked, args):
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()), "asked": asked,
        "commit": commit(), "rounds": args.rounds, "threads": args.threads,
        "quick": args.quick, "processor": machine.processor(),
        "processors": len(os.sched_getaffinity(0)), "memory_gib": memory_gib(),
        "kernel": platform.release(), "system": system(),
        "compiler": machine.ask("cc", "--version").split("\n")[0],
        "load_before": round(os.getloadavg()[0], 2),
        "environment": sorted(name for name in os.environ if TOUCHY.match(name)),
        "packages": versions(args.peers / "bin/python"),
    }


class Results:
    def __init__(self, path):
        self.path = path
        data = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        self.runs, self.rows = data.get("runs", []), data.get("rows", {})

    def begin(self, asked, args, planned):
        """A new run. Its rows that no other has got are unfinished as long as they are."""
        self.runs.append(describe(asked, args))
        for row in planned:
            row["run"] = len(self.runs) - 1
            self.rows.setdefault(row["row"], {
                **row, "status": "unfinished", "reason": "the run was ended before it"})
        self.save()

    def put(self, row):
        """An older row that came to its end stays until this one has too."""
        if row["status"] == "unfinished" and self.rows[row["row"]]["status"] == "ok":
            return
        if "reason" in row:
            row["reason"] = self.clean(row["reason"])
        self.rows[row["row"]] = row
        self.save()

    @staticmethod
    def clean(reason):
        """One line, without this machine's folders."""
        text = " ".join(str(reason).replace(str(ROOT) + "/", "").split())
        return re.sub(r"(/[\w.+-]+){2,}/", "", text)[:240]

    def save(self):
        """Runs that no row is left of are left out."""
        used = sorted({row["run"] for row in self.rows.values()} | {len(self.runs) - 1})
        rows = {name: {**row, "run": used.index(row["run"])} for name, row in self.rows.items()}
        data = {"runs": [self.runs[i] for i in used], "rows": rows}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        new.replace(self.path)


def seconds(row, who):
    """A contestant's time for a step: the median over its turns; None without any."""
    found = [turn["seconds"] for turn in row.get("turns", {}).get(who, [])]
    return statistics.median(found) if found else None


def ratios(row, who=OURS):
    """How many times as fast as the peer, in each round."""
    turns = row.get("turns", {})
    return [theirs["seconds"] / ours["seconds"]
            for ours, theirs in zip(turns.get(who, []), turns.get(row.get("peer"), []))]


def ratio(row, who=OURS):
    found = ratios(row, who)
    return statistics.median(found) if found else None


def peak_bytes(row, who):
    found = [turn.get("peak_rss_bytes") for turn in row.get("turns", {}).get(who, [])]
    return max((value for value in found if value), default=None)


def brief(row):
    if row["status"] != "ok":
        return f"{row['status']}: {row.get('reason', '')}"
    found = ratio(row) if "peer" in row else None
    if found is None:
        turn = row["turns"]["peak"][0]
        return f"{turn['fma_gflops']:.0f} GFLOP/s, {turn['copy_gb_s']:.1f} GB/s"
    return (f"{1e3 * seconds(row, OURS):.2f} ms, {row['peer']} "
            f"{1e3 * seconds(row, row['peer']):.2f} ms: {found:.2f} times as fast")
