#pragma once

// The encoder: embeddings and a stack of layers over packed sequences, one for every family.
//
// An Encoder owns its weights on the device, is immutable after Load and thread-safe; `backend`
// must outlive it. An EncoderWorkspace is the device memory of one batch in flight, used by one
// thread at a time. Running allocates nothing. The caller steps through the layers itself, so that
// it can look at (or copy) the hidden states in between:
//
//   Embed(...); for (i < num_layers) Layer(i, ...);      hidden states in workspace.hidden(T)
//
// In float8 all is the same but for the memory: layers whose weights say so
// (PackedLinear::input_scale) read float8, and who computes their input is asked for it
// (NarrowOutput).

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "models/checkpoint/weight_loader.h"
#include "models/config/encoder_config.h"
#include "models/encoder/distances.h"
#include "models/encoder/encoder_memory.h"
#include "models/encoder/float8_inputs.h"

namespace bertrand {

// The memory of one of the sequences, and the rows of it that go into the memory after each layer:
// int32 [m], of keys and of values in qkv taken as [3 T, hidden].
struct BatchMemory {
  EncoderMemory* memory = nullptr;
  size_t sequence = 0;
  TensorView key_rows, value_rows;

  int64_t num_rows() const { return key_rows.dim(0); }
};

// Device views of one packed batch of T tokens and n sequences.
struct EncoderBatch {
  TensorView ids, position_ids, type_ids;    // int32 [T]
  TensorView cu_seqlens;                     // int32 [n+1]
  std::span<const int32_t> cu_seqlens_host;  // the same on the host
  std::span<const BatchMemory> memories;     // of sequences that have one

  int64_t num_tokens() const { return ids.dim(0); }
};

class Encoder;

class EncoderWorkspace {
 public:
  // For batches of at most `max_tokens` tokens in `max_sequences` sequences; with relative
  // positions, of at most max_tokens tokens together with their memory.
  static absl::StatusOr<EncoderWorkspace> Create(const Backend& backend, const Encoder& encoder,
                                                 int64_t max_tokens, int64_t max_sequences);

  // From now on `maxima` keep the largest magnitudes of what the blocks read: one for each of
  // Encoder::num_blocks(). They must outlive the workspace. Requires a backend whose memory is the
  // host's.
  void Observe(std::span<BlockInputs> maxima) { observed_ = maxima; }

  // Gives rows that no sequence has, which attention leaves as they are, numbers to begin with.
  absl::Status Clear(const Backend& backend, Stream& stream) const;

  // [num_tokens, hidden_size]: the hidden states.
  TensorView hidden(int64_t num_tokens) const { return View(*hidden_, {num_tokens, hidden_size_}); }

 private:
  friend class Encoder;
  EncoderWorkspace() = default;
  TensorView View(const Buffer& buffer, std::initializer_list<int64_t> shape) const {
    return {buffer.data(), dtype_, shape};
  }
  // In float8; absent where there is no such memory.
  static TensorView Narrow(const std::unique_ptr<Buffer>& buffer,
                           std::initializer_list<int64_t> shape) {
    return buffer == nullptr ? TensorView() : TensorView(buffer->data(), DType::kFloat8, shape);
  }

  DType dtype_{};
  int64_t hidden_size_ = 0;
  std::unique_ptr<Buffer> hidden_;  // [T, hidden]
  // [T, hidden]: attention's output, in float8 where its reader wants that.
  std::unique_ptr<Buffer> context_;
  // [T, widest]: the embeddings before their projection, QKV, the inner states.
  std::unique_ptr<Buffer> wide_;
  // Of an encoder in float8: the hidden states [T, hidden] and the inner states [T, intermediate]
  // once more, as products read them.
  std::unique_ptr<Buffer> narrow_hidden_, narrow_inner_;
  std::span<BlockInputs> observed_;  // empty: nobody looks

  // Relative positions.
  std::vector<AttentionMemory> attention_memory_;  // of the batch's sequences; room for all
  DistanceReach reach_;                            // of the batch
  bool is_stored_ = true;                          // whether the blocks' own tables have it
  // For longer sequences than those have, sinusoids [2 max_tokens - 1, hidden] about the distance
  // 0 in the middle, as far as there was need of them; and their products, by turns for each block.
  std::unique_ptr<Buffer> sinusoids_, distances_;
  DistanceReach filled_{0, -1};
  int64_t sinusoids_center_ = 0;
  std::vector<float> sinusoid_rows_;  // some, on their way to the device
};

class Encoder {
 public:
  // Every name and shape is checked before any memory is made. `files_note` gets a line about
  // tensors that are in the files and of no use, if there are any. With `float8`, num_blocks() of
  // them, the blocks' products are in float8.
  static absl::StatusOr<std::unique_ptr<Encoder>> Load(
      const EncoderConfig& config, const EncoderNames& names, const WeightFiles& files,
      const Backend& backend, std::string* files_note, std::span<const BlockInputs> float8 = {});

