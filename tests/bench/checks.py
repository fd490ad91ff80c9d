# SPDX-License-Identifier: Apache-2.0
"""What the tests of this folder share: finding the scripts, and running functions test_..."""
import pathlib
import sys
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts/cpu"), str(ROOT / "scripts/gpu")]


def main(namespace):
    tests = [(name, call) for name, call in namespace.items() if name.startswith("test_")]
    failures = 0
    for name, call in tests:
        try:
            call()
        except Exception:
            traceback.print_exc()
            print("not ok", name)
            failures += 1
    print(f"Checks: {len(tests)}, Failures: {failures}, Errors: 0")
    sys.exit(1 if failures else 0)
