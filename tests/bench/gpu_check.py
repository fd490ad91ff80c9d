#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu-check where things go wrong: options, machines without a GPU or with several,
programs that hang, lie, die or leave others behind, kills. Programs are shell scripts here."""
import fcntl
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import types

import checks

sys.path.remove(str(checks.ROOT / "scripts/cpu"))  # which has a bench, too

import bench
import check
import machine
import parity
import peer
import rows
import trainer

CHECK = [sys.executable, "-B", checks.ROOT / "scripts/gpu/check.py"]
script = checks.script
GPU = '{"devices": [{"name": "cuda:0", "engine": "cudnn", "text": "Some GPU, 9.0; cuDNN 9"}]}'
NONE = ('{"devices": [{"name": "cpu", "engine": "cpu", "text": "x"}], "refused": '
        '[{"engine": "cudnn", "reason": "no driver: install one"}]}')


class Place:
    """A folder with a tree whose trainer is a script; `lists` is what `vgg devices` does."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.out = self.folder / "out"
        self.vgg(f"echo '{GPU}'")

    def vgg(self, lists, rest="exit 1"):
        script(self.folder / "tree/examples/vgg/vgg",
               f'case $1 in devices) {lists} ;; *) {rest} ;; esac')

    def words(self, *words, out=None):
        return [*CHECK, *words, "--tree", self.folder / "tree", "--data", self.folder,
                "--out", self.out if out is None else out]

    def ask(self, *words, out=None, **env):
        done = subprocess.run(self.words(*words, out=out), capture_output=True, text=True,
                              timeout=60, env={**os.environ, **env})
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def trainer(self):
        args = types.SimpleNamespace(tree=self.folder / "tree", data=self.folder, device="cuda:0",
                                     work=self.folder / "work", preset="d2l", run_limit=20)
        return trainer.Trainer(args)

    def rows(self, stage):
        return {row["row"]: row for row in map(
            json.loads, (self.out / f"{stage}.jsonl").read_text().splitlines())}


def with_place(test):
    def call():
        with tempfile.TemporaryDirectory() as folder:
            test(Place(folder))
    return call


