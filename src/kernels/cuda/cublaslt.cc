// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <cstring>

namespace trireme::cuda {

struct CublasLtFunctions {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtGetVersion) get_version;
  decltype(&cublasLtGetStatusString) get_status_string;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmulAlgoCheck) algo_check;
};

namespace {

constexpr uint64_t kMaxWorkspaceBytes = uint64_t{32} << 20;

StatusOr<cudaDataType_t> DataTypeOf(Element element) {
  switch (element) {
    case Element::kFloat32: return CUDA_R_32F;
    case Element::kFloat16: return CUDA_R_16F;
    case Element::kBFloat16: return CUDA_R_16BF;
    case Element::kFloat8E4M3: return CUDA_R_8F_E4M3;
    case Element::kInt8: break;
  }
  return Unimplemented("cublaslt: operands of this type are not supported");
}

Status CheckLt(const CublasLtFunctions& lt, cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return OkStatus();
  const std::string reason = lt.get_status_string(status);
  if (status == CUBLAS_STATUS_ALLOC_FAILED) return ResourceExhausted("{}: {}", what, reason);
  if (status == CUBLAS_STATUS_NOT_SUPPORTED) return Unimplemented("{}: {}", what, reason);
  return Internal("{}: {}", what, reason);
}

std::string ToHex(const cublasLtMatmulAlgo_t& algo) {
  constexpr char kDigits[] = "0123456789abcdef";
  const auto* bytes = reinterpret_cast<const unsigned char*>(&algo);
  std::string hex;
  for (size_t i = 0; i < sizeof(algo); ++i) {
    hex += kDigits[bytes[i] >> 4];
    hex += kDigits[bytes[i] & 15];
  }
  return hex;
}

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

StatusOr<cublasLtMatmulAlgo_t> FromHex(const std::string& hex) {
  cublasLtMatmulAlgo_t algo;
  auto* bytes = reinterpret_cast<unsigned char*>(&algo);
  bool valid = hex.size() == 2 * sizeof(algo);
  for (size_t i = 0; valid && i < sizeof(algo); ++i) {
    const int high = HexDigit(hex[2 * i]);
    const int low = HexDigit(hex[2 * i + 1]);
    valid = high >= 0 && low >= 0;
    bytes[i] = static_cast<unsigned char>(high * 16 + low);
  }
  if (!valid) {
    return InvalidArgument("cublaslt: '{}' is no algorithm ({} hexadecimal digits)", hex,
                           2 * sizeof(algo));
  }
  return algo;
}

// W is read as a column-major [in, out] operand A, transposed; x and y as column-major [in, rows] and
// [out, rows] operands B and D.
class Matmul final : public CublasLtMatmul {
 public:
  Matmul(const CublasLtFunctions& lt, void* handle, const MatmulProblem& problem)
      : lt_(lt), handle_(static_cast<cublasLtHandle_t>(handle)), problem_(problem) {}
  Matmul(const Matmul&) = delete;
  Matmul& operator=(const Matmul&) = delete;
  ~Matmul() override {
    if (preference_ != nullptr) lt_.preference_destroy(preference_);
    for (cublasLtMatrixLayout_t layout : {weight_, x_, residual_, y_}) {
      if (layout != nullptr) lt_.layout_destroy(layout);
    }
    if (desc_ != nullptr) lt_.desc_destroy(desc_);
  }

