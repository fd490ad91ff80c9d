# SPDX-License-Identifier: Apache-2.0
"""Contestants and their turns. In every round each contestant has one turn, so that all see
the same minutes of the same machine; ratios are those of a round.

A turn is {"seconds": of one step, the turn's median, ...}. What a contestant can't do is told
in the row, never hidden.
"""
import json
import statistics

import peer
import rows

OURS = "libvgg"
STORED_BF16 = "libvgg, weights stored in bf16"
TURN_LIMIT = 900.0  # seconds


class Refused(Exception):
    """A contestant does not take part, and why."""


def last_line(done):
    lines = (done.err.strip() or done.out.strip()).splitlines()
    return lines[-1] if lines else "ended without a word"


class Program:
    """A program that is run anew for each turn, and ends with one JSON object."""

    def __init__(self, name, command, shown, env=None):
        self.name, self.command, self.shown, self.env = name, command, shown, env
        self.version = None

    def start(self):
        pass

    def close(self):
        pass

    def turn(self):
        done = rows.run(self.command, TURN_LIMIT, self.env)
        if done.returncode == 2 and not done.late:
            raise Refused(f"not available: {last_line(done)}")
        if done.why():
            raise rows.Failed(f"{self.name}: {done.why()}: {last_line(done)}")
        return self.read(json.loads(done.out.strip().splitlines()[-1]))

    def read(self, found):
        """Of bench-stages and onednn-conv."""
        self.version = found.get("version")
        return {**found, "seconds": found["median_ms"] / 1e3}


class Bench(Program):
    """`vgg bench --format json`. What it says of each stage is not kept."""

    def read(self, found):
        kept = {key: value for key, value in found.items()
                if isinstance(value, (int, float, str))}
        return {**kept, "seconds": found["median_step_s"]}


class Waiting:
    """A peer of tests/bench/turns.py, ready when its first turn comes."""

    def __init__(self, name, command, shown, steps):
        self.name, self.command, self.shown, self.steps = name, command, shown, steps
        self.process = self.version = None

    def start(self):
        self.process = peer.Peer([*self.command, "--serve"], self.shown)
        self.version = self.process.next("ready", TURN_LIMIT)["version"]

    def turn(self):
        found = self.process.ask(f"turn {self.steps}", "turn", TURN_LIMIT)
        return {"seconds": statistics.median(found["seconds"]), "samples_s": found["seconds"],
                "peak_rss_bytes": found["peak_rss_bytes"]}

    def close(self):
        if self.process:
            self.process.close()


def play(row, contestants, rounds, keep):
    """All rounds of a row; `keep(row)` after each, so that an interruption loses nothing."""
    row["commands"] = {c.name: c.shown for c in contestants}
    row.update(turns={}, versions={}, absent={}, status="unfinished",
               reason="the run was ended during it")
    playing = list(contestants)
    try:
        for contestant in contestants:
            contestant.start()
        for _ in range(rounds):
            for contestant in list(playing):
                try:
                    turn = contestant.turn()
                except Refused as error:
                    row["absent"][contestant.name] = str(error)
                    playing.remove(contestant)
                    continue
                row["turns"].setdefault(contestant.name, []).append(turn)
            row["versions"] = {c.name: c.version for c in playing if c.version}
            keep(row)
        absent = [why for name, why in row["absent"].items() if name != STORED_BF16]
        if absent:
            raise rows.Failed(absent[0])
        row["status"] = "ok"
        del row["reason"]
    except Exception as error:
        mine = isinstance(error, rows.Failed)
        row.update(status="failed",
                   reason=str(error) if mine else f"{type(error).__name__}: {error}")
    finally:
        for contestant in contestants:
            contestant.close()
        keep(row)
