#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes src/text/jinja_unicode_tables.cc from this interpreter's own str methods.

Run as: scripts/make_case_tables.py > src/text/jinja_unicode_tables.cc
Chat templates are written against Python's str, so Python itself is the source of truth.
"""
import sys
import unicodedata

CODE_POINTS = [c for c in range(0x110000) if not 0xD800 <= c <= 0xDFFF]


def ranges(predicate):
    """Closed ranges of the code points of which `predicate` holds."""
    found = []
    for c in CODE_POINTS:
        if not predicate(chr(c)):
            continue
        if found and found[-1][1] == c - 1:
            found[-1][1] = c
        else:
            found.append([c, c])
    return found


def case_map(convert, base):
    """Runs {first, last, stride, delta} of one-to-one mappings, and the one-to-many rest.

    Only where `convert` differs from `base`, so that title case stores its few exceptions.
    """
    single, special = {}, {}
    for c in CODE_POINTS:
        text = convert(chr(c))
        if text == base(chr(c)):
            continue
        if len(text) == 1:
            single[c] = ord(text) - c
        else:
            special[c] = text
    runs = []
    for c, delta in single.items():
        last = runs[-1] if runs else None
        if last and last[3] == delta:
            step = c - last[1]
            if step in (1, 2) and last[2] in (0, step):
                last[1], last[2] = c, step
                continue
        runs.append([c, c, 0, delta])
    return [[a, b, s or 1, d] for a, b, s, d in runs], special


def emit(lines):
    sys.stdout.write("\n".join(lines) + "\n")


def packed(items, width=99):
    lines, line = [], "   "
    for item in items:
        if len(line) + len(item) + 2 > width:
            lines.append(line)
            line = "   "
        line += " " + item + ","
    return lines + [line]


def emit_ranges(name, predicate):
    items = ["{%s,%s}" % (hex(a), hex(b)) for a, b in ranges(predicate)]
    emit(["", "const CodeRange %s[] = {" % name] + packed(items) + ["};"])
    emit(["const size_t %sCount = std::size(%s);" % (name, name)])


def emit_map(name, convert, base=lambda c: c):
    runs, special = case_map(convert, base)
    items = ["{%s, %s, %d, %d}" % (hex(a), hex(b), s, d) for a, b, s, d in runs]
    emit(["", "const CaseRun %sRuns[] = {" % name] + packed(items) + ["};"])
    emit(["const size_t %sRunsCount = std::size(%sRuns);" % (name, name)])
    items = []
    for c, text in special.items():
        codes = [hex(ord(x)) for x in text] + ["0"] * (3 - len(text))
        items.append("{%s, {%s}}" % (hex(c), ", ".join(codes)))
    emit(["", "const CaseSpecial %sSpecials[] = {" % name] + packed(items) + ["};"])
    emit(["const size_t %sSpecialsCount = std::size(%sSpecials);" % (name, name)])


def main():
    emit([
        "// SPDX-License-Identifier: Apache-2.0",
        "// Character properties and case mappings of Unicode %s. Constant data." % unicodedata.unidata_version,
        "// Written by scripts/make_case_tables.py; do not edit.",
        "// clang-format off",
        '#include "text/jinja_unicode_tables.h"',
        "",
        "#include <iterator>",
        "",
        "namespace trireme::jinja {",
    ])
    emit_ranges("kSpaceRanges", str.isspace)
    emit_ranges("kUpperRanges", str.isupper)
    emit_ranges("kLowerRanges", str.islower)
    emit_ranges("kTitleRanges", lambda c: unicodedata.category(c) == "Lt")
    emit_ranges("kAlphaRanges", str.isalpha)
    emit_ranges("kDecimalRanges", str.isdecimal)
    emit_ranges("kDigitRanges", str.isdigit)
    emit_ranges("kNumericRanges", str.isnumeric)
    emit_ranges("kPrintableRanges", str.isprintable)
    emit_map("kToUpper", str.upper)
    emit_map("kToLower", str.lower)
    emit_map("kToTitle", str.title, str.upper)
    emit_map("kToFold", str.casefold, str.lower)
    emit(["", "}  // namespace trireme::jinja"])


main()
