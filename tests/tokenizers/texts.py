# SPDX-License-Identifier: Apache-2.0
"""Texts for comparing tokenizers: chunks of files, words of a vocabulary, words of every script, and
strings made to find mistakes. The same seed gives the same strings."""
import collections
import lzma
import os
import sys
import unicodedata

SPACES = list(" \t\n\r\v\f\u00a0\u1680\u2000\u2003\u2009\u200a\u2028\u2029\u202f\u205f\u3000\u0085\u200b")
DIGITS = list("0123456789\u0660\u0669\u0966\u0e51\uff10\uff19\u00b2\u00bd\u2167\u3007\u4e00\u2460\u1369")
EMOJI = list("\U0001f600\U0001f468\U0001f469\U0001f467\U0001f3fb\U0001f3ff\u200d\ufe0f\ufe0e\u2764\u20e3#*1"
             "\U0001f1e9\U0001f1ea\U0001f1fa\U0001f1f8\U0001f3f4\U000e0067\U000e0062\U000e007f\U0001fae8\u26a7")
MARKS = list("\u0301\u0308\u0323\u0327\u0345\u0f71\u0f72\u3099\u309a\u20d0\u0e31\u0e49\u093c\u094d\u1cd0\u0338")
BASES = list("aeEoUsAI\u00e9\u212b\u212a\u2126\u1100\u1161\u11a8\uac00\u0915\u30ab\ufb01\u01c5\u0130\u0131\u017f\u1e9e")
ENDINGS = ["'s", "'S", "'t", "'re", "'VE", "'m", "'lL", "'d", "\u2019s", "'\u017f", "'\u212a", "''", "'sx", "' s"]
SPELLED = ["<0x0A>", "<0xE2>", "\u2581", "\u2581\u2581", "\u0120", "\u010a", "</w>", "##", "<", "|", ">", "[", "]"]
CODE = ["()", "{}", "[]", ";;", "->", "::", "==", "!=", "/*", "*/", "//", "\\n", "\t\t", "    ", "\n\n", "#!", "$_", "%s",
        "../", "http://", "<br/>", "&amp;", "0x1F", "1e-9", "3.14", "1,000,000", "snake_case", "camelCaseXML"]


def read(path):
    """The text of a file, which may be compressed with xz."""
    opened = lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")
    with opened as file:
        return file.read()


def files_under(folders):
    for folder in folders:
        if os.path.isfile(folder):
            yield folder
        for where, inner, names in os.walk(folder):
            inner.sort()
            for name in sorted(names):
                if name.removesuffix(".xz").endswith((".txt", ".tokens", ".jsonl", ".py", ".cc", ".h", ".md")):
                    yield os.path.join(where, name)


def chunks_of(text, random):
    """Cuts anywhere: a boundary inside a word or a run of spaces is as good as any."""
    at = 0
    while at < len(text):
        size = random.choice((50, 500, 3000, 3000, 6000, 6000, 6000, 40000))
        yield text[at:at + size]
        at += size


def limited(strings, max_bytes):
    done = 0
    for string in strings:
        if done >= max_bytes:
            return
        done += len(string.encode())
        yield string


def corpus(folders, random, max_bytes):
    # The files in turn, so that a small share still holds something of each.
    turns = collections.deque(chunks_of(read(path), random) for path in files_under(folders))

    def in_turn():
        while turns:
            chunks = turns.popleft()
            chunk = next(chunks, None)
            if chunk is not None:
                yield chunk
                turns.append(chunks)
    return limited(in_turn(), max_bytes)


def from_vocabulary(words, random, max_bytes):
    """Tokens side by side, some with a space, a line end or nothing between, some cut short."""
    def strings():
        while words:
            parts = []
            for _ in range(random.randrange(1, 1500)):
                word = random.choice(words)
                if random.random() < 0.1:
                    word = word[:random.randrange(len(word) + 1)]
                parts.append(word + random.choice(("", "", "", " ", " ", "\n", "  ", "'", "-")))
            yield "".join(parts)
    return limited(strings(), max_bytes)


