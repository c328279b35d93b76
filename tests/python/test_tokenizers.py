# SPDX-License-Identifier: Apache-2.0
"""A short form of tests/tokenizers/compare.py on the tokenizers of tests/data and texts of this repository."""
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "tokenizers"))
import compare  # noqa: E402


def test_ids_and_texts_equal_those_of_the_libraries(tmp_path):
    report = tmp_path / "report.json"
    code = compare.main([str(ROOT / "tests/data/tokenizers"), "--corpus", str(ROOT / "src"), "--corpus", str(ROOT / "docs"),
                         "--megabytes", "1", "--strings", "4000", "--report", str(report)])
    rows = {row["case"]: row for row in json.loads(report.read_text())["cases"]}
    assert code == 0, [row["shown"] for row in rows.values() if row["different"]]
    assert {"bpe-spm/tokenizer.model", "multilingual/tokenizer.json", "stories-bpe-4096/tokenizer.json",
            "unigram-spm/tokenizer.model"} <= set(rows)
    assert all(row["strings"] > 4000 and row["bytes"] > 1_000_000 for name, row in rows.items() if "folder" not in name)
