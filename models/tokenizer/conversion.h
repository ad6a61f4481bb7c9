#pragma once

// Tokenizers from the files of before tokenizer.json, as transformers 4.57 converts them
// (convert_slow_tokenizer.py): vocab.txt, vocab.json with merges.txt, and SentencePiece's models.
//
// What the special tokens of the post-processor are called is known here, their ids only once the
// configuration's tokens have been added: FinishConversion then makes it. Files are freed when they
// have been read, and what takes more memory than memory_bound.h allows for them is refused.
// Thread-safe.

#include <absl/status/statusor.h>

#include <string>

#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer_config.h"

namespace bertrand {

// BERT's, from vocab.txt. ApplyConfig sets the normaliser's options.
absl::StatusOr<PipelineParts> PartsFromVocabText(std::string text, const TokenizerConfig& config);
// RoBERTa's.
absl::StatusOr<PipelineParts> PartsFromMerges(std::string vocab_json, std::string merges_text,
                                              const TokenizerConfig& config);
// ALBERT's, CamemBERT's, XLM-R's and XLNet's.
absl::StatusOr<PipelineParts> PartsFromSentencePiece(std::string bytes,
                                                     const TokenizerConfig& config);

// Sets parts->post_processor.
absl::Status FinishConversion(const TokenizerConfig& config, PipelineParts* parts);

}  // namespace bertrand
