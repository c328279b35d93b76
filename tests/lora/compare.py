#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`trireme lora` beside PEFT and torch: models merged by `lora merge`, opened by transformers, give the logits of PEFT's
merge_and_unload; adapter files made by `lora convert` load with torch.load(weights_only=True), tensor for tensor.

    tests/lora/compare.py [--program build/release/bin/trireme]

Needs requirements.txt. Prints a line a check; exits with 1 when one fails.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/data/golden"
TOLERANCE = 2e-5  # of the logits' deviation: both merge in float32, in another order


class Checks:
    def __init__(self, program, scratch):
        self.program, self.scratch, self.failed = program, pathlib.Path(scratch), 0

    def say(self, name, good, detail=""):
        print(f"{'ok    ' if good else 'FAILED'}  {name} {detail}", flush=True)
        self.failed += not good

    def trireme(self, *arguments):
        done = subprocess.run([self.program, "lora", *map(str, arguments)], capture_output=True, text=True, check=False)
        if done.returncode:
            self.say("lora " + " ".join(map(str, arguments)), False, done.stdout + done.stderr)

    def merged(self, name, base, adapters, *more):
        out = self.scratch / name
        named = [word for adapter in adapters for word in ("--lora_dir", adapter)]
        self.trireme("merge", "--base_dir", base, *named, "--dtype", "float32", "--output_dir", out, *more)
        return out

    def same_logits(self, name, ours, theirs, ids):
        with torch.no_grad():
            a, b = ours(ids).logits, theirs(ids).logits
        error = ((a - b).abs().max() / b.std()).item() if a.shape == b.shape else float("nan")
        self.say(name, error <= TOLERANCE, f"largest difference {error:.1e} of the deviation")


def opened(folder):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def merged_by_peft(base, adapters):
    model = opened(base)
    for adapter in adapters:
        model = PeftModel.from_pretrained(model, adapter).merge_and_unload()
    return model.eval()


def some_ids(size):
    return torch.randint(0, size, (2, 40), generator=torch.Generator().manual_seed(5))


def check_golden(checks):
    for base, adapters in (("llama-gqa", ["lora0"]), ("llama-gqa", ["lora1"]), ("llama-gqa", ["lora0", "lora1", "lora0"]),
                           ("qwen2", ["lora0"]), ("qwen2", ["lora1"]), ("qwen2", ["lora1", "lora0"])):
        paths = [GOLDEN / f"{base}-{adapter}" for adapter in adapters]
        name = f"{base} with {', '.join(adapters)}"
        out = checks.merged(name.replace(" ", "_"), GOLDEN / base, paths)
        theirs = merged_by_peft(GOLDEN / base, paths)
        checks.same_logits(f"logits of {name}", opened(out), theirs, some_ids(theirs.config.vocab_size))


def check_made(checks, name, config, more_tokens=0):
    """An adapter made by PEFT on the spot, every weight of it random."""
    torch.manual_seed(11)
    base = GOLDEN / "llama-gqa"
    model = opened(base)
    if more_tokens:
        model.resize_token_embeddings(model.config.vocab_size + more_tokens)
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **config))
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.05)
    adapter = checks.scratch / f"{name}_adapter"
    adapted.save_pretrained(adapter)
    theirs = adapted.merge_and_unload().eval()
    more = []
    if more_tokens:  # a tokenizer with the tokens that the adapter brings
        folder = checks.scratch / f"{name}_tokenizer"
        folder.mkdir()
        tokenizer = Tokenizer.from_file(str(ROOT / "tests/data/tokenizers/stories-bpe-4096/tokenizer.json"))
        tokenizer.add_tokens([f"<new{i}>" for i in range(more_tokens)])
        tokenizer.save(str(folder / "tokenizer.json"))
        more = ["--tokenizer_dir", folder]
    out = checks.merged(name, base, [adapter], *more)
    checks.same_logits(f"logits of {name}", opened(out), theirs, some_ids(theirs.config.vocab_size))
    if more_tokens:
        size = json.loads((out / "config.json").read_text())["vocab_size"]
        checks.say(f"vocab_size of {name}", size == theirs.config.vocab_size, str(size))
        checks.say(f"tokenizer of {name}", "<new0>" in (out / "tokenizer.json").read_text())


def same_tensors(a, b):
    return a.keys() == b.keys() and all(a[k].dtype == b[k].dtype and torch.equal(a[k], b[k]) for k in a)


def check_convert(checks):
    sources = [GOLDEN / "llama-gqa-lora0/adapter_model.safetensors", GOLDEN / "llama-gqa/model.safetensors"]
    for source in sources:
        to_bin, back = checks.scratch / "there.bin", checks.scratch / "back.safetensors"
        checks.trireme("convert", source, to_bin)
        checks.trireme("convert", to_bin, back)
        original = load_file(source)
        checks.say(f"torch.load of {source.parent.name}", same_tensors(torch.load(to_bin, weights_only=True), original))
        checks.say(f"{source.parent.name} and back", same_tensors(load_file(back), original))
    source = GOLDEN / "llama-gqa-lora1/adapter_model.bin"
    to = checks.scratch / "one.safetensors"
    checks.trireme("convert", source, to)
    checks.say("a .bin of torch", same_tensors(load_file(to), torch.load(source, weights_only=True)))
    # PEFT reads the converted adapter as its own.
    adapter = checks.scratch / "adapter"
    shutil.copytree(source.parent, adapter, ignore=shutil.ignore_patterns("*.bin", "golden*"))
    shutil.copyfile(to, adapter / "adapter_model.safetensors")
    ids = some_ids(256)
    checks.same_logits("PEFT on a converted adapter", merged_by_peft(GOLDEN / "llama-gqa", [adapter]),
                       merged_by_peft(GOLDEN / "llama-gqa", [source.parent]), ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--program", default=str(ROOT / "build/release/bin/trireme"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as scratch:
        checks = Checks(options.program, scratch)
        check_golden(checks)
        every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        check_made(checks, "all_layers", {"r": 5, "lora_alpha": 7, "target_modules": every})
        check_made(checks, "rank_stabilized", {"r": 4, "lora_alpha": 3, "target_modules": every, "use_rslora": True})
        check_made(checks, "patterns", {"r": 4, "lora_alpha": 8, "target_modules": every,
                                        "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"down_proj": 16}})
        check_made(checks, "embeddings", {"r": 4, "lora_alpha": 8, "target_modules": ["embed_tokens", "q_proj"]})
        check_made(checks, "saved_modules", {"r": 4, "target_modules": ["v_proj"],
                                             "modules_to_save": ["embed_tokens", "lm_head", "norm"]})
        check_made(checks, "new_tokens", {"r": 4, "target_modules": ["q_proj"],
                                          "modules_to_save": ["embed_tokens", "lm_head"]}, more_tokens=3)
        check_convert(checks)
        return 1 if checks.failed else 0


if __name__ == "__main__":
    sys.exit(main())
