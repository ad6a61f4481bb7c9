#pragma once

// ModelRunner over an encoder and an embedding head: packs a batch, runs it, distributes the
// results.
//
// What a batch needs on the device besides weights is one block of int32, copied at once:
//
//   ids [T] | positions [T] | token types [T] | cu_seqlens [n+1] | memory rows [<= 2 T]
//     | start [R] | begin [R] | end [R] | document start [R]
//
// each part beginning at a multiple of 256 bytes, so that parts of a shape that is replayed
// (models/replay_shape.h) have the same addresses every time. Memory rows are those of qkv that go
// into the sequences' memories: keys then values of each (models/encoder/encoder.h: BatchMemory). R
// are the sequences that want one vector, in the order of their groups (same pooling, same
// normalisation), so that a group is a range of rows.
//
// One thread at a time. `encoder`, `head` and `backend` must outlive the runner.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/encoder/encoder.h"
#include "models/head_runner.h"
#include "models/model.h"
#include "models/replay_shape.h"
#include "models/task/embed.h"

namespace bertrand {

class PackedRunner : public ModelRunner {
 public:
  // `heads` may be null: then no output may want one. `observed`, if not empty:
  // EncoderWorkspace::Observe.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(
      const Encoder& encoder, const EmbedHead& head, const Backend& backend, int64_t max_tokens,
      int64_t max_sequences, const TaskHeads* heads = nullptr,
      std::span<BlockInputs> observed = {});

  absl::Status Forward(std::span<const SequenceWork> batch) override;

 private:
  // One part of the block, on the host and on the device.
  struct Part {
    int32_t* host = nullptr;
    TensorView device;
  };
  // Rows [first_row, first_row + num_rows) of start, begin and end.
  struct Group {
    std::optional<PoolingChoice> pooling;
    bool normalize = false;
    int64_t first_row = 0, num_rows = 0;
    size_t first_segment = 0, num_segments = 0;
  };

  PackedRunner(const Encoder& encoder, const EmbedHead& head, const Backend& backend,
               int64_t max_tokens, int64_t max_sequences, EncoderWorkspace encoder_workspace,
               EmbedWorkspace embed_workspace);

  absl::Status Check(std::span<const SequenceWork> batch, int64_t* num_tokens) const;
  absl::Status CheckMemory(std::span<const SequenceWork> batch, size_t index) const;
  absl::Status CheckOutputs(const SequenceWork& work, size_t index) const;
  Part NextPart(int64_t size);
  std::optional<ReplayShape> ChooseShape(std::span<const SequenceWork> batch) const;
  void PackTokens(std::span<const SequenceWork> batch);
  void PackMemories(std::span<const SequenceWork> batch);
  void PackGroups(std::span<const SequenceWork> batch);
  void PackRow(const SequenceWork& work, size_t index);
  // The sequences' memories have what was written for them.
  void AdvanceMemories();
  int64_t LastLayer(std::span<const SequenceWork> batch) const;
  // Embeddings and all layers of what is packed.
  absl::Status RunLayers();
  absl::Status RunEncoder(std::span<const SequenceWork> batch);
  absl::Status CopyLayer(std::span<const SequenceWork> batch, int64_t layer);
  absl::Status RunGroup(const Group& group, std::span<const SequenceWork> batch);
  // Starts to ask whether the batch's hidden states are finite; flag_ says it after Synchronize.
  absl::Status StartCheck();
  // Where they are not, outputs of the sequences whose rows are not become NaN: heads may hide what
  // an overflow has made of their input (a sigmoid of infinity is 1), and the other sequences are
  // well.
  absl::Status SpoilNonFinite(std::span<const SequenceWork> batch);

  const Encoder& encoder_;
  const EmbedHead& head_;
  const Backend& backend_;
  const int64_t max_tokens_, max_sequences_;
  EncoderWorkspace encoder_workspace_;
  EmbedWorkspace embed_workspace_;
  std::unique_ptr<HeadRunner> head_runner_;  // null: no heads
  std::unique_ptr<Stream> stream_;

  std::unique_ptr<Buffer> block_;
  std::unique_ptr<Buffer> host_block_;  // null where the device's memory is the host's
  int64_t block_used_ = 0;              // of the current batch
  std::unique_ptr<Buffer> device_flag_;
  std::vector<int32_t> flag_{0};  // 1: a hidden state is infinite or NaN
  std::vector<BatchMemory> memories_;
  std::vector<EmbedSegment> segments_;  // those of a group in a row

  std::function<absl::Status()> run_layers_;

  // The current batch.
  int64_t num_tokens_ = 0;
  std::optional<ReplayShape> shape_;  // to which it is filled up; none: it runs as it is
  EncoderBatch packed_;
  Part start_, begin_, end_, document_start_;
  std::vector<int64_t> row_sequence_;    // row of a group -> index in the batch
  std::vector<std::span<float>> parts_;  // where a group's vectors go
  std::vector<Group> groups_;
};

}  // namespace bertrand
