#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The peer: PyTorch on a CPU, training steps or inference of the networks of turns.py.

    torch_cpu.py --row eager-channels-last --mode train --batch 128

One process is one row: a layout, compiled or not, fp32 or bf16 (autocast). A training step is
forward, loss, backward and plain SGD, as that of `vgg bench --mode train`, on random images.
Compiled rows need a C++ compiler.
"""
import torch
import torch.nn.functional as F

import torch_vgg
import turns

ROWS = {  # channels_last, compiled, bf16
    "eager-nchw": (False, False, False),
    "eager-channels-last": (True, False, False),
    # Images of one channel whose strides are those of channels_last too: contiguous() leaves
    # the others, and PyTorch may choose another way by them.
    "eager-strides-last": (True, False, False),
    "compiled-channels-last": (True, True, False),
    "bf16-channels-last": (True, False, True),
}


def make_training(args, net, images, cast):
    net.train()
    labels = torch.randint(0, args.classes, (args.batch,))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-6)  # as vgg bench has it

    def loss_of(images, labels):
        with cast():
            return F.cross_entropy(net(images).float(), labels)
    function = torch.compile(loss_of) if ROWS[args.row][1] else loss_of

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss = function(images, labels)
        loss.backward()
        optimizer.step()
        return float(loss.detach())
    return step


def make_inference(args, net, images, cast):
    net.eval()
    function = torch.compile(net) if ROWS[args.row][1] else net

    def step():
        with torch.inference_mode(), cast():
            return function(images)
    return step


def make(args):
    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    layout = torch.channels_last if ROWS[args.row][0] else torch.contiguous_format
    net = torch_vgg.network(args).to(memory_format=layout)
    images = torch.rand(args.batch, args.channels, args.size, args.size)
    images = images.contiguous(memory_format=layout)
    if args.row == "eager-strides-last":
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        images = images.as_strided(images.shape, (
            args.channels * args.size**2, 1, args.channels * args.size, args.channels))

    def cast():
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=ROWS[args.row][2])
    kind = make_training if args.mode == "train" else make_inference
    return torch.__version__, kind(args, net, images, cast)


def main():
    p = turns.arguments(__doc__, ROWS)
    p.add_argument("--mode", choices=("train", "infer"), default="train")
    turns.serve(turns.complete(p.parse_args()), make)


if __name__ == "__main__":
    main()
