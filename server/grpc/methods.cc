#include "server/grpc/methods.h"

#include <absl/strings/str_cat.h>

#include <array>

#include "kernels/status.h"
#include "server/grpc/request.h"

namespace bertrand {
namespace {

// A method whose task no model of this version has: says which tasks the model does have.
template <Task kTask>
absl::Status HandleOtherTask(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, kTask));
  return Unimplemented(absl::StrCat("the task \"", Name(kTask), "\" of model \"", model->name,
                                    "\" is not served by this version"));
}

constexpr size_t kCount = static_cast<size_t>(MethodIndex::kCount);

constexpr std::array<Method, kCount> kMethods = {{
    {"Embed", HandleEmbed},
    {"EmbedStream", HandleEmbed},
    {"EmbedTokens", HandleEmbedTokens},
    {"EmbedSparse", HandleEmbedSparse},
    {"Classify", HandleClassify},
    {"ClassifyZeroShot", HandleClassifyZeroShot},
    {"Rerank", HandleRerank},
    {"ClassifyTokens", HandleOtherTask<Task::kClassifyTokens>},
    {"AnswerQuestion", HandleOtherTask<Task::kAnswerQuestion>},
    {"FillMask", HandleOtherTask<Task::kFillMask>},
    {"DetectReplacedTokens", HandleDetectReplacedTokens},
    {"PredictSentencePair", HandlePredictSentencePair},
    {"Tokenize", HandleTokenize},
    {"Detokenize", HandleDetokenize},
    {"ListModels", HandleListModels},
    {"GetModel", HandleGetModel},
    {"LoadModel", HandleModelControl},
    {"UnloadModel", HandleModelControl},
}};

}  // namespace

std::span<const Method> AllMethods() { return kMethods; }

std::span<const char* const> AllMethodNames() {
  static const auto names = [] {
    std::array<const char*, kCount> array{};
    for (size_t i = 0; i < kCount; ++i) array[i] = kMethods[i].name;
    return array;
  }();
  return names;
}

}  // namespace bertrand
