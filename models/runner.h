#pragma once

// ModelRunner over an encoder and an embedding head: packs a batch, runs it, distributes the
// results.
//
// What a batch needs on the device besides weights is one block of int32, copied at once:
//
//   ids [T] | positions [T] | token types [T] | cu_seqlens [n+1] | memory rows [<= 2 T]
//     | start [R] | begin [R] | end [R] | document start [R]
//
// each part beginning at a multiple of 256 bytes. Memory rows are those of qkv that go into the
// sequences' memories: keys then values of each (models/encoder/encoder.h: BatchMemory). R are the
// sequences that want one vector, in the order of their groups (same pooling, same normalisation),
// so that a group is a range of rows.
//
// One thread at a time. `encoder`, `head` and `backend` must outlive the runner.

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/backend.h"
#include "models/encoder/encoder.h"
#include "models/head_runner.h"
#include "models/model.h"
#include "models/task/embed.h"

namespace bertrand {

class PackedRunner : public ModelRunner {
 public:
  // `heads` may be null: then no output may want one.
  static absl::StatusOr<std::unique_ptr<ModelRunner>> Create(
      const Encoder& encoder, const EmbedHead& head, const Backend& backend, int64_t max_tokens,
      int64_t max_sequences, const TaskHeads* heads = nullptr);

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
  void PackTokens(std::span<const SequenceWork> batch, int64_t num_tokens);
  void PackMemories(std::span<const SequenceWork> batch);
  void PackGroups(std::span<const SequenceWork> batch);
  void PackRow(const SequenceWork& work, size_t index);
  // The sequences' memories have what was written for them.
  void AdvanceMemories();
  int64_t LastLayer(std::span<const SequenceWork> batch) const;
  absl::Status RunEncoder(std::span<const SequenceWork> batch);
  absl::Status CopyLayer(std::span<const SequenceWork> batch, int64_t layer);
  absl::Status RunGroup(const Group& group, std::span<const SequenceWork> batch);

  const Encoder& encoder_;
  const EmbedHead& head_;
  const Backend& backend_;
  const int64_t max_tokens_, max_sequences_;
  EncoderWorkspace encoder_workspace_;
  EmbedWorkspace embed_workspace_;
  std::unique_ptr<HeadRunner> head_runner_;  // null: no heads
  std::unique_ptr<Stream> stream_;

  std::unique_ptr<Buffer> block_;
  std::vector<int32_t> host_block_;  // empty where the device's memory is the host's
  int64_t block_used_ = 0;           // of the current batch
  std::vector<BatchMemory> memories_;
  std::vector<EmbedSegment> segments_;  // those of a group in a row

  // The current batch.
  EncoderBatch packed_;
  Part start_, begin_, end_, document_start_;
  std::vector<int64_t> row_sequence_;  // row of a group -> index in the batch
  std::vector<Group> groups_;
};

}  // namespace bertrand
