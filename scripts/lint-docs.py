#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Names every item of the given Rust files that others may use and that has no
doc comment. rustc's own lint sees only what leaves the crate, and ours has none."""

import re
import sys

ITEM = re.compile(
    r"\s*pub(\(crate\))?\s+"
    r"((const |unsafe |async )*(fn|struct|enum|union|trait|static|type)\s+(?P<name>\w+)"
    r"|const\s+(?P<const>\w+)|(?P<field>\w+)\s*:[^:])"
)
MOD = re.compile(r"\s*pub(\([^)]*\))?\s+(mod|use)\b")


def undocumented(path):
    """Line number and name of each item without a doc comment."""
    documented = False
    depth = 0  # of brackets in an attribute that goes over several lines
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if depth or text.startswith("#["):
                depth += text.count("[") - text.count("]")
            elif text.startswith("///") or text.startswith("/**"):
                documented = True
            elif text.startswith("//"):
                pass
            else:
                item = None if MOD.match(line) else ITEM.match(line)
                if item and not documented:
                    yield number, item["name"] or item["const"] or item["field"]
                documented = False


def main():
    """Prints them; fails if there are any."""
    bad = [f"{path}:{n}: {name}" for path in sys.argv[1:] for n, name in undocumented(path)]
    print("\n".join(bad))
    sys.exit(bool(bad))


main()
