#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Names what documents refer to and is not there: pages, headings, test scripts; and commands of
the manual pages' recipes that no test runs, since they are in no group of the other pages."""

import glob
import os
import re
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(TOP, "tests/guest"))
import document  # noqa: E402

PAGE = re.compile(r"(?<![\w/-])([a-z][a-z-]*\.rst)\b")
OWN = re.compile(r"`([A-Z][^`]*)`_")
OTHER = re.compile(r'"([A-Z][^"]{1,60})" (?:in |\()([a-z][a-z-]*\.rst)')
BOTH = re.compile(r'"([A-Z][^"]{1,60})"\s+and\s+"[A-Z][^"]{1,60}" (?:in |\()([a-z][a-z-]*\.rst)')
SCRIPT = re.compile(r"(?:``|/)([0-9]{2}-[a-z-]+\.sh)\b")
# What a test of packages does, or nobody can: the reader's own machine is asked.
NOT_RUN = ("dpkg-reconfigure ", "mokutil ")


def titles(path):
    """Headings of a page, and whether each line below one is long enough."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    for before, line in zip(lines, lines[1:]):
        if before.strip() and re.match(r"([=\-~])\1{2,}$", line) and not re.match(r"[=\-~ ]+$", before):
            yield before.strip(), len(line) >= len(before)


def references(path, known):
    """What is wrong with the references of one document."""
    with open(path, encoding="utf-8") as file:
        text = re.sub(r"\s*\n\s*", " ", file.read())
    own = known.get(os.path.basename(path), set())
    for page in PAGE.findall(text):
        if page not in known:
            yield f"no page {page}"
    for title in OWN.findall(text):
        if title not in own:
            yield f"no heading {title!r} here"
    for title, page in OTHER.findall(text) + BOTH.findall(text):
        if title not in known.get(page, set()):
            yield f"no heading {title!r} in {page}"
    for script in SCRIPT.findall(text):
        if not os.path.exists(os.path.join(TOP, "tests/guest", script)):
            yield f"no script {script}"


def recipes_not_run(pages, manuals):
    """Commands of the manuals' blocks without a mark that are in no group of the pages."""
    run = {line.strip() for path in pages for name, block in document.groups(path) if name for line in block}
    for path in manuals:
        for name, block in document.groups(path):
            for line in block:
                if not name and line.strip() not in run and not line.startswith(NOT_RUN):
                    yield path, f"no test runs {line!r}"


def log_lines(paths):
    """The fixed parts of lines that the module logs by itself, with where they are."""
    for path in paths:
        with open(path, encoding="utf-8") as file:
            text = re.sub(r"\\\n\s*", "", file.read())
        for line in re.findall(r'say!\(\s*pr_\w+,\s*"([^"]*)"', text):
            for part in re.split(r"\{[^}]*\}", line):
                if len(part.strip(" :();,")) > 3:
                    yield path, part.strip(" :();,")


def columns_of_tables(path):
    """The text in each column of a page's tables, so that what a cell says over several lines is in one piece.
    What is behind a table goes on in its columns, which does no harm here."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    columns, cells = [], [""] * 9  # No table has more.
    for line in lines:
        if re.match(r"=+( +=+)+$", line):
            columns = [found.span() for found in re.finditer("=+", line)]
        for place, (start, end) in enumerate(columns):
            cells[place] += " " + line[start:end].strip()
    return [re.sub(" +", " ", cell) for cell in cells]


def main():
    """Prints it; fails if there is any."""
    os.chdir(TOP)
    pages = sorted(glob.glob("Documentation/*.rst"))
    known = {os.path.basename(path): {title for title, _ in titles(path)} for path in pages}
    bad = [f"{path}: {what}" for path in ["README.md", "CONTRIBUTING.md", "tools/boot/README.md"] + pages
           for what in references(path, known)]
    bad += [f"{path}: the line below {title!r} is too short" for path in pages
            for title, fits in titles(path) if not fits]
    manuals = ["Documentation/multisnapshot.7", "debian/multisnap-lvm.8"] + sorted(glob.glob("tools/multisnap/man/*.man"))
    bad += [f"{path}: {what}" for path, what in recipes_not_run(["README.md"] + pages, manuals)]
    told = columns_of_tables("Documentation/messages.rst")
    bad += [f"{path}: {part!r} is in no table of messages.rst" for path, part in log_lines(sorted(glob.glob("src/engine/*.rs")))
            if not any(part in cell for cell in told)]
    print("\n".join(bad))
    sys.exit(bool(bad))


main()
