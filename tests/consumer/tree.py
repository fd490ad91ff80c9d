# SPDX-License-Identifier: Apache-2.0
"""An installed libvgg in a folder of its own, and running programs against it."""
import os
import pathlib
import subprocess


def run(command, cwd=None, env=None):
    """Output of a command; a failing one raises with all that it said."""
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=env, text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: status {done.returncode}\n"
                           f"{done.stdout}")
    return done.stdout


def listing(folder):
    """Names of all files and links below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*")
                  if p.is_symlink() or not p.is_dir())


class Tree:
    """A prefix with libvgg in it."""

    def __init__(self, prefix, libdir):
        self.prefix = pathlib.Path(prefix)
        self.libdir = self.prefix / libdir

    def env(self, shared=True):
        """Environment for building against the tree and running what was built; without
        the path of shared libraries unless asked for."""
        env = dict(os.environ, PKG_CONFIG_PATH=str(self.libdir / "pkgconfig"))
        env.pop("DESTDIR", None)
        env.pop("LD_LIBRARY_PATH", None)
        if shared:
            env["LD_LIBRARY_PATH"] = str(self.libdir)
        return env

    def flags(self, *options):
        return run(["pkg-config", *options, "vgg"], env=self.env()).split()


def install(build, destdir, prefix, libdir):
    """`meson install` of a finished build into a folder."""
    env = dict(os.environ, DESTDIR=str(destdir))
    run(["meson", "install", "-C", build, "--no-rebuild", "--quiet"], env=env)
    return Tree(str(destdir) + prefix, libdir)
