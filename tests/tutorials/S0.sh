# SPDX-License-Identifier: Apache-2.0
# Qwen1.5 / Qwen2: convert, build, quantize; the five-model repository with all its keys.
trireme convert --model_dir $M/qwen2 --output_dir ck --dtype bfloat16; ls ck/rank0.safetensors
jq -e '.architecture=="QWenForCausalLM" and .qwen_type=="qwen2" and .kv_dtype=="bfloat16" and .quantization.exclude_modules==["lm_head"]' ck/config.json
L="--max_num_tokens 10000 --use_custom_all_reduce enable --paged_kv_cache enable --use_paged_context_fmha enable --multiple_profiles enable
   --max_input_len 1024 --max_output_len 1024 --max_batch_size 256"
B16="--gpt_attention_plugin bfloat16 --gemm_plugin bfloat16"
trireme build --checkpoint_dir ck --output_dir eng $B16 --workers 1 $L; ls eng/rank0.engine
jq -e '.version and .pretrained_config.head_size and .build_config.max_batch_size==256 and .build_config.plugin_config.gemm_plugin=="bfloat16"' eng/config.json
trireme quantize --model_dir $M/qwen2 --dtype bfloat16 --qformat fp8 --kv_cache_dtype fp8 --output_dir ck8 --calib_size 512 --calib_dataset $D/calib
trireme convert --model_dir $M/qwen2 --output_dir ck2 --dtype bfloat16 --tp_size 2; ls ck2/rank1.safetensors

T=$PWD/repo; mkdir repo; cp -r $R/inflight_batcher_llm/* repo/
f(){ trireme fill-template -i $T/$1/config.pbtxt $2; }
f preprocessing  tokenizer_dir:$M/qwen2,triton_max_batch_size:256,preprocessing_instance_count:1
f postprocessing tokenizer_dir:$M/qwen2,triton_max_batch_size:256,postprocessing_instance_count:1
f tensorrt_llm_bls triton_max_batch_size:256,decoupled_mode:False,bls_instance_count:1,accumulate_tokens:False
f ensemble triton_max_batch_size:256
f tensorrt_llm triton_backend:tensorrtllm,triton_max_batch_size:256,decoupled_mode:True,max_beam_width:1,engine_dir:$PWD/eng,kv_cache_free_gpu_mem_fraction:0.95,exclude_input_in_output:True,batching_strategy:inflight_fused_batching,max_queue_delay_microseconds:0,enable_chunked_context:True,batch_scheduler_policy:max_utilization
for k in kv_cache_free_gpu_mem_fraction inflight_fused_batching batch_scheduler_policy enable_chunked_context; do grep -C 5 "$k" $T/tensorrt_llm/config.pbtxt; done
trireme serve --model-repository $T --log-info true --log-verbose 4 >log 2>&1 & up
B='{"text_input": "如何保持正能量?","parameters": {"max_tokens": 100,"bad_words":[""],"stop_words":[""]'
for m in ensemble tensorrt_llm_bls; do curl -sf -X POST $H/models/$m/generate -d "$B}}" | jq -e '.text_output|type=="string"'; done
for e in "$B,\"stream\": true}}" "$B},\"stream\": true}"; do curl -sfN -X POST $H/models/ensemble/generate_stream -d "$e" | grep -c '^data: '; done
curl -sf -X POST $H/models/ensemble/generate -d "$B,\"top_k\":5,\"top_p\":0.9,\"temperature\":0.7,\"return_log_probs\":true}}" | jq -e '.output_log_probs|length>0'
curl -sf $H/models/ensemble | jq -e .inputs; curl -sf $H/models/ensemble/config | jq -e .ensemble_scheduling
curl -sf localhost:8002/metrics | grep nv_inference_request_success; down
# What the server said as it started.
for words in 'Started HTTPService at' 'Started GRPCInferenceService at' 'Started Metrics Service at' "successfully loaded 'ensemble'" '| tensorrt_llm_bls .* READY'; do grep -e "$words" log; done

# Later: FP8 attention and cache on the CPU, and several ranks.
refused 'use_fp8_context_fmha' trireme build --checkpoint_dir ck8 --output_dir eng8 --gemm_plugin disable --workers 1 $L --use_fp8_context_fmha enable
refused 'tp_size' trireme build --checkpoint_dir ck2 --output_dir eng2 $B16 --workers 2 $L
refused '--world_size' trireme launch --world_size 2 --model_repo $T --tensorrt_llm_model_name tensorrt_llm --log --log-file triton_log.txt