def alive(pid):
    """Is a process there that has not ended?"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.02)


@with_place
def test_options(place):
    for words, said in (
            ([""], "found none"), ([","], "found none"), (["parity,speed"], "no 'speed'"),
            (["parity", "--deadline", "0"], "above 0"), (["parity", "--deadline", "nan"], "above 0"),
            (["parity", "--within", "inf"], "above 0"), (["bench", "--turns", "-1"], "above 0"),
            (["bench", "--precisions", "fp64"], "no 'fp64'"), (["bench", "--rows", "x"], "no 'x'"),
            (["accuracy", "--seeds", "1,x"], "whole numbers"), (["parity", "--reh"], "--reh"),
            (["first,bench"], "name it alone")):
        done = place.ask(*words)
        assert done.returncode == 2 and said in done.stderr, (words, done.stderr)
    assert not place.out.exists()


@with_place
def test_out(place):
    file = place.folder / "file"
    file.write_text("")
    for out in ("", "/proc/none", file):
        done = place.ask("profile", out=out)
        assert done.returncode == 2 and "name a folder that can be written" in done.stderr, done
    place.out.mkdir()
    held = os.open(place.out, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    done = place.ask("profile")
    os.close(held)
    assert done.returncode == 2 and "another run is writing there" in done.stderr, done.stderr
    (place.out / "profile.jsonl").mkdir()
    done = place.ask("profile")
    assert done.returncode == 2 and "Is a directory: name another folder" in done.stderr, done


@with_place
def test_no_gpu(place):
    """One line that says why, and no rows."""
    for lists, said in ((f"echo '{NONE}'", "cuda:0 is not listed; cudnn: no driver: install one"),
                        ("echo broken >&2; exit 3", "status 3: broken"), ("true", "vgg devices"),
                        ("echo '[]'", "vgg devices"), ("kill -9 $$", "ended by SIGKILL"),
                        ("echo '{\"devices\": [{}]}'", "devices without name"),
                        ("echo '{\"devices\": 5}'", "devices without name")):
        place.vgg(lists)
        done = place.ask("parity", "--quick")
        assert done.returncode == 2 and said in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1 and not list(place.out.iterdir()), done.stderr


@with_place
def test_hanging_devices(place):
    place.vgg("sleep 60")
    one, began = place.trainer(), time.monotonic()
    one.look(0.5)
    assert one.engine() is None and "not ended" in one.seen["trouble"], one.seen
    assert time.monotonic() - began < 5


@with_place
def test_stages_go_on(place):
    """What one stage could not do says its row; the next one is run."""
    script(place.folder / "bin/nvidia-smi", "exit 1")
    done = place.ask("profile,accuracy", "--quick", "--seeds", "3", "--deadline", "9",
                     PATH=f"{place.folder}/bin:{os.environ['PATH']}")
    assert done.returncode == 1 and "looking for the GPU" in done.stdout, done
    assert place.rows("profile")["plan-bf16"]["status"] == "failed"
    found = place.rows("accuracy")
    assert found["bf16-seed-3"]["reason"] == "status 1", found
    assert found["machine"]["gpu"] == "Some GPU" and found["machine"]["rehearse"] is False
    assert found["machine"]["asked"] == ("scripts/gpu-check accuracy --quick --seeds 3 "
                                         "--deadline 9"), found["machine"]


@with_place
def test_first(place):
    """One word for four stages within a limit that is theirs together."""
    script(place.folder / "bin/nvidia-smi", "exit 1")
    began = time.monotonic()
    done = place.ask("first", "--within", "15",
                     PATH=f"{place.folder}/bin:{os.environ['PATH']}")
    assert done.returncode == 1 and time.monotonic() - began < 30, done
    found = {name: place.rows(name) for name in check.FIRST}
    assert found["bench"]["plan"]["rows"] == [
        "cold-bf16", "alone-bf16", "torch-bf16-graph-compile", "vgg-bf16"], found["bench"]
    assert found["profile"]["plan"]["rows"] == ["plan-bf16", "step-bf16"], found["profile"]
    assert found["sanitize"]["programs"]["status"] == "failed", found["sanitize"]
    assert found["parity"]["machine"]["asked"] == "scripts/gpu-check first --within 15", found
    assert found["parity"]["machine"]["deadline_s"] < 15 * 200 / 540 + 0.1, found["parity"]


@with_place
def test_libraries_are_shared(place):
    """All stages use PyTorch's libraries, but those that do not work."""
    kept = trainer.library_folders
    trainer.library_folders = lambda: ["/site/nvidia/cudnn/lib", "/site/nvidia/cublas/lib"]
    try:
        for lists, env, by in (
                (f"echo '{GPU}'", "/site/nvidia/*/lib", "VGG_CUDA_LIBRARIES"),
                (f"case $VGG_CUDA_LIBRARIES in '') echo '{GPU}';; *) echo '{NONE}';; esac", None,
                 "nothing"),
                (f"case $VGG_CUDA_LIBRARIES in '') echo '{GPU}';; *) exit 3;; esac", None,
                 "nothing")):
            place.vgg(lists)
            one = place.trainer()
            one.env.pop("VGG_CUDA_LIBRARIES", None)
            one.look(5)
            one.share_libraries(5)
            assert one.engine() and one.env.get("VGG_CUDA_LIBRARIES") == env, one.env
            row = one.devices(9)
            assert row["libraries_named_by"] == by, row
            assert ("libraries_not_shared" in row) == (env is None), row
        assert row["libraries_not_shared"] == "vgg devices: status 3", row
    finally:
        trainer.library_folders = kept


