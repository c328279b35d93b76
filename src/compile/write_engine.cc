// SPDX-License-Identifier: Apache-2.0
#include "compile/write_engine.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "base/aligned_buffer.h"
#include "base/mutex.h"
#include "base/status.h"
#include "formats/engine_file.h"
#include "kernels/linear.h"

namespace trireme::compile {
namespace {

// The first failure among parallel tasks; later tasks see it and stop.
class FirstError {
 public:
  void Set(Status status) {
    MutexLock lock(mutex_);
    if (status_.ok()) status_ = std::move(status);
    failed_.store(true, std::memory_order_relaxed);
  }
  bool failed() const { return failed_.load(std::memory_order_relaxed); }
  Status Take() {
    MutexLock lock(mutex_);
    return std::move(status_);
  }

 private:
  Mutex mutex_;
  Status status_ GUARDED_BY(mutex_);
  std::atomic<bool> failed_{false};
};

Status CheckShape(const TensorView& tensor, const Shape& want, const std::string& name) {
  if (tensor.shape == want) return OkStatus();
  return InvalidArgument("checkpoint tensor '{}' has shape {}, the model needs {}", name,
                         tensor.shape.ToString(), want.ToString());
}

// Int4 tensors are kept as bytes in safetensors; gives them their own dtype back.
StatusOr<TensorView> GetLinearTensor(const TensorSource& checkpoint, const std::string& name,
                                     const WeightQuant& quant) {
  TRIREME_ASSIGN_OR_RETURN(TensorView view, checkpoint.Get(name));
  switch (quant.kind) {
    case WeightQuant::Kind::kNone:
      if (!IsFloat(view.dtype)) {
        return InvalidArgument("checkpoint tensor '{}' is {}, expected a float dtype", name,
                               DTypeName(view.dtype));
      }
      return view;
    case WeightQuant::Kind::kInt8:
      if (view.dtype != DType::kInt8) {
        return InvalidArgument("checkpoint tensor '{}' is {}, expected int8", name,
                               DTypeName(view.dtype));
      }
      return view;
    case WeightQuant::Kind::kInt4:
      if ((view.dtype != DType::kInt8 && view.dtype != DType::kUInt8) || view.shape.rank() < 2) {
        return InvalidArgument("checkpoint tensor '{}' is not packed int4", name);
      }
      view.dtype = DType::kInt4;
      view.shape[view.shape.rank() - 1] *= 2;
      return view;
    case WeightQuant::Kind::kFloat8:
      // Some exporters name the bytes int8.
      if (view.dtype == DType::kInt8) view.dtype = DType::kFloat8E4M3;
      if (view.dtype != DType::kFloat8E4M3) {
        return InvalidArgument("checkpoint tensor '{}' is {}, expected fp8", name,
                               DTypeName(view.dtype));
      }
      return view;
  }
  return Internal("checkpoint tensor '{}' has an unknown quantization", name);
}

// The float32 values that FP8 `parts`, each with its one scale, stand for, stacked along rows.
StatusOr<HostTensor> DequantizeFloat8(const std::vector<TensorView>& parts,
                                      const std::vector<TensorView>& scales, const Shape& shape,
                                      const std::string& name) {
  int64_t rows = 0;
  for (const TensorView& part : parts) {
    if (part.shape.rank() != 2 || part.shape[1] != shape[1]) {
      return CheckShape(part, shape, name);
    }
    rows += part.shape[0];
  }
  if (rows != shape[0]) {
    return InvalidArgument("the parts of '{}' have {} rows, the model needs {}", name, rows,
                           shape[0]);
  }
  HostTensor weight(DType::kFloat32, shape);
  auto* to = weight.as<float>();
  for (size_t i = 0; i < parts.size(); ++i) {
    if (scales[i].shape.num_elements() != 1 || !IsFloat(scales[i].dtype)) {
      return InvalidArgument("the scale of '{}' has shape {}, expected one float", name,
                             scales[i].shape.ToString());
    }
    const float scale = LoadAsFloat(scales[i], 0);
    if (!(scale > 0.0f && std::isfinite(scale))) {
      return InvalidArgument("the scale of '{}' is {}, which is not positive", name, scale);
    }
    const int64_t count = parts[i].shape.num_elements();
    ConvertFloats(DType::kFloat8E4M3, parts[i].data, DType::kFloat32,
                  reinterpret_cast<std::byte*>(to), count);
    for (int64_t k = 0; k < count; ++k) to[k] *= scale;
    to += count;
  }
  return weight;
}

TensorView RowsOf(const TensorView& matrix, int64_t first, int64_t count) {
  const int64_t columns = matrix.shape.rank() == 2 ? matrix.shape[1] : 1;
  TensorView rows = matrix;
  rows.shape[0] = count;
  rows.data += DTypeBytes(matrix.dtype, first * columns);
  return rows;
}

// What the kernels' matrix is made of, in order: a tensor (or its scales) as it is, or the rows of
// one expert of a stack, whose plain branch comes first where kernels take the activated one first.
void AppendParts(const TensorView& tensor, const WeightSources& sources, bool gated,
                 std::vector<TensorView>& parts) {
  if (sources.expert < 0) return parts.push_back(tensor);
  const int64_t rows = tensor.shape[1];
  TensorView matrix = tensor;
  matrix.shape = tensor.shape.rank() == 3 ? Shape{rows, tensor.shape[2]} : Shape{rows};
  matrix.data += sources.expert * DTypeBytes(tensor.dtype, matrix.shape.num_elements());
  if (!gated) return parts.push_back(matrix);
  parts.push_back(RowsOf(matrix, rows / 2, rows / 2));
  parts.push_back(RowsOf(matrix, 0, rows / 2));
}

// The shape of the stored tensors (or scales) that make matrices of `one`.
Shape StackedShape(const WeightSources& sources, const Shape& one) {
  if (sources.expert < 0) return one;
  return one.rank() == 2 ? Shape{sources.num_experts, one[0], one[1]}
                         : Shape{sources.num_experts, one[0]};
}

// Views stacked along rows: the view itself when there is one, else a copy in `storage`.
StatusOr<TensorView> StackRows(const std::vector<TensorView>& parts, const std::string& name,
                               HostTensor& storage) {
  if (parts.size() == 1) return parts.front();
  Shape shape = parts.front().shape;
  for (size_t i = 1; i < parts.size(); ++i) {
    if (parts[i].dtype != parts.front().dtype || parts[i].shape.rank() != shape.rank() ||
        (shape.rank() > 1 && parts[i].shape[1] != shape[1])) {
      return InvalidArgument("the parts of '{}' differ in dtype or width", name);
    }
    shape[0] += parts[i].shape[0];
  }
  storage = HostTensor(parts.front().dtype, shape);
  std::byte* to = storage.bytes().data();
  for (const TensorView& part : parts) {
    std::memcpy(to, part.data, static_cast<size_t>(part.num_bytes()));
    to += part.num_bytes();
  }
  return storage.view();
}

class EngineBody {
 public:
  EngineBody(const Lowered& lowered, const TensorSource& checkpoint, EngineFileWriter& writer)
      : lowered_(lowered), checkpoint_(checkpoint), writer_(writer) {}

