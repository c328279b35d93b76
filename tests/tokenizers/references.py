# SPDX-License-Identifier: Apache-2.0
"""The libraries whose ids Trireme's must equal, behind one interface: encode and decode lists, the
special tokens and the words of the vocabulary. A library is imported when a folder needs it."""
import base64
import importlib.util
import json
import lzma
import os
import re
import shutil
import unicodedata

os.environ.setdefault("RAYON_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")

LLAMA3_PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                  r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def is_text(word):
    return bool(word) and "\ufffd" not in word


# What may differ, and why it stays so; each is held by a test of src/text.
NEWER_MARKS = "combining marks newer than the library's Unicode tables are put into normal order"
BROKEN_RUNS = "of a run of byte tokens that is no text as a whole, the characters in it are kept, as SentencePiece does"
BYTE_TOKEN = re.compile("<0x[0-9A-F]{2}>")


class Library:
    def why_encoded_otherwise(self, text, ours):
        return None

    def why_decoded_otherwise(self, ids):
        return None


class HuggingFace(Library):
    """`tokenizers` on a tokenizer.json, or on what `transformers` makes of a folder."""
    libraries = ("tokenizers",)

    def __init__(self, folder):
        self.tokenizer = self.load(folder)
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.specials = [token.content for token in self.tokenizer.get_added_tokens_decoder().values()]
        self.some_ids = range(max(self.tokenizer.get_vocab().values()) + 1)
        self.words = [word for word in self.decode([[i] for i in self.some_ids]) if is_text(word)]

    def load(self, folder):
        from tokenizers import Tokenizer
        return Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))

    def encode(self, texts):
        return [e.ids for e in self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)]

    def decode(self, ids):
        return self.tokenizer.decode_batch(ids, skip_special_tokens=False)

    def why_encoded_otherwise(self, text, ours):
        """The library's NFC is that of an older Unicode: marks that came later it leaves where they are."""
        if "NFC" not in str(self.tokenizer.normalizer):
            return None
        normal = unicodedata.normalize("NFC", text)
        return NEWER_MARKS if normal != text and self.encode([normal])[0] == ours else None

    def why_decoded_otherwise(self, ids):
        """The library replaces every byte of a run of byte tokens when any of them belongs to no character."""
        if "ByteFallback" not in str(self.tokenizer.decoder):
            return None
        run = bytearray()
        for token in [*map(self.tokenizer.id_to_token, ids), ""]:
            if BYTE_TOKEN.fullmatch(token or ""):
                run.append(int(token[3:5], 16))
                continue
            kept = run.decode("utf-8", "replace")
            if "\ufffd" in kept and kept.strip("\ufffd"):
                return BROKEN_RUNS
            run.clear()
        return None


class Folder(HuggingFace):
    """A tokenizer.json with the files beside it. The general class of `transformers` reads it as published; from
    version 5 on the classes of some families build a tokenizer of their own and do not read it."""
    libraries = ("transformers", "tokenizers")

    def load(self, folder):
        from transformers import PreTrainedTokenizerFast
        return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True).backend_tokenizer


class VocabAndMerges(HuggingFace):
    libraries = ("transformers", "tokenizers")

    def load(self, folder):
        import transformers
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
            named = "tokenizer_class" in json.load(file)
        # A folder that names no class tells it by its config.json, which is not here.
        kind = transformers.AutoTokenizer if named else transformers.GPT2Tokenizer
        return kind.from_pretrained(folder, local_files_only=True).backend_tokenizer


class SentencePiece(Library):
    libraries = ("sentencepiece",)

    def __init__(self, folder):
        from sentencepiece import SentencePieceProcessor
        self.processor = SentencePieceProcessor(model_file=os.path.join(folder, "tokenizer.model"))
        pieces = range(self.processor.get_piece_size())
        # The library drops control pieces from a text; Trireme, like transformers, when asked to.
        self.some_ids = [i for i in pieces if not self.processor.is_control(i)]
        # Only text: control pieces written out are text to the library, tokens to those who use it.
        self.specials = [self.processor.id_to_piece(i) for i in pieces
                         if self.processor.is_byte(i) or self.processor.is_unused(i)]
        self.words = [word for i in self.some_ids
                      if is_text(word := self.processor.id_to_piece(i).replace("\u2581", " "))]

    def encode(self, texts):
        return self.processor.encode(texts, num_threads=1)

    def decode(self, ids):
        return self.processor.decode(ids, num_threads=1) if ids else []


