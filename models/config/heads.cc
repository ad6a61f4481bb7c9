#include "models/config/heads.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

namespace bertrand {
namespace {

constexpr int64_t kLabelsMax = 1 << 17;

// What a class in `architectures` was made for. kUnknown: config.json does not say, or names
// somebody's own class.
enum class Purpose : uint8_t {
  kUnknown,
  kSequence,
  kTokens,
  kAnswers,
  kMaskedLm,
  kPreTraining,
  kNextSentence,
  kChoice,
  kOther,
};

Purpose PurposeOf(std::string_view architecture) {
  constexpr std::pair<std::string_view, Purpose> kSuffixes[] = {
      {"ForSequenceClassification", Purpose::kSequence},
      {"ForTokenClassification", Purpose::kTokens},
      {"ForQuestionAnswering", Purpose::kAnswers},
      {"ForQuestionAnsweringSimple", Purpose::kAnswers},
      {"ForMaskedLM", Purpose::kMaskedLm},
      {"ForPreTraining", Purpose::kPreTraining},
      {"ForNextSentencePrediction", Purpose::kNextSentence},
      {"ForMultipleChoice", Purpose::kChoice},
  };
  for (const auto& [suffix, purpose] : kSuffixes) {
    if (architecture.ends_with(suffix)) return purpose;
  }
  return architecture.ends_with("Model") ? Purpose::kOther : Purpose::kUnknown;
}

// Of all that are named: a file may have the heads of several.
class Purposes {
 public:
  explicit Purposes(const std::vector<std::string>& architectures) {
    for (const std::string& name : architectures) Add(PurposeOf(name));
    if (architectures.empty()) Add(Purpose::kUnknown);
  }
  bool Has(Purpose purpose) const { return (bits_ & Bit(purpose)) != 0; }
  bool HasOnly(Purpose purpose) const { return bits_ == Bit(purpose); }

 private:
  static uint32_t Bit(Purpose purpose) { return uint32_t{1} << static_cast<uint8_t>(purpose); }
  void Add(Purpose purpose) { bits_ |= Bit(purpose); }

