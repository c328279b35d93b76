# SPDX-License-Identifier: Apache-2.0
# Quantization and LoRA: conversion in several precisions, adapters merged and converted, evaluation.
python3 "$(dirname "${BASH_SOURCE[0]}")/make_adapters.py" $M $D
trireme --version; trireme convert --model_dir $M/qwen1 --output_dir ./ck --dtype float16; trireme build --checkpoint_dir ./ck --output_dir ./eng --gemm_plugin float16
trireme run --input_text "你好,请问你叫什么?" --max_output_len=50 --tokenizer_dir $M/qwen1 --engine_dir=./eng
trireme eval summarize --test_trt_llm --engine_dir ./eng --hf_model_dir $M/qwen1 --dataset_dir $D/cnn --max_ite 5 | grep -i rouge
trireme bench throughput --engine_dir ./eng --input_len 128 --output_len 20 --num_requests 8
i=0; for q in "--use_weight_only --weight_only_precision int8" "--use_weight_only --weight_only_precision int4"; do
  i=$((i+1)); trireme convert --model_dir $M/llama3 --dtype float16 $q --output_dir q$i; trireme build --checkpoint_dir q$i --output_dir qe$i; done
for q in "--smoothquant 0.5" "--smoothquant 0.5 --per_token --per_channel" "--int8_kv_cache"; do
  refused "${q%% *}" trireme convert --model_dir $M/llama3 --dtype float16 $q --output_dir later; done
refused int4_awq trireme quantize --model_dir $M/llama3 --qformat int4_awq --calib_dataset $D/calib --output_dir awq
refused int4_gptq trireme convert --model_dir $M/llama3 --use_weight_only --weight_only_precision int4_gptq --per_group --output_dir gptq
trireme lora merge --base_dir $M/llama3 --lora_dir $M/lora --dtype float16 --output_dir merge_llama3_lora
trireme lora merge --base_dir $M/llama3 --lora_dir $M/ck1 --lora_dir $M/ck2 --lora_dir $M/ck3 --output_dir merged3
if python3 -c 'import torch, transformers' 2>/dev/null; then
  python3 -c 'from transformers import AutoTokenizer as T, AutoModelForCausalLM as A; [(T.from_pretrained(d), A.from_pretrained(d)) for d in ("./merge_llama3_lora", "./merged3")]'
fi
trireme run --engine_dir merge_llama3_lora --chat --system "You are a helpful assistant. 你是一个乐于助人的助手。" --input_text "介绍一下中国" --max_output_len 512 --top_k 50 --top_p 0.95 --temperature 0.3 --repetition_penalty 1.3
trireme convert --model_dir $M/llama3 --output_dir lk --dtype bfloat16
for t in bfloat16 float16; do trireme build --checkpoint_dir lk --output_dir le-$t --gpt_attention_plugin $t --gemm_plugin $t; done
trireme run --engine_dir=le-bfloat16 --max_output_len 100 --tokenizer_dir $M/llama3 --input_text "How do I count to nine in French?"
trireme lora convert $M/lora/adapter_model.safetensors adapter_model.bin; trireme lora convert adapter_model.bin back.safetensors
python3 - $M/lora/adapter_model.safetensors back.safetensors <<'P'
import json, struct, sys
def tensors(path):
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0])); data = file.read()
    return {n: (t["dtype"], t["shape"], data[slice(*t["data_offsets"])]) for n, t in header.items() if n != "__metadata__"}
assert tensors(sys.argv[1]) == tensors(sys.argv[2])
P
refused hf_lora_dir trireme convert --model_dir $M/llama3 --output_dir ll --dtype bfloat16 --tp_size 1 --hf_lora_dir $M/lora
refused lora_plugin trireme build --checkpoint_dir lk --output_dir lle --gpt_attention_plugin bfloat16 --gemm_plugin bfloat16 --lora_plugin bfloat16 --max_batch_size 1 --max_input_len 512 --max_output_len 50 --use_fused_mlp
refused lora trireme run --engine_dir le-bfloat16 --max_output_len 50 --tokenizer_dir $M/lora --input_text "今天天气很好,我到公园的时后," --lora_dir $M/lora --lora_task_uids 0 --no_add_special_tokens --use_py_session