  Status WriteWeight(size_t index) {
    const bool float8 = lowered_.plan.weights[index].quant.kind == WeightQuant::Kind::kFloat8;
    if (float8 && lowered_.sources[index].linear_launch < 0) return WriteFloat8(index);
    return lowered_.sources[index].linear_launch >= 0 ? WriteLinear(index) : WritePlain(index);
  }

 private:
  Status WritePlain(size_t index) {
    const plan::Weight& weight = lowered_.plan.weights[index];
    std::vector<TensorView> parts;
    for (const std::string& name : lowered_.sources[index].names) {
      TRIREME_ASSIGN_OR_RETURN(parts.emplace_back(), checkpoint_.Get(name));
      if (!IsFloat(parts.back().dtype)) {
        return InvalidArgument("checkpoint tensor '{}' is {}, expected a float dtype", name,
                               DTypeName(parts.back().dtype));
      }
    }
    HostTensor stacked;
    TRIREME_ASSIGN_OR_RETURN(const TensorView whole, StackRows(parts, weight.name, stacked));
    TRIREME_RETURN_IF_ERROR(CheckShape(whole, weight.shape, weight.name));
    HostTensor converted(weight.dtype, weight.shape);
    ConvertFloats(whole.dtype, whole.data, weight.dtype, converted.bytes().data(),
                  whole.shape.num_elements());
    TRIREME_RETURN_IF_ERROR(writer_.Write(weight.name, converted.bytes()));
    Release(index);
    return OkStatus();
  }

