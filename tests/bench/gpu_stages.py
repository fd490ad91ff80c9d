#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the stages of scripts/gpu-check run, in what order, with which libraries, and what they
make of programs that hang or lie. Programs are shell scripts here."""
import json
import os
import pathlib
import subprocess
import sys
import time
import types

import checks
from gpu_place import GPU, NONE, alive, script, wait_until, with_place

import bench
import check
import parity
import rows
import sanitize
import trainer


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
def test_order_of_vgg16(place):
    """Strict fp32 comes behind everything else, its rows of PyTorch too."""
    for quick, wanted in (
            (False, ["cold-bf16", "alone-bf16", "cold-tf32", "alone-tf32",
                     *(f"torch-{name}" for name in bench.VGG16_ROWS[:-1]), "cold-fp32",
                     "alone-fp32", "torch-fp32-eager"]),
            (True, ["cold-bf16", "alone-bf16", "torch-bf16-graph-compile", "alone-tf32",
                    "torch-tf32-eager", "alone-fp32"])):
        did, planned = [], []
        stage = types.SimpleNamespace(name="vgg16", plan=planned.extend, told={},
                                      do=lambda name, *_, **__: did.append(name))
        args = types.SimpleNamespace(quick=quick, rows=None, precisions=["bf16", "tf32", "fp32"],
                                     vgg16_steps=50, vgg16_batch=64)
        bench.run(stage, args, place.trainer(), None)
        assert did == wanted, did
        assert set(planned) == {*did, "vgg-bf16", "vgg-tf32", "vgg-fp32"}, planned


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


# Appends what it is asked to a file `asked`; a run of steps leaves a log of them.
TRAINS = """echo "$(cut -d' ' -f19 /proc/$$/stat) $*" >>%s/asked
while [ "$1" != --out ]; do shift; done
mkdir -p "$2/last"; echo weights >"$2/last/weights.safetensors"; i=0
while [ $i -lt 20 ]; do i=$((i + 1)); echo '{"row": "step", "loss": 1.0}'; done >"$2/log.jsonl\""""


def asked_of(place):
    """How nice each run was and its words, in the order of their beginnings."""
    return [line.split(" ", 1) for line in (place.folder / "asked").read_text().splitlines()]


@with_place
def test_description(place):
    """A file to be committed beside those of other GPUs, and a row that has all of it."""
    kept = sorted((checks.ROOT / "tests/plans/devices").glob("*.json"))
    assert len(kept) == 6, kept
    place.out.mkdir()
    (place.folder / "work").mkdir()
    for path in kept:
        text = path.read_text(encoding="utf-8")
        dense = json.dumps(json.loads(text), separators=(",", ":"))
        script(place.folder / "tree/tests/plans/gpu-describe", f"echo '{dense}'")
        row = parity.describe(place.trainer(), place.out, 5)
        assert row == {"file": path.name, "description": json.loads(text)}, row
        assert (place.out / path.name).read_text(encoding="utf-8") == text, path
    assert [parity.short_name(name) for name in ("NVIDIA GeForce RTX 4090", "made up", None)] == [
        "4090", "device", "device"]
    place.vgg("echo '%s'" % GPU.replace("Some GPU", "NVIDIA H200"))
    place.ask("parity", "--quick", "--deadline", "9", "--precisions", "bf16")
    assert place.rows("parity")["describe-h200"]["status"] == "ok", place.rows("parity")


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
        "devices", "describe-device", *(f"test-gpu-{name}" for name in (
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
def test_reference_ends_with_its_stage(place):
    note = place.folder / "pid"
    place.vgg("true", f"echo $$ >{note}; exec sleep 60")
    reference = parity.Reference(place.trainer(), ["quick", "adam"], 60)
    wait_until(lambda: note.exists() and note.read_text().strip())
    reference.stop()
    assert not reference.is_alive() and not alive(int(note.read_text()))


# A sanitizer that misreads products of warp groups.
MISREADS = """case $* in
*--help*) echo "--kernel-name --destroy-on-device-error HAS"; exit 0 ;;
*"--check-warpgroup-mma no"*) ;;
*memcheck*conv-mma) echo '========= Invalid __shared__ ? of size 2048 bytes'
    echo '=========     at void vgg::conv_wgmma<(int)64>(vgg__conv_mma_args)+0x2570'
    echo '========= ERROR SUMMARY: 1 error'; exit 9 ;;
esac
echo 'Checks: 1, Failures: 0, Errors: 0'; echo '========= ERROR SUMMARY: 0 errors'"""


@with_place
def test_sanitizer_on_warp_groups(place):
    """What has worked comes first; where these are all that is found, it is told."""
    for name in ("conv-mma", "update", "stages-bf16"):
        script(place.folder / f"tree/tests/gpu/test-gpu-{name}", "exit 1")
    (place.folder / "work").mkdir()
    place.out.mkdir()
    args = types.SimpleNamespace(quick=False, program_limit=None)
    path, os.environ["PATH"] = os.environ["PATH"], f"{place.folder}/bin:{os.environ['PATH']}"
    try:
        for has, told in (("--check-warpgroup-mma", True), ("", False)):
            script(place.folder / "bin/compute-sanitizer", MISREADS.replace("HAS", has))
            stage = rows.Stage("sanitize", place.out, 60, {})
            sanitize.run(stage, args, place.trainer(), None)
            assert list(stage.told)[:4] == [
                "memcheck-test-gpu-update", "memcheck-test-gpu-stages-bf16",
                "racecheck-test-gpu-update", "memcheck-test-gpu-conv-mma"], stage.told
            assert list(stage.told)[-1] == "racecheck-test-gpu-conv-mma", stage.told
            assert [name for name, status in stage.told.items() if status != "ok"] == [
                "memcheck-test-gpu-conv-mma"], stage.told
            again = "memcheck-test-gpu-conv-mma-without-groups"
            assert (again in stage.told) == told, stage.told
            stage.close()
    finally:
        os.environ["PATH"] = path
    found = place.rows("sanitize")
    assert found["memcheck-test-gpu-conv-mma"]["faults"] == [
        "Invalid __shared__ ? of size 2048 bytes"], found
    assert found[again]["command"].endswith(
        "--destroy-on-device-error kernel --check-warpgroup-mma no test-gpu-conv-mma"), found


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


def test_rows_of_both():
    """The names that gpu-check takes are those that the other side has."""
    text = (checks.ROOT / "tests/bench/torch_vgg.py").read_text(encoding="utf-8")
    found = {}
    begin = text.index("PRECISIONS = ")
    exec(text[begin:text.index("# How far losses")], found)
    assert set(found["ROWS"]) == set(bench.ROWS)
    assert set(bench.MAIN_ROWS + bench.VGG16_ROWS) <= set(bench.ROWS)


checks.main(globals())
