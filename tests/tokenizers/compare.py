#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Compares the ids of `trireme tokenize --jsonl` with those of the libraries that the formats come from, on
megabytes of text and many thousand strings of trouble, and the texts of ids with theirs.

    tests/tokenizers/compare.py --program build/release/bin/trireme --report report.json \
        --borrow gpt-j=gpt2 --corpus CORPUS_FOLDER TOKENIZERS_FOLDER

TOKENIZERS_FOLDER holds a folder per tokenizer (files may be packed with xz). Needs requirements.txt. Exits
with 1 when anything differs that references.py does not explain.
"""
import argparse
import collections
import importlib.metadata
import json
import os
import pathlib
import platform
import random
import subprocess
import sys
import tempfile
import time
import unicodedata

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import references  # noqa: E402
import texts  # noqa: E402

BATCH_BYTES = 8_000_000
SHOWN = 5
DECODED_SHARE = 4  # one in so many of the encoded strings is decoded too


class Trireme:
    """The program's answers to lines of requests."""

    def __init__(self, program, folder, scratch):
        self.command = [program, "tokenize", "--tokenizer_dir", folder, "--jsonl", "--threads", "1",
                        "--no_add_special_tokens"]
        self.scratch = scratch

    def answers(self, lines):
        request, answer = (os.path.join(self.scratch, name) for name in ("request", "answer"))
        with open(request, "wb") as file:
            for line in lines:
                file.write(line + b"\n")
        subprocess.run([*self.command, "--input_file", request, "--output_file", answer], check=True)
        with open(answer, encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def encode(self, strings):
        return self.answers([json.dumps({"text": string}).encode() for string in strings])

    def decode(self, lists):
        return self.answers([json.dumps({"ids": ids}).encode() for ids in lists])


def batches(strings):
    batch, size = [], 0
    for string in strings:
        batch.append(string)
        size += len(string)
        if size >= BATCH_BYTES or len(batch) >= 50_000:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


class Differences:
    def __init__(self):
        self.count = 0
        self.explained = collections.Counter()
        self.shown = []

    def compare(self, what, given, ours, theirs, why=lambda: None):
        if ours == theirs:
            return
        if reason := why():
            self.explained[reason] += 1
            return
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append({"what": what, **shortest_difference(given, ours, theirs)})


def shortest_difference(given, ours, theirs):
    """Where two answers part, with a little of what is around."""
    at = 0
    if isinstance(ours, type(theirs)):
        while at < min(len(ours), len(theirs)) and ours[at] == theirs[at]:
            at += 1
    around = slice(max(0, at - 3), at + 12)
    return {"given": given if len(given) < 80 else f"{given[:40]}... ({len(given)})", "at": at,
            "ours": ours[around] if hasattr(ours, "__getitem__") and not isinstance(ours, dict) else ours,
            "theirs": theirs[around]}


def compare_texts(lists, answers, texts_of_lists, reference, differences):
    for ids, answer, text in zip(lists, answers, texts_of_lists, strict=True):
        differences.compare("decode", ids, answer.get("text", answer), text, lambda: reference.why_decoded_otherwise(ids))


def compare_encoding(ours, reference, strings, differences, counts):
    """Ids of the strings, and the texts of those ids."""
    for batch in batches(strings):
        theirs = reference.encode(batch)
        for string, answer, ids in zip(batch, ours.encode(batch), theirs, strict=True):
            own = answer.get("ids", answer)
            differences.compare("encode", string, own, ids, lambda: reference.why_encoded_otherwise(string, own))
            counts["strings"] += 1
            counts["bytes"] += len(string.encode())
            counts["tokens"] += len(ids)
        some = theirs[::DECODED_SHARE]
        counts["decoded"] += len(some)
        compare_texts(some, ours.decode(some), reference.decode(some), reference, differences)


def compare_any_ids(ours, reference, rng, count, differences, counts):
    """Texts of ids in no sensible order: halves of code points, special tokens anywhere."""
    every, low = reference.some_ids, reference.some_ids[:300]
    for size in [5000] * (count // 5000) + [count % 5000]:
        # Low ids hold the bytes and the special tokens of most vocabularies.
        lists = [[rng.choice(rng.choice((low, every, every))) for _ in range(rng.randrange(1, 40))] for _ in range(size)]
        compare_texts(lists, ours.decode(lists), reference.decode(lists), reference, differences)
        counts["random_id_lists"] += size


def check_invalid(ours, rng, count, differences):
    for answer in ours.answers(list(texts.invalid_lines(rng, count))):
        differences.compare("invalid UTF-8", "", sorted(answer), ["error"])


def run_case(case, options, scratch):
    folder = os.path.join(scratch, "folder")
    case.stage(folder)
    reference = case.reference(folder)
    ours = Trireme(options.program, folder, scratch)
    rng = random.Random(case.name)
    # What a folder adds to its tokenizer.json is a few tokens.
    part = 20 if case.reference is references.Folder else 1
    share, count = options.megabytes * 1_000_000 // part, options.strings // part
    differences = Differences()
    counts = collections.Counter()
    strings = [texts.corpus(options.corpus, rng, share * 6 // 10),
               texts.from_vocabulary(reference.words, rng, share // 5), texts.from_scripts(rng, share // 5),
               texts.adversarial(rng, reference.specials, reference.words, count)]
    for source in strings:
        compare_encoding(ours, reference, source, differences, counts)
    compare_any_ids(ours, reference, rng, count // 10, differences, counts)
    check_invalid(ours, rng, count // 10, differences)
    return {"case": case.name, "against": case.reference.libraries[0], **counts, "invalid_lines": count // 10,
            "different": differences.count, "explained": dict(differences.explained),
            "shown": differences.shown}


def versions(libraries):
    found = {name: importlib.metadata.version(name) for name in sorted(libraries)}
    return {**found, "python": platform.python_version(), "unicode_of_generated_text": unicodedata.unidata_version}


def write_report(path, libraries, rows):
    if path:
        report = {"what": "ids and texts of trireme tokenize beside those of the formats' own libraries",
                  "versions": versions(libraries), "cases": rows}
        pathlib.Path(path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def parse_options(arguments):
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("root", help="folder of tokenizer folders")
    parser.add_argument("--program", default=str(here.parents[1] / "build/release/bin/trireme"))
    parser.add_argument("--corpus", action="append", default=[], help="folder or file of texts")
    parser.add_argument("--borrow", action="append", default=[], metavar="NAME=OTHER",
                        help="NAME has no vocabulary of its own but that of OTHER")
    parser.add_argument("--only", help="only cases whose name contains this")
    parser.add_argument("--megabytes", type=int, default=50, help="of text for each case")
    parser.add_argument("--strings", type=int, default=200_000, help="strings of trouble for each case")
    parser.add_argument("--report", help="file for the results as JSON")
    return parser.parse_args(arguments)


def main(arguments=None):
    options = parse_options(arguments)
    borrowed = dict(pair.split("=") for pair in options.borrow)
    rows, libraries, different = [], set(), 0
    for case in references.cases_of(options.root, borrowed):
        if options.only and options.only not in case.name:
            continue
        if missing := case.missing_library():
            print(f"{case.name}: skipped, needs the package {missing}", flush=True)
            continue
        libraries.update(case.reference.libraries)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            row = run_case(case, options, scratch)
        different += row["different"]
        rows.append(row)
        print(f"{case.name}: {row['strings']} strings, {row['bytes']} bytes, {row['tokens']} tokens, "
              f"{row['different']} different, {sum(row['explained'].values())} explained "
              f"({time.monotonic() - started:.0f} s)", flush=True)
        for shown in row["shown"]:
            print("   ", json.dumps(shown), flush=True)
        write_report(options.report, libraries, rows)  # after each, for those who stop it early
    return 1 if different or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
