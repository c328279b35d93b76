// SPDX-License-Identifier: Apache-2.0
#include "device/cuda/stream.h"

#include "device/cuda/cuda_status.h"

namespace trireme::cuda {

StatusOr<Stream> Stream::Create() {
  cudaStream_t stream = nullptr;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking),
                               "creating a stream");
  return Stream(stream);
}

Status Stream::Synchronize() const {
  return CudaStatus(cudaStreamSynchronize(get()), "waiting for the GPU");
}

StatusOr<Event> Event::Create() {
  cudaEvent_t event = nullptr;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaEventCreateWithFlags(&event, cudaEventDisableTiming),
                               "creating an event");
  return Event(event);
}

Status Event::Record(const Stream& stream) const {
  return CudaStatus(cudaEventRecord(get(), stream.get()), "recording an event");
}

Status Event::Synchronize() const {
  return CudaStatus(cudaEventSynchronize(get()), "waiting for the GPU");
}

StatusOr<TimedEvent> TimedEvent::Create() {
  cudaEvent_t event = nullptr;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaEventCreate(&event), "creating an event");
  return TimedEvent(event);
}

Status TimedEvent::Record(cudaStream_t stream) const {
  return CudaStatus(cudaEventRecord(get(), stream), "recording an event");
}

Status TimedEvent::Synchronize() const {
  return CudaStatus(cudaEventSynchronize(get()), "waiting for the GPU");
}

StatusOr<double> TimedEvent::MicrosecondsSince(const TimedEvent& begin) const {
  float ms = 0;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaEventElapsedTime(&ms, begin.get(), get()),
                               "reading the GPU's clock");
  return 1e3 * static_cast<double>(ms);
}

Status GraphExec::BeginCapture(const Stream& stream) {
  return CudaStatus(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeRelaxed),
                    "capturing a graph");
}

StatusOr<GraphExec> GraphExec::EndCapture(const Stream& stream, const Status& recorded) {
  cudaGraph_t captured = nullptr;
  const cudaError_t error = cudaStreamEndCapture(stream.get(), &captured);
  const Owned<cudaGraph_t, cudaGraphDestroy> graph(captured);
  TRIREME_RETURN_IF_ERROR(recorded);
  TRIREME_CUDA_RETURN_IF_ERROR(error, "capturing a graph");
  cudaGraphExec_t exec = nullptr;
  TRIREME_CUDA_RETURN_IF_ERROR(cudaGraphInstantiate(&exec, graph.get(), 0), "making a graph");
  return GraphExec(exec);
}

Status GraphExec::Launch(const Stream& stream) const {
  return CudaStatus(cudaGraphLaunch(get(), stream.get()), "launching a graph");
}

}  // namespace trireme::cuda