@with_place
def test_a_broken_stage(place):
    """An error of a stage itself is a row of it."""
    place.out.mkdir()
    args = types.SimpleNamespace(deadline=9, quick=False, first=False, stages=["parity"],
                                 out=place.out, rehearse=False)
    broken = types.SimpleNamespace(run=lambda *_: {}["nothing"])
    kept, check.STAGES["parity"] = check.STAGES["parity"], (broken, 9, 9)
    try:
        assert not check.run_stage("parity", args, place.trainer(), ({}, None),
                                   time.monotonic() + 9)
    finally:
        check.STAGES["parity"] = kept
    assert place.rows("parity")["stage"]["reason"] == "KeyError: 'nothing'"


@with_place
def test_rows_of_a_stage(place):
    """Only what was late is unfinished; what is not finite is no figure."""
    place.out.mkdir()
    stage = rows.Stage("parity", place.out, 4, {})
    stage.began -= 2  # the last seconds of it

    def fails(late):
        def call(left):
            raise rows.Failed("wrong", late)
        return call
    stage.do("late", fails(True), need=0)
    stage.do("wrong", fails(False), need=0)
    stage.do("odd", lambda left: {"loss": [1.0, float("nan")], "seconds": 2}, need=0)
    stage.close()
    found = place.rows("parity")
    assert [found[name]["status"] for name in ("late", "wrong", "odd")] == [
        "unfinished", "failed", "failed"], found
    assert found["odd"]["loss"] is None and found["odd"]["reason"] == "not finite: loss"


@with_place
def test_a_cut_line_stays_alone(place):
    place.out.mkdir()
    (place.out / "parity.jsonl").write_text('{"row": "cu')
    rows.Stage("parity", place.out, 10, {}).close()
    lines = (place.out / "parity.jsonl").read_text().splitlines()
    assert len(lines) == 2 and json.loads(lines[1])["row"] == "machine", lines


@with_place
def test_partial_runs(place):
    """A run that is ended tells the epochs that it made."""
    place.vgg("true", 'while [ "$1" != --out ]; do shift; done; mkdir -p "$2"; '
              'printf "epoch,train_loss,test_accuracy\\n1,0.5,0.7\\n" >"$2/metrics.csv"; sleep 60')
    try:
        place.trainer().train(["--epochs", 3], 1)
        raise AssertionError("it was no failure")
    except rows.Failed as error:
        assert error.figures["test_accuracy_curve"] == [0.7], error.figures
    place.vgg("true", "exit 0")
    try:
        place.trainer().train([], 5)
        raise AssertionError("it was no failure")
    except rows.Failed as error:
        assert "made no step" in str(error)


@with_place
def test_programs(place):
    """A test program is ok if it says that tests ran and none failed."""
    for text, good, said in (
            ("echo '100%: Checks: 7, Failures: 0, Errors: 0'", 7, ""),
            ("echo '100%: Checks: 0, Failures: 0, Errors: 0'", None, "ran no test"),
            ("echo '40%: Checks: 5, Failures: 3, Errors: 0'", None, "3 failures"),
            ("true", None, "ran no test"), ("kill -33 $$; sleep 5", None, "ended by"),
            ("echo why >&2; exit 1", None, "status 1: why"),
            ("sleep 60", None, "not ended after 1 s")):
        path = script(place.folder / "tree/tests/gpu/test-gpu-x", text)
        (place.folder / "work").mkdir(exist_ok=True)
        try:
            found = parity.program(place.trainer(), path, 1)
            assert found["passed"] == good, (text, found)
        except rows.Failed as error:
            assert good is None and said in str(error), (text, error)
    tap = place.folder / "work/test-gpu-x.tap"  # of the program before
    tap.write_text("ok 1 - something\n")
    script(place.folder / "tree/tests/gpu/test-gpu-x", "exit 0")
    try:
        parity.program(place.trainer(), place.folder / "tree/tests/gpu/test-gpu-x", 1)
        raise AssertionError("it was no failure")
    except rows.Failed as error:
        assert "ran no test" in str(error)
    os.environ["CK_RUN_CASE"] = "none"  # it would choose the tests
    try:
        assert "CK_RUN_CASE" not in place.trainer().env
    finally:
        del os.environ["CK_RUN_CASE"]


