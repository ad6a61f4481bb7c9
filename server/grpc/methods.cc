#include "server/grpc/methods.h"

#include <array>

namespace bertrand {
namespace {

constexpr size_t kCount = static_cast<size_t>(MethodIndex::kCount);

constexpr std::array<Method, kCount> kMethods = {{
    {"Embed", HandleEmbed},
    {"EmbedStream", HandleEmbed},
    {"EmbedTokens", HandleEmbedTokens},
    {"EmbedSparse", HandleEmbedSparse},
    {"Classify", HandleClassify},
    {"ClassifyZeroShot", HandleClassifyZeroShot},
    {"Rerank", HandleRerank},
    {"ClassifyTokens", HandleClassifyTokens},
    {"AnswerQuestion", HandleAnswerQuestion},
    {"FillMask", HandleFillMask},
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
