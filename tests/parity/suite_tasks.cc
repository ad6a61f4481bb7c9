#include "tests/parity/suite_tasks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "kernels/status.h"
#include "models/task/answer_request.h"
#include "models/task/classify_request.h"
#include "models/task/classify_tokens_request.h"
#include "models/task/embed_request.h"
#include "models/task/embed_sparse_request.h"
#include "models/task/embed_tokens_request.h"
#include "models/task/fill_mask_request.h"
#include "models/task/replaced_tokens_request.h"
#include "models/task/rerank_request.h"
#include "models/task/sentence_pair_request.h"
#include "models/task/zero_shot_request.h"

namespace bertrand {
namespace {

using List = std::vector<SuiteValue>;

SuiteValue Number(double value) { return {value}; }
SuiteValue Text(std::string_view text) { return {std::string(text)}; }

SuiteValue Numbers(std::span<const float> values) {
  List list;
  for (const float value : values) list.push_back(Number(value));
  return {std::move(list)};
}

// f(item) for each item.
template <typename Items, typename Function>
SuiteValue ListOf(const Items& items, Function&& f) {
  List list;
  for (const auto& item : items) list.push_back(f(item));
  return {std::move(list)};
}

// A call's members.
class SuiteCall {
 public:
  explicit SuiteCall(const Json& call) : call_(call) {}

  const std::string& task() const { return *call_.Find("task")->as_string(); }
  const Json* Option(std::string_view name) const {
    return call_.Find("options")->FindNonNull(name);
  }
  int64_t Int(std::string_view name) const {
    const Json* option = Option(name);
    return option == nullptr ? 0 : *option->as_int();
  }
  std::optional<int64_t> OptionalInt(std::string_view name) const {
    return Option(name) == nullptr ? std::nullopt : std::optional(Int(name));
  }
  bool Bool(std::string_view name, bool fallback = false) const {
    const Json* option = Option(name);
    return option == nullptr ? fallback : *option->as_bool();
  }
  std::optional<bool> OptionalBool(std::string_view name) const {
    return Option(name) == nullptr ? std::nullopt : std::optional(Bool(name));
  }
  std::string_view Text(std::string_view name) const {
    const Json* option = Option(name);
    return option == nullptr ? std::string_view() : *option->as_string();
  }
  std::vector<std::string_view> Texts(std::string_view name) const {
    std::vector<std::string_view> texts;
    const Json* option = Option(name);
    if (option == nullptr) return texts;
    for (const Json& item : option->elements()) texts.push_back(*item.as_string());
    return texts;
  }

  // [[text], [first, second], ...]
  std::vector<TaskInput> Inputs() const {
    std::vector<TaskInput> inputs;
    for (const Json& item : call_.Find("inputs")->elements()) {
      TaskInput input{.first = *item.elements()[0].as_string()};
      if (item.elements().size() > 1) {
        input.kind = TaskInput::Kind::kPair;
        input.second = *item.elements()[1].as_string();
      }
      inputs.push_back(input);
    }
    return inputs;
  }

  LongInputOptions LongInput() const {
    LongInputOptions options{.window_tokens = Int("window_tokens"),
                             .overlap_tokens = Int("overlap_tokens"),
                             .memory_tokens = Int("memory_tokens")};
    if (options.window_tokens > 0) options.mode = LongInputOptions::Mode::kWindows;
    if (Bool("recurrence")) options.mode = LongInputOptions::Mode::kRecurrence;
    return options;
  }

  EncodeOptions Encode() const {
    static const std::map<std::string_view, TruncationMode> kModes = {
        {"longest_first", TruncationMode::kLongestFirst},
        {"only_first", TruncationMode::kOnlyFirst},
        {"only_second", TruncationMode::kOnlySecond},
    };
    EncodeOptions options;
    if (Option("truncation") != nullptr) options.truncation = kModes.at(Text("truncation"));
    if (Option("side") != nullptr) {
      options.side = Text("side") == "left" ? TruncationSide::kLeft : TruncationSide::kRight;
    }
    if (Option("max_tokens") != nullptr) options.max_tokens = Int("max_tokens");
    return options;
  }