  // Row-major e4m3 under one scale, the largest of the parts'.
  Status WriteFloat8(size_t index) {
    const WeightSources& sources = lowered_.sources[index];
    const plan::Weight& weight = lowered_.plan.weights[index];
    std::vector<TensorView> parts;
    std::vector<TensorView> scales;
    for (size_t i = 0; i < sources.names.size(); ++i) {
      TRIREME_ASSIGN_OR_RETURN(parts.emplace_back(),
                               GetLinearTensor(checkpoint_, sources.names[i], weight.quant));
      TRIREME_ASSIGN_OR_RETURN(scales.emplace_back(), checkpoint_.Get(sources.scales[i]));
    }
    HostTensor stacked;
    if (parts.size() == 1) {
      TRIREME_ASSIGN_OR_RETURN(const TensorView whole, StackRows(parts, weight.name, stacked));
      TRIREME_RETURN_IF_ERROR(CheckShape(whole, weight.shape, sources.names.front()));
      TRIREME_RETURN_IF_ERROR(writer_.Write(weight.name, whole.bytes()));
      Release(index);
      return OkStatus();
    }
    TRIREME_ASSIGN_OR_RETURN(stacked,
                             DequantizeFloat8(parts, scales, weight.shape, sources.names.front()));
    float largest = 0.0f;
    for (const TensorView& scale : scales) largest = std::max(largest, LoadAsFloat(scale, 0));
    const int64_t count = weight.shape.num_elements();
    for (int64_t i = 0; i < count; ++i) stacked.as<float>()[i] /= largest;
    HostTensor converted(DType::kFloat8E4M3, weight.shape);
    ConvertFloats(DType::kFloat32, stacked.bytes().data(), DType::kFloat8E4M3,
                  converted.bytes().data(), count);
    TRIREME_RETURN_IF_ERROR(writer_.Write(weight.name, converted.bytes()));
    Release(index);
    return OkStatus();
  }

  Status WriteLinear(size_t index) {
    const WeightSources& sources = lowered_.sources[index];
    const plan::Weight& weight = lowered_.plan.weights[index];
    const plan::Launch& launch = lowered_.plan.launches[sources.linear_launch];
    const bool gated = LinearAttrsOf(launch.attrs).gated;
    std::vector<TensorView> parts;
    for (const std::string& name : sources.names) {
      TRIREME_ASSIGN_OR_RETURN(const TensorView view,
                               GetLinearTensor(checkpoint_, name, weight.quant));
      AppendParts(view, sources, gated, parts);
    }
    std::vector<TensorView> scale_parts;
    for (const std::string& name : sources.scales) {
      TRIREME_ASSIGN_OR_RETURN(const TensorView view, checkpoint_.Get(name));
      if (sources.expert >= 0) {
        TRIREME_RETURN_IF_ERROR(CheckShape(view, StackedShape(sources, ScaleShape(weight)), name));
      }
      AppendParts(view, sources, gated, scale_parts);
    }
    HostTensor stacked;
    if (weight.quant.kind == WeightQuant::Kind::kFloat8) {
      TRIREME_ASSIGN_OR_RETURN(
          stacked, DequantizeFloat8(parts, scale_parts, weight.shape, sources.names.front()));
      return PackWeight(index, stacked.view(), nullptr);
    }
    TRIREME_ASSIGN_OR_RETURN(const TensorView whole, StackRows(parts, weight.name, stacked));
    TRIREME_RETURN_IF_ERROR(CheckShape(whole, weight.shape, sources.names.front()));
    HostTensor stacked_scales;
    TensorView scales;
    if (!scale_parts.empty()) {
      TRIREME_ASSIGN_OR_RETURN(scales,
                               StackRows(scale_parts, sources.scales.front(), stacked_scales));
      TRIREME_RETURN_IF_ERROR(CheckShape(scales, ScaleShape(weight), sources.scales.front()));
    }
    return PackWeight(index, whole, scale_parts.empty() ? nullptr : &scales);
  }