  uint32_t bits_ = 0;
};

// ---- Labels

// `id2label`, {"0": "NEG", "1": "POS"}; without it num_labels (2) without names
// (configuration_utils.py).
void ReadLabels(ConfigReader& reader, HeadConfig* heads) {
  const Json* table = reader.Find("id2label");
  if (table == nullptr) {
    heads->num_labels = reader.Int("num_labels", 2, 1, kLabelsMax);
    return;
  }
  std::vector<std::string>& labels = heads->labels;
  labels.resize(table->members().size());
  std::vector<bool> seen(labels.size());
  for (const auto& [key, value] : table->members()) {
    size_t id = 0;
    const auto parsed = std::from_chars(key.data(), key.data() + key.size(), id);
    const std::string* text = value.as_string();
    const std::optional<int64_t> number = value.as_int();  // {"0": 0, "1": 1}
    if (parsed.ec != std::errc() || parsed.ptr != key.data() + key.size() || id >= labels.size() ||
        seen[id] || (text == nullptr && !number)) {
      reader.Fail("id2label", "has \"" + key + "\", expected the ids 0 to " +
                                  std::to_string(labels.size() - 1) + ", each with a name");
      return;
    }
    seen[id] = true;
    labels[id] = text != nullptr ? *text : std::to_string(*number);
  }
  heads->num_labels = static_cast<int64_t>(labels.size());
  if (!table->is_object()) reader.Fail("id2label", "is " + Describe(*table) + ", expected names");
  if (labels.empty()) reader.Fail("id2label", "is empty, expected at least one label");
}

bool StartsWithEntail(std::string_view label) {
  constexpr std::string_view kStart = "entail";
  return label.size() >= kStart.size() &&
         std::equal(kStart.begin(), kStart.end(), label.begin(),
                    [](char a, char b) { return a == (b >= 'A' && b <= 'Z' ? b + 32 : b); });
}

// pipelines/zero_shot_classification.py, entailment_id: the first of label2id, in the file's order,
// that starts with "entail"; none: the last label.
int64_t FindEntailment(const ConfigReader& reader, const HeadConfig& heads) {
  const int64_t last = heads.num_labels - 1;
  if (const Json* table = reader.Find("label2id"); table != nullptr && table->is_object()) {
    for (const auto& [label, id] : table->members()) {
      if (!StartsWithEntail(label)) continue;
      const std::optional<int64_t> value = id.as_int();
      return value && *value >= 0 && *value <= last ? *value : last;
    }
    return last;
  }
  for (size_t id = 0; id < heads.labels.size(); ++id) {
    if (StartsWithEntail(heads.labels[id])) return static_cast<int64_t>(id);
  }
  return last;
}

// ---- Scores

// pipelines/text_classification.py, postprocess.
ScoreFunction ReadClassifyFunction(ConfigReader& reader, int64_t num_labels) {
  constexpr std::string_view kMultiLabel = "multi_label_classification";
  const std::string problem = reader.String("problem_type", "");
  if (problem == "regression") return ScoreFunction::kNone;
  if (!problem.empty() && problem != kMultiLabel && problem != "single_label_classification") {
    // configuration_utils.py does not load it either.
    reader.Fail("problem_type", "is \"" + problem + "\", expected regression, " +
                                    "single_label_classification or multi_label_classification");
  }
  if (problem == kMultiLabel || num_labels == 1) return ScoreFunction::kSigmoid;
  return ScoreFunction::kSoftmax;
}

std::string_view LastComponent(std::string_view path) {
  const size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

// CrossEncoder.get_default_activation_fn: the file's, else a sigmoid for one label.
void ReadCrossEncoder(ConfigReader& reader, HeadConfig* heads) {
  ScoreFunction& function = heads->traits.rerank;
  function = heads->num_labels == 1 ? ScoreFunction::kSigmoid : ScoreFunction::kNone;
  std::string name = reader.String("sbert_ce_default_activation_function", "");
  if (const Json* own = reader.Find("sentence_transformers"); own != nullptr) {
    const Json* value = own->FindNonNull("activation_fn");
    const std::string* text = value == nullptr ? nullptr : value->as_string();
    if (text != nullptr) name = *text;
  }
  // Another's code is not run; CrossEncoder falls back to the default too.
  if (!name.starts_with("torch.")) return;
  const std::string_view last = LastComponent(name);
  if (last == "Sigmoid") {
    function = ScoreFunction::kSigmoid;
  } else if (last == "Identity") {
    function = ScoreFunction::kNone;
  } else if (heads->num_labels == 1) {  // with more there is no Rerank
    reader.FailUnimplemented("sentence_transformers.activation_fn",
                             "is \"" + name + "\", served are Identity and Sigmoid");
  }
}

// ---- Names

// What the families' heads are made of.
struct Parts {
  Purposes purposes;
  int64_t num_labels = 0, hidden = 0, embedding = 0;
  Activation activation{};
  float eps = 0;
};

void AddLogits(HeadConfig* heads, LogitsHeadNames names) {
  heads->logits.push_back(std::move(names));
}

// Layers that most families have: `classifier` on every token, `qa_outputs`.
void AddTokenHeads(const Parts& parts, HeadConfig* heads) {
  if (parts.purposes.Has(Purpose::kTokens)) {
    AddLogits(heads,
              {LogitsHead::kTokenClassifier, false, false, {{"classifier", parts.num_labels}}});
  }
  AddLogits(heads, {LogitsHead::kAnswerSpan, false, false, {{"qa_outputs", 2}}});
}

bool MayBeSequence(const Parts& parts) {
  return parts.purposes.Has(Purpose::kSequence) || parts.purposes.Has(Purpose::kUnknown);
}

void NameBert(const Parts& parts, ConfigReader&, HeadConfig* heads) {
  if (MayBeSequence(parts)) {
    AddLogits(heads, {LogitsHead::kClassifier, true, false, {{"classifier", parts.num_labels}}});
  }
  AddTokenHeads(parts, heads);
  AddLogits(heads, {LogitsHead::kNextSentence, true, false, {{"cls.seq_relationship", 2}}});
  heads->masked_lm.layers = {{"cls.predictions.transform.dense", parts.hidden, parts.activation,
                              "cls.predictions.transform.LayerNorm", parts.eps}};
  heads->masked_lm.decoder = "cls.predictions.decoder";
  heads->masked_lm.bias_tensors = {"cls.predictions.bias", "cls.predictions.decoder.bias"};
}

// `classifier.dense` and `classifier.out_proj` on the first token.
void AddTwoLayerClassifier(const Parts& parts, Activation activation, HeadConfig* heads) {
  AddLogits(heads, {LogitsHead::kClassifier,
                    false,
                    false,
                    {{"classifier.dense", parts.hidden, activation},
                     {"classifier.out_proj", parts.num_labels}}});
}

void NameRoberta(const Parts& parts, ConfigReader&, HeadConfig* heads) {
  AddTwoLayerClassifier(parts, Activation::kTanh, heads);
  AddTokenHeads(parts, heads);
  // modeling_roberta.py: gelu, whatever hidden_act says.
  heads->masked_lm.layers = {
      {"lm_head.dense", parts.hidden, Activation::kGeluErf, "lm_head.layer_norm", parts.eps}};
  heads->masked_lm.decoder = "lm_head.decoder";
  heads->masked_lm.bias_tensors = {"lm_head.bias", "lm_head.decoder.bias"};
}

void NameAlbert(const Parts& parts, ConfigReader&, HeadConfig* heads) {
  if (MayBeSequence(parts)) {
    AddLogits(heads, {LogitsHead::kClassifier, true, false, {{"classifier", parts.num_labels}}});
  }
  AddTokenHeads(parts, heads);
  AddLogits(heads, {LogitsHead::kSentenceOrder, true, false, {{"sop_classifier.classifier", 2}}});
  heads->masked_lm.layers = {
      {"predictions.dense", parts.embedding, parts.activation, "predictions.LayerNorm", parts.eps}};
  heads->masked_lm.decoder = "predictions.decoder";
  heads->masked_lm.bias_tensors = {"predictions.bias", "predictions.decoder.bias"};
}

void NameDistilBert(const Parts& parts, ConfigReader&, HeadConfig* heads) {
  if (!parts.purposes.Has(Purpose::kChoice)) {
    AddLogits(heads, {LogitsHead::kClassifier,
                      false,
                      false,
                      {{"pre_classifier", parts.hidden, Activation::kRelu},
                       {"classifier", parts.num_labels}}});
  }
  AddTokenHeads(parts, heads);
  heads->masked_lm.layers = {
      {"vocab_transform", parts.hidden, parts.activation, "vocab_layer_norm", 1e-12f}};
  heads->masked_lm.decoder = "vocab_projector";
  heads->masked_lm.bias_tensors = {"vocab_projector.bias"};
}

void NameElectra(const Parts& parts, ConfigReader&, HeadConfig* heads) {
  AddTwoLayerClassifier(parts, Activation::kGeluErf, heads);
  AddTokenHeads(parts, heads);
  AddLogits(heads, {LogitsHead::kReplacedToken,
                    false,
                    false,
                    {{"discriminator_predictions.dense", parts.hidden, parts.activation},
                     {"discriminator_predictions.dense_prediction", 1}}});
  // modeling_electra.py: gelu, whatever hidden_act says.
  heads->masked_lm.layers = {{"generator_predictions.dense", parts.embedding, Activation::kGeluErf,
                              "generator_predictions.LayerNorm", parts.eps}};
  heads->masked_lm.decoder = "generator_lm_head";
  heads->masked_lm.bias_tensors = {"generator_lm_head.bias"};
}

// modeling_xlnet.py, XLNetSequenceSummary: one token's state, projected. Keys that are not
// implemented matter only to who has the head.
void AddXlnetClassifier(const Parts& parts, ConfigReader& reader, HeadConfig* heads) {
  const std::string type = reader.String("summary_type", "last");
  const std::string activation =
      reader.String("summary_activation", reader.Has("summary_activation") ? "" : "tanh");
  const bool projects = reader.Bool("summary_use_proj", !reader.Has("summary_use_proj"));
  const bool is_type_known = type == "first" || type == "last" || type == "cls_index";
  const bool is_activation_known = activation.empty() || activation == "tanh";
  if (MayBeSequence(parts)) {
    if (!is_type_known) {
      reader.FailUnimplemented("summary_type",
                               "is \"" + type + "\", served are last, first and cls_index");
    }
    if (!is_activation_known) {
      reader.FailUnimplemented("summary_activation",
                               "is \"" + activation + "\", served are tanh and none");
    }
    if (!projects) reader.FailUnimplemented("summary_use_proj", "is false, served is true");
  }
  if (!is_type_known || !is_activation_known || !projects) return;
  AddLogits(heads, {LogitsHead::kClassifier,
                    false,
                    type != "first",
                    {{"sequence_summary.summary", parts.hidden,
                      activation.empty() ? Activation::kNone : Activation::kTanh},
                     {"logits_proj", parts.num_labels}}});
}

void NameXlnet(const Parts& parts, ConfigReader& reader, HeadConfig* heads) {
  heads->traits.context_first = true;
  // XLNetConfig has 512 where a file has nothing, and none where it has null.
  constexpr int64_t kMemoryTokens = 512;
  heads->traits.memory_tokens =
      reader.Int("mem_len", reader.Has("mem_len") ? 0 : kMemoryTokens, 0, 1 << 20);
  if (!parts.purposes.Has(Purpose::kChoice)) AddXlnetClassifier(parts, reader, heads);
  AddTokenHeads(parts, heads);
  BeamNames& beam = heads->beam;
  beam.start = "start_logits.dense";
  beam.end_dense = "end_logits.dense_0";
  beam.end_norm = "end_logits.LayerNorm";
  beam.end = "end_logits.dense_1";
  beam.class_dense = "answer_class.dense_0";
  beam.class_out = "answer_class.dense_1";
  beam.norm_eps = parts.eps;
  constexpr int64_t kBeamMax = 100;
  beam.num_starts = reader.Int("start_n_top", 5, 1, kBeamMax);
  beam.num_ends = reader.Int("end_n_top", 5, 1, kBeamMax);
}

// The heads that the classes in `architectures` have, of all that the family's names are of.
bool IsNamed(const Purposes& purposes, LogitsHead head) {
  switch (head) {
    case LogitsHead::kClassifier:
      return purposes.Has(Purpose::kSequence);
    case LogitsHead::kTokenClassifier:
      return purposes.Has(Purpose::kTokens);
    case LogitsHead::kAnswerSpan:
      return purposes.Has(Purpose::kAnswers);
    case LogitsHead::kNextSentence:
      return purposes.Has(Purpose::kNextSentence) || purposes.Has(Purpose::kPreTraining);
    case LogitsHead::kSentenceOrder:
    case LogitsHead::kReplacedToken:
      return purposes.Has(Purpose::kPreTraining);
  }
  return false;
}

void MarkNamed(const Purposes& purposes, HeadConfig* heads) {
  for (LogitsHeadNames& names : heads->logits) names.is_named = IsNamed(purposes, names.head);
  // ELECTRA's pre-training is the discriminator's.
  const bool discriminates = std::any_of(
      heads->logits.begin(), heads->logits.end(),
      [](const LogitsHeadNames& names) { return names.head == LogitsHead::kReplacedToken; });
  heads->masked_lm.is_named =
      purposes.Has(Purpose::kMaskedLm) || (purposes.Has(Purpose::kPreTraining) && !discriminates);
  heads->beam.is_named = purposes.Has(Purpose::kAnswers);
}

}  // namespace

std::vector<std::string> NamesOfLabels(const HeadConfig& heads) {
  if (!heads.labels.empty()) return heads.labels;
  std::vector<std::string> names;
  for (int64_t id = 0; id < heads.num_labels; ++id) names.push_back("LABEL_" + std::to_string(id));
  return names;
}

HeadConfig ReadHeadConfig(ConfigReader& reader, Family family,
                          const std::vector<std::string>& architectures,
                          const EncoderConfig& encoder) {
  HeadConfig heads;
  ReadLabels(reader, &heads);
  heads.traits.entailment = FindEntailment(reader, heads);
  heads.traits.contradiction = heads.traits.entailment == 0 ? heads.num_labels - 1 : 0;
  heads.traits.classify = ReadClassifyFunction(reader, heads.num_labels);
  ReadCrossEncoder(reader, &heads);

  Parts parts{.purposes = Purposes(architectures)};
  parts.num_labels = heads.num_labels;
  parts.hidden = encoder.hidden_size;
  parts.embedding = encoder.embedding_size;
  parts.activation = encoder.activation;
  parts.eps = encoder.layer_norm_eps;
  switch (family) {
    case Family::kBert:
      NameBert(parts, reader, &heads);
      break;
    case Family::kRoberta:
      NameRoberta(parts, reader, &heads);
      break;
    case Family::kAlbert:
      NameAlbert(parts, reader, &heads);
      break;
    case Family::kDistilBert:
      NameDistilBert(parts, reader, &heads);
      break;
    case Family::kElectra:
      NameElectra(parts, reader, &heads);
      break;
    case Family::kXlnet:
      NameXlnet(parts, reader, &heads);
      break;
  }
  MarkNamed(parts.purposes, &heads);
  heads.is_next_sentence = parts.purposes.HasOnly(Purpose::kNextSentence);
  heads.masked_lm.tied = reader.Bool("tie_word_embeddings", true);
  return heads;
}

}  // namespace bertrand