  std::optional<ScoreFunction> Activation() const {
    const std::string_view name = Text("activation");
    if (name.empty()) return std::nullopt;
    return name == "none"      ? ScoreFunction::kNone
           : name == "sigmoid" ? ScoreFunction::kSigmoid
                               : ScoreFunction::kSoftmax;
  }

 private:
  const Json& call_;
};

// The whole road but the engine: stages, and batches of several sequences.
absl::Status Run(const Model& model, TaskRequest& request) {
  constexpr size_t kBatch = 3;
  for (size_t i = 0; i < request.num_inputs(); ++i) BERTRAND_RETURN_IF_ERROR(request.Prepare(i));
  auto runner = model.NewRunner(/*max_tokens=*/4096, kBatch);
  if (!runner.ok()) return runner.status();
  while (true) {
    BERTRAND_ASSIGN_OR_RETURN(const bool more, request.NextStage());
    if (!more) return absl::OkStatus();
    const std::span<const SequenceWork> sequences = request.sequences();
    for (size_t i = 0; i < sequences.size(); i += kBatch) {
      const size_t size = std::min(kBatch, sequences.size() - i);
      BERTRAND_RETURN_IF_ERROR((*runner)->Forward(sequences.subspan(i, size)));
    }
  }
}

absl::StatusOr<SuiteValue> Embed(const Model& model, const SuiteCall& call) {
  EmbedOptions options{.encode = call.Encode(),
                       .prompt_name = call.Text("prompt_name"),
                       .prompt = call.Text("prompt"),
                       .normalize = call.OptionalBool("normalize"),
                       .long_input = call.LongInput()};
  static const std::map<std::string_view, PoolingChoice> kPoolings = {
      {"mean", PoolingChoice::kMean},
      {"max", PoolingChoice::kMax},
      {"mean_sqrt_len", PoolingChoice::kMeanSqrtLen},
      {"weighted_mean", PoolingChoice::kWeightedMean},
      {"cls", PoolingChoice::kCls},
      {"last_token", PoolingChoice::kLastToken},
      {"pooler", PoolingChoice::kPooler},
  };
  const auto pooling = kPoolings.find(call.Text("pooling"));
  if (pooling != kPoolings.end()) options.pooling = pooling->second;
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            EmbedRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const std::span<float> vectors, request->Finish());
  const auto size = static_cast<size_t>(request->dimensions());
  List list;
  for (size_t i = 0; i < vectors.size(); i += size)
    list.push_back(Numbers(vectors.subspan(i, size)));
  return SuiteValue{std::move(list)};
}

absl::StatusOr<SuiteValue> EmbedTokens(const Model& model, const SuiteCall& call) {
  EmbedTokensOptions options{.prompt_name = call.Text("prompt_name"),
                             .prompt = call.Text("prompt")};
  if (const Json* layers = call.Option("layers")) {
    for (const Json& layer : layers->elements()) {
      options.layers.push_back(static_cast<int32_t>(*layer.as_int()));
    }
  }
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            EmbedTokensRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto vectors, request->Finish());
  return ListOf(vectors, [](std::span<float> values) { return Numbers(values); });
}

absl::StatusOr<SuiteValue> EmbedSparse(const Model& model, const SuiteCall& call) {
  const EmbedSparseOptions options{.prompt_name = call.Text("prompt_name"),
                                   .prompt = call.Text("prompt"),
                                   .top_k = call.Int("top_k")};
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            EmbedSparseRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const SparseVector& sparse) {
    const SuiteValue indices = ListOf(sparse.indices, [](uint32_t index) { return Number(index); });
    return SuiteValue{List{indices, Numbers(sparse.values)}};
  });
}

SuiteValue LabelsOf(const std::vector<std::vector<LabelScore>>& results) {
  return ListOf(results, [](const std::vector<LabelScore>& labels) {
    return ListOf(labels, [](const LabelScore& label) {
      return SuiteValue{List{Text(label.label), Number(label.score)}};
    });
  });
}

absl::StatusOr<SuiteValue> Classify(const Model& model, const SuiteCall& call) {
  const ClassifyOptions options{
      .encode = call.Encode(), .long_input = call.LongInput(), .activation = call.Activation()};
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            ClassifyRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return LabelsOf(results);
}

