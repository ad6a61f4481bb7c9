// Cases of the kernels that memory bounds.

#include <string>

#include "kernels/bias_activation/bias_activation.h"
#include "kernels/embedding/embedding.h"
#include "kernels/gemm/gemv.h"
#include "kernels/gpu/copy.h"
#include "kernels/layer_norm/layer_norm.h"
#include "kernels/pooling/pooling.h"
#include "kernels/scores/scores.h"
#include "kernels/span/span.h"
#include "tests/gpu/kernel_cases.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

constexpr float kEpsilon = 1e-12f;

// Widths of embeddings, hidden layers and the layer between.
struct Widths {
  const char* name;
  int64_t embedding, hidden, inner;
};
constexpr Widths kBase = {"bert-base", 768, 768, 3072};
constexpr Widths kLarge = {"bert-large", 1024, 1024, 4096};
constexpr Widths kMini = {"minilm-l6", 384, 384, 1536};
constexpr Widths kAlbert = {"albert-base", 128, 768, 3072};

class RowCases {
 public:
  RowCases(CaseSizes sizes, std::vector<KernelCase>& cases)
      : tiny_(sizes == CaseSizes::kTiny),
        vocabulary_(tiny_ ? 1500 : 30522),
        loads_{SingleLoad(sizes), SquadLoad(sizes)},
        mixed_(MixedLoad(sizes)),
        cases_(cases) {}

  void AddAll() {
    for (const CaseLoad& load : loads_) {
      for (const Widths& widths : {kBase, kLarge, kMini, kAlbert}) AddEmbedding(widths, load);
      for (const Widths& widths : {kBase, kLarge, kMini}) {
        AddLayerNorm(widths, load, DType::kFloat16, true, false);
        AddBiasActivation(widths, load, DType::kFloat16, Activation::kGeluErf);
      }
      AddPool(kMini, load, PoolingMode::kMean);
      AddNormalize(kMini, load);
      AddGemv("qa", load.tokens(), 2);
      AddSparsePool(load);
    }
    AddLayerNorm(kBase, mixed_, DType::kFloat16, true, false);
    AddLayerNorm(kBase, loads_[1], DType::kFloat16, false, false);
    AddLayerNorm(kBase, loads_[1], DType::kBFloat16, true, false);
    AddLayerNorm(kMini, loads_[1], DType::kFloat32, true, false);
    AddLayerNorm(kLarge, loads_[1], DType::kFloat16, true, true);
    AddLayerNormSplits(kBase, loads_[0], 8);
    AddBiasActivation(kAlbert, loads_[1], DType::kFloat16, Activation::kGeluTanh);
    AddPool(kMini, mixed_, PoolingMode::kMean);
    AddPool(kBase, loads_[1], PoolingMode::kMax);
    AddPool(kBase, loads_[1], PoolingMode::kCls);
    AddGather(kBase, loads_[1]);
    AddGemv("classifier", loads_[1].sequences(), 3);
    AddGemv("entities", loads_[1].tokens(), 9);
    AddSoftmax("entities", loads_[1].tokens(), 9);
    AddSoftmax("masked", loads_[1].sequences(), vocabulary_);
    AddTopK(1, 5);
    AddTopK(loads_[1].sequences(), 5);
    AddBestSpans(loads_[0]);
    AddBestSpans(loads_[1]);
    AddBiasActivation(kLarge, loads_[1], DType::kFloat16, Activation::kGeluErf, true);
    AddConvert(kBase, loads_[1]);
    AddCheckFinite(kBase, loads_[1]);
  }

 private:
  KernelCase& Add(const char* kernel, const std::string& what, DType dtype,
                  const std::string& shape) {
    KernelCase& added = cases_.emplace_back();
    added.kernel = kernel;
    added.name = what + "/" + Name(dtype);
    added.shape = shape;
    added.dtype = dtype;
    return added;
  }

  static std::string Rows(int64_t rows, int64_t width) {
    return std::to_string(rows) + " x " + std::to_string(width);
  }

