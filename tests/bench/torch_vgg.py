#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch on the trainer's work, to measure libvgg beside.

    torch_vgg.py --row bf16-graph --data /usr/share/datasets/fashion-mnist
    torch_vgg.py --list

One process is one row: a precision and a way to run, `bf16-graph` for instance. The work is
whole training epochs of `vgg train --preset d2l`: VGG-11 with channels / 4, batches of 128 and
a last one of 96, dropout, plain SGD; images resident on the device as bytes, shuffled,
brought from 28x28 to 224x224 (bilinear) and summed up (loss, hits) there. `--net vgg16` is
VGG-16 with ten classes on noise of CIFAR-10's size, brought to 3x224x224, batch 64; 50 steps
are an epoch.

A row goes: first step (cold start), a check against eager, steps on the last, smaller batch
(which is compiled and recorded for itself), an epoch to warm up, timed epochs.
stdout has one JSON object a line: "ready", one "epochs" a turn, "end". With --serve the turns
are asked for on stdin (`epochs N`), so that two programs can be measured turn about.
"""
import argparse
import copy
import json
import os
import statistics
import sys
import time

START = time.time()

import torch  # noqa: E402  (the start of the process is before this)
from torch import nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

import torch_data  # noqa: E402

PRECISIONS = ("bf16", "tf32", "fp32")
# How a step runs, and torch.compile's mode (None: not compiled).
WAYS = {
    "eager": None,
    "compile": "default",
    "autotune": "max-autotune",
    "graph": "max-autotune-no-cudagraphs",  # the whole step in a CUDA graph made by hand
    "graph-compile": "default",             # the same without the compiler's search, sooner
    "graph-eager": None,                    # and without the compiler
    "master": "max-autotune-no-cudagraphs",  # "graph" with bf16 parameters, fp32 masters
}
ROWS = [f"{p}-{way}" for p in PRECISIONS for way in WAYS if p == "bf16" or way != "master"]
# How far losses and updates of the first steps may be from eager's: a few units in the last
# place of the precision's products, grown over the steps.
ALLOWED = {"fp32": (1e-4, 1e-2), "tf32": (2e-3, 5e-2), "bf16": (2e-2, 1.5e-1)}
CHECK_STEPS = 4

BLOCKS = {  # (convolutions, channels); Simonyan and Zisserman, table 1, A and D
    "main": ((1, 64), (1, 128), (2, 256), (2, 512), (2, 512)),
    "vgg16": ((2, 64), (2, 128), (3, 256), (3, 512), (3, 512)),
}


class Drop(nn.Module):
    """Dropout; `explicit` is what the compiler makes of it, with a rate that can be changed
    without compiling anew."""

    def __init__(self, explicit):
        super().__init__()
        self.explicit = explicit
        self.register_buffer("keep", torch.tensor(0.5))
        self.register_buffer("scale", torch.tensor(2.0))

    def forward(self, x):
        if not self.explicit:
            return F.dropout(x, 0.5, self.training)
        mask = torch.rand(x.shape, device=x.device, dtype=torch.float32) < self.keep
        return x * mask * self.scale.to(x.dtype)

    def switch(self, on):
        self.keep.fill_(0.5 if on else 1.0)
        self.scale.fill_(2.0 if on else 1.0)


def network(args):
    layers, c = [], args.channels
    for convs, channels in BLOCKS[args.net]:
        for _ in range(convs):
            layers += [nn.Conv2d(c, channels // args.ratio, 3, padding=1),
                       nn.ReLU(inplace=True)]
            c = channels // args.ratio
        layers.append(nn.MaxPool2d(2, 2))
    explicit, h = WAYS[args.way] is not None, args.hidden
    net = nn.Sequential(
        *layers, nn.Flatten(),
        nn.Linear(c * (args.size // 32) ** 2, h), nn.ReLU(inplace=True), Drop(explicit),
        nn.Linear(h, h), nn.ReLU(inplace=True), Drop(explicit), nn.Linear(h, args.classes))
    for layer in net:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):  # He: gradients that reach every layer
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return net


class Work(nn.Module):
    """Indices of images in, loss and hits out: all of a step but gradients and update."""

    def __init__(self, args, images, labels):
        super().__init__()
        self.net = network(args)
        self.args = args
        self.half = args.way == "master"
        self.register_buffer("images", images, persistent=False)
        self.register_buffer("labels", labels, persistent=False)

    def fetch(self, index):
        return self.images[index], self.labels[index]

    def compute(self, images, labels):
        x = F.interpolate(images.float() * (1 / 255), size=self.args.size, mode="bilinear")
        x = x.to(torch.bfloat16 if self.half else torch.float32)
        if x.shape[1] == 1:  # channels_last in its strides too, or the convolution gives NCHW
            x = x.reshape(-1, *x.shape[2:], 1).permute(0, 3, 1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        cast = self.args.precision == "bf16" and not self.half
        with torch.autocast(self.args.device, dtype=torch.bfloat16, enabled=cast):
            logits = self.net(x)
        logits = logits.float()
        return (F.cross_entropy(logits, labels),
                (logits.detach().argmax(1) == labels).sum())

    def forward(self, index):
        return self.compute(*self.fetch(index))


def fetch_apart(work, compute):
    """max-autotune's CUDA graphs copy what goes in: a batch, not the whole data set."""
    def forward(index):
        torch.compiler.cudagraph_mark_step_begin()
        return compute(*work.fetch(index))
    return forward


