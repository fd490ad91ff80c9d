#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""scripts/gpu-check where things go wrong: options, machines without a GPU or with several,
programs that hang, die or leave others behind, kills. Programs are shell scripts here."""
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
import types

import checks
from gpu_place import GPU, NONE, alive, script, wait_until, with_place

import check
import machine
import peer
import rows


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
def test_much_in_out(place):
    """More than comes back from a lent machine is told, and no success."""
    words = ("bench", "--rows", "none", "--deadline", "1")
    said = "expected at most 8 of 16 MiB together: take what is not of this run out of it"
    assert said not in place.ask(*words).stderr
    for number in range(7):
        (place.out / f"{number}").write_text("")
    assert said not in place.ask(*words).stderr
    (place.out / "more").mkdir()
    (place.out / "more/file").write_text("")
    done = place.ask(*words)
    assert done.returncode == 1 and "9 files of 0.0 MiB, " + said in done.stderr, done.stderr
    (place.out / "more/file").unlink()
    with open(place.out / "6", "wb") as file:
        file.truncate(16 << 20)
    done = place.ask(*words)
    assert done.returncode == 1 and f"8 files of 16.0 MiB, {said}" in done.stderr, done.stderr


@with_place
def test_time_before_the_stages(place):
    """What gpu-check took until then, to build the sources for one, is of the time for all."""
    place.vgg(f"echo '{GPU}'", "sleep 3")
    done = subprocess.run([checks.ROOT / "scripts/gpu-check", "profile", "--within", "23",
                           "--precisions", "bf16", "--run-limit", "1", "--out", place.out],
                          env={**os.environ, "GPU_PACK": str(checks.make_pack(place.folder))},
                          capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done
    found = place.rows("profile")["machine"]
    assert 10 < found["deadline_s"] <= 20.5, found
    assert found["asked"] == "scripts/gpu-check profile --within 23 --precisions bf16 " \
        "--run-limit 1", found
    done = place.ask("profile", "--within", "9", "--used", "30", out=place.folder / "late")
    assert done.returncode == 1 and done.stdout.count("unfinished") == 6, done


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


def test_asked():
    words = ["parity,bench", "--quick", "--tree", "a b", "--out=x", "--rows", "bf16-graph",
             "--built-here", "--commit", "c", "--used", "7"]
    assert check.asked("bench", words) == "scripts/gpu-check bench --quick --rows bf16-graph"
    assert check.asked("bench", ["--quick", "first"]) == "scripts/gpu-check first --quick"


checks.main(globals())
