# SPDX-License-Identifier: Apache-2.0
"""What the stages of gpu-check share: rows written as they come, a deadline, child processes
that end with it, and the device's memory watched from outside.

A stage names its rows in advance, in order of importance; those that its deadline left out
are told as "unfinished", so that a row is never missing without a word. Each row is a line of
DIR/STAGE.jsonl: `row`, `status` (ok, failed, skipped, unfinished), `command`, figures.
"""
import contextlib
import ctypes
import json
import math
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

TAIL = 4000  # characters of a failed program's output that a row keeps
MOST = 64 << 20  # bytes of a program's output that are looked at
LIBC = ctypes.CDLL(None)
PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """A row that could not be had; figures that explain it. `late`: for lack of time."""

    def __init__(self, reason, late=False, **figures):
        super().__init__(reason)
        self.late, self.figures = late, figures


class Skipped(Failed):
    """Nothing to measure here, and why."""


class Unwritable(Exception):
    """The folder of rows takes no more, and why."""


@contextlib.contextmanager
def writing():
    try:
        yield
    except OSError as error:
        raise Unwritable(error.strerror or str(error)) from None


class Stage:
    def __init__(self, name, out, seconds, machine):
        self.name, self.seconds = name, seconds
        self.began = time.monotonic()
        self.planned, self.told = [], {}
        path = pathlib.Path(out) / f"{name}.jsonl"
        with writing():
            cut = path.exists() and not path.read_bytes()[-1:] in (b"", b"\n")
            self.file = open(path, "a", encoding="utf-8")
            self.file.write("\n" if cut else "")  # a line that a full disk or a kill left
        self.write(row="machine", stage=name, deadline_s=seconds, **machine)

    def write(self, **row):
        with writing():
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()
            os.fsync(self.file.fileno())

    def left(self):
        return self.seconds - (time.monotonic() - self.began)

    def plan(self, names):
        self.planned += [name for name in names if name not in self.planned]
        self.write(row="plan", stage=self.name, rows=self.planned)

    def row(self, name, status, **figures):
        odd = sorted(key for key, value in figures.items() if not finite(value))
        if odd:  # JSON has no word for them
            figures = {key: None if key in odd else value for key, value in figures.items()}
            if status == "ok":
                status, figures["reason"] = "failed", f"not finite: {', '.join(odd)}"
        self.told[name] = status
        took = round(time.monotonic() - self.began, 1)
        self.write(row=name, stage=self.name, status=status, at_s=took, **figures)
        brief = {k: v for k, v in figures.items() if isinstance(v, (int, float, str))
                 and k not in ("command", "tail")}
        text = "  ".join(f"{k} {v}" for k, v in brief.items())
        print(f"{took:6.1f} s  {self.name} {name}: {status}  {text[:240]}", flush=True)

    def do(self, name, function, need=3.0):
        """A row from function(seconds left); what it raises is the row's reason."""
        if self.left() < need:
            return
        try:
            figures = function(self.left())
        except Skipped as error:
            self.row(name, "skipped", reason=str(error), **error.figures)
        except Failed as error:  # of no fault where the stage's end was the reason
            ended = error.late and self.left() < 3.0
            self.row(name, "unfinished" if ended else "failed",
                     reason=str(error), **error.figures)
        except Exception as error:
            self.row(name, "failed", reason=named(error))
        else:
            self.row(name, "ok", **figures)

    def close(self):
        """True if every planned row came and is ok."""
        for name in self.planned:
            if name not in self.told:
                self.row(name, "unfinished",
                         reason=f"the stage's deadline of {self.seconds:.0f} s came first"
                         if self.left() < 10 else "what it is made of did not come")
        with writing():
            self.file.close()
        return all(status == "ok" for status in self.told.values())