class Masters:
    """fp32 masters of bf16 parameters, and plain SGD on them, compiled."""

    def __init__(self, params, lr, mode):
        self.params = params
        self.values = [p.detach().float().clone() for p in params]

        def update(params, masters, grads):
            new = torch._foreach_add(masters, grads, alpha=-lr)
            torch._foreach_copy_(masters, new)
            torch._foreach_copy_(params, new)

        self.update = torch.compile(update, mode=mode, dynamic=False) if mode else update

    def zero_grad(self, set_to_none=True):
        for p in self.params:
            p.grad = None

    def step(self):
        with torch.no_grad():
            self.update([p.detach() for p in self.params], self.values,
                        [p.grad for p in self.params])


class Row:
    """One way to train, ready to run epochs."""

    def __init__(self, args):
        self.args, self.gpu = args, args.device == "cuda"
        self.mode = WAYS[args.way]
        images, labels = torch_data.load(args)
        fmt = torch.channels_last
        work = Work(args, images, labels).to(args.device)
        work.net.to(memory_format=fmt, dtype=torch.bfloat16 if work.half else None)
        self.work = work.train()
        self.params = list(work.net.parameters())
        self.total = torch.zeros((), device=args.device)
        self.hits = torch.zeros((), device=args.device, dtype=torch.int64)
        self.masters = Masters(self.params, args.lr, self.mode) if work.half else None
        self.opt = self.masters or torch.optim.SGD(self.params, lr=args.lr, fused=True)
        self.main = self.loss_function(self.mode)
        tail = "default" if self.mode and args.tail == "compiled" else None
        self.last = self.loss_function(tail)
        self.graphs = {}
        self.pool = torch.cuda.graph_pool_handle() if self.gpu else None

    def loss_function(self, mode):
        if mode is None:
            return self.work
        kw = {"mode": mode, "fullgraph": True, "dynamic": False}
        if mode == "max-autotune":
            return fetch_apart(self.work, torch.compile(self.work.compute, **kw))
        return torch.compile(self.work, **kw)

    def step(self, function, index):
        self.opt.zero_grad(set_to_none=True)
        loss, hits = function(index)
        loss.backward()
        self.opt.step()
        loss = loss.detach()
        self.total.add_(loss * index.numel())
        self.hits.add_(hits)
        return loss

    def capture(self, function, count):
        """The whole step in a CUDA graph, with an index and a loss of fixed address."""
        index = torch.arange(count, device=self.args.device)
        loss = torch.zeros((), device=self.args.device)

        def body():
            loss.copy_(self.step(function, index))
        if not self.gpu:  # to try the script without one
            return index, loss, body
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                body()
        torch.cuda.current_stream().wait_stream(side)
        self.opt.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool):  # replayed one at a time
            body()
        return index, loss, graph.replay

    def one(self, index):
        """A step on these images, by the row's own way; the loss, on the device."""
        count = index.numel()
        function = self.main if count == self.args.batch else self.last
        if not self.args.way.startswith(("graph", "master")):
            return self.step(function, index)
        if count not in self.graphs:
            saved = self.state()
            self.graphs[count] = self.capture(function, count)
            self.restore(saved)
        place, loss, replay = self.graphs[count]
        place.copy_(index)
        replay()
        return loss

    def state(self):
        values = self.params + (self.masters.values if self.masters else [])
        return [v.detach().clone() for v in values]

    def restore(self, saved):
        with torch.no_grad():
            for value, old in zip(self.params + (self.masters.values if self.masters else []),
                                  saved):
                value.copy_(old)

    def masters_now(self):
        return [v.detach().double() for v in
                (self.masters.values if self.masters else self.params)]

    def few_steps(self, step):
        """Losses of the first batches, and how far each parameter went."""
        before = self.masters_now()
        losses = []
        for i in range(CHECK_STEPS):
            first = i * self.args.batch
            index = torch.arange(first, first + self.args.batch, device=self.args.device)
            losses.append(float(step(index % self.work.labels.numel())))
        return losses, [a - b for a, b in zip(self.masters_now(), before)]

    def check(self):
        """Does the compiled step do what eager does? Without dropout, from equal weights."""
        if self.mode is None:
            return {"check": "is eager itself"}
        drops = [m for m in self.work.net if isinstance(m, Drop)]
        for drop in drops:
            drop.switch(on=False)
        saved, opt = self.state(), self.opt
        mine, moved = self.few_steps(self.one)
        self.restore(saved)
        if self.masters:  # eager's update is not compiled either
            self.opt = copy.copy(self.masters)
            plain = Masters([], self.args.lr, None)
            self.opt.update = plain.update
        theirs, wanted = self.few_steps(lambda index: self.step(self.work, index))
        self.opt = opt
        self.restore(saved)
        for drop in drops:
            drop.switch(on=True)
        loss = max(abs(a - b) for a, b in zip(mine, theirs))
        size = sum(float(w.square().sum()) for w in wanted) ** 0.5
        off = sum(float((m - w).square().sum()) for m, w in zip(moved, wanted)) ** 0.5
        update = off / size if size > 0 else float("inf")
        limits = ALLOWED[self.args.precision]
        good = loss <= limits[0] * max(1.0, abs(theirs[0])) and update <= limits[1]
        return {"check": "equals eager" if good else "DIFFERS FROM EAGER",
                "check_loss_difference": loss, "check_update_difference": update,
                "check_losses": mine}

    def seen(self):
        """Images of an epoch."""
        count, args = self.work.labels.numel(), self.args
        return count if args.net == "main" else args.batch * args.steps

    def tail_steps(self):
        """Steps on as many images as an epoch's last batch has, if they are fewer: what these
        need to be compiled and recorded is no epoch's time. Three, since the compiler's own
        graphs are recorded at the second. Seconds."""
        rest = self.seen() % self.args.batch
        began = time.perf_counter()
        for _ in range(3 if rest else 0):
            float(self.one(torch.arange(rest, device=self.args.device)))
        return time.perf_counter() - began

    def epoch(self):
        """One pass over the images; (device seconds, wall seconds, mean loss, accuracy)."""
        args, count, seen = self.args, self.work.labels.numel(), self.seen()
        begin, end = None, None
        if self.gpu:
            torch.cuda.synchronize()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        clock = time.perf_counter()
        if begin:
            begin.record()
        self.total.zero_()
        self.hits.zero_()
        order = torch.randperm(count, device=args.device)
        for first in range(0, seen, args.batch):
            self.one(order[first:first + args.batch])
        if end:
            end.record()
        loss, hits = float(self.total), int(self.hits)
        wall = time.perf_counter() - clock
        return begin.elapsed_time(end) / 1e3 if begin else wall, wall, loss / seen, hits / seen

    def memory(self):
        if not self.gpu:
            return {}
        return {"allocated_mib": round(torch.cuda.max_memory_allocated() / 2**20, 1),
                "reserved_mib": round(torch.cuda.max_memory_reserved() / 2**20, 1)}


