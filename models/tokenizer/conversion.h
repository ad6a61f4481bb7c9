#pragma once

// Tokenizers from the files of before tokenizer.json, as transformers 4.57 converts them
// (convert_slow_tokenizer.py): vocab.txt, vocab.json with merges.txt, and SentencePiece's models.
//
// What the special tokens of the post-processor are called is known here, their ids only once the
// configuration's tokens have been added: FinishConversion then makes it. Thread-safe.

#include <absl/status/statusor.h>

#include <string_view>

#include "models/tokenizer/pipeline.h"
#include "models/tokenizer/tokenizer_config.h"

namespace bertrand {

// BERT's, from vocab.txt. ApplyConfig sets the normaliser's options.
absl::StatusOr<PipelineParts> PartsFromVocabText(std::string_view text,
                                                 const TokenizerConfig& config);
// RoBERTa's.
absl::StatusOr<PipelineParts> PartsFromMerges(std::string_view vocab_json,
                                              std::string_view merges_text,
                                              const TokenizerConfig& config);
// ALBERT's, CamemBERT's, XLM-R's and XLNet's.
absl::StatusOr<PipelineParts> PartsFromSentencePiece(std::string_view bytes,
                                                     const TokenizerConfig& config);

// Sets parts->post_processor.
absl::Status FinishConversion(const TokenizerConfig& config, PipelineParts* parts);

}  // namespace bertrand
