#pragma once

// The body of span.h: a block has a sequence, whose spans are the keys of a selection
// (kernels/scores/selection.cuh).
//
// Probabilities go to the workspace in two rows, starts and ends, 0 for what can be no answer, so
// that neighbouring threads, which have neighbouring starts, read neighbouring ends.

#include "kernels/gpu/row_access.cuh"
#include "kernels/scores/selection.cuh"

namespace bertrand::gpu::inline SIMT_TARGET {

template <typename T>
struct SpanKernelParams {
  Global<const T> logits;
  Global<const int32_t> masked, cu_seqlens, null_tokens, tokens_max, first;
  Global<float> probabilities;  // [2, tokens]
  Global<int32_t> spans;
  int tokens;
};

// A sequence's spans as keys: the score's bits, which are ordered as scores above 0 are, then the
// complements of start and length.
template <int kThreads>
struct SpanKeys {
  Global<const float> starts, ends;
  float largest_end;
  int size, tokens_max;

  SIMT_FN static uint64_t KeyOf(float score, int start, int more) {
    return static_cast<uint64_t>(static_cast<uint32_t>(FloatAsInt(score))) << 32 |
           static_cast<uint32_t>(0xffff - start) << 16 | static_cast<uint32_t>(0xffff - more);
  }

  template <typename Taker>
  SIMT_FN void Visit(Taker& taker) const {
    for (int s = ThreadIndex(); s < size; s += kThreads) {
      const float start = Load(starts + s), reachable = start * largest_end;
      if (!(reachable > 0) || !taker.Wants(KeyOf(reachable, s, 0))) continue;
      const int count = Min(size - s, tokens_max);
      for (int more = 0; more < count; ++more) {
        const float score = start * Load(ends + (s + more));
        if (score > 0) taker.Take(KeyOf(score, s, more));
      }
    }
  }
};

template <typename T>
struct SpanKernel {
  static constexpr const char* kName = "best_spans";
  static constexpr int kThreads = 256;
  using Params = SpanKernelParams<T>;
  using Keys = SpanKeys<kThreads>;
  using Selector = Selection<kThreads, Keys>;
  using Layout = typename Selector::Layout;
  using Pair = Vector<float, 2>;

  // Of the sequence's tokens: logits, maxima and sums of both columns.
  struct Softmax {
    Global<const T> logits;
    Global<const int32_t> masked;
    Pair max, sum;

    SIMT_FN Pair Logits(int token) const {
      if (Load(masked + token) != 0) return {{-10000.0f, -10000.0f}};
      return LoadFloats<2>(logits + 2 * static_cast<int64_t>(token));
    }
    SIMT_FN Pair Probabilities(int token) const {
      const Pair x = Logits(token);
      return {{Divide(Exp(x[0] - max[0]), sum[0]), Divide(Exp(x[1] - max[1]), sum[1])}};
    }
  };

  // `odd` becomes NaN where a logit is not finite, masked or not, else 0.
  SIMT_FN static Softmax SoftmaxOf(const Params& p, int begin, int size, float* odd) {
    const Shared<float> scratch = Scratch();
    Softmax softmax{p.logits + 2 * static_cast<int64_t>(begin), p.masked + begin, {}, {}};
    float start = -3.402823466e38f, end = start, zero = 0;
    for (int token = ThreadIndex(); token < size; token += kThreads) {
      const Pair raw = LoadFloats<2>(softmax.logits + 2 * static_cast<int64_t>(token));
      zero += (raw[0] - raw[0]) + (raw[1] - raw[1]);
      const Pair x = softmax.Logits(token);
      start = Max(start, x[0]);
      end = Max(end, x[1]);
    }
    softmax.max = {{BlockMax(start, scratch), BlockMax(end, scratch)}};
    start = end = 0;
    for (int token = ThreadIndex(); token < size; token += kThreads) {
      const Pair x = softmax.Logits(token);
      start += Exp(x[0] - softmax.max[0]);
      end += Exp(x[1] - softmax.max[1]);
    }
    softmax.sum = {{BlockSum(start, scratch), BlockSum(end, scratch)}};
    *odd = BlockSum(zero, scratch);
    return softmax;
  }

  // Writes the probabilities, 0 for what is masked and for the null token; the largest of an end.
  SIMT_FN static float StoreProbabilities(const Softmax& softmax, Global<float> starts,
                                          Global<float> ends, int size, int null_token) {
    float largest = 0;
    for (int token = ThreadIndex(); token < size; token += kThreads) {
      Pair probability = softmax.Probabilities(token);
      if (token == null_token || Load(softmax.masked + token) != 0) probability = {};
      Store(starts + token, probability[0]);
      Store(ends + token, probability[1]);
      largest = Max(largest, probability[1]);
    }
    return BlockMax(largest, Scratch());
  }

  SIMT_FN static void StoreSpan(Global<int32_t> spans, int row, int start, int end, float score) {
    const Global<int32_t> to = spans + 3 * static_cast<int64_t>(row);
    Store(to, start);
    Store(to + 1, end);
    Store(to + 2, FloatAsInt(score));
  }

  SIMT_FN static void Run(const Params& p) {
    const int sequence = BlockIndex();
    const int begin = Load(p.cu_seqlens + sequence);
    const int size = Load(p.cu_seqlens + (sequence + 1)) - begin;
    const int null_token = Load(p.null_tokens + sequence);
    const int first = Load(p.first + sequence), rows = Load(p.first + (sequence + 1)) - first;
    float odd;
    const Softmax softmax = SoftmaxOf(p, begin, size, &odd);
    if (ThreadIndex() == 0) {
      const Pair null = softmax.Probabilities(null_token);
      StoreSpan(p.spans, first, null_token, null_token, null[0] * null[1] + odd);
    }
    const Global<float> starts = p.probabilities + begin, ends = starts + p.tokens;
    const float largest_end = StoreProbabilities(softmax, starts, ends, size, null_token);
    SyncThreads();  // the maximum was in the selection's memory
    const Keys keys{starts, ends, largest_end, size, Load(p.tokens_max + sequence)};
    uint64_t last = ~uint64_t{0};
    for (int done = 1; done < rows;) {
      const int wanted = Min(rows - done, Selector::kWantedMax);
      const int found = Min(Selector::Next(keys, last, wanted), wanted);
      for (int i = ThreadIndex(); i < found; i += kThreads) {
        const uint64_t key = Load(Selector::Keys() + i);
        const int start = 0xffff - static_cast<int>(key >> 16 & 0xffff);
        const int end = start + (0xffff - static_cast<int>(key & 0xffff));
        StoreSpan(p.spans, first + done + i, start, end, IntAsFloat(static_cast<int>(key >> 32)));
      }
      done += found;
      if (found < wanted) {
        for (int i = done + ThreadIndex(); i < rows; i += kThreads) {
          StoreSpan(p.spans, first + i, -1, -1, 0);
        }
        return;
      }
      last = Load(Selector::Keys() + (wanted - 1));
    }
  }

 private:
  SIMT_FN static Shared<float> Scratch() { return Cast<float>(SharedArray<&Layout::maxima>()); }
};

}  // namespace bertrand::gpu::inline SIMT_TARGET