def say(**row):
    print(json.dumps(row), flush=True)


def turn(row, epochs):
    done = [row.epoch() for _ in range(epochs)]
    say(event="epochs", device_s=[round(d[0], 6) for d in done],
        wall_s=[round(d[1], 6) for d in done], loss=[round(d[2], 6) for d in done],
        accuracy=[round(d[3], 6) for d in done], **row.memory())
    return [d[1] for d in done]


def run(args):
    row = Row(args)
    built = time.time()
    first = float(row.one(torch.arange(args.batch, device=args.device)
                          % row.work.labels.numel()))
    cold = time.time()
    checked = row.check()
    if row.gpu:  # what the check needed is not the row's memory
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    tail = row.tail_steps()
    began = time.time()
    warm = row.epoch()
    say(event="ready", row=args.row, net=args.net, torch=torch.__version__,
        cudnn=torch.backends.cudnn.version(), device=name_of(args.device),
        batch=args.batch, tail=args.tail, cold_s=round(cold - args.started, 3),
        import_and_data_s=round(built - args.started, 3), first_loss=first,
        tail_s=round(tail, 3),
        warm_up_s=round(time.time() - began, 3), warm_epoch_s=round(warm[1], 4), **checked)
    seconds = []
    if args.serve:
        for line in sys.stdin:
            words = line.split()
            if words[:1] == ["end"]:
                break
            seconds += turn(row, int(words[1]))
    else:
        seconds = turn(row, args.epochs)
    say(event="end", row=args.row, s_per_epoch=statistics.median(seconds) if seconds else None,
        epochs=len(seconds), **row.memory())