@with_place
def test_nothing_is_left_behind(place):
    """A program's children end with it; it ends with us, however we end."""
    note = place.folder / "pid"
    leaves = script(place.folder / "leaves", f"sleep 60 & echo $! >{note}")
    rows.run([leaves], 5)
    wait_until(lambda: not alive(int(note.read_text())))
    note.unlink()
    deaf = script(place.folder / "deaf",
                  f"(trap '' TERM; echo $$ >{note}.own; exec sleep 60) & echo $! >{note}; wait")
    rows.run([deaf], 1)
    wait_until(lambda: not alive(int(note.read_text())))
    note.unlink()
    ours = script(place.folder / "ours", f"echo $$ >{note}; exec sleep 60")
    code = f"import rows; rows.run([{str(ours)!r}], 60)"
    runner = subprocess.Popen([sys.executable, "-B", "-c", code],
                              env={**os.environ, "PYTHONPATH": str(checks.ROOT / "scripts/gpu")})
    wait_until(lambda: note.exists() and note.read_text().strip())
    runner.kill()
    runner.wait()
    wait_until(lambda: not alive(int(note.read_text())))


@with_place
def test_reference_ends_with_its_stage(place):
    note = place.folder / "pid"
    place.vgg("true", f"echo $$ >{note}; exec sleep 60")
    reference = parity.Reference(place.trainer(), ["quick", "adam"], 60)
    wait_until(lambda: note.exists() and note.read_text().strip())
    reference.stop()
    assert not reference.is_alive() and not alive(int(note.read_text()))


# Appends what it is asked to a file `asked`; a run of steps leaves a log of them.
TRAINS = """echo "$(cut -d' ' -f19 /proc/$$/stat) $*" >>%s/asked
while [ "$1" != --out ]; do shift; done
mkdir -p "$2/last"; echo weights >"$2/last/weights.safetensors"; i=0
while [ $i -lt 20 ]; do i=$((i + 1)); echo '{"row": "step", "loss": 1.0}'; done >"$2/log.jsonl\""""


def asked_of(place):
    """How nice each run was and its words, in the order of their beginnings."""
    return [line.split(" ", 1) for line in (place.folder / "asked").read_text().splitlines()]


@with_place
def test_order_of_parity(place):
    """Quick programs of what is new come before the traces, while the processor computes
    what those are compared with; slow ones when it has ended."""
    place.vgg(f"echo '{GPU}'", TRAINS % place.folder)
    for name in ("update", "conv-mma", "steps", "stages-bf16", "stages-bf16-timed", "program",
                 "stages-fp32", "linear-step", "semantics", "another"):
        script(place.folder / f"tree/tests/gpu/test-gpu-{name}",
               f"echo '0 {name}' >>{place.folder}/asked; "
               f"until grep -q 'device cpu' {place.folder}/asked; do sleep 0.02; done; "
               "echo 'Checks: 1, Failures: 0, Errors: 0'")
    place.ask("parity", "--precisions", "bf16", "--deadline", "60")
    traces = [f"trace-{name}-bf16" for name in parity.TRACES]
    assert place.rows("parity")["plan"]["rows"] == [
        "devices", "describe", *(f"test-gpu-{name}" for name in (
            "conv-mma", "steps", "update", "semantics", "linear-step", "stages-bf16")),
        *traces, "twice-bf16", "again-bf16",
        *(f"test-gpu-{name}" for name in ("program", "another", "stages-bf16-timed")), "leak"]
    found = place.rows("parity")
    assert all(found[name]["status"] == "ok" for name in traces), found
    order = asked_of(place)
    kinds = ["cpu" if "--device cpu" in words else "gpu" if "--device" in words else words
             for _, words in order]
    references = [i for i, kind in enumerate(kinds) if kind == "cpu"]
    assert len(references) == 4 and references[0] < kinds.index("steps"), kinds
    assert references[-1] < kinds.index("program"), kinds
    assert kinds.index("stages-bf16") < kinds.index("gpu") < kinds.index("program"), kinds
    nice = {kind: {int(n) for n, words in order if f"--device {kind}" in words}
            for kind in ("cpu", "cuda")}
    assert min(nice["cpu"]) > max(nice["cuda"]) or nice["cuda"] == {19}, nice


