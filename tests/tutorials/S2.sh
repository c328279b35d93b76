# SPDX-License-Identifier: Apache-2.0
# ChatGLM3-6B: one-step build, run, and the repository with hardly a key filled in.
E=trt-engines/chatglm3-6b/fp16/1-gpu
trireme build -m chatglm3_6b --model_dir $M/chatglm3 --output_dir $E 2>&1 | tee log; grep -E 'Total time of building all 1 engines: [0-9:]{8}' log
r(){ trireme run "$@" --tokenizer_dir $M/chatglm3 --engine_dir $E; }
r --input_text "你是谁？" --max_output_len 50 | tee out; grep -F 'Input [Text 0]: "[gMASK]sop 你是谁？"' out; grep -F 'Output [Text 0 Beam 0]: "' out
r --input_text "写一篇1000字的玄幻小说" --max_output_len 1024; r --input_text "你是谁？" --max_output_len 1024 --streaming
mkdir triton_model_repo; cp -r $R/inflight_batcher_llm/* triton_model_repo/; cp $E/* triton_model_repo/tensorrt_llm/1   # engine_dir stays unset
for m in preprocessing postprocessing; do trireme fill-template -i triton_model_repo/$m/config.pbtxt tokenizer_dir:$M/chatglm3,triton_max_batch_size:8; done
trireme launch --world_size=1 --model_repo=$PWD/triton_model_repo; up
curl -sf -X POST $H/models/ensemble/generate -d '{"text_input":"你是谁？","max_tokens":50,"bad_words":"","stop_words":""}' | jq -e .text_output; trireme launch --stop
