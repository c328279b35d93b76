// SPDX-License-Identifier: Apache-2.0
// gpu_bench [--filter=TEXT] [--json=FILE]: runs the registered GPU microbenchmarks.
#include <cuda_bf16.h>
#include <cuda_fp8.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <random>

#include "kernels/cuda/bench.h"

namespace trireme::cuda {
namespace {

// Ceilings that a share is quoted of, measured on one H200: read-only reduction, dense bfloat16.
constexpr double kReadBytesPerUs = 4.31e6;
constexpr double kFlopsPerUs = 790e6;

std::map<std::string, BenchGroup>& Groups() {
  static std::map<std::string, BenchGroup> groups;
  return groups;
}

std::vector<uint8_t> RandomBlock(int64_t num_bytes, BenchArray::Fill fill, float std) {
  std::vector<uint8_t> block(static_cast<size_t>(num_bytes));
  if (fill == BenchArray::Fill::kNone) return block;
  std::mt19937 random(7);
  std::normal_distribution<float> normal(0.0f, std);
  if (fill == BenchArray::Fill::kBFloat16) {
    for (size_t i = 0; i + 1 < block.size(); i += 2) {
      const __nv_bfloat16 value = __float2bfloat16_rn(normal(random));
      std::memcpy(&block[i], &value, 2);
    }
  } else {
    for (uint8_t& byte : block) byte = __nv_fp8_e4m3(normal(random)).__x;
  }
  return block;
}

}  // namespace

RegisteredBench::RegisteredBench(const char* name, BenchGroup group) { Groups()[name] = group; }

BenchArray::BenchArray(int64_t num_bytes, Fill fill, float std) {
  if (cudaMalloc(reinterpret_cast<void**>(&data_), static_cast<size_t>(num_bytes)) != cudaSuccess) {
    std::fprintf(stderr, "gpu_bench: no %lld bytes of device memory\n",
                 static_cast<long long>(num_bytes));
    data_ = nullptr;
    return;
  }
  if (fill == Fill::kNone) return;
  const int64_t block_bytes = std::min<int64_t>(num_bytes, (int64_t{4} << 20) + 4096);
  const std::vector<uint8_t> block = RandomBlock(block_bytes, fill, std);
  for (int64_t at = 0; at < num_bytes; at += block_bytes) {
    const auto bytes = static_cast<size_t>(std::min(block_bytes, num_bytes - at));
    if (at == 0) {
      cudaMemcpy(data_, block.data(), bytes, cudaMemcpyHostToDevice);
    } else {
      cudaMemcpyAsync(data_ + at, data_, bytes, cudaMemcpyDeviceToDevice, nullptr);
    }
  }
  cudaDeviceSynchronize();
}

BenchArray::~BenchArray() { cudaFree(data_); }

bool Bench::Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  std::fprintf(stderr, "gpu_bench: %s: %s\n", what, cudaGetErrorString(error));
  ++num_failures_;
  return false;
}

bool Bench::Capture(int calls, const std::function<bool(int, LaunchContext&)>& body,
                    cudaStream_t stream, cudaGraphExec_t* exec) {
  LaunchContext context;
  context.stream = stream;
  if (!Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "begin capture")) {
    return false;
  }
  bool ok = true;
  for (int i = 0; ok && i < calls; ++i) {
    ok = body(i, context);
    context.dependent = dependent_;
  }
  cudaGraph_t graph = nullptr;
  ok = Check(cudaStreamEndCapture(stream, &graph), "end capture") && ok;
  ok = ok && Check(cudaGraphInstantiate(exec, graph, 0), "cudaGraphInstantiate");
  if (graph != nullptr) cudaGraphDestroy(graph);
  if (!ok) ++num_failures_;
  return ok;
}

double Bench::Time(int calls, int replays, const std::function<bool(int, LaunchContext&)>& body) {
  cudaStream_t stream = nullptr;
  cudaEvent_t start = nullptr;
  cudaEvent_t stop = nullptr;
  cudaGraphExec_t exec = nullptr;
  std::vector<float> times;
  bool ok = Check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate") &&
            Check(cudaEventCreate(&start), "cudaEventCreate") &&
            Check(cudaEventCreate(&stop), "cudaEventCreate") && Capture(calls, body, stream, &exec);
  for (int replay = -1; ok && replay < replays; ++replay) {  // the first one warms up
    cudaEventRecord(start, stream);
    cudaGraphLaunch(exec, stream);
    cudaEventRecord(stop, stream);
    ok = Check(cudaEventSynchronize(stop), "replay") && Check(cudaGetLastError(), "replay");
    float ms = 0.0f;
    cudaEventElapsedTime(&ms, start, stop);
    if (replay >= 0) times.push_back(ms);
  }
  if (exec != nullptr) cudaGraphExecDestroy(exec);
  if (start != nullptr) cudaEventDestroy(start);
  if (stop != nullptr) cudaEventDestroy(stop);
  if (stream != nullptr) cudaStreamDestroy(stream);
  if (!ok || times.empty()) return -1.0;
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2),
                   times.end());
  return times[times.size() / 2] * 1e3 / calls;
}

void Bench::Report(const BenchLine& line) {
  const double tb_per_s = line.us > 0 ? line.bytes / line.us * 1e-6 : 0;
  const double tflops = line.us > 0 ? line.flops / line.us * 1e-6 : 0;
  const double share =
      line.us > 0 ? std::max(line.bytes / kReadBytesPerUs, line.flops / kFlopsPerUs) / line.us : 0;
  std::printf("%-34s %-16.16s %10.2f us %6.2f TB/s %7.1f TF/s %5.1f %%\n", line.name.c_str(),
              line.detail.c_str(), line.us, tb_per_s, tflops, share * 100);
  if (json_ != nullptr) {
    std::fprintf(json_,
                 "{\"name\":\"%s\",\"detail\":\"%s\",\"us\":%.4f,\"bytes\":%.0f,\"flops\":%.0f,"
                 "\"share_of_limit\":%.4f}\n",
                 line.name.c_str(), line.detail.c_str(), line.us, line.bytes, line.flops, share);
    std::fflush(json_);
  }
}

}  // namespace trireme::cuda

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // a time limit must not eat the lines so far
  std::string filter;
  std::FILE* json = nullptr;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument.rfind("--filter=", 0) == 0) {
      filter = argument.substr(9);
    } else if (argument.rfind("--json=", 0) == 0 && json == nullptr) {
      json = std::fopen(argument.c_str() + 7, "w");
      if (json == nullptr) {
        std::fprintf(stderr, "gpu_bench: cannot write %s\n", argument.c_str() + 7);
        return 2;
      }
    } else {
      std::fprintf(stderr,
                   "gpu_bench: unknown argument '%s'\nusage: gpu_bench [--filter=TEXT] "
                   "[--json=FILE]\n",
                   argument.c_str());
      return 2;
    }
  }
  cudaDeviceProp device;
  if (const cudaError_t error = cudaGetDeviceProperties(&device, 0); error != cudaSuccess) {
    std::fprintf(stderr, "gpu_bench: needs a GPU: %s\n", cudaGetErrorString(error));
    return 1;
  }
  std::printf("%s, %d multiprocessors\n", device.name, device.multiProcessorCount);
  trireme::cuda::Bench bench(filter, json);
  for (const auto& [name, group] : trireme::cuda::Groups()) group(bench);
  if (json != nullptr) std::fclose(json);
  return bench.num_failures() == 0 ? 0 : 1;
}