def code_points_by_script():
    """Assigned code points by the first word of their names, which is the script for most."""
    groups = collections.defaultdict(list)
    for c in range(0x21, sys.maxunicode + 1):
        if 0xd800 <= c < 0xe000:
            continue
        name = unicodedata.name(chr(c), "")
        if name:
            groups[name.split()[0].split("-")[0]].append(chr(c))
    return groups


def from_scripts(random, max_bytes):
    """Words of one script each, lines of a few scripts; every assigned code point comes up."""
    groups = list(code_points_by_script().values())
    large = [group for group in groups if len(group) > 20]

    def strings():
        for group in groups:
            for at in range(0, len(group), 200):
                yield "".join(group[at:at + 200])
                yield " ".join(group[at:at + 200])
        while True:
            parts = []
            for group in random.choices(large, k=random.randrange(1, 4)):
                start = random.randrange(len(group))
                near = group[start:start + random.choice((30, 200, 3000))]
                for _ in range(random.randrange(1, 150)):
                    parts.append("".join(random.choices(near, k=random.randrange(1, 9))))
                    parts.append(random.choice((" ", " ", " ", " ", "\n", ", ", ".", "", " (", "\u3000")))
            yield "".join(parts)
    return limited(strings(), max_bytes)


def any_code_point(random):
    while True:
        c = random.randrange(random.choice((0x80, 0x800, 0x3000, 0x10000, 0x20000, 0x110000)))
        if not 0xd800 <= c < 0xe000:
            return chr(c)


def run_of(alphabet, random, most=12):
    return "".join(random.choices(alphabet, k=random.randrange(1, most)))


def pieces_of_trouble(random, specials, words):
    kind = random.randrange(14)
    if kind == 0:
        return run_of(EMOJI, random)
    if kind == 1:
        return random.choice(SPACES) * random.choice((1, 2, 3, 7, 16, 100)) + run_of(SPACES, random)
    if kind == 2:
        return run_of(DIGITS, random, 40) if random.random() < 0.5 else str(random.randrange(10**random.randrange(1, 60)))
    if kind == 3 and specials:
        special = random.choice(specials)
        cut = random.randrange(len(special) + 1)
        return random.choice((special, special, special * 3, special[:cut], special[cut:], f" {special} ", special.upper()))
    if kind == 4:
        return "".join(any_code_point(random) for _ in range(random.randrange(1, 12)))
    if kind == 5:
        return run_of(BASES, random, 6) + run_of(MARKS, random, 6)
    if kind == 6:
        return random.choice(words or BASES) + random.choice(ENDINGS)
    if kind == 7:
        return random.choice(SPELLED) * random.randrange(1, 4)
    if kind == 8:
        return random.choice(CODE)
    if kind == 9:  # bytes that are no text, as a reader of text sees them
        return random.randbytes(random.randrange(1, 12)).decode("utf-8", "replace")
    if kind == 10:
        return chr(random.randrange(32))
    if kind == 11:
        return any_code_point(random) * random.choice((2, 3, 5, 33, 70))
    if kind == 12:
        return "".join(random.choice((str.upper, str.lower, str.title))(random.choice(words or BASES)) for _ in range(3))
    return random.choice(words or BASES)


def adversarial(random, specials, words, count):
    for _ in range(count):
        yield "".join(pieces_of_trouble(random, specials, words) for _ in range(random.choice((1, 2, 3, 5, 9))))


def invalid_lines(random, count):
    """Requests whose text is not UTF-8 or not a string of characters: each must be answered by an error."""
    broken = [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xf0\x9f\x98", b"\\ud800",
              b"\\udfff\\ud83d", b"\xc3"]
    for _ in range(count):
        text = b"ab" * random.randrange(3) + random.choice(broken) + b"c" * random.randrange(3)
        yield b'{"text": "' + text + b'"}'
