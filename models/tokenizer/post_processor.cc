#include "models/tokenizer/post_processor.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "kernels/status.h"
#include "models/tokenizer/json_fields.h"

namespace bertrand {
namespace {

// Real templates have one to three special tokens. Of a name's ids, all are there each time.
constexpr size_t kSpecialIdsMax = 1024;
constexpr size_t kTextsMax = 16;

absl::StatusOr<int32_t> TypeId(const JsonFields& fields) {
  int64_t type_id;
  BERTRAND_ASSIGN_OR_RETURN(type_id,
                            fields.Integer("type_id", 0, 0, std::numeric_limits<int32_t>::max()));
  return static_cast<int32_t>(type_id);
}

absl::StatusOr<std::vector<int32_t>> SpecialIds(const std::string& name, const Json* tokens) {
  const Json* token = tokens == nullptr ? nullptr : tokens->Find(name);
  const Json* list = token == nullptr ? nullptr : token->Find("ids");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("post_processor: `special_tokens` has no `ids` for \"" + name + "\"");
  }
  std::vector<int32_t> ids;
  for (const Json& element : list->elements()) {
    int32_t id;
    BERTRAND_ASSIGN_OR_RETURN(id,
                              ParseTokenId(element, "post_processor: an id of \"" + name + "\""));
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<TemplatePiece> ParsePiece(const Json& json, const Json* special_tokens) {
  TemplatePiece piece;
  if (const Json* sequence = json.Find("Sequence")) {
    const JsonFields fields(*sequence, "post_processor: Sequence");
    std::string id;
    BERTRAND_ASSIGN_OR_RETURN(id, fields.String("id"));
    if (id != "A" && id != "B") {
      return InvalidArgument("post_processor: a sequence is \"" + id + "\"; A and B exist");
    }
    piece.sequence = id == "B" ? 1 : 0;
    BERTRAND_ASSIGN_OR_RETURN(piece.type_id, TypeId(fields));
    return piece;
  }
  const Json* special = json.Find("SpecialToken");
  if (special == nullptr) {
    return InvalidArgument("post_processor: a piece is neither a Sequence nor a SpecialToken");
  }
  const JsonFields fields(*special, "post_processor: SpecialToken");
  std::string id;
  BERTRAND_ASSIGN_OR_RETURN(id, fields.String("id"));
  BERTRAND_ASSIGN_OR_RETURN(piece.type_id, TypeId(fields));
  BERTRAND_ASSIGN_OR_RETURN(piece.ids, SpecialIds(id, special_tokens));
  return piece;
}

absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(const Json& json, std::string_view key,
                                                         int num_sequences) {
  const Json* list = json.Find(key);
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("post_processor: `" + std::string(key) + "` must be an array");
  }
  std::vector<TemplatePiece> pieces;
  size_t num_special = 0, num_texts = 0;
  for (const Json& element : list->elements()) {
    TemplatePiece piece;
    BERTRAND_ASSIGN_OR_RETURN(piece, ParsePiece(element, json.Find("special_tokens")));
    if (piece.sequence >= num_sequences) {
      return InvalidArgument("post_processor: `single` uses sequence B");
    }
    num_special += piece.ids.size();
    num_texts += piece.sequence >= 0 ? 1 : 0;
    if (num_special > kSpecialIdsMax) {
      return InvalidArgument("post_processor: `" + std::string(key) + "` has more than " +
                             std::to_string(kSpecialIdsMax) + " special tokens");
    }
    if (num_texts > kTextsMax) {
      return InvalidArgument("post_processor: more than " + std::to_string(kTextsMax) +
                             " pieces of `" + std::string(key) + "` stand for texts");
    }
    pieces.push_back(std::move(piece));
  }
  return pieces;
}

// A pair ["[SEP]", 102].
absl::StatusOr<int32_t> TokenPair(const Json& json, std::string_view key) {
  const Json* pair = json.Find(key);
  if (pair == nullptr || pair->elements().size() != 2) {
    return InvalidArgument("post_processor: `" + std::string(key) +
                           "` must be an array of a token and its id");
  }
  return ParseTokenId(pair->elements()[1], "post_processor: the id of `" + std::string(key) + "`");
}

}  // namespace

int64_t PostProcessor::NumSpecialTokens(bool is_pair) const {
  int64_t count = 0;
  for (const TemplatePiece& piece : Pieces(is_pair))
    count += static_cast<int64_t>(piece.ids.size());
  return count;
}

PostProcessor BertPostProcessor(int32_t cls_id, int32_t sep_id) {
  PostProcessor result;
  result.single = {{-1, {cls_id}, 0}, {0, {}, 0}, {-1, {sep_id}, 0}};
  result.pair = result.single;
  result.pair.push_back({1, {}, 1});
  result.pair.push_back({-1, {sep_id}, 1});
  return result;
}

PostProcessor RobertaPostProcessor(int32_t cls_id, int32_t sep_id) {
  PostProcessor result;
  result.single = {{-1, {cls_id}, 0}, {0, {}, 0}, {-1, {sep_id}, 0}};
  result.pair = result.single;
  result.pair.push_back({-1, {sep_id}, 0});
  result.pair.push_back({1, {}, 0});
  result.pair.push_back({-1, {sep_id}, 0});
  return result;
}

namespace {

// The two fields of ByteLevel and RobertaProcessing.
absl::Status ParseTrimming(const JsonFields& fields, PostProcessor* result) {
  BERTRAND_ASSIGN_OR_RETURN(result->trim_offsets, fields.Bool("trim_offsets"));
  BERTRAND_ASSIGN_OR_RETURN(result->add_prefix_space, fields.Bool("add_prefix_space"));
  result->has_options = true;
  return absl::OkStatus();
}

// A Sequence: what trims, and what adds special tokens, each at most once.
absl::StatusOr<PostProcessor> ParseSequence(const Json& json) {
  const Json* list = json.Find("processors");
  if (list == nullptr || !list->is_array()) {
    return InvalidArgument("post_processor: `processors` must be an array");
  }
  PostProcessor result;
  bool has_template = false, first_behind_special = false, second_behind_special = false;
  for (const Json& element : list->elements()) {
    PostProcessor step;
    BERTRAND_ASSIGN_OR_RETURN(step, ParsePostProcessor(&element));
    std::string type;
    BERTRAND_ASSIGN_OR_RETURN(type, JsonFields(element, "post_processor").String("type"));
    const bool is_template = type != "ByteLevel";
    if ((is_template && has_template) || (step.trim_offsets && result.trim_offsets)) {
      return Unimplemented("post_processor: a Sequence with two of " + type + "'s kind");
    }
    if (is_template) {
      has_template = true;
      first_behind_special = type != "TemplateProcessing";
      second_behind_special = type == "RobertaProcessing";
      result.single = std::move(step.single);
      result.pair = std::move(step.pair);
    }
    if (step.trim_offsets) {
      result.trim_offsets = true;
      result.add_prefix_space = step.add_prefix_space;
      result.is_behind_special[0] = first_behind_special && !is_template;
      result.is_behind_special[1] = second_behind_special && !is_template;
    }
  }
  return result;
}

}  // namespace

absl::StatusOr<PostProcessor> ParsePostProcessor(const Json* json) {
  if (json == nullptr || json->is_null()) return PostProcessor();
  std::string type;
  BERTRAND_ASSIGN_OR_RETURN(type, JsonFields(*json, "post_processor").String("type"));
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    int32_t cls_id, sep_id;
    BERTRAND_ASSIGN_OR_RETURN(cls_id, TokenPair(*json, "cls"));
    BERTRAND_ASSIGN_OR_RETURN(sep_id, TokenPair(*json, "sep"));
    if (type == "BertProcessing") return BertPostProcessor(cls_id, sep_id);
    PostProcessor result = RobertaPostProcessor(cls_id, sep_id);
    BERTRAND_RETURN_IF_ERROR(ParseTrimming(JsonFields(*json, "post_processor"), &result));
    return result;
  }
  if (type == "ByteLevel") {
    PostProcessor result;
    BERTRAND_RETURN_IF_ERROR(ParseTrimming(JsonFields(*json, "post_processor"), &result));
    return result;
  }
  if (type == "Sequence") return ParseSequence(*json);
  if (type == "TemplateProcessing") {
    PostProcessor result;
    BERTRAND_ASSIGN_OR_RETURN(result.single, ParseTemplate(*json, "single", 1));
    BERTRAND_ASSIGN_OR_RETURN(result.pair, ParseTemplate(*json, "pair", 2));
    return result;
  }
  return NotSupported("post_processor", type,
                      "BertProcessing, ByteLevel, RobertaProcessing, Sequence and "
                      "TemplateProcessing are");
}