  void AddEmbedding(const Widths& widths, const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t tokens = load.tokens(), width = widths.embedding, vocabulary = vocabulary_;
    KernelCase& added = Add("embedding", std::string("embedding/") + widths.name + "/" + load.name,
                            dtype, Rows(tokens, width));
    // The word's row and the result; other tables stay in the caches. Three ids.
    added.bytes = static_cast<double>(tokens) * (2 * static_cast<double>(width) * 2 + 12);
    added.make = [=](Operands& o) -> CaseLaunch {
      EmbeddingParams p;
      p.ids = o.Ids(tokens, vocabulary);
      std::vector<int32_t> positions;
      for (const int32_t length : load.lengths) {
        for (int32_t i = 0; i < length; ++i) positions.push_back(i);
      }
      p.position_ids = o.Ints(std::move(positions));
      p.type_ids = o.Ids(tokens, 2);
      p.word = o.Random(dtype, {vocabulary, width});
      p.position = o.Random(dtype, {512, width});
      p.type = o.Random(dtype, {2, width});
      p.gamma = o.Random(dtype, {width});
      p.beta = o.Random(dtype, {width});
      p.eps = kEpsilon;
      p.y = o.Output(dtype, {tokens, width});
      return [p](simt::Stream& stream) { return Embedding(p, stream); };
    };
  }

  // Of sums that a product of few rows has left in parts.
  void AddLayerNormSplits(const Widths& widths, const CaseLoad& load, int64_t splits) {
    constexpr DType kHalf = DType::kFloat16;
    const int64_t rows = load.tokens(), width = widths.hidden;
    const std::string name = std::string("layer_norm_splits/") + widths.name + "/" + load.name;
    KernelCase& added =
        Add("layer_norm", name, kHalf, std::to_string(splits) + " splits of " + Rows(rows, width));
    added.bytes = static_cast<double>(rows * width * (4 * splits + 4));
    added.make = [=](Operands& o) -> CaseLaunch {
      LayerNormParams p;
      p.splits = o.Random(DType::kFloat32, {splits, rows, width});
      p.residual = o.Random(kHalf, {rows, width});
      for (TensorView* row : {&p.bias, &p.gamma, &p.beta}) *row = o.Random(kHalf, {width});
      p.eps = kEpsilon;
      p.y = o.Output(kHalf, {rows, width});
      return [=](simt::Stream& stream) { return LayerNorm(p, stream); };
    };
  }

  void AddLayerNorm(const Widths& widths, const CaseLoad& load, DType dtype, bool residual,
                    bool quantise) {
    const int64_t rows = load.tokens(), width = widths.hidden;
    const std::string name = std::string(residual ? "layer_norm_residual" : "layer_norm") +
                             (quantise ? "_float8/" : "/") + widths.name + "/" + load.name;
    KernelCase& added = Add("layer_norm", name, dtype, Rows(rows, width));
    const auto values = static_cast<double>(rows * width);
    added.bytes =
        values * static_cast<double>(SizeOf(dtype)) * (residual ? 3 : 2) + (quantise ? values : 0);
    added.make = [=](Operands& o) -> CaseLaunch {
      LayerNormParams p;
      p.x = o.Random(dtype, {rows, width});
      if (residual) p.residual = o.Random(dtype, {rows, width});
      p.gamma = o.Random(dtype, {width});
      p.beta = o.Random(dtype, {width});
      p.eps = kEpsilon;
      p.y = o.Output(dtype, {rows, width});
      if (quantise) {
        p.y8 = o.Output(DType::kFloat8, {rows, width});
        p.y8_scale = o.Scalar(0.02f);
      }
      return [p](simt::Stream& stream) { return LayerNorm(p, stream); };
    };
  }

  void AddBiasActivation(const Widths& widths, const CaseLoad& load, DType dtype,
                         Activation activation, bool quantise = false) {
    const int64_t rows = load.tokens(), width = widths.inner;
    const std::string name =
        std::string(activation == Activation::kGeluErf ? "bias_gelu_erf" : "bias_gelu_tanh") +
        (quantise ? "_float8/" : "/") + widths.name + "/" + load.name;
    KernelCase& added = Add("bias_activation", name, dtype, Rows(rows, width));
    const DType result = quantise ? DType::kFloat8 : dtype;
    added.bytes =
        static_cast<double>(rows * width) * static_cast<double>(SizeOf(dtype) + SizeOf(result));
    added.make = [=](Operands& o) -> CaseLaunch {
      BiasActivationParams p = {o.Random(dtype, {rows, width}), o.Random(dtype, {width}),
                                activation, TensorView(), o.Output(result, {rows, width})};
      if (quantise) p.y_scale = o.Scalar(0.02f);
      return [p](simt::Stream& stream) { return BiasActivation(p, stream); };
    };
  }