  const EncoderConfig& config() const { return config_; }
  bool is_float8() const { return is_float8_; }
  // With weights of their own.
  size_t num_blocks() const { return blocks_.size(); }
  uint64_t num_parameters() const { return num_parameters_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  bool has_pooler() const { return pooler_ != nullptr; }

  // Whether Embed and Layer do the same for all batches of the same sizes, at the same addresses,
  // without memories and with no sequence longer than `longest`.
  bool HasFixedWork(int64_t longest) const {
    return !config_.is_relative() || IsStored(config_, {longest - 1, longest - 1});
  }

  // hidden = LayerNorm(word + position + token type), projected where there is a projection.
  absl::Status Embed(Stream& stream, const EncoderBatch& batch, EncoderWorkspace& workspace) const;
  // hidden = layer `index` of hidden. The batch's memories get the rows of this layer; they have
  // advanced only when the caller says so, after the last layer.
  absl::Status Layer(Stream& stream, int64_t index, const EncoderBatch& batch,
                     EncoderWorkspace& workspace) const;
  // y = activation(x W^T + b) of the tokens that the pooler reads; x, y [R, hidden], apart.
  // Requires has_pooler().
  absl::Status Pool(Stream& stream, const TensorView& x, const TensorView& y) const;

 private:
  struct BlockWeights {
    std::unique_ptr<PackedLinear> qkv;   // [3 hidden, hidden]
    std::unique_ptr<PackedLinear> out;   // [hidden, hidden]
    std::unique_ptr<PackedLinear> up;    // [intermediate, hidden]
    std::unique_ptr<PackedLinear> down;  // [hidden, intermediate]
    NormWeights attention_norm, output_norm;
    // Relative positions.
    std::unique_ptr<PackedLinear> distance;  // [hidden, hidden]
    DeviceTensor content_bias, position_bias, segment_bias, segments;
    DeviceTensor distances;  // [StoredReach().num_rows(), heads, head_size]
  };

  Encoder(const EncoderConfig& config, const Backend& backend, bool is_float8)
      : config_(config),
        backend_(backend),
        is_float8_(is_float8),
        sinusoids_(config.is_relative() ? config.hidden_size : 0, config.distance_max) {}
  // "groups.{}.layers.{}.ffn" of 3 and 0: "groups.3.layers.0.ffn". The second may be missing.
  static std::string BlockName(std::string_view pattern, int64_t group, int64_t index);
  absl::Status LoadWeights(const EncoderNames& names, WeightLoader& loader,
                           std::span<const BlockInputs> float8);
  absl::Status LoadTables(const EncoderNames& names, WeightLoader& loader);
  // `inputs`: of the block, all 0 where it is not in float8.
  absl::StatusOr<BlockWeights> LoadBlock(const EncoderNames& names, int64_t group, int64_t index,
                                         const BlockInputs& inputs, WeightLoader& loader) const;
  absl::Status LoadRelative(const EncoderNames& names, int64_t group, int64_t index,
                            const BlockInputs& inputs, WeightLoader& loader,
                            BlockWeights* block) const;
  absl::Status StoreDistances();
  // Sinusoids of keys `first` to `last` tokens ahead, to rows of `to` that begin at `row`; `memory`
  // is for as many as are copied at once.
  absl::Status UploadSinusoids(int64_t first, int64_t last, const Buffer& to, int64_t row,
                               std::vector<float>& memory) const;
  // Of the block that runs in a `place`, counted over all layers; none after the last.
  std::optional<size_t> BlockIndex(int64_t place) const;
  // Where the hidden states go in float8 for the block in a place, if that reads them so.
  NarrowOutput HiddenFor(int64_t place, const TensorView& narrow) const;
  absl::Status RunBlock(Stream& stream, int64_t place, const EncoderBatch& batch,
                        EncoderWorkspace& workspace) const;
  absl::Status Attend(Stream& stream, const BlockWeights& block, const EncoderBatch& batch,
                      EncoderWorkspace& workspace) const;
  // Where attention's output goes: one of the two, as the block reads it.
  std::pair<TensorView, NarrowOutput> ContextFor(const BlockWeights& block, int64_t tokens,
                                                 const EncoderWorkspace& workspace) const;
  absl::Status AttendRelative(Stream& stream, const BlockWeights& block, int64_t place,
                              const EncoderBatch& batch, EncoderWorkspace& workspace) const;
  absl::Status PrepareDistances(const EncoderBatch& batch, EncoderWorkspace& workspace) const;
  absl::Status Remember(Stream& stream, int64_t place, const EncoderBatch& batch,
                        EncoderWorkspace& workspace) const;
  RowNorm RowNormOf(const NormWeights& norm) const;

  EncoderConfig config_;
  const Backend& backend_;
  const bool is_float8_;
  const Sinusoids sinusoids_;
  DeviceTensor word_, position_, token_type_;
  NormWeights embedding_norm_;
  std::unique_ptr<PackedLinear> projection_;
  std::vector<BlockWeights> blocks_;  // [num_groups, blocks_per_layer]
  std::unique_ptr<PackedLinear> pooler_;
  uint64_t num_parameters_ = 0, weight_bytes_ = 0;
};

}  // namespace bertrand