absl::StatusOr<KeptTokens> Truncate(size_t num_first, size_t num_second, bool is_pair,
                                    int64_t num_special, const EncodeOptions& options) {
  KeptTokens kept{num_first, num_second};
  const auto total = static_cast<int64_t>(num_first + num_second);
  if (options.max_tokens < num_special) {
    return InvalidArgument("max_tokens is " + std::to_string(options.max_tokens) +
                           ", but special tokens alone are " + std::to_string(num_special));
  }
  const int64_t room = options.max_tokens - num_special;
  if (total <= room) return kept;
  const std::string too_long = "the text has " + std::to_string(total + num_special) +
                               " tokens with special ones; the limit is " +
                               std::to_string(options.max_tokens);
  if (options.truncation == TruncationMode::kFail) return InvalidArgument(too_long);
  if (room == 0) return KeptTokens{};
  const auto limit = static_cast<size_t>(room);
  if (options.truncation == TruncationMode::kLongestFirst) {
    if (!is_pair) return KeptTokens{limit, 0};
    size_t shorter = std::min(num_first, num_second);
    size_t longer = shorter > limit ? shorter : std::max(shorter, limit - shorter);
    if (shorter + longer > limit) {
      shorter = limit / 2;
      longer = limit - shorter;
    }
    // Equal lengths: the odd one goes to the second.
    return num_first > num_second ? KeptTokens{longer, shorter} : KeptTokens{shorter, longer};
  }
  const bool first = options.truncation == TruncationMode::kOnlyFirst;
  if (!first && !is_pair) {
    return InvalidArgument(too_long + "; only_second needs a second text");
  }
  const auto surplus = static_cast<size_t>(total - room);
  size_t& target = first ? kept.first : kept.second;
  if (target <= surplus) {
    return InvalidArgument(too_long + ", which " + (first ? "only_first" : "only_second") +
                           " cannot reach: " + std::to_string(surplus) +
                           " must go and that text has " + std::to_string(target));
  }
  target -= surplus;
  return kept;
}

}  // namespace bertrand
