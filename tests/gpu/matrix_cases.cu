// Cases of the kernels that multiply matrices: attention and our own GEMMs.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "kernels/attention/attention.h"
#include "kernels/attention/hopper_attention.h"
#include "kernels/gemm/gemm.h"
#include "kernels/gemm/hopper_gemm.h"
#include "kernels/gemm/small_gemm.h"
#include "kernels/relative_attention/relative_attention.h"
#include "kernels/status.h"
#include "tests/gpu/kernel_cases.h"

namespace bertrand::gpu::inline SIMT_TARGET {
namespace {

struct Heads {
  const char* name;
  int64_t count, size;
  int64_t width() const { return count * size; }
};
constexpr Heads kBase = {"bert-base", 12, 64};
constexpr Heads kLarge = {"bert-large", 16, 64};
constexpr Heads kMini = {"minilm-l6", 12, 32};
constexpr Heads kXlnet = {"xlnet-base", 12, 64};

// A linear layer's place in an encoder: what follows the product.
struct Layer {
  const char* name;
  int64_t out, in;
  Activation activation;
  bool residual;
};

KernelCase& Add(std::vector<KernelCase>& cases, const char* kernel, const std::string& what,
                DType dtype, const std::string& shape) {
  KernelCase& added = cases.emplace_back();
  added.kernel = kernel;
  added.name = what + "/" + Name(dtype);
  added.shape = shape;
  added.dtype = dtype;
  added.tensor_cores = dtype != DType::kFloat32;
  return added;
}

// Pairs of a query and a key, in all sequences.
double Pairs(const CaseLoad& load, int64_t memory) {
  double pairs = 0;
  for (const int32_t length : load.lengths) {
    pairs += double{1} * length * static_cast<double>(length + memory);
  }
  return pairs;
}

std::string Describe(const CaseLoad& load, const Heads& heads) {
  return load.ToString() + ", " + std::to_string(heads.count) + " heads of " +
         std::to_string(heads.size);
}

void AddAttention(const Heads& heads, const CaseLoad& load, DType dtype,
                  std::vector<KernelCase>& cases, AttentionTile tile = AttentionTile::kAuto,
                  bool quantise = false, bool hopper = false) {
  const char* const kind = hopper && quantise             ? "hopper_attention_float8/"
                           : hopper                       ? "hopper_attention/"
                           : quantise                     ? "attention_float8/"
                           : tile == AttentionTile::kLow  ? "attention_low/"
                           : tile == AttentionTile::kTall ? "attention_tall/"
                                                          : "attention/";
  KernelCase& added = Add(cases, "attention", std::string(kind) + heads.name + "/" + load.name,
                          dtype, Describe(load, heads));
  const int64_t tokens = load.tokens();
  const DType result = quantise ? DType::kFloat8 : dtype;
  added.bytes = static_cast<double>(tokens * heads.width()) *
                static_cast<double>(3 * SizeOf(dtype) + SizeOf(result));
  added.flops = 4 * Pairs(load, 0) * static_cast<double>(heads.width());
  if (hopper) added.hopper = true;
  added.make = [=](Operands& o) -> CaseLaunch {
    AttentionParams p;
    p.qkv = o.Random(dtype, {tokens, 3, heads.count, heads.size}, -1);
    p.cu_seqlens = o.Ints(load.cu_seqlens());
    p.scale = 1 / std::sqrt(static_cast<float>(heads.size));
    p.out = o.Output(result, {tokens, heads.count, heads.size});
    if (quantise) p.out_scale = o.Scalar(0.02f);
    p.tile = tile;
    return [=](simt::Stream& stream) {
      return hopper ? HopperAttention(p, stream) : Attention(p, stream);
    };
  };
}

// Every sequence's keys and values of `memory` rows before it, in one tensor: rings [2 * sequences,
// memory, heads, head_size].
absl::Status AddMemory(const Heads& heads, const CaseLoad& load, DType dtype, int64_t memory,
                       Operands& o, RelativeAttentionParams& p) {
  const int64_t sequences = load.sequences();
  const TensorView rows = o.Random(dtype, {2 * sequences, memory, heads.count, heads.size}, -1);
  if (!rows) return o.status();
  const size_t ring_bytes = rows.size_bytes() / static_cast<size_t>(2 * sequences);
  const auto ring = [&](int64_t index) {
    return TensorView(rows.as<char>() + static_cast<size_t>(index) * ring_bytes, dtype,
                      {memory, heads.count, heads.size});
  };
  std::vector<AttentionMemory> memories;
  for (int64_t s = 0; s < sequences; ++s) {
    memories.push_back({ring(2 * s), ring(2 * s + 1), memory / 3, memory});
  }
  std::vector<MemoryRing> rings(memories.size());
  BERTRAND_ASSIGN_OR_RETURN(p.memory_rows, DescribeMemory(memories, rings));
  std::vector<char> bytes(rings.size() * sizeof(MemoryRing));
  std::memcpy(bytes.data(), rings.data(), bytes.size());
  p.rings = static_cast<const MemoryRing*>(o.Bytes(std::move(bytes)));
  return o.status();
}

void AddRelativeAttention(const Heads& heads, const CaseLoad& load, DType dtype, int64_t memory,
                          std::vector<KernelCase>& cases) {
  const std::string what = std::string("relative_attention/") + heads.name + "/" + load.name +
                           (memory > 0 ? "-memory" : "");
  KernelCase& added =
      Add(cases, "relative_attention", what, dtype,
          Describe(load, heads) +
              (memory > 0 ? ", " + std::to_string(memory) + " rows of memory" : ""));
  const int64_t tokens = load.tokens();
  const int64_t reach = *std::max_element(load.lengths.begin(), load.lengths.end());
  const int64_t positions = 2 * reach + memory;
  added.bytes = static_cast<double>((tokens * 4 + 2 * memory * load.sequences() + positions) *
                                    heads.width()) *
                static_cast<double>(SizeOf(dtype));
  added.flops = 6 * Pairs(load, memory) * static_cast<double>(heads.width());
  added.make = [=](Operands& o) -> CaseLaunch {
    RelativeAttentionParams p;
    p.qkv = o.Random(dtype, {tokens, 3, heads.count, heads.size}, -1);
    for (TensorView* bias : {&p.content_bias, &p.position_bias, &p.segment_bias}) {
      *bias = o.Random(dtype, {heads.count, heads.size}, -1);
    }
    p.positions = o.Random(dtype, {positions, heads.count, heads.size}, -1);
    p.center = reach + memory;
    p.segments = o.Random(dtype, {2, heads.count, heads.size}, -1);
    p.type_ids = o.Ids(tokens, 2);
    p.cu_seqlens = o.Ints(load.cu_seqlens());
    p.scale = 1 / std::sqrt(static_cast<float>(heads.size));
    p.out = o.Output(dtype, {tokens, heads.count, heads.size});
    const absl::Status described =
        memory > 0 ? AddMemory(heads, load, dtype, memory, o, p) : absl::OkStatus();
    return [=](simt::Stream& stream) {
      return described.ok() ? RelativeAttention(p, stream) : described;
    };
  };
}

// A product as a case, but for what computes it. `factor`: the type of x and weight.
KernelCase& AddProduct(const char* kind, const char* model, const Layer& layer, int64_t rows,
                       DType dtype, DType factor, std::vector<KernelCase>& cases) {
  KernelCase& added =
      Add(cases, "gemm",
          std::string(kind) + "/" + model + "/" + layer.name + "/" + std::to_string(rows), factor,
          "m " + std::to_string(rows) + ", n " + std::to_string(layer.out) + ", k " +
              std::to_string(layer.in));
  const int64_t m = rows, n = layer.out, k = layer.in;
  added.bytes = static_cast<double>(m * k + n * k) * static_cast<double>(SizeOf(factor)) +
                static_cast<double>(n + m * n * (layer.residual ? 2 : 1)) *
                    static_cast<double>(SizeOf(dtype));
  added.flops = 2 * static_cast<double>(m * n) * static_cast<double>(k);
  return added;
}

GemmParams MakeProduct(const Layer& layer, int64_t m, DType dtype, DType factor, Operands& o) {
  const int64_t n = layer.out, k = layer.in;
  GemmParams p;
  p.x = o.Random(factor, {m, k});
  p.weight = o.Random(factor, {n, k}, -6);
  if (factor == DType::kFloat8) p.x_scale = p.weight_scale = o.Scalar(1.0f);
  p.bias = o.Random(dtype, {n});
  p.activation = layer.activation;
  if (layer.residual) p.residual = o.Random(dtype, {m, n});
  p.y = o.Output(dtype, {m, n});
  return p;
}

void AddHopperGemm(const char* model, const Layer& layer, int64_t rows, DType dtype, int tile,
                   std::vector<KernelCase>& cases) {
  KernelCase& added = AddProduct(tile == 0 ? "hopper_gemm" : "hopper_gemm_narrow", model, layer,
                                 rows, dtype, dtype, cases);
  added.hopper = true;
  added.make = [=](Operands& o) -> CaseLaunch {
    const GemmParams p = MakeProduct(layer, rows, dtype, dtype, o);
    return [=](simt::Stream& stream) { return HopperGemm(p, tile, stream); };
  };
}

// By a library, as it would be without tuning: the first algorithm that it proposes.
void AddPeerGemm(GemmChoice::Kind kind, const char* model, const Layer& layer, int64_t rows,
                 DType factor, std::vector<KernelCase>& cases) {
  const DType dtype = factor == DType::kFloat8 ? DType::kFloat16 : factor;
  KernelCase& added = AddProduct(kind == GemmChoice::Kind::kGraph ? "cudnn_graph" : "cublaslt",
                                 model, layer, rows, dtype, factor, cases);
  added.tensor_cores = true;
  added.peer = true;
#ifdef __CUDACC__
  constexpr size_t kWorkspaceBytes = size_t{32} << 20;
#else
  constexpr size_t kWorkspaceBytes = size_t{1} << 20;
#endif
  struct Peer {
    std::unique_ptr<Gemm> gemm;
    GemmChoice choice;
  };
  added.make = [=](Operands& o) -> CaseLaunch {
    const GemmParams p = MakeProduct(layer, rows, dtype, factor, o);
    void* const workspace = o.Workspace(kWorkspaceBytes);
    const auto peer = std::make_shared<Peer>();
    return [=](simt::Stream& stream) -> absl::Status {
      if (peer->gemm == nullptr) {
        BERTRAND_ASSIGN_OR_RETURN(auto gemm, Gemm::Create(stream.device(), {}));
        BERTRAND_RETURN_IF_ERROR(kind == GemmChoice::Kind::kGraph ? gemm->graph_status()
                                                                  : gemm->library_status());
        const std::vector<GemmChoice> choices = gemm->Candidates(p);
        const auto found =
            std::find_if(choices.begin(), choices.end(),
                         [=](const GemmChoice& choice) { return choice.kind == kind; });
        if (found == choices.end()) return Unimplemented("it does not take this product");
        peer->choice = *found;
        peer->gemm = std::move(gemm);
      }
      return peer->gemm->RunChoice(p, peer->choice, workspace, stream);
    };
  };
}

// The layer between, 8-bit: by our own kernel for any device.
void AddFloat8Gemm(const char* model, const Layer& layer, int64_t rows,
                   std::vector<KernelCase>& cases) {
  KernelCase& added =
      AddProduct("float_gemm", model, layer, rows, DType::kFloat16, DType::kFloat8, cases);
  added.tensor_cores = false;
  added.make = [=](Operands& o) -> CaseLaunch {
    const GemmParams p = MakeProduct(layer, rows, DType::kFloat16, DType::kFloat8, o);
    return [=](simt::Stream& stream) { return FloatGemm(p, stream); };
  };
}

// Hopper's own kernel, beside the same cases of the other.
void AddHopperAttention(const Heads& heads, const CaseLoad& load, DType dtype,
                        std::vector<KernelCase>& cases, bool quantise = false) {
  AddAttention(heads, load, dtype, cases, AttentionTile::kAuto, quantise, true);
}

void AddGemm(const char* model, const Layer& layer, int64_t rows, DType dtype,
             std::vector<KernelCase>& cases) {
  const bool own_float = dtype == DType::kFloat32;
  KernelCase& added =
      AddProduct(own_float ? "float_gemm" : "small_gemm", model, layer, rows, dtype, dtype, cases);
  added.make = [=](Operands& o) -> CaseLaunch {
    const GemmParams p = MakeProduct(layer, rows, dtype, dtype, o);
    if (own_float) return [p](simt::Stream& stream) { return FloatGemm(p, stream); };
    // The splits depend on the device, which only the launch knows: room for the most of them.
    constexpr int64_t kWorkspaceBytes = int64_t{16} << 20;
    const int64_t most =
        std::min(kWorkspaceBytes, SmallGemmWorkspaceBytes(p.m(), p.n(), kMaxGemmSplits));
    void* const workspace = o.Workspace(static_cast<size_t>(most));
    return [=](simt::Stream& stream) {
      const SmallGemmPlan plan =
          PlanSmallGemm(p.m(), p.n(), p.k(), stream.device().info().multiprocessors, most);
      return SmallGemm(p, plan, workspace, stream);
    };
  };
}

// The four products of an encoder's layer.
std::vector<Layer> LayersOf(int64_t hidden, int64_t inner) {
  return {
      {"qkv", 3 * hidden, hidden, Activation::kNone, false},
      {"attention-out", hidden, hidden, Activation::kNone, true},
      {"ffn-up", inner, hidden, Activation::kGeluErf, false},
      {"ffn-down", hidden, inner, Activation::kNone, true},
  };
}

void AddGemms(const char* model, int64_t hidden, int64_t inner, int64_t rows, DType dtype,
              std::vector<KernelCase>& cases) {
  for (const Layer& layer : LayersOf(hidden, inner)) AddGemm(model, layer, rows, dtype, cases);
}

// Those of large batches: our kernel for Hopper beside the libraries.
void AddLargeGemms(const char* model, int64_t hidden, int64_t inner, int64_t rows,
                   std::vector<KernelCase>& cases) {
  using Kind = GemmChoice::Kind;
  for (const Layer& layer : LayersOf(hidden, inner)) {
    AddHopperGemm(model, layer, rows, DType::kFloat16, 0, cases);
    AddPeerGemm(Kind::kLibrary, model, layer, rows, DType::kFloat16, cases);
    AddPeerGemm(Kind::kLibrary, model, layer, rows, DType::kFloat8, cases);
    if (layer.activation == Activation::kGeluErf) {
      AddPeerGemm(Kind::kGraph, model, layer, rows, DType::kFloat16, cases);
    }
  }
}

}  // namespace

void AddMatrixCases(CaseSizes sizes, std::vector<KernelCase>& cases) {
  const bool tiny = sizes == CaseSizes::kTiny;
  const CaseLoad single = SingleLoad(sizes), squad = SquadLoad(sizes), mixed = MixedLoad(sizes);
  for (const CaseLoad& load : {single, squad, mixed}) {
    for (const Heads& heads : {kBase, kLarge, kMini}) {
      AddAttention(heads, load, DType::kFloat16, cases);
      AddAttention(heads, load, DType::kFloat16, cases, AttentionTile::kLow);
      AddAttention(heads, load, DType::kFloat16, cases, AttentionTile::kTall);
    }
  }
  AddAttention(kBase, squad, DType::kBFloat16, cases);
  AddAttention({"heads-of-128", 8, 128}, squad, DType::kFloat16, cases);
  AddAttention(kLarge, squad, DType::kFloat16, cases, AttentionTile::kAuto, true);
  for (const CaseLoad& load : {single, squad, mixed}) {
    for (const Heads& heads : {kBase, kLarge, kMini}) {
      AddHopperAttention(heads, load, DType::kFloat16, cases);
    }
  }
  AddHopperAttention(kBase, squad, DType::kBFloat16, cases);
  AddHopperAttention({"heads-of-128", 8, 128}, squad, DType::kFloat16, cases);
  AddHopperAttention(kLarge, squad, DType::kFloat16, cases, true);
  AddAttention(kMini, single, DType::kFloat32, cases);
  AddAttention(kBase, squad, DType::kFloat32, cases);

  const int64_t memory = tiny ? 12 : 384;
  AddRelativeAttention(kXlnet, single, DType::kFloat16, 0, cases);
  AddRelativeAttention(kXlnet, squad, DType::kFloat16, 0, cases);
  AddRelativeAttention(kXlnet, mixed, DType::kFloat16, 0, cases);
  AddRelativeAttention(kXlnet, single, DType::kFloat16, memory, cases);
  AddRelativeAttention(kXlnet, squad, DType::kFloat16, memory, cases);
  AddRelativeAttention(kXlnet, squad, DType::kFloat32, 0, cases);

  const int64_t rows = single.tokens(), part = tiny ? 8 : 1;
  const int64_t base = 768 / part, large = 1024 / part, mini = 384 / part;
  AddGemms("bert-base", base, 4 * base, tiny ? 2 : 16, DType::kFloat16, cases);
  AddGemms("bert-base", base, 4 * base, rows, DType::kFloat16, cases);
  AddGemms("bert-large", large, 4 * large, rows, DType::kFloat16, cases);
  AddGemms("minilm-l6", mini, 4 * mini, rows, DType::kFloat16, cases);
  const Layer up = {"ffn-up", 4 * base, base, Activation::kGeluErf, false};
  AddGemm("bert-base", up, rows, DType::kBFloat16, cases);
  AddGemm("bert-base", up, rows, DType::kFloat32, cases);
  AddFloat8Gemm("bert-base", up, rows, cases);
  AddPeerGemm(GemmChoice::Kind::kGraph, "bert-base", up, rows, DType::kFloat16, cases);
  AddPeerGemm(GemmChoice::Kind::kLibrary, "bert-base", up, rows, DType::kFloat16, cases);

  const int64_t many = tiny ? 130 : squad.tokens();
  AddLargeGemms("bert-base", base, 4 * base, many, cases);
  AddLargeGemms("bert-large", large, 4 * large, many, cases);
  AddHopperGemm("bert-base", up, many, DType::kBFloat16, 0, cases);
  AddHopperGemm("bert-base", up, tiny ? 70 : 512, DType::kFloat16, 1, cases);
}

}  // namespace bertrand::gpu::inline SIMT_TARGET