absl::StatusOr<SuiteValue> ZeroShot(const Model& model, const SuiteCall& call) {
  const ZeroShotOptions options{.hypothesis_template = call.Text("hypothesis_template"),
                                .multi_label = call.Bool("multi_label")};
  std::vector<std::string_view> texts;
  for (const TaskInput& input : call.Inputs()) texts.push_back(input.first);
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            ZeroShotRequest::Create(model, texts, call.Texts("labels"), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return LabelsOf(results);
}

absl::StatusOr<SuiteValue> Rerank(const Model& model, const SuiteCall& call) {
  const std::vector<TaskInput> pairs = call.Inputs();
  std::vector<std::string_view> documents;
  for (const TaskInput& pair : pairs) documents.push_back(pair.second);
  BERTRAND_ASSIGN_OR_RETURN(
      const auto request,
      RerankRequest::Create(model, pairs[0].first, documents, {.activation = call.Activation()}));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto ranks, request->Finish());
  return ListOf(ranks, [](const Rank& rank) {
    return SuiteValue{List{Number(static_cast<double>(rank.index)), Number(rank.score)}};
  });
}

absl::StatusOr<SuiteValue> ClassifyTokens(const Model& model, const SuiteCall& call) {
  static const std::map<std::string_view, EntityAggregation> kAggregations = {
      {"none", EntityAggregation::kNone},   {"simple", EntityAggregation::kSimple},
      {"first", EntityAggregation::kFirst}, {"average", EntityAggregation::kAverage},
      {"max", EntityAggregation::kMax},
  };
  const ClassifyTokensOptions options{.aggregation = kAggregations.at(call.Text("aggregation")),
                                      .ignore_labels = call.Texts("ignore_labels"),
                                      .keep_all_labels = call.Bool("keep_all_labels"),
                                      .stride_tokens = call.OptionalInt("stride")};
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            ClassifyTokensRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const std::vector<Entity>& entities) {
    return ListOf(entities, [](const Entity& entity) {
      return SuiteValue{List{Text(entity.label), Number(entity.score), Number(entity.span.start),
                             Number(entity.span.end), Text(entity.text)}};
    });
  });
}

absl::StatusOr<SuiteValue> AnswerQuestion(const Model& model, const SuiteCall& call) {
  const AnswerOptions options{.top_k = call.Int("top_k"),
                              .max_seq_tokens = call.Int("max_seq_len"),
                              .doc_stride_tokens = call.OptionalInt("doc_stride"),
                              .max_answer_tokens = call.Int("max_answer_len"),
                              .allow_no_answer = call.Bool("handle_impossible_answer"),
                              .align_to_words = call.Bool("align_to_words", true)};
  std::vector<QuestionContext> inputs;
  for (const TaskInput& pair : call.Inputs()) inputs.push_back({pair.first, pair.second});
  BERTRAND_ASSIGN_OR_RETURN(const auto request, AnswerRequest::Create(model, inputs, options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const std::vector<Answer>& answers) {
    return ListOf(answers, [](const Answer& answer) {
      return SuiteValue{List{Text(answer.text), Number(answer.score), Number(answer.span.start),
                             Number(answer.span.end)}};
    });
  });
}

absl::StatusOr<SuiteValue> FillMask(const Model& model, const SuiteCall& call) {
  const FillMaskOptions options{.top_k = call.Int("top_k"), .targets = call.Texts("targets")};
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            FillMaskRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const std::vector<FilledMask>& masks) {
    return ListOf(masks, [](const FilledMask& mask) {
      return ListOf(mask.candidates, [](const MaskCandidate& candidate) {
        return SuiteValue{List{Text(candidate.text), Number(candidate.score), Number(candidate.id),
                               Text(candidate.sequence)}};
      });
    });
  });
}

absl::StatusOr<SuiteValue> ReplacedTokens(const Model& model, const SuiteCall& call) {
  const ReplacedTokensOptions options{.by_word = call.Bool("by_word")};
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            ReplacedTokensRequest::Create(model, call.Inputs(), options));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const std::vector<TokenVerdict>& verdicts) {
    return ListOf(verdicts, [](const TokenVerdict& verdict) {
      return SuiteValue{List{Text(verdict.text), Number(verdict.score),
                             SuiteValue{verdict.replaced}, Number(verdict.span.start),
                             Number(verdict.span.end)}};
    });
  });
}