@with_place
def test_a_program_that_hangs(place):
    """It costs its own time, not that of those behind it."""
    place.vgg(f"echo '{GPU}'", TRAINS % place.folder)
    for name, text in (("conv-mma", "sleep 60"), ("steps", "echo 'Checks: 1, Failures: 0, '"
                                                  "'Errors: 0'")):
        script(place.folder / f"tree/tests/gpu/test-gpu-{name}", text)
    kept, parity.FIRST_LIMIT = parity.FIRST_LIMIT, 1
    args = types.SimpleNamespace(quick=False, rehearse=False, precisions=["bf16"],
                                 program_limit=None, out=place.out)
    place.out.mkdir()
    (place.folder / "work").mkdir()
    try:
        stage = rows.Stage("parity", place.out, 20, {})
        parity.run(stage, args, place.trainer(), rows.Memory(None))
        stage.close()
    finally:
        parity.FIRST_LIMIT = kept
    found = place.rows("parity")
    assert found["test-gpu-conv-mma"]["reason"].startswith("not ended after 1 s"), found
    assert found["test-gpu-steps"]["status"] == found["trace-d2l-bf16"]["status"] == "ok", found


@with_place
def test_peers(place):
    def of(text):
        return peer.Peer([script(place.folder / "peer", text)], "peer")
    odd = of("echo '{broken'; printf '\\377\\n'; echo '{}'; echo '{\"event\": \"ready\"}'; sleep 9")
    assert odd.next("ready", 5) == {"event": "ready"}
    odd.close()
    for text, said in (("echo last >&2; exit 1", "last"), ("echo '{\"event\": \"x\"}'", "found x"),
                       ("echo bad >&2; echo '{\"event\": \"failed\"}'", "bad")):
        one = of(text)
        try:
            one.next("ready", 5)
            raise AssertionError("it was no failure")
        except rows.Failed as error:
            assert said in str(error), (text, error)
        wait_until(lambda: one.process.poll() is not None)
        try:
            one.ask("go", "ready", 5)
            raise AssertionError("it was no failure")
        except rows.Failed as error:
            assert error.figures["command"] == "peer", error
        one.close()


@with_place
def test_memory(place):
    """A reading that failed makes the figure unknown, not stale."""
    count = place.folder / "count"
    count.write_text("0")
    script(place.folder / "nvidia-smi",
           f'n=$(($(cat {count}) + 1)); echo $n >{count}; [ $n -ne 4 ] || exit 1; echo $((n * 10))')
    path, os.environ["PATH"] = os.environ["PATH"], f"{place.folder}:{os.environ['PATH']}"
    period, rows.Memory.PERIOD = rows.Memory.PERIOD, 3600
    try:
        assert rows.Memory(None).mark() is None
        memory = rows.Memory(["-i", "GPU-1"])  # the first reading is a try
        wait_until(lambda: memory.now is not None)  # the second one
        base = memory.mark()
        assert base == 30 and memory.above(base) == 0
        assert memory.look() is None and memory.above(base) is None
        assert memory.mark() == 50 and memory.above(50) == 0
    finally:
        os.environ["PATH"], rows.Memory.PERIOD = path, period


@with_place
def test_several_gpus(place):
    """The GPU that the engine names, or none."""
    path, os.environ["PATH"] = os.environ["PATH"], f"{place.folder}:{os.environ['PATH']}"
    visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    try:
        for listed, chosen, words in (
                ("GPU-1, A", "", []), ("GPU-1, B", "", None), ("", "", None),
                ("GPU-1, B\nGPU-2, A", "", ["-i", "GPU-2"]),
                ("GPU-1, A\nGPU-2, A", "1", None), ("GPU-1, A\nGPU-2, A", "GPU-2", ["-i", "GPU-2"])):
            script(place.folder / "nvidia-smi", f"printf '{listed}\n'")
            os.environ["CUDA_VISIBLE_DEVICES"] = chosen
            assert machine.smi_choice("A") == words, (listed, chosen)
    finally:
        os.environ["PATH"] = path
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible


