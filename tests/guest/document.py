#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Takes the commands out of a document, so that a test runs what a reader would type.

document.py FILE          names its groups of commands, and "-" for each block that is in none
document.py FILE GROUP    prints the commands of a group

A mark gives a name to the blocks of commands that follow it, up to the next mark or heading:
".. run: NAME" in reStructuredText, "<!-- run: NAME -->" in Markdown, and '.\\" run: NAME' in a
manual page. Where lines have a prompt ("# "), the others are output, and left out."""

import re
import sys

MARK = re.compile(r'(?:\.\. |<!-- |\.\\" )run: (\S+)(?: -->)?$')
UNDERLINE = re.compile(r"([=\-~])\1{2,}$")


def rst(lines):
    """Headings and literal blocks, as ("heading", None) and ("block", lines); and marks."""
    number = 0
    while number < len(lines):
        line = lines[number]
        mark = MARK.match(line)
        number += 1
        if mark:
            yield "mark", mark[1]
        elif UNDERLINE.match(line):
            yield "heading", None
        elif line.rstrip().endswith("::") and not line.startswith(".. "):
            own = len(line) - len(line.lstrip())
            block = []
            while number < len(lines):
                inner = lines[number]
                if inner.strip() and len(inner) - len(inner.lstrip()) <= own:
                    break
                block.append(inner)
                number += 1
            yield "block", block


def markdown(lines):
    """The same, of indented blocks."""
    block = []
    before = ""
    for line in lines + ["end"]:
        inside = line.startswith("    ") and (block or not before.strip())
        if inside or (block and not line.strip()):
            block.append(line)
        else:
            if block:
                yield "block", block
            block = []
            mark = MARK.match(line)
            if mark:
                yield "mark", mark[1]
            elif line.startswith("#"):
                yield "heading", None
        before = line


def manual(lines):
    """The same, of what is between .EX and .EE."""
    block = None
    for line in lines:
        mark = MARK.match(line)
        if mark:
            yield "mark", mark[1]
        elif line.startswith((".SH", ".SS")):
            yield "heading", None
        elif line == ".EX":
            block = []
        elif line == ".EE":
            yield "block", block
            block = None
        elif block is not None:
            block.append(line.replace("\\-", "-").replace("\\(aq", "'").replace("\\e", "\\"))


def commands(block):
    """Of a block, without its indentation, prompts and output."""
    block = [line.expandtabs() for line in block]
    indent = min((len(line) - len(line.lstrip()) for line in block if line.strip()), default=0)
    block = [line[indent:].rstrip() for line in block]
    if not any(line.startswith("# ") for line in block):
        return block
    found = []
    goes_on = False
    for line in block:
        if goes_on or line.startswith("# "):
            found.append(line if goes_on else line[2:])
            goes_on = line.endswith("\\")
    return found


def groups(path):
    """Name and commands of each block; the name is None where there is no mark."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    form = markdown if path.endswith(".md") else rst if path.endswith(".rst") else manual
    name = None
    for kind, what in form(lines):
        if kind == "block":
            yield name, commands(what)
        else:
            name = what


def main():
    """See above."""
    found = list(groups(sys.argv[1]))
    if len(sys.argv) == 2:
        names = [name or "-" for name, _ in found]
        print("\n".join(name for at, name in enumerate(names) if name == "-" or name not in names[:at]))
        return
    wanted = [block for name, block in found if name == sys.argv[2]]
    if not wanted:
        sys.exit(f"{sys.argv[1]}: no group {sys.argv[2]}")
    print("\n".join(line for block in wanted for line in block))


if __name__ == "__main__":
    main()