absl::StatusOr<SuiteValue> SentencePair(const Model& model, const SuiteCall& call) {
  BERTRAND_ASSIGN_OR_RETURN(const auto request,
                            SentencePairRequest::Create(model, call.Inputs(), {}));
  BERTRAND_RETURN_IF_ERROR(Run(model, *request));
  BERTRAND_ASSIGN_OR_RETURN(const auto results, request->Finish());
  return ListOf(results, [](const SentencePairPrediction& prediction) {
    return SuiteValue{List{Number(prediction.in_order), Number(prediction.not_in_order)}};
  });
}

std::string Shown(const SuiteValue& value) {
  if (const auto* number = std::get_if<double>(&value.value)) return std::to_string(*number);
  if (const auto* text = std::get_if<std::string>(&value.value)) return "\"" + *text + "\"";
  if (const auto* flag = std::get_if<bool>(&value.value)) return *flag ? "true" : "false";
  std::string shown = "[";
  for (const SuiteValue& item : std::get<List>(value.value)) {
    if (shown.size() > 400) return shown + " ...]";
    shown += (shown.size() > 1 ? ", " : "") + Shown(item);
  }
  return shown + "]";
}

SuiteValue ValueOf(const Json& json) {
  if (json.is_array()) return ListOf(json.elements(), ValueOf);
  if (json.is_string()) return {*json.as_string()};
  if (json.is_bool()) return {*json.as_bool()};
  return {json.as_number().value_or(std::nan(""))};
}

bool IsClose(double actual, double expected, double tolerance) {
  return std::abs(actual - expected) <= tolerance * std::max(1.0, std::abs(expected));
}

std::string DifferenceOf(const SuiteValue& actual, const SuiteValue& expected, double tolerance) {
  const auto* list = std::get_if<List>(&actual.value);
  const auto* wanted = std::get_if<List>(&expected.value);
  if (list != nullptr && wanted != nullptr && list->size() == wanted->size()) {
    for (size_t i = 0; i < list->size(); ++i) {
      const std::string inner = DifferenceOf((*list)[i], (*wanted)[i], tolerance);
      if (!inner.empty()) return "[" + std::to_string(i) + "]" + inner;
    }
    return "";
  }
  const auto* number = std::get_if<double>(&actual.value);
  const auto* other = std::get_if<double>(&expected.value);
  bool equal = false;
  if (number != nullptr && other != nullptr) {
    equal = IsClose(*number, *other, tolerance);
  } else if (const auto* text = std::get_if<std::string>(&actual.value)) {
    equal = expected.value.index() == actual.value.index() &&
            *text == std::get<std::string>(expected.value);
  } else if (const auto* flag = std::get_if<bool>(&actual.value)) {
    equal =
        expected.value.index() == actual.value.index() && *flag == std::get<bool>(expected.value);
  }
  return equal ? "" : " is " + Shown(actual) + ", expected " + Shown(expected);
}

}  // namespace

absl::StatusOr<SuiteValue> MakeSuiteCall(const Model& model, const Json& json) {
  using Function = absl::StatusOr<SuiteValue> (*)(const Model& model, const SuiteCall& call);
  static const std::map<std::string_view, Function> kTasks = {
      {"embed", Embed},
      {"embed_tokens", EmbedTokens},
      {"embed_sparse", EmbedSparse},
      {"classify", Classify},
      {"zero_shot", ZeroShot},
      {"rerank", Rerank},
      {"classify_tokens", ClassifyTokens},
      {"answer", AnswerQuestion},
      {"fill_mask", FillMask},
      {"replaced_tokens", ReplacedTokens},
      {"sentence_pair", SentencePair},
  };
  const SuiteCall call(json);
  return kTasks.at(call.task())(model, call);
}

std::string Difference(const SuiteValue& actual, const Json& expected, double tolerance) {
  return DifferenceOf(actual, ValueOf(expected), tolerance);
}

}  // namespace bertrand
