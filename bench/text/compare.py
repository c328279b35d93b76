#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
r"""Tokenizer speed beside the pip packages `tokenizers` and `tiktoken`, in one run on one thread.

    bench/text/compare.py PROGRAM OUT.json TEXT... -- FOLDER...

PROGRAM is tokenizer_bench.cc, built against the release libraries:

    c++ -O2 -std=c++20 -Iinclude bench/text/tokenizer_bench.cc build/release/src/libtrireme_text.a \
        build/release/src/libtrireme_base.a -l:libpcre2-8.a -lfmt -o tokenizer_bench

Each FOLDER holds a tokenizer.json (for `tokenizers`) and
may hold a tiktoken tokenizer.model (for `tiktoken`). Times are CPU seconds of the thread, medians
of REPEATS runs, so that other work on the machine counts as little as it can; it still takes
caches away, which is why the competitors run in the same minute. The ids must agree.
"""
import base64
import json
import os
import platform
import statistics
import subprocess
import sys
import time

REPEATS = 5
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
           r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def rate(encode, text, repeats=REPEATS):
    times = []
    for _ in range(repeats):
        start = time.thread_time()
        ids = encode(text)
        times.append(time.thread_time() - start)
    return {"encode_mb_s": round(len(text.encode()) / 1e6 / statistics.median(times), 2), "tokens": len(ids)}


def reference(folder, text):
    from tokenizers import Tokenizer
    tokenizer = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
    return rate(lambda t: tokenizer.encode(t, add_special_tokens=False).ids, text, 2)


def tiktoken_reference(folder, text):
    import tiktoken
    with open(os.path.join(folder, "tokenizer.model"), "rb") as file:
        ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in file if line.strip()}
    encoding = tiktoken.Encoding("bench", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    return rate(encoding.encode_ordinary, text)


def is_tiktoken(folder):
    path = os.path.join(folder, "tokenizer.model")
    if not os.path.exists(path):
        return False
    with open(path, "rb") as file:
        return b" 0\n" in file.read(64)


def cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        return next((line.split(":")[1].strip() for line in file if line.startswith("model name")), platform.machine())


def main():
    program, out = sys.argv[1:3]
    cut = sys.argv.index("--")
    rows = []
    for folder in sys.argv[cut + 1:]:
        for path in sys.argv[3:cut]:
            with open(path, encoding="utf-8") as file:
                text = file.read()
            ours = json.loads(subprocess.run([program, folder, path, str(REPEATS)], check=True,
                                             capture_output=True, text=True).stdout)
            row = {"tokenizer": os.path.basename(folder.rstrip("/")), "text": os.path.basename(path),
                   "trireme": ours, "tokenizers": reference(folder, text)}
            if is_tiktoken(folder):
                row["tiktoken"] = tiktoken_reference(folder, text)
            agree = {row[k]["tokens"] for k in ("trireme", "tokenizers", "tiktoken") if k in row}
            row["same_number_of_tokens"] = len(agree) == 1
            rows.append(row)
            print(json.dumps(row), flush=True)
    import tokenizers
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    result = {"what": "tokenizer speed, one thread, CPU time", "cpu": cpu_model(), "commit": commit,
              "load_average": os.getloadavg(), "tokenizers": tokenizers.__version__, "repeats": REPEATS,
              "command": " ".join(["bench/text/compare.py", *map(os.path.basename, sys.argv[1:])]), "rows": rows}
    with open(out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