def name_of(device):
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


def arguments():
    p = argparse.ArgumentParser(description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--row", choices=ROWS, default="bf16-graph")
    p.add_argument("--list", action="store_true", help="the rows that there are")
    p.add_argument("--net", choices=BLOCKS, default="main")
    p.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    p.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    p.add_argument("--epochs", type=int, default=3, help="timed ones, after one to warm up")
    p.add_argument("--serve", action="store_true", help="take turns from stdin")
    p.add_argument("--tail", choices=("compiled", "eager"), default="compiled",
                   help="how compiled rows run the last, smaller batch")
    p.add_argument("--lr", type=float, default=0.005, help="the preset's")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--batch", type=int, default=0, help="128, or 64 with vgg16")
    p.add_argument("--steps", type=int, default=50, help="of an epoch of noise")
    p.add_argument("--ratio", type=int, default=0, help="4, or 1 with vgg16")
    p.add_argument("--hidden", type=int, default=4096)
    p.add_argument("--size", type=int, default=224)
    p.add_argument("--limit", type=int, default=0, help="of the images, to try the script")
    p.add_argument("--started", type=float, default=START, help="when the process was begun")
    args = p.parse_args()
    main = args.net == "main"
    args.precision, _, args.way = args.row.partition("-")
    args.batch = args.batch or (128 if main else 64)
    args.ratio = args.ratio or (4 if main else 1)
    args.channels, args.classes = (1 if main else 3), 10
    return args


def main():
    args = arguments()
    if args.list:
        print("\n".join(ROWS))
        return
    torch.manual_seed(args.seed)
    tf32 = args.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = True
    try:
        run(args)
    except Exception as error:  # a row that can't run is told, never hidden
        lines = str(error).strip().splitlines() or [""]
        say(event="failed", row=args.row, reason=f"{type(error).__name__}: {lines[0][:300]}")
        if os.environ.get("TORCH_VGG_TRACE"):
            raise
        sys.exit(1)


if __name__ == "__main__":
    main()
