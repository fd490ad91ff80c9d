#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The page and the picture of bench-cpu say what its rows say, on rows made up."""
import argparse
import copy
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import checks
import page
import picture
import plans

RUN = {"date": "2000-01-01 00:00:00", "asked": "scripts/bench-cpu", "commit": "0123456789abcdef",
       "rounds": 3, "threads": 2, "quick": False, "processor": "Pentium", "processors": 2,
       "memory_gib": 1.0, "kernel": "2.4", "system": "Debian", "compiler": "cc",
       "load_before": 0.5, "environment": [], "packages": {"torch": "2.0"}}


def turns(*seconds, **more):
    return [{"seconds": s, **more} for s in seconds]


def row(name, peer, ours, theirs, **more):
    """A row with these seconds of turns."""
    mib = more.pop("mib", (100, 200))
    return {"row": name, "peer": peer, "batch": 128, "counts": True, "run": 0, "status": "ok",
            "versions": {peer: "1.2.3+cpu-4"}, "absent": {}, "turns": {
                "libvgg": turns(*ours, peak_rss_bytes=mib[0] << 20, threads=2),
                peer: turns(*theirs, peak_rss_bytes=mib[1] << 20)}, **more}


def conv(kind, number, ours, theirs):
    found = row(f"conv-{kind}/{number}", "oneDNN", [ours], [theirs], stage=f"stage {number}")
    for turn in [t for side in found["turns"].values() for t in side]:
        turn.update(gflops=1 / turn["seconds"])
    return found


def made_up():
    rows = [
        {"row": "peak/2", "threads": 2, "run": 0, "status": "ok", "counts": True, "turns": {
            "peak": [{"vector_bits": 512, "fma_gflops": f, "read_gb_s": 10.0, "copy_gb_s": 20.0}
                     for f in (300.0, 306.0, 295.0)]}},
        # Ratios 4, 6, 5; 1 s a step is 128 images/s, above 306 / 3.06.
        row("train/eager-nchw", "slow", [1, 1, 1], [4, 6, 5]),
        row("train/eager-channels-last", "quick", [1, 1, 1], [4.6, 4.7, 4.4]),
        row("train/eager-strides-last", "strided", [1, 1, 1], [8, 8, 8]),
        row("train/compiled-channels-last", "other", [1, 1, 1], [9, 9, 9]),
        row("train/bf16-channels-last", "half", [1, 1, 1], [2, 2, 2], counts=False),
        row("infer-vgg16-b16/mnn", "MNN", [1, 1, 1], [2, 2, 2]),
        row("scaling/2-threads", "libvgg, 1 thread", [1, 1, 1], [1.8, 1.84, 1.9]),
        conv("forward", 1, 1, 2), conv("forward", 2, 1, 8),
        conv("weights", 1, 1, 3), conv("weights", 2, 1, 1)]
    return {"runs": [copy.deepcopy(RUN)], "rows": {r["row"]: r for r in rows}}


def shown(data):
    return page.page(data, "cpu.svg")


def test_tables():
    text = shown(made_up())
    assert "| slow | 1.2.3 | 25.6 | 128.0 | **5.00** | 4.00 to 6.00 | 200 | 100 | 1 |" in text
    assert "| stage 2 | 1 | 0 | **8.00** | - | - | - | 1 | 1 | **1.00** |" in text
    assert re.search(r"geometric mean \|  \|  \| \*\*4\.00\*\*.*\*\*1\.73\*\*", text)
    assert "| 2 | 512 | 306.0 | 10.0 | 20.0 | 1 |" in text


def test_goals():
    text = shown(made_up())
    for line in ("PyTorch's best row in fp32 (quick): 4.60: **met**",
                 "100.0 images/s (3.06 GFLOP an image): 128.0: **met**",
                 "at most 0.4 of that row's: 0.50: **not met**",
                 "with 2 threads: 1.84 (1.80 to 1.90): **not met**",
                 "best peer in fp32 (MNN): 2.00, beside 1 of 6: **not measured**",
                 "forward: geometric mean at least 2.2: 4.00: **met**",
                 "backward, data: geometric mean at least 1.8: **not measured**"):
        assert line in text, line


def test_goal_missed_beside_some():
    data = made_up()
    data["rows"]["infer-vgg16-b16/mnn"]["turns"]["MNN"] = turns(1.5, 1.5, 1.5)
    assert "(MNN): 1.50, beside 1 of 6: **not met**" in shown(data)