class Tiktoken(Library):
    """Ranks of a tokenizer.model in base64; special tokens from tokenizer_config.json."""
    libraries = ("tiktoken",)

    def __init__(self, folder):
        import tiktoken
        with open(os.path.join(folder, "tokenizer.model"), "rb") as file:
            ranks = {base64.b64decode(line.split()[0]): int(line.split()[1]) for line in file if line.strip()}
        with open(os.path.join(folder, "tokenizer_config.json"), encoding="utf-8") as file:
            added = json.load(file)["added_tokens_decoder"]
        special = {token["content"]: int(i) for i, token in added.items()}
        self.encoding = tiktoken.Encoding("compared", pat_str=LLAMA3_PATTERN, mergeable_ranks=ranks,
                                          special_tokens=special)
        self.some_ids = [*ranks.values(), *special.values()]
        self.specials = list(special)
        self.words = [word for rank in ranks if is_text(word := rank.decode("utf-8", "replace"))]

    def encode(self, texts):
        return self.encoding.encode_batch(texts, num_threads=1, allowed_special="all")

    def decode(self, ids):
        return self.encoding.decode_batch(ids, num_threads=1)


class Case:
    """The files of one folder that make one kind of tokenizer, and the library for that kind."""

    def __init__(self, name, reference, files):
        self.name, self.reference, self.files = name, reference, files  # files: name -> path

    def stage(self, to):
        """Puts the files, unpacked, into the folder `to`."""
        os.makedirs(to)
        for name, path in self.files.items():
            if path.endswith(".xz"):
                with lzma.open(path) as packed, open(os.path.join(to, name), "wb") as file:
                    shutil.copyfileobj(packed, file)
            else:
                shutil.copyfile(path, os.path.join(to, name))

    def missing_library(self):
        for library in self.reference.libraries:
            if importlib.util.find_spec(library) is None:
                return library
        return None


def files_of(folder):
    return {name.removesuffix(".xz"): os.path.join(folder, name) for name in sorted(os.listdir(folder))
            if name.removesuffix(".xz").endswith((".json", ".txt", ".model"))}


def is_tiktoken(path):
    with (lzma.open(path) if path.endswith(".xz") else open(path, "rb")) as file:
        return b" 0\n" in file.read(64)


def cases_of(root, borrowed):
    """Every way in which a folder of `root` can be read. `borrowed`: folder -> folder that has its vocabulary."""
    for name in sorted(os.listdir(root)):
        folder = os.path.join(root, name)
        if name == "vectors" or not os.path.isdir(folder):
            continue
        files = files_of(folder)
        if name in borrowed:
            lender = files_of(os.path.join(root, borrowed[name]))
            files = {"vocab.json": lender["vocab.json"], "merges.txt": lender["merges.txt"], **files}
        settings = {k: v for k, v in files.items()
                    if k in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")}
        if "tokenizer.json" in files:
            yield Case(f"{name}/tokenizer.json", HuggingFace, {"tokenizer.json": files["tokenizer.json"]})
            if "tokenizer_config.json" in settings:
                yield Case(f"{name}/folder", Folder, {"tokenizer.json": files["tokenizer.json"], **settings})
        if "vocab.json" in files:
            yield Case(f"{name}/vocab.json", VocabAndMerges,
                       {"vocab.json": files["vocab.json"], "merges.txt": files["merges.txt"], **settings})
        if "tokenizer.model" in files:
            model = {"tokenizer.model": files["tokenizer.model"]}
            if is_tiktoken(files["tokenizer.model"]):
                yield Case(f"{name}/tokenizer.model", Tiktoken, {**model, **settings})
            else:
                yield Case(f"{name}/tokenizer.model", SentencePiece, model)
