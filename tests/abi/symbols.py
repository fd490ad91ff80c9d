#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What the shared library shows to the linker and wants of it: the exported functions are
those of the map and of the headers; nothing is imported that ends, prints, or changes the
process; soname and version are those of the header.

symbols.py SOURCE_ROOT LIBRARY VERSION ASSERTS(0|1)"""
import pathlib
import re
import subprocess
import sys

# What a library must not do to its host, by the functions that do it.
FORBIDDEN = {
    "ends the process": "exit _exit _Exit quick_exit abort raise kill atexit on_exit "
                        "__assert_fail __assert_perror_fail pthread_exit err errx verr",
    "prints": "printf vprintf puts putchar putchar_unlocked putc_unlocked perror psignal "
              "__printf_chk __vprintf_chk stdout stderr warn warnx vwarn syslog "
              "__syslog_chk openlog error",
    "reads": "stdin scanf getchar gets __isoc99_scanf",
    "touches signals": "signal sigaction sigprocmask sigaltstack bsd_signal sigset alarm "
                       "setitimer pthread_atfork __register_atfork",
    "changes locale or environment": "setlocale setenv putenv unsetenv clearenv tzset",
    "reads the environment unsafely": "getenv __secure_getenv",
    "keeps hidden state": "rand srand random srandom drand48 srand48 lrand48 strtok "
                          "strerror localtime gmtime asctime ctime getpwnam getpwuid "
                          "tmpnam readdir64_r",
    "starts programs": "system popen fork vfork execv execve execvp execl posix_spawn "
                       "posix_spawnp wait waitpid",
    "changes the process": "chdir fchdir umask chroot setrlimit nice setpriority "
                           "sched_setaffinity fesetround feenableexcept fesetenv "
                           "mlockall mallopt setuid setgid prctl personality",
    "is unbounded": "gets strcpy strcat sprintf vsprintf mktemp __strcpy_chk "
                    "__strcat_chk __sprintf_chk __vsprintf_chk",
}


def prototypes(text):
    """Names of the functions that headers declare with VGG_API."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^\s*#(?:[^\n]*\\\n)*[^\n]*", " ", text, flags=re.M)
    return set(re.findall(r"\bVGG_API\b[^;(]*?(\w+)\s*\(", text))


def map_names(text):
    """(names that a version script exports, names of its versions)."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    exported = set()
    for part in re.findall(r"global:(.*?)(?:local:|\})", text, flags=re.S):
        exported |= {name.strip() for name in part.split(";") if name.strip()}
    return exported, set(re.findall(r"(\S+)\s*\{", text))


def nm_symbols(text):
    """(type, name without version) of each line of `nm -D`."""
    found = []
    for line in text.splitlines():
        fields = line.split()
        found.append((fields[-2], fields[-1].split("@")[0]))
    return found


def check_exports(nm_text, map_text, header_text):
    declared = prototypes(header_text)
    mapped, versions = map_names(map_text)
    symbols = [(kind, name) for kind, name in nm_symbols(nm_text) if name not in versions]
    exported = {name for _, name in symbols}
    problems = [f"{name}: exported, but not as a function ({kind})"
                for kind, name in symbols if kind not in "Ti"]
    problems += [f"{name}: exported without vgg_ in front" for name in exported
                 if not name.startswith("vgg_") or name.startswith("vgg__")]
    for title, names in (
            ("in the map, but in no header", mapped - declared),
            ("in a header, but not in the map", declared - mapped),
            ("in the map, but not in the library", mapped - exported),
            ("in the library, but not in the map", exported - mapped)):
        problems += [f"{name}: {title}" for name in names]
    return sorted(problems)


def check_imports(nm_text, asserts):
    """`asserts`: built with assertions, which end the process when one fails."""
    allowed = {"__assert_fail"} if asserts else set()
    reasons = {name: reason for reason, names in FORBIDDEN.items()
               for name in names.split()}
    return [f"{name}: imported, {reasons[name]}" for _, name in nm_symbols(nm_text)
            if name in reasons and name not in allowed]


def check_versions(header, dynamic, version):
    """`header` is version.h, `dynamic` readelf -d, `version` the build system's."""
    value = dict(re.findall(r"^#define (VGG_\w+) +(\S+)", header, flags=re.M))
    text = value["VGG_VERSION"].strip('"')
    numbers = ".".join(value[f"VGG_VERSION_{p}"] for p in ("MAJOR", "MINOR", "PATCH"))
    problems = []
    if text != numbers:
        problems.append(f"version.h: VGG_VERSION is {text}, its numbers are {numbers}")
    if text != version:
        problems.append(f"version.h: VGG_VERSION is {text}, the build's is {version}")
    soname = re.search(r"SONAME\).*\[(.*)\]", dynamic)
    expected = f"libvgg.so.{value['VGG_ABI_VERSION']}"
    if not soname or soname.group(1) != expected:
        problems.append(f"soname: expected {expected}, found {soname and soname.group(1)}")
    if "TEXTREL" in dynamic:
        problems.append("the library has text relocations")
    for path in re.findall(r"R(?:UN)?PATH\).*\[(.*)\]", dynamic):
        problems.append(f"the library searches its own path {path}")
    return problems


def tell(problems):
    """Print them and how many, and end."""
    for line in problems:
        print(line)
    print(f"{len(problems)} problems")
    sys.exit(1 if problems else 0)


def run(*command):
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def main():
    root, library, version = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    headers = "".join(p.read_text() for p in sorted((root / "include/vgg").glob("*.h")))
    problems = check_exports(run("nm", "-D", "--defined-only", library),
                             (root / "lib/libvgg.map").read_text(), headers)
    problems += check_imports(run("nm", "-D", "--undefined-only", library),
                              sys.argv[4] == "1")
    problems += check_versions((root / "include/vgg/version.h").read_text(),
                               run("readelf", "-d", library), version)
    tell(problems)


if __name__ == "__main__":
    main()
