# SPDX-License-Identifier: Apache-2.0
"""A program to be measured beside: a process that gets ready and then waits for turns, asked
for on its stdin. It answers with one JSON object a line that has an "event"; other lines are
its own affair."""
import json
import queue
import subprocess
import tempfile
import threading

import rows


class Peer:
    """`shown` is the command as a reader would give it."""

    def __init__(self, command, shown, env=None):
        self.command = shown
        self.lines = queue.Queue()
        self.err = tempfile.TemporaryFile()
        self.process = rows.start(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  stderr=self.err, env=env, text=True, errors="replace")
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        try:
            for line in self.process.stdout:
                try:
                    found = json.loads(line)
                except ValueError:
                    continue
                if isinstance(found, dict) and "event" in found:
                    self.lines.put(found)
        finally:
            self.lines.put(None)

    def shown(self):
        return self.command

    def failed(self, why, late=False):
        self.err.seek(0)
        tail = self.err.read().decode("utf-8", "replace")[-rows.TAIL:]
        return rows.Failed(why or self.ended(tail), late, command=self.shown(), tail=tail)

    def ended(self, tail):
        """How the process that has closed its stdout came to its end."""
        last = rows.last_line(tail) or "ended without a word"
        try:
            status = self.process.wait(3)
        except subprocess.TimeoutExpired:
            return last
        return f"ended by {rows.signal_name(-status)}: {last}" if status < 0 else last

    def next(self, event, limit):
        try:
            found = self.lines.get(timeout=max(limit, 0.1))
        except queue.Empty:
            raise self.failed(f"no answer in {limit:.0f} s", late=True) from None
        if found is None:
            raise self.failed(None)
        if found["event"] == "failed":
            raise self.failed(found.get("reason"))
        if found["event"] != event:
            raise self.failed(f"expected {event}, found {found['event']}")
        return found

    def ask(self, text, event, limit):
        try:
            self.process.stdin.write(text + "\n")
            self.process.stdin.flush()
        except OSError:
            raise self.failed(None) from None
        return self.next(event, limit)

    def close(self):
        rows.end_group(self.process)
        self.err.close()
