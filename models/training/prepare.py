#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains the demo model's tokenizers and turns the story files into token arrays (CPU).

A document is one block of a story file (blocks are separated by a blank line); its tokens are BOS,
text, EOS. Training stories that share long passages with validation stories are dropped first.
"""

import argparse
import pathlib
import re

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from data import BOS, EOS, SPECIALS

BOOKS = [
    "aesop_for_children",
    "fairytaleqa",
    "gutenberg_children",
    "gutenberg_fairy_tales",
    "chilit",
]


def read_documents(path):
    text = path.read_text(encoding="utf-8")
    return [block.strip("\n") for block in re.split(r"\n{2,}", text) if block.strip()]


def shingles(document, words=12):
    tokens = re.findall(r"[a-z']+", document.lower())
    return {" ".join(tokens[i : i + words]) for i in range(len(tokens) - words + 1)}


def drop_overlap(train, valid, share=0.2):
    """Drops training stories with more than `share` of their 12-word sequences in `valid`."""
    seen = set().union(*(shingles(d) for d in valid))
    kept = []
    for document in train:
        own = shingles(document)
        if not own or len(own & seen) <= share * len(own):
            kept.append(document)
    return kept


def train_tokenizer(vocab_size, corpus):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIALS,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(corpus, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{SPECIALS[BOS]} $A",
        pair=f"{SPECIALS[BOS]} $A $B",
        special_tokens=[(SPECIALS[BOS], BOS)],
    )
    return tokenizer


def encode(tokenizer, documents):
    """Returns (tokens uint16, offsets int64): document i is tokens[offsets[i]:offsets[i + 1]]."""
    rows = [e.ids + [EOS] for e in tokenizer.encode_batch(documents)]
    offsets = np.cumsum([0] + [len(r) for r in rows])
    return np.concatenate([np.asarray(r, np.uint16) for r in rows]), offsets


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--stories", type=pathlib.Path, required=True, help="folder of the unpacked story files"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--vocab", type=int, nargs="+", default=[2048, 4096, 8192])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    valid = read_documents(args.stories / "tinystories_valid.txt")
    every = read_documents(args.stories / "tinystories_train.txt")
    tiny = drop_overlap(every, valid)
    books = [d for name in BOOKS for d in read_documents(args.stories / f"{name}.txt")]
    print(f"kept {len(tiny)} of {len(every)} stories, valid {len(valid)}, books {len(books)}")
    # The tokenizer must fit the stories the model will write; the books keep it general.
    corpus = tiny * 6 + books[::8]
    valid_bytes = sum(len(d.encode()) for d in valid)
    for vocab in args.vocab:
        tokenizer = train_tokenizer(vocab, corpus)
        tokenizer.save(str(args.out / f"tokenizer_{vocab}.json"))
        arrays = {"valid_bytes": np.int64(valid_bytes)}
        for name, documents in (("tiny", tiny), ("valid", valid), ("books", books)):
            arrays[name], arrays[f"{name}_offsets"] = encode(tokenizer, documents)
        np.savez_compressed(args.out / f"tokens_{vocab}.npz", **arrays)
        counts = {n: len(arrays[n]) for n in ("tiny", "valid", "books")}
        print(
            f"vocab {tokenizer.get_vocab_size()}: tokens {counts}, "
            f"{valid_bytes / (counts['valid'] - len(valid)):.3f} valid bytes per token"
        )


if __name__ == "__main__":
    main()
