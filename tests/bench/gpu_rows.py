#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu/report.py adds runs to the rows that are there, on runs made up."""
import json
import pathlib
import subprocess
import sys
import tempfile

import checks

REPORT = [sys.executable, "-B", checks.ROOT / "scripts/gpu/report.py"]
OLD, NEW, NEWEST = "2000-01-01 00:00:00", "2000-01-02 00:00:00", "2000-01-03 00:00:00"


class Place:
    """A page, its rows, and folders of runs."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.json, self.page = self.folder / "gpu.json", self.folder / "gpu.md"

    def ran(self, name, date, plan=(), asked="scripts/gpu-check parity", commit="c0ffee", **rows):
        """A folder of one run of the stage parity; rows are NAME=(status, passed). The plan is
        told before and after them, as by a stage that plans more."""
        out = self.folder / name
        out.mkdir(exist_ok=True)
        lines = [{"row": "machine", "stage": "parity", "date": date, "commit": commit,
                  "gpu": "made up", "asked": asked}]
        planned = [{"row": "plan", "stage": "parity", "rows": list(plan)}] if plan else []
        lines += planned
        lines += [{"row": row, "stage": "parity", "status": status, "program": row,
                   "passed": passed} for row, (status, passed) in rows.items()]
        lines += planned
        with open(out / "parity.jsonl", "a", encoding="utf-8") as file:
            file.writelines(json.dumps(line) + "\n" for line in lines)
        return name

    def ask(self, *words):
        return subprocess.run([*REPORT, "--json", self.json, "--page", self.page, *words],
                              cwd=self.folder, capture_output=True, text=True)

    def report(self, *words):
        """{row name: (status, passed, date of its run)} after a report."""
        done = self.ask(*words)
        assert done.returncode == 0, done.stderr
        data = json.loads(self.json.read_text())
        self.dates = [run["date"] for run in data["runs"]]
        return {name: (row["status"], row.get("passed"), self.dates[row["run"]])
                for name, row in data["stages"].get("parity", {}).items()}


def with_place(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Place(folder))
    return call


@with_place
def test_rows_are_added(place):
    place.report(place.ran("old", OLD, a=("ok", 1), b=("ok", 1)))
    found = place.report(place.ran("new", NEW, b=("failed", 2), c=("ok", 2)))
    assert found == {"a": ("ok", 1, OLD), "b": ("failed", 2, NEW), "c": ("ok", 2, NEW)}, found
    text = place.page.read_text()
    assert OLD in text and NEW in text and "| `a` | 1 |" in text and "| `c` | 2 |" in text


@with_place
def test_a_run_is_added_once(place):
    old, new = place.ran("old", OLD, a=("ok", 1)), place.ran("new", NEW, a=("ok", 2))
    place.report(old, new)
    before = place.json.read_text(), place.page.read_text()
    for again in ([old], [new, old], []):
        assert place.report(*again) == {"a": ("ok", 2, NEW)}, again
        assert (place.json.read_text(), place.page.read_text()) == before, again
    place.report(place.ran("other", OLD, commit="decade", a=("ok", 3)))
    assert place.dates == [OLD, NEW, OLD]


@with_place
def test_a_run_goes_on(place):
    """What a run wrote after it was first reported."""
    run = place.ran("run", OLD, plan="ab", a=("ok", 1))
    assert place.report(run)["b"] == ("unfinished", None, OLD)
    place.ran("run", OLD, plan="ab", b=("ok", 2))
    assert place.report(run) == {"a": ("ok", 1, OLD), "b": ("ok", 2, OLD)}
    assert place.dates == [OLD]


@with_place
def test_newest_counts(place):
    place.report(place.ran("newest", NEWEST, a=("ok", 3)))
    assert place.report(place.ran("new", NEW, a=("ok", 2))) == {"a": ("ok", 3, NEWEST)}
    found = place.report(place.ran("same", NEWEST, commit="decade", a=("ok", 4)))
    assert found == {"a": ("ok", 4, NEWEST)}, found


@with_place
def test_unfinished_replaces_nothing_finished(place):
    place.report(place.ran("old", OLD, plan="c", a=("ok", 1), b=("failed", 1)))
    found = place.report(place.ran("new", NEW, plan="abcd", a=("unfinished", 2),
                                   c=("unfinished", 2)))
    assert found == {"a": ("ok", 1, OLD), "b": ("failed", 1, OLD), "c": ("unfinished", 2, NEW),
                     "d": ("unfinished", None, NEW)}, found
    # A finished row comes in its place, though it be older.
    found = place.report(place.ran("older", OLD, commit="decade", c=("ok", 3), d=("failed", 3)))
    assert found["c"] == ("ok", 3, OLD) and found["d"] == ("failed", 3, OLD), found


@with_place
def test_afresh(place):
    place.report(place.ran("old", OLD, a=("ok", 1)))
    assert place.report("--afresh", place.ran("new", NEW, b=("ok", 2))) == {"b": ("ok", 2, NEW)}
    assert place.dates == [NEW] and OLD not in place.page.read_text()
    assert place.report("--afresh") == {}
    assert "Nothing has been measured" in place.page.read_text()


@with_place
def test_check(place):
    place.report(place.ran("old", OLD, a=("ok", 1)))
    assert place.ask("--check").returncode == 0
    place.page.write_text(place.page.read_text().replace("| `a` | 1 |", "| `a` | 2 |"))
    done = place.ask("--check")
    assert done.returncode == 1 and "was not made from" in done.stdout


@with_place
def test_refused(place):
    (place.folder / "empty").mkdir()
    done = place.ask("empty")
    assert done.returncode == 1 and "found none" in done.stderr
    rehearsed = place.ran("rehearsed", OLD, asked="scripts/gpu-check parity --rehearse")
    committed = checks.ROOT / "docs/results/gpu.json"
    before = committed.read_text()
    try:
        done = subprocess.run([*REPORT, "--page", place.page, place.folder / rehearsed],
                              capture_output=True, text=True)
        assert done.returncode == 1 and "no results" in done.stderr
    finally:
        if committed.read_text() != before:
            committed.write_text(before)
    with open(place.folder / "empty/parity.jsonl", "w", encoding="utf-8") as file:
        file.write('{"row": "a", "status": "ok"}\n')
    done = place.ask("empty")
    assert done.returncode == 1 and "expected a machine's row first" in done.stderr
    assert not place.json.exists()


@with_place
def test_committed_page(place):
    """The page in docs/results is that of its rows, and stays so when it is made again."""
    for path in (place.json, place.page):
        path.write_text((checks.ROOT / "docs/results" / path.name).read_text())
    before = place.json.read_text(), place.page.read_text()
    assert place.ask("--check").returncode == 0
    place.report()
    assert (place.json.read_text(), place.page.read_text()) == before


checks.main(globals())