  Status Create() {
    TRIREME_ASSIGN_OR_RETURN(const cudaDataType_t operand, DataTypeOf(problem_.operand));
    TRIREME_ASSIGN_OR_RETURN(const cudaDataType_t output, DataTypeOf(problem_.output));
    TRIREME_RETURN_IF_ERROR(CheckLt(lt_, lt_.desc_create(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                                    "cublasLtMatmulDescCreate"));
    TRIREME_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_TRANSA, CUBLAS_OP_T));
    if (problem_.fast_accumulation) {
      TRIREME_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_FAST_ACCUM, int8_t{1}));
    }
    if (problem_.has_bias) {
      TRIREME_ASSIGN_OR_RETURN(const cudaDataType_t bias, DataTypeOf(problem_.bias));
      TRIREME_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS));
      TRIREME_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, bias));
    }
    const int64_t in = problem_.in_features;
    const int64_t out = problem_.out_features;
    TRIREME_RETURN_IF_ERROR(CreateLayout(&weight_, operand, in, out));
    TRIREME_RETURN_IF_ERROR(CreateLayout(&x_, operand, in, problem_.max_rows));
    TRIREME_RETURN_IF_ERROR(CreateLayout(&residual_, output, out, problem_.max_rows));
    TRIREME_RETURN_IF_ERROR(CreateLayout(&y_, output, out, problem_.max_rows));
    return CreatePreference();
  }

  StatusOr<std::vector<cublasLtMatmulHeuristicResult_t>> Heuristic(int limit) const {
    std::vector<cublasLtMatmulHeuristicResult_t> results(static_cast<size_t>(limit));
    int found = 0;
    TRIREME_RETURN_IF_ERROR(CheckLt(lt_,
                                    lt_.get_heuristic(handle_, desc_, weight_, x_, residual_, y_,
                                                      preference_, limit, results.data(), &found),
                                    "cublasLtMatmulAlgoGetHeuristic"));
    results.resize(static_cast<size_t>(found));
    std::erase_if(results, [](const auto& r) { return r.state != CUBLAS_STATUS_SUCCESS; });
    if (results.empty()) {
      return Unimplemented("cublaslt: no algorithm for a linear layer of {} x {}",
                           problem_.out_features, problem_.in_features);
    }
    return results;
  }

  Status Choose(const std::string& algorithm) {
    if (algorithm.empty()) {
      TRIREME_ASSIGN_OR_RETURN(const auto results, Heuristic(1));
      algo_ = results.front().algo;
      workspace_bytes_ = results.front().workspaceSize;
      return OkStatus();
    }
    TRIREME_ASSIGN_OR_RETURN(algo_, FromHex(algorithm));
    cublasLtMatmulHeuristicResult_t result = {};
    TRIREME_RETURN_IF_ERROR(
        CheckLt(lt_, lt_.algo_check(handle_, desc_, weight_, x_, residual_, y_, &algo_, &result),
                "cublasLtMatmulAlgoCheck (an algorithm of another library version?)"));
    workspace_bytes_ = result.workspaceSize;
    return OkStatus();
  }

  int64_t workspace_bytes() const override { return static_cast<int64_t>(workspace_bytes_); }

  Status Run(const MatmulOperands& operands, void* workspace, LaunchContext& context) override {
    if (operands.num_rows < 1 || operands.num_rows > problem_.max_rows) {
      return InvalidArgument("cublaslt: {} rows, bound for up to {}", operands.num_rows,
                             problem_.max_rows);
    }
    TRIREME_RETURN_IF_ERROR(SetRows(x_, operands.num_rows, operands.x_stride));
    TRIREME_RETURN_IF_ERROR(SetRows(y_, operands.num_rows, operands.y_stride));
    TRIREME_RETURN_IF_ERROR(
        SetRows(residual_, operands.num_rows,
                problem_.has_residual ? operands.residual_stride : operands.y_stride));
    if (problem_.has_bias) {
      TRIREME_RETURN_IF_ERROR(SetDesc(CUBLASLT_MATMUL_DESC_BIAS_POINTER, operands.bias));
    }
    const float beta = problem_.has_residual ? 1.0f : 0.0f;
    const void* c = problem_.has_residual ? operands.residual : operands.y;
    context.last_launch = "cublasLtMatmul";
    ++context.num_launches;
    return CheckLt(lt_,
                   lt_.matmul(handle_, desc_, &operands.alpha, operands.weight, weight_, operands.x,
                              x_, &beta, c, residual_, operands.y, y_, &algo_, workspace,
                              workspace_bytes_, context.stream),
                   "cublasLtMatmul");
  }

 private:
  template <typename Value>
  Status SetDesc(cublasLtMatmulDescAttributes_t attribute, const Value& value) {
    return CheckLt(lt_, lt_.desc_set(desc_, attribute, &value, sizeof(value)),
                   "cublasLtMatmulDescSetAttribute");
  }

  Status CreateLayout(cublasLtMatrixLayout_t* layout, cudaDataType_t type, int64_t rows,
                      int64_t columns) {
    return CheckLt(lt_,
                   lt_.layout_create(layout, type, static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(columns), rows),
                   "cublasLtMatrixLayoutCreate");
  }

  Status SetRows(cublasLtMatrixLayout_t layout, int num_rows, int64_t stride) {
    const auto columns = static_cast<uint64_t>(num_rows);
    cublasStatus_t status =
        lt_.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns));
    if (status == CUBLAS_STATUS_SUCCESS) {
      status = lt_.layout_set(layout, CUBLASLT_MATRIX_LAYOUT_LD, &stride, sizeof(stride));
    }
    return CheckLt(lt_, status, "cublasLtMatrixLayoutSetAttribute");
  }

  Status CreatePreference() {
    TRIREME_RETURN_IF_ERROR(
        CheckLt(lt_, lt_.preference_create(&preference_), "cublasLtMatmulPreferenceCreate"));
    cublasStatus_t status =
        lt_.preference_set(preference_, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                           &kMaxWorkspaceBytes, sizeof(kMaxWorkspaceBytes));
    constexpr uint32_t kAlignment = 16;
    for (auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      if (status != CUBLAS_STATUS_SUCCESS) break;
      status = lt_.preference_set(preference_, attribute, &kAlignment, sizeof(kAlignment));
    }
    return CheckLt(lt_, status, "cublasLtMatmulPreferenceSetAttribute");
  }

  const CublasLtFunctions& lt_;
  cublasLtHandle_t handle_;
  MatmulProblem problem_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t weight_ = nullptr;
  cublasLtMatrixLayout_t x_ = nullptr;
  cublasLtMatrixLayout_t residual_ = nullptr;  // C; of y's shape
  cublasLtMatrixLayout_t y_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  cublasLtMatmulAlgo_t algo_ = {};
  size_t workspace_bytes_ = 0;
};

