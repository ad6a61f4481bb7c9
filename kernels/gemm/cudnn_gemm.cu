// The CUDA half's GraphGemm: cuDNN, by dlopen.

#include <cuda_runtime.h>

#include "kernels/gemm/cudnn_plans.h"
#include "kernels/gemm/graph_gemm.h"
#include "kernels/status.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

CudnnShape ShapeOf(const GemmParams& params) {
  return {params.m(), params.n(), params.k(), params.x.dtype()};
}

// Whether the stream records a graph. A stream that cannot be asked is as good as one that does:
// then plans stay.
bool Records(cudaStream_t stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  return cudaStreamIsCapturing(stream, &status) != cudaSuccess ||
         status != cudaStreamCaptureStatusNone;
}

}  // namespace

// The plans are of the device that is the thread's current one.
struct GraphGemm::Impl {
  const simt::Device* device = nullptr;
  std::unique_ptr<CudnnPlans> plans;
};

GraphGemm::GraphGemm(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GraphGemm::~GraphGemm() = default;

absl::StatusOr<std::unique_ptr<GraphGemm>> GraphGemm::Create(const simt::Device& device,
                                                             size_t workspace_bytes) {
  // Loaded once; it stays.
  static const absl::StatusOr<cudnn::Functions> functions = cudnn::LoadCudnn();
  BERTRAND_RETURN_IF_ERROR(functions.status());
  BERTRAND_RETURN_IF_ERROR(device.MakeCurrent());
  auto impl = std::make_unique<Impl>();
  impl->device = &device;
  BERTRAND_ASSIGN_OR_RETURN(impl->plans, CudnnPlans::Create(*functions, workspace_bytes));
  return std::unique_ptr<GraphGemm>(new GraphGemm(std::move(impl)));
}

std::string GraphGemm::name() const { return impl_->plans->name(); }

absl::StatusOr<std::vector<LibraryAlgorithm>> GraphGemm::Candidates(const GemmParams& params,
                                                                    int most) const {
  BERTRAND_RETURN_IF_ERROR(impl_->device->MakeCurrent());
  return impl_->plans->Candidates(ShapeOf(params), most);
}

absl::Status GraphGemm::Prepare(const GemmParams& params, const LibraryAlgorithm& algorithm) const {
  BERTRAND_RETURN_IF_ERROR(impl_->device->MakeCurrent());
  return impl_->plans->Prepare(ShapeOf(params), algorithm);
}

absl::Status GraphGemm::Run(const GemmParams& params, const LibraryAlgorithm& algorithm,
                            void* workspace, simt::Stream& stream) const {
  BERTRAND_RETURN_IF_ERROR(impl_->device->MakeCurrent());
  const auto handle = static_cast<cudaStream_t>(stream.handle());
  const CudnnOperands operands = {params.x.data(), params.weight.data(), params.bias.data(),
                                  params.y.data(), workspace};
  return impl_->plans->Run(ShapeOf(params), algorithm, operands, handle, Records(handle));
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