  // Windows of nothing but context, and transformers' default of 12 spans up to 15 tokens.
  void AddBestSpans(const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t tokens = load.tokens(), sequences = load.sequences();
    KernelCase& added = Add("span", "best_spans/" + load.name, dtype, load.ToString());
    added.bytes = static_cast<double>(tokens) * 8;
    added.make = [=](Operands& o) -> CaseLaunch {
      std::vector<int32_t> first;
      for (int32_t i = 0; i <= sequences; ++i) first.push_back(13 * i);
      const auto same = [&](int64_t count, int32_t value) {
        return o.Ints(std::vector<int32_t>(static_cast<size_t>(count), value));
      };
      SpanParams p;
      p.logits = o.Random(dtype, {tokens, 2});
      p.masked = same(tokens, 0);
      p.cu_seqlens = o.Ints(load.cu_seqlens());
      p.null_tokens = same(sequences, 0);
      p.tokens_max = same(sequences, 15);
      p.first = o.Ints(first);
      p.spans = o.Output(DType::kInt32, {13 * sequences, 3});
      void* const workspace = o.Workspace(SpanWorkspaceBytes(tokens));
      return [p, workspace](simt::Stream& stream) { return BestSpans(p, workspace, stream); };
    };
  }

  void AddPool(const Widths& widths, const CaseLoad& load, PoolingMode mode) {
    const DType dtype = DType::kFloat16;
    const int64_t rows = load.tokens(), sequences = load.sequences(), width = widths.hidden;
    const bool cls = mode == PoolingMode::kCls;
    const std::string what = cls                         ? "pool_cls/"
                             : mode == PoolingMode::kMax ? "pool_max/"
                                                         : "pool_mean/";
    KernelCase& added = Add("pooling", what + widths.name + "/" + load.name, dtype,
                            Rows(rows, width) + " to " + std::to_string(sequences) + " rows");
    added.bytes = static_cast<double>(((cls ? sequences : rows) + sequences) * width) * 2;
    added.make = [=](Operands& o) -> CaseLaunch {
      const std::vector<int32_t> sums = load.cu_seqlens();
      PoolParams p;
      p.x = o.Random(dtype, {rows, width});
      p.begin = o.Ints({sums.begin(), sums.end() - 1});
      p.end = o.Ints({sums.begin() + 1, sums.end()});
      p.weight_begin = o.Ints({sums.begin(), sums.end() - 1});
      p.mode = mode;
      p.out = o.Output(dtype, {sequences, width});
      return [p](simt::Stream& stream) { return Pool(p, stream); };
    };
  }

  void AddNormalize(const Widths& widths, const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t rows = load.sequences(), width = widths.hidden;
    KernelCase& added = Add("pooling", std::string("normalize/") + widths.name + "/" + load.name,
                            dtype, Rows(rows, width));
    added.bytes = static_cast<double>(rows * width) * 4;
    added.make = [=](Operands& o) -> CaseLaunch {
      const NormalizeParams p = {o.Random(dtype, {rows, width})};
      return [p](simt::Stream& stream) { return Normalize(p, stream); };
    };
  }

  void AddGather(const Widths& widths, const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t tokens = load.tokens(), rows = load.sequences(), width = widths.hidden;
    KernelCase& added = Add("pooling", std::string("gather/") + widths.name + "/" + load.name,
                            dtype, Rows(rows, width));
    added.bytes = static_cast<double>(rows * width) * 4;
    added.make = [=](Operands& o) -> CaseLaunch {
      const GatherParams p = {o.Random(dtype, {tokens, width}), o.Ids(rows, tokens), 0,
                              o.Output(dtype, {rows, width})};
      return [p](simt::Stream& stream) { return Gather(p, stream); };
    };
  }