template <typename Function>
bool Resolve(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
  return *function != nullptr;
}

Status ResolveAll(void* library, CublasLtFunctions* lt) {
  const char* missing = nullptr;
#define TRIREME_RESOLVE(member, name) \
  if (!Resolve(library, #name, &lt->member)) missing = #name
  TRIREME_RESOLVE(create, cublasLtCreate);
  TRIREME_RESOLVE(destroy, cublasLtDestroy);
  TRIREME_RESOLVE(get_version, cublasLtGetVersion);
  TRIREME_RESOLVE(get_status_string, cublasLtGetStatusString);
  TRIREME_RESOLVE(matmul, cublasLtMatmul);
  TRIREME_RESOLVE(desc_create, cublasLtMatmulDescCreate);
  TRIREME_RESOLVE(desc_destroy, cublasLtMatmulDescDestroy);
  TRIREME_RESOLVE(desc_set, cublasLtMatmulDescSetAttribute);
  TRIREME_RESOLVE(layout_create, cublasLtMatrixLayoutCreate);
  TRIREME_RESOLVE(layout_destroy, cublasLtMatrixLayoutDestroy);
  TRIREME_RESOLVE(layout_set, cublasLtMatrixLayoutSetAttribute);
  TRIREME_RESOLVE(preference_create, cublasLtMatmulPreferenceCreate);
  TRIREME_RESOLVE(preference_destroy, cublasLtMatmulPreferenceDestroy);
  TRIREME_RESOLVE(preference_set, cublasLtMatmulPreferenceSetAttribute);
  TRIREME_RESOLVE(get_heuristic, cublasLtMatmulAlgoGetHeuristic);
  TRIREME_RESOLVE(algo_check, cublasLtMatmulAlgoCheck);
#undef TRIREME_RESOLVE
  if (missing != nullptr) return FailedPrecondition("cublaslt: the library lacks {}", missing);
  return OkStatus();
}

StatusOr<void*> OpenLibrary(const std::string& path) {
  std::vector<std::string> names = {"libcublasLt.so.13", "/usr/local/cuda/lib64/libcublasLt.so.13",
                                    "/usr/local/cuda/lib/libcublasLt.so.13"};
  if (!path.empty()) names = {path};
  std::string reason;
  for (const std::string& name : names) {
    if (void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
    if (reason.empty()) reason = dlerror();
  }
  return FailedPrecondition(
      "cuBLASLt 13 is needed for linear layers and was not found ({}); install the CUDA 13 "
      "libraries or put the folder of libcublasLt.so.13 on LD_LIBRARY_PATH",
      reason);
}

}  // namespace

StatusOr<std::unique_ptr<CublasLt>> CublasLt::Open(const std::string& path) {
  // Never closed: the library registers handlers that outlive any handle.
  TRIREME_ASSIGN_OR_RETURN(void* library, OpenLibrary(path));
  std::unique_ptr<CublasLt> cublaslt(new CublasLt());
  cublaslt->functions_ = std::make_unique<CublasLtFunctions>();
  TRIREME_RETURN_IF_ERROR(ResolveAll(library, cublaslt->functions_.get()));
  cublasLtHandle_t handle = nullptr;
  TRIREME_RETURN_IF_ERROR(
      CheckLt(*cublaslt->functions_, cublaslt->functions_->create(&handle), "cublasLtCreate"));
  cublaslt->handle_ = handle;
  return cublaslt;
}

CublasLt::~CublasLt() {
  if (handle_ != nullptr) functions_->destroy(static_cast<cublasLtHandle_t>(handle_));
}

int64_t CublasLt::version() const { return static_cast<int64_t>(functions_->get_version()); }

StatusOr<std::vector<std::string>> CublasLt::Candidates(const MatmulProblem& problem,
                                                        int limit) const {
  Matmul matmul(*functions_, handle_, problem);
  TRIREME_RETURN_IF_ERROR(matmul.Create());
  TRIREME_ASSIGN_OR_RETURN(const auto results, matmul.Heuristic(limit));
  std::vector<std::string> algorithms;
  algorithms.reserve(results.size());
  for (const auto& result : results) algorithms.push_back(ToHex(result.algo));
  return algorithms;
}

StatusOr<std::unique_ptr<CublasLtMatmul>> CublasLt::Bind(const MatmulProblem& problem,
                                                         const std::string& algorithm) const {
  auto matmul = std::make_unique<Matmul>(*functions_, handle_, problem);
  TRIREME_RETURN_IF_ERROR(matmul->Create());
  TRIREME_RETURN_IF_ERROR(matmul->Choose(algorithm));
  return std::unique_ptr<CublasLtMatmul>(std::move(matmul));
}

}  // namespace trireme::cuda