  Status PackWeight(size_t index, const TensorView& whole, const TensorView* scales) {
    const plan::Weight& weight = lowered_.plan.weights[index];
    const kernels::LinearProblem problem =
        ProblemOf(lowered_.plan, lowered_.plan.launches[lowered_.sources[index].linear_launch]);
    AlignedBuffer packed(weight.num_bytes);
    const std::span<std::byte> bytes(packed.data(), static_cast<size_t>(packed.size()));
    TRIREME_RETURN_IF_ERROR(kernels::PackLinear(problem, weight.layout, whole, scales, bytes));
    TRIREME_RETURN_IF_ERROR(writer_.Write(weight.name, bytes));
    Release(index);
    return OkStatus();
  }

  static Shape ScaleShape(const plan::Weight& weight) {
    if (weight.quant.group_size == 0) return {weight.shape[0]};
    return {weight.shape[0],
            (weight.shape[1] + weight.quant.group_size - 1) / weight.quant.group_size};
  }

  void Release(size_t index) {
    for (const std::string& name : lowered_.sources[index].names) checkpoint_.Release(name);
  }

  const Lowered& lowered_;
  const TensorSource& checkpoint_;
  EngineFileWriter& writer_;
};

}  // namespace

Status CheckSources(const Lowered& lowered, const TensorSource& checkpoint) {
  for (size_t i = 0; i < lowered.sources.size(); ++i) {
    const plan::Weight& weight = lowered.plan.weights[i];
    if (const WeightSources& sources = lowered.sources[i]; sources.expert >= 0) {
      const std::string& name = sources.names.front();
      TRIREME_ASSIGN_OR_RETURN(const TensorView view,
                               GetLinearTensor(checkpoint, name, weight.quant));
      TRIREME_RETURN_IF_ERROR(CheckShape(view, StackedShape(sources, weight.shape), name));
      continue;
    }
    int64_t rows = 0;
    for (const std::string& name : lowered.sources[i].names) {
      TRIREME_ASSIGN_OR_RETURN(const TensorView view,
                               GetLinearTensor(checkpoint, name, weight.quant));
      if (view.shape.rank() != weight.shape.rank() ||
          (view.shape.rank() == 2 && view.shape[1] != weight.shape[1])) {
        return CheckShape(view, weight.shape, name);
      }
      rows += view.shape[0];
    }
    if (rows != weight.shape[0]) {
      return InvalidArgument("checkpoint tensors '{}' have {} rows, the model needs {}",
                             fmt::join(lowered.sources[i].names, "', '"), rows, weight.shape[0]);
    }
  }
  return OkStatus();
}

Status WriteEngineFile(const std::string& path, const std::string& config_json,
                       const Lowered& lowered, const TensorSource* checkpoint, ThreadPool& pool,
                       const std::function<void(int64_t, int64_t)>& progress) {
  std::vector<EngineTensor> table;
  int64_t total = 0;
  if (checkpoint != nullptr) {
    for (const plan::Weight& weight : lowered.plan.weights) {
      table.push_back({weight.name, weight.layout, weight.dtype, weight.shape,
                       static_cast<uint64_t>(weight.num_bytes)});
      total += weight.num_bytes;
    }
  }
  TRIREME_ASSIGN_OR_RETURN(
      const std::unique_ptr<EngineFileWriter> writer,
      EngineFileWriter::Create(path, config_json, plan::PlanToJson(lowered.plan),
                               std::move(table)));
  if (checkpoint == nullptr) return writer->Finish();

  EngineBody body(lowered, *checkpoint, *writer);
  FirstError first_error;
  Mutex progress_mutex;
  int64_t done = 0;
  pool.ParallelFor(static_cast<int64_t>(lowered.plan.weights.size()), [&](int64_t i, int) {
    if (first_error.failed()) return;
    Status status = body.WriteWeight(static_cast<size_t>(i));
    if (!status.ok()) return first_error.Set(std::move(status));
    MutexLock lock(progress_mutex);
    done += lowered.plan.weights[i].num_bytes;
    if (progress) progress(done, total);
  });
  TRIREME_RETURN_IF_ERROR(first_error.Take());
  return writer->Finish();
}

}  // namespace trireme::compile
