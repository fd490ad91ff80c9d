#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns of bench-cpu, with programs and peers that compute nothing."""
import argparse
import json
import os
import pathlib
import sys
import tempfile

import checks
import contest
import results
import turns

PEER = """
import os, sys, time
sys.path.insert(0, {here!r})
import turns
def make(args):
    if args.row == "broken":
        raise RuntimeError("it is not installed\\nand more")
    print("a library's own words")
    def step():
        time.sleep(0.004)
        if args.row == "ends":
            sys.exit("no more")
        if args.row == "dies":
            os.kill(os.getpid(), 15)
    return "9.8", step
rows = ["good", "broken", "ends", "dies"]
turns.serve(turns.complete(turns.arguments("", rows).parse_args()), make)
""".format(here=str(checks.ROOT / "tests/bench"))


def python(code, *words):
    return [sys.executable, "-c", code, *words]


def ours(seconds=0.001, name=contest.OURS):
    said = json.dumps({"median_step_s": seconds, "peak_rss_bytes": 5, "stages": [1, 2]})
    return contest.Bench(name, python(f"print('{said}')"), "vgg bench")


def refusing(name):
    return contest.Bench(name, python("import sys; sys.exit('unknown flag') if 0 else "
                                      "(sys.stderr.write('vgg: unknown flag\\n'), sys.exit(2))"),
                         "vgg bench")


def peer(row="good"):
    return contest.Waiting("peer", python(PEER, "--row", row), "peer", 3)


def play(contestants, rounds=2):
    kept = []
    row = {"row": "a/b", "peer": "peer", "counts": True}
    contest.play(row, contestants, rounds, lambda row: kept.append(json.loads(json.dumps(row))))
    return row, kept


def test_turn_about():
    row, kept = play([ours(), peer()])
    assert row["status"] == "ok" and "reason" not in row, row
    assert [len(turn["samples_s"]) for turn in row["turns"]["peer"]] == [3, 3]
    assert all(turn["seconds"] >= 0.004 for turn in row["turns"]["peer"])
    assert row["versions"] == {"peer": "9.8"}
    assert row["turns"]["libvgg"][0] == {"median_step_s": 0.001, "peak_rss_bytes": 5,
                                         "seconds": 0.001}
    assert results.ratio(row) >= 4 and len(results.ratios(row)) == 2
    assert results.peak_bytes(row, "peer") > 1 << 20


def test_kept_after_each_round():
    _, kept = play([ours(), peer()], 3)
    assert [len(row["turns"]["libvgg"]) for row in kept] == [1, 2, 3, 3]
    assert [row["status"] for row in kept] == ["unfinished"] * 3 + ["ok"]


def test_peer_that_cannot_start():
    row, _ = play([ours(), peer("broken")])
    assert row["status"] == "failed" and "it is not installed" in row["reason"], row


def test_peer_that_ends():
    row, _ = play([ours(), peer("ends")])
    assert row["status"] == "failed" and "no more" in row["reason"], row


def test_peer_that_dies():
    row, _ = play([ours(), peer("dies")])
    assert row["status"] == "failed" and "ended by SIGTERM" in row["reason"], row


def test_variant_refused():
    row, _ = play([ours(), refusing(contest.STORED_BF16), peer()])
    assert row["status"] == "ok"
    assert row["absent"] == {contest.STORED_BF16: "not available: vgg: unknown flag"}
    assert contest.STORED_BF16 not in row["turns"]


def test_ours_refused():
    row, _ = play([refusing(contest.OURS), peer()])
    assert row["status"] == "failed" and "unknown flag" in row["reason"], row


def test_ours_that_dies():
    died = contest.Bench(contest.OURS, python("import os; os.abort()"), "vgg bench")
    row, _ = play([died, peer()])
    assert row["status"] == "failed" and "SIGABRT" in row["reason"], row



def test_rows_take_the_place_of_older():
    args = argparse.Namespace(rounds=1, threads=2, quick=False,
                              peers=pathlib.Path("nowhere"))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "cpu.json"
        first = results.Results(path)
        first.begin("first", args, [{"row": "a"}, {"row": "b"}])
        first.put({"row": "a", "run": 0, "status": "ok"})
        second = results.Results(path)
        assert second.rows["b"]["status"] == "unfinished"
        again = {"row": "b"}
        second.begin("second", args, [again])
        second.put({**again, "status": "failed", "reason": "of /some/long/place/file\nno"})
        data = json.loads(path.read_text())
        assert [run["asked"] for run in data["runs"]] == ["first", "second"]
        assert data["rows"]["a"]["run"] == 0 and data["rows"]["b"]["run"] == 1
        assert data["rows"]["b"]["reason"] == "of file no"
        third = results.Results(path)
        every = [{"row": "a"}, {"row": "b"}]
        third.begin("third", args, every)
        assert json.loads(path.read_text())["rows"]["a"]["status"] == "ok"  # until it is there
        third.put({**every[0], "status": "unfinished", "reason": "ended"})
        assert json.loads(path.read_text())["rows"]["a"]["status"] == "ok"
        for row in every:
            third.put({**row, "status": "ok"})
        data = json.loads(path.read_text())
        assert [run["asked"] for run in data["runs"]] == ["third"]
        assert {row["run"] for row in data["rows"].values()} == {0}


def test_environment_is_told():
    args = argparse.Namespace(rounds=1, threads=2, quick=False, peers=pathlib.Path("nowhere"))
    os.environ["OPENBLAS_NUM_THREADS"] = "2"
    try:
        assert "OPENBLAS_NUM_THREADS" in results.describe("asked", args)["environment"]
    finally:
        del os.environ["OPENBLAS_NUM_THREADS"]


def test_memory_of_this_process():
    assert turns.peak_rss_bytes() > 1 << 20


checks.main(globals())