def test_unfinished_are_told():
    data = made_up()
    data["rows"]["train/eager-nchw"].update(status="failed", reason="it fell over")
    data["rows"]["conv-forward/2"].update(status="unfinished", reason="the run was ended")
    text = shown(data)
    assert "* `train/eager-nchw`: failed (it fell over)" in text
    assert "| slow |" not in text and "beside 3 of 4: **not measured**" in text
    assert "forward: geometric mean at least 2.2: 2.00: **not measured**" in text
    assert "## Not measured" not in shown(made_up())


def test_stored_in_bf16():
    data = made_up()
    found = row("infer-vgg16-b1/ncnn", "ncnn", [1, 1, 1], [2, 2, 2])
    found["turns"]["libvgg, weights stored in bf16"] = turns(0.5, 0.5, 0.5)
    data["rows"][found["row"]] = found
    assert "500.00 | **4.00** |" in shown(data)
    assert "stored in bf16 (ncnn): 4.00, beside 1 of 7" in shown(data)
    del found["turns"]["libvgg, weights stored in bf16"]
    found["absent"] = {"libvgg, weights stored in bf16": "not available: no such flag"}
    assert "weights stored in bf16: not available: no such flag" in shown(data)


def test_conditions_are_told():
    data = made_up()
    data["runs"][0].update(environment=["OMP_NUM_THREADS"], quick=True,
                           commit="0" * 12 + "-changed")
    text = shown(data)
    assert "variables found set: OMP_NUM_THREADS" in text and "quick: no results" in text
    assert "(changed)" in text


def test_picture():
    drawn = xml.etree.ElementTree.fromstring(picture.picture(made_up()))
    words = [e.text for e in drawn.iter() if e.tag.endswith("text")]
    for expected in ("slow", "5.00", "oneDNN, forward (2)", "4.00", "MNN", "Pentium, 2 threads"):
        assert expected in words, expected
    widths = {e.get("fill"): float(e.get("width")) for e in drawn.iter()
              if e.tag.endswith("rect") and e.get("x") == str(float(picture.LABELS))}
    assert picture.PALE in widths and picture.BLUE in widths
    bars = [float(e.get("width")) for e in drawn.iter()
            if e.tag.endswith("rect") and e.get("x") == f"{picture.LABELS:.1f}"]
    assert abs(bars[0] / bars[4] - 5 / 2) < 0.01, bars  # slow beside half


def test_rows_that_count():
    """The page knows how many rows could be the best."""
    args = argparse.Namespace(threads=2, steps=None, train_batch=128, conv_batch=128,
                              build=pathlib.Path("build"), peers=pathlib.Path("peers"))
    planned = [row for row, _ in plans.every(args, plans.Places(args, "."))]
    assert len({row["row"] for row in planned}) == len(planned)
    for name, expected in {"train": page.TRAIN_ROWS, **page.INFER_ROWS}.items():
        found = [r for r in planned if r["row"].startswith(name + "/") and r["counts"]]
        assert len(found) == expected, (name, len(found))


def test_nothing_yet():
    empty = {"runs": [], "rows": {}}
    assert "# On a CPU" in shown(empty)
    xml.etree.ElementTree.fromstring(picture.picture(empty))


def test_report_checks():
    report = [sys.executable, "-B", checks.ROOT / "scripts/cpu/report.py"]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cpu.json"
        path.write_text(json.dumps(made_up()), encoding="utf-8")
        assert subprocess.run([*report, "--check", path], stdout=subprocess.DEVNULL).returncode == 1
        assert subprocess.run([*report, path]).returncode == 0
        assert subprocess.run([*report, "--check", path], stdout=subprocess.DEVNULL).returncode == 0
        page_path = path.with_suffix(".md")
        page_path.write_text(page_path.read_text().replace("5.00", "7.00"))
        found = subprocess.run([*report, "--check", path], capture_output=True, text=True)
        assert found.returncode == 1 and "cpu.md was not made from" in found.stdout


def test_committed_page():
    """The page in docs/results is that of its rows."""
    rows = checks.ROOT / "docs/results/cpu.json"
    if rows.exists():
        import report
        for place, text in report.products(rows).items():
            assert place.read_text(encoding="utf-8") == text, place
    assert not rows.exists() or not any(r["quick"] for r in json.loads(rows.read_text())["runs"])


checks.main(globals())
