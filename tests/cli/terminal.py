#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is seen: a bar on a terminal and only there, as wide as the terminal, without colour
when asked."""
import fcntl
import os
import pty
import re
import struct
import termios

import trainer
from trainer import environment, make_data, start


def on_terminal(args, columns=100, **more):
    """All that the program writes to a terminal of some width."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment(TERM="xterm", LC_ALL="C.UTF-8")
    env.update(more)
    process = start(*args, stdout=slave, stderr=slave, stdin=slave, text=False, env=env)
    os.close(slave)
    seen = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:
            break
        if not piece:
            break
        seen += piece
    os.close(master)
    assert process.wait() == 0, seen
    return seen.decode()


def plain(text):
    return re.sub(r"\033\[[0-9;]*[A-Za-z]", "", text)


def frames(text):
    """What each redraw shows."""
    return [plain(piece) for piece in text.split("\r") if "\033[K" in piece and "/13" in piece]


def command(out, *more):
    return ["train", *trainer.TINY, "--data", "data", "--out", out, "--epochs", "2", *more]


def test_terminal_has_a_bar():
    make_data("data")
    seen = on_terminal(command("out"))
    drawn = frames(seen)
    assert drawn, seen
    assert "━" in drawn[-1] and "loss" in drawn[-1], drawn[-1]
    assert any("img/s" in frame and "eta" in frame for frame in drawn), drawn
    assert "\033[36m" in seen
    evaluating = [frame for frame in drawn if "evaluating" in frame]
    assert len(evaluating) == 2 and all("13/13" in frame for frame in evaluating), drawn
    assert all(len(frame) < 100 for frame in drawn), max(drawn, key=len)
    # The lines of the epochs stay, and the screen ends without a bar.
    lines = [line for line in plain(seen).split("\n") if "test acc" in line]
    assert len(lines) == 3, lines


def test_narrow_and_plain_terminals():
    make_data("data")
    for number, columns in enumerate((20, 33, 47, 60)):
        drawn = frames(on_terminal(command(f"n{number}"), columns))
        assert drawn and all(len(frame) < columns for frame in drawn), drawn
    assert "\033[3" not in on_terminal(command("a"), NO_COLOR="1")
    ascii_only = on_terminal(command("b"), LC_ALL="C")
    assert "━" not in ascii_only and "==" in ascii_only
    assert not frames(on_terminal(command("c"), TERM="dumb"))
    assert not frames(on_terminal(command("d", "--no-progress")))
    assert not plain(on_terminal(command("e", "--quiet"))).startswith("epoch")


def test_lines_fit_the_terminal():
    make_data("data")
    for columns, rate in ((80, False), (120, True)):
        seen = plain(on_terminal(command(f"c{columns}"), columns))
        lines = [line.rsplit("\r", 1)[-1] for line in seen.replace("\r\n", "\n").split("\n")]
        assert max(map(len, lines)) < columns, max(lines, key=len)
        epochs = [line for line in lines if line.startswith("epoch ")]
        assert len(epochs) == 2, lines
        assert all((" img/s" in line) is rate and line.endswith(" s") for line in epochs), epochs


def test_no_terminal_no_bar():
    make_data("data")
    done = trainer.train("data", "out")
    assert "\r" not in done.stderr and "\033" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.startswith("epoch ")]) == 3


if __name__ == "__main__":
    trainer.main(globals())