  void AddGemv(const char* head, int64_t rows, int64_t outputs) {
    const DType dtype = DType::kFloat16;
    const int64_t width = kBase.hidden;
    KernelCase& added = Add("gemm", std::string("gemv/") + head + "/" + std::to_string(rows), dtype,
                            Rows(rows, width) + " to " + std::to_string(outputs));
    added.bytes = static_cast<double>(rows * (width + outputs) + outputs * width) * 2;
    added.make = [=](Operands& o) -> CaseLaunch {
      GemvParams p;
      p.x = o.Random(dtype, {rows, width});
      p.weight = o.Random(dtype, {outputs, width}, -5);
      p.bias = o.Random(dtype, {outputs});
      p.y = o.Output(dtype, {rows, outputs});
      return [p](simt::Stream& stream) { return Gemv(p, stream); };
    };
  }

  void AddSoftmax(const char* head, int64_t rows, int64_t columns) {
    const DType dtype = DType::kFloat16;
    KernelCase& added = Add("scores", std::string("softmax/") + head, dtype, Rows(rows, columns));
    added.bytes = static_cast<double>(rows * columns) * 4;
    added.make = [=](Operands& o) -> CaseLaunch {
      const SoftmaxParams p = {o.Random(dtype, {rows, columns})};
      void* const workspace = o.Workspace(SoftmaxWorkspaceBytes(rows, columns) + 8);
      return [p, workspace](simt::Stream& stream) { return Softmax(p, workspace, stream); };
    };
  }

  void AddTopK(int64_t rows, int64_t k) {
    const DType dtype = DType::kFloat16;
    const int64_t columns = vocabulary_;
    KernelCase& added = Add("scores", "top_k/masked/" + std::to_string(rows), dtype,
                            Rows(rows, columns) + ", the first " + std::to_string(k));
    added.bytes = static_cast<double>(rows * (columns * 2 + k * 6));
    added.make = [=](Operands& o) -> CaseLaunch {
      const TopKParams p = {o.Random(dtype, {rows, columns}), TensorView(),
                            o.Output(dtype, {rows, k}), o.Output(DType::kInt32, {rows, k})};
      return [p](simt::Stream& stream) { return TopK(p, stream); };
    };
  }

  // A sequence's rows at a time.
  void AddSparsePool(const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t rows = load.lengths[0], columns = vocabulary_;
    KernelCase& added =
        Add("scores", "sparse_pool/" + std::to_string(rows), dtype, Rows(rows, columns));
    added.bytes = static_cast<double>((rows + 2) * columns) * 2;
    added.make = [=](Operands& o) -> CaseLaunch {
      SparsePoolParams p;
      p.x = o.Random(dtype, {rows, columns});
      p.y = o.Zeros(dtype, {columns});
      return [p](simt::Stream& stream) { return SparsePool(p, stream); };
    };
  }

  void AddConvert(const Widths& widths, const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t rows = load.tokens(), width = widths.hidden;
    KernelCase& added = Add("gpu", std::string("convert/") + widths.name + "/" + load.name, dtype,
                            Rows(rows, width) + " to float32");
    added.bytes = static_cast<double>(rows * width) * 6;
    added.make = [=](Operands& o) -> CaseLaunch {
      const TensorView from = o.Random(dtype, {rows, width});
      const TensorView to = o.Output(DType::kFloat32, {rows, width});
      return [=](simt::Stream& stream) { return Convert(from, to, stream); };
    };
  }

  void AddCheckFinite(const Widths& widths, const CaseLoad& load) {
    const DType dtype = DType::kFloat16;
    const int64_t rows = load.tokens(), width = widths.hidden;
    KernelCase& added = Add("gpu", std::string("check_finite/") + widths.name + "/" + load.name,
                            dtype, Rows(rows, width));
    added.bytes = static_cast<double>(rows * width) * 2;
    added.make = [=](Operands& o) -> CaseLaunch {
      const TensorView x = o.Random(dtype, {rows, width});
      const TensorView flag = o.Ints({0});
      return [=](simt::Stream& stream) { return CheckFinite(x, flag, stream); };
    };
  }

  bool tiny_;
  int64_t vocabulary_;
  CaseLoad loads_[2];
  CaseLoad mixed_;
  std::vector<KernelCase>& cases_;
};

}  // namespace

void AddRowCases(CaseSizes sizes, std::vector<KernelCase>& cases) {
  RowCases(sizes, cases).AddAll();
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
