#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Everything whose layout or number a caller compiles in is fixed by layout.c: each struct
of the headers, each of its members, each enumerator.

coverage.py SOURCE_ROOT"""
import pathlib
import re
import sys

from symbols import tell


def struct_members(text):
    """{struct: [member, ...]} of all structs with a body."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    found = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\} \w+;", text, flags=re.S):
        found[name] = []
        for member in filter(None, map(str.strip, body.split(";"))):
            function = re.search(r"\(\*(\w+)\)", member)
            plain = re.search(r"(\w+)\s*(\[[^\]]*\]\s*)*$", member)
            found[name].append((function or plain).group(1))
    return found


def enumerators(text):
    """Names of all enumerators, those of the status map included."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    found = re.findall(r"\bX\((VGG_\w+),", text)
    for body in re.findall(r"typedef enum \w+ \{(.*?)\}", text, flags=re.S):
        found += re.findall(r"\b(VGG_\w+)\s*=", body)
    return found


def check(headers, layout):
    """Problems, given the text of all headers and of layout.c."""
    problems = []
    for struct, members in struct_members(headers).items():
        if not re.search(rf"\b(FROZEN|SIZED)\({struct},", layout):
            problems.append(f"{struct}: size not fixed")
        for member in members:
            if not re.search(rf"\bFIELD\({struct}, {member},", layout):
                problems.append(f"{struct}.{member}: place not fixed")
        is_sized = members[0] == "size"
        if is_sized != bool(re.search(rf"\bSIZED\({struct},", layout)):
            problems.append(f"{struct}: SIZED is for structs that begin with their size")
    for name in enumerators(headers):
        if not re.search(rf"\bVALUE\({name},", layout):
            problems.append(f"{name}: value not fixed")
    return problems


def main():
    root = pathlib.Path(sys.argv[1])
    headers = "".join(p.read_text() for p in sorted((root / "include/vgg").glob("*.h")))
    problems = check(headers, (root / "tests/abi/layout.c").read_text())
    tell(problems)


if __name__ == "__main__":
    main()
