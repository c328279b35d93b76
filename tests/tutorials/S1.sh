# SPDX-License-Identifier: Apache-2.0
# The guide: GPT-2 logits from one bare engine, an FP8 model and its table, the C++ library.
trireme convert --model_dir $M/gpt2 --output_dir ck --dtype float16; trireme build --checkpoint_dir ck --output_dir trt_engine
mkdir -p model_repository/gpt2/1; cp ./trt_engine/rank0.engine model_repository/gpt2/1/gpt2_fp16.engine
echo 'name: "gpt2" platform: "tensorrt_llm" max_batch_size: 8 input [{name: "input_ids" data_type: TYPE_INT32 dims: [-1]}] output [{name: "logits" data_type: TYPE_FP32 dims: [-1, -1]}]' >model_repository/gpt2/config.pbtxt
trireme serve --model-repository=$PWD/model_repository & up
I='{"inputs":[{"name":"input_ids","shape":[1,3],"datatype":"INT32","data":[[101,234,1243]]}]}'
curl -sf -X POST $H/models/gpt2/infer -d "$I" | jq -e '.outputs[0]|.name=="logits" and .shape[0:2]==[1,3]'
curl -s -X POST $H/models/gpt2/infer -d "${I/1,3/1,128}" | jq -e '.error|test("128")'        # wrong count: a clear error
python3 -c 'import tritonclient.grpc as g; print(g.InferenceServerClient("localhost:8001").get_model_metadata("gpt2"))'; down
cmake -S $P/share/trireme/examples/embed -B b -DCMAKE_PREFIX_PATH=$P && cmake --build b && ./b/embed trt_engine "Hello"
# and once more with include_directories / link_directories / target_link_libraries(your_project trireme)
cmake -S $P/share/trireme/examples/embed/plain -B p -DTRIREME_PREFIX=$P && cmake --build p && ./p/your_project trt_engine "Hello"
trireme quantize --model_dir $M/gptj --dtype float16 --qformat fp8 --calib_dataset $D/calib --output_dir g8
trireme build --checkpoint_dir g8 --output_dir ge --gemm_plugin disable
for s in "128 128" "2048 128"; do set -- $s; trireme bench throughput --engine_dir ge --input_len $1 --output_len $2 --num_requests 64; done
trireme bench latency --engine_dir ge --profile ops.json; jq -e '.ops|length>0' ops.json
# Later: an FP8 KV cache on the CPU.
trireme quantize --model_dir $M/gptj --dtype float16 --qformat fp8 --kv_cache_dtype fp8 --calib_dataset $D/calib --output_dir g8kv
refused 'KV cache of fp8' trireme build --checkpoint_dir g8kv --output_dir gekv --gemm_plugin disable