def finite(value):
    """No number in it, however deep, is NaN or infinite."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def named(error):
    return f"{type(error).__name__}: {error}"


def last_line(text):
    return (text.strip().splitlines() or [""])[-1][:200]


def signal_name(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Done:
    """A process that has ended."""

    def __init__(self, returncode, out, err, seconds, late):
        self.returncode, self.out, self.err = returncode, out, err
        self.seconds, self.late = seconds, late

    def why(self):
        """One line about the end, None if it was a good one."""
        if self.late:
            return f"not ended after {self.seconds:.0f} s"
        if self.returncode < 0:
            return f"ended by {signal_name(-self.returncode)}"
        said = last_line(self.err) or last_line(self.out)
        return f"status {self.returncode}: {said}".rstrip(": ") if self.returncode else None

    def tail(self):
        return (self.out + self.err)[-TAIL:]

    def failure(self, before="", **figures):
        """What there is to raise of a bad end."""
        return Failed(before + self.why(), self.late, tail=self.tail(), **figures)


started = set()  # processes that have not ended


def start(command, **more):
    """A process that leads a group of its own. It ends with the thread that starts it at the
    latest, however that ends; so does the rest of its group, except after a SIGKILL."""
    process = subprocess.Popen([str(c) for c in command], start_new_session=True,
                               preexec_fn=lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
                               **more)
    started.add(process)
    return process


def end_all():
    for process in list(started):
        end_group(process)


def end_group(process):
    """End a process of ours and its children, those that it has left behind too."""
    started.discard(process)
    for how in (signal.SIGTERM, signal.SIGKILL) if process.poll() is None else (signal.SIGKILL,):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(3)
            break
        except subprocess.TimeoutExpired:
            continue
    try:  # whoever did not hear the first word
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def run(command, limit, env=None):
    """Run to the end, or to the limit in seconds."""
    began = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = start(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env)
        late = False
        try:
            process.wait(max(limit, 0.1))
        except subprocess.TimeoutExpired:
            late = True
        finally:
            end_group(process)
        seconds = time.monotonic() - began
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read(MOST).decode("utf-8", "replace"))
    return Done(process.returncode, *texts, seconds, late)


class Memory:
    """MiB in use on the device, sampled from outside; the same for every program. `smi` are
    the words that choose the device for nvidia-smi; None: it can't be watched."""

    PERIOD = 0.1

    def __init__(self, smi):
        self.now = self.peak = None
        self.marks, self.lock = 0, threading.Lock()
        self.smi = smi
        self.read = None if smi is None else self.reader()
        if self.read is not None:
            threading.Thread(target=self.watch, daemon=True).start()

    def reader(self):
        if not self.smi:  # the only one
            try:
                import pynvml
                pynvml.nvmlInit()
                handle = pynvml.nvmlDeviceGetHandleByIndex(0)
                return lambda: pynvml.nvmlDeviceGetMemoryInfo(handle).used / 2**20
            except Exception:
                pass
        query = ["nvidia-smi", *self.smi, "--query-gpu=memory.used",
                 "--format=csv,noheader,nounits"]

        def ask():
            return float(subprocess.run(query, capture_output=True, text=True, timeout=20,
                                        check=True).stdout.split()[0])
        try:
            ask()
        except Exception:
            return None
        return ask

    def look(self, anew=False):
        """What is in use. A reading that failed makes the peak unknown until the next mark(),
        and one that was begun before a mark() is none of what comes after."""
        marks = self.marks
        try:
            now = self.read()
        except Exception:
            now = None
        with self.lock:
            if anew:
                self.marks += 1
                self.peak = now
            elif marks != self.marks:
                return self.now
            elif now is None or self.peak is None:
                self.peak = None
            else:
                self.peak = max(self.peak, now)
            self.now = now
        return now

    def watch(self):
        while True:
            self.look()
            time.sleep(self.PERIOD)

    def mark(self):
        """Begin anew; what is in use now, None where it can't be seen."""
        return None if self.read is None else self.look(anew=True)

    def above(self, base):
        """The most since mark() beyond `base`, in MiB; None where it was not seen all the
        while."""
        return None if base is None or self.peak is None else round(self.peak - base, 1)