@with_place
def test_ended_from_outside(place):
    """gpu-check keeps the programs until the stages have ended, and says so by its status."""
    note = place.folder / "pid"
    place.vgg(f"echo '{GPU}'", f"[ $1 != --version ] || exit 0; echo $$ >{note}; exec sleep 60")
    temporary = place.folder / "tmp"
    temporary.mkdir()
    env = {**os.environ, "GPU_PACK": str(checks.make_pack(place.folder)), "TMPDIR": str(temporary)}
    for number, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        note.unlink(missing_ok=True)
        run = subprocess.Popen([checks.ROOT / "scripts/gpu-check", "profile", "--out", place.out],
                               env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_until(lambda: note.exists() and note.read_text().strip(), 30)
        run.send_signal(number)
        said = run.communicate(timeout=30)[1]
        assert run.returncode == status and b"Traceback" not in said, (run.returncode, said)
        assert not alive(int(note.read_text())) and not list(temporary.iterdir())


# A row of PyTorch on 40 images; prints how many each of its steps had.
ROW = """
import sys, torch_vgg
counts, one, epoch = [], torch_vgg.Row.one, torch_vgg.Row.epoch
torch_vgg.Row.one = lambda self, index: counts.append(index.numel()) or one(self, index)
torch_vgg.Row.epoch = lambda self: counts.append("epoch") or epoch(self)
sys.argv[1:] = ["--row", "fp32-graph-eager", "--device", "cpu", "--limit", "40", "--batch", "16",
                "--ratio", "16", "--hidden", "16", "--size", "32", "--epochs", "1", "--data", "."]
torch_vgg.main()
print(counts)
"""


@with_place
def test_both_batches_are_warm(place):
    """Before the epoch whose seconds say how many turns there is time for."""
    python = checks.ROOT / ".venv/bin/python3"  # scripts/peers has made it
    python = python if python.exists() else pathlib.Path(sys.executable)
    if subprocess.run([python, "-c", "import torch"], capture_output=True).returncode != 0:
        print("skipped both_batches_are_warm: PyTorch is not installed (scripts/peers)")
        return
    for name, dims in (("images-idx3", (40, 28, 28)), ("labels-idx1", (40,))):
        head = bytes([0, 0, 8, len(dims)]) + b"".join(d.to_bytes(4, "big") for d in dims)
        body = bytes(i % 10 for i in range(40 * (784 if len(dims) > 1 else 1)))
        (place.folder / f"train-{name}-ubyte").write_bytes(head + body)
    done = subprocess.run([python, "-B", "-c", ROW], cwd=place.folder, text=True, timeout=100,
                          capture_output=True,
                          env={**os.environ, "PYTHONPATH": str(checks.ROOT / "tests/bench")})
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert json.loads(lines[-1].replace("'", '"')) == [
        16, 8, 8, 8, "epoch", 16, 16, 8, "epoch", 16, 16, 8], lines
    ready = json.loads(lines[0])
    assert ready["event"] == "ready" and ready["tail_s"] > 0, ready


def test_asked():
    words = ["parity,bench", "--quick", "--tree", "a b", "--out=x", "--rows", "bf16-graph",
             "--built-here", "--commit", "c"]
    assert check.asked("bench", words) == "scripts/gpu-check bench --quick --rows bf16-graph"
    assert check.asked("bench", ["--quick", "first"]) == "scripts/gpu-check first --quick"


def test_rows_of_both():
    """The names that gpu-check takes are those that the other side has."""
    text = (checks.ROOT / "tests/bench/torch_vgg.py").read_text(encoding="utf-8")
    found = {}
    begin = text.index("PRECISIONS = ")
    exec(text[begin:text.index("# How far losses")], found)
    assert set(found["ROWS"]) == set(bench.ROWS)
    assert set(bench.MAIN_ROWS + bench.VGG16_ROWS) <= set(bench.ROWS)


checks.main(globals())
