#include "server/example.h"

#include <absl/strings/str_cat.h>

#include "kernels/status.h"

namespace bertrand {
namespace {

struct Example {
  const char* command;    // of the command-line client
  std::string arguments;  // for a shell
  const char* method;     // of bertrand.v1.Inference
  std::string request;    // JSON
};

std::string Inputs(const std::string& text) {
  return absl::StrCat(R"({"inputs": [{"text": ")", text, R"("}]})");
}

Example OneText(const char* command, const char* method, const std::string& text) {
  return {command, absl::StrCat("\"", text, "\""), method, Inputs(text)};
}

Example ExampleOf(Task task, const Model& model) {
  switch (task) {
    case Task::kEmbed:
      return {"embed", R"("A cat sleeps." "A kitten naps." "Rates went up.")", "Embed",
              Inputs("A cat sleeps.")};
    case Task::kEmbedTokens:
      return {"tokenize", R"("A cat sleeps.")", "EmbedTokens", Inputs("A cat sleeps.")};
    case Task::kEmbedSparse:
      return OneText("sparse", "EmbedSparse", "What do cats eat?");
    case Task::kClassify:
      return OneText("classify", "Classify", "I love this film.");
    case Task::kClassifyZeroShot:
      return {"zero-shot", R"("The match was a draw." --labels politics,sport)", "ClassifyZeroShot",
              R"({"texts": ["The match was a draw."], "candidate_labels": ["politics", "sport"]})"};
    case Task::kRerank:
      return {"rerank", R"("how do cats sleep" "Cats nap all day." "Rates went up.")", "Rerank",
              R"({"query": "how do cats sleep", "documents": ["Cats nap.", "Rates went up."]})"};
    case Task::kClassifyTokens:
      return OneText("entities", "ClassifyTokens", "Ada Lovelace was born in London.");
    case Task::kAnswerQuestion:
      return {
          "answer", R"("Who wrote it?" "Mary Shelley wrote it in 1818.")", "AnswerQuestion",
          R"({"inputs": [{"question": "Who wrote it?", "context": "Mary Shelley wrote it."}]})"};
    case Task::kFillMask: {
      const auto mask = model.tokenizer().NamedTokenId(NamedToken::kMask);
      const std::string token =
          mask ? std::string(model.tokenizer().TokenText(*mask)) : std::string("[MASK]");
      return OneText("fill-mask", "FillMask", absl::StrCat("Paris is the ", token, " of France."));
    }
    case Task::kDetectReplacedTokens:
      return OneText("replaced", "DetectReplacedTokens", "The chef ate the delicious guitar.");
    case Task::kPredictSentencePair:
      return {"pair", R"("She opened the door." "The room was empty.")", "PredictSentencePair",
              R"({"pairs": [{"first": "She opened the door.", "second": "It was empty."}]})"};
  }
  BERTRAND_CHECK(false, "a task without an example");
}

}  // namespace

std::string ExampleCalls(const Model& model, const std::string& client_path,
                         const std::string& address) {
  const Example example = ExampleOf(model.description().tasks.at(0), model);
  const std::string elsewhere =
      address == "127.0.0.1:50051" ? "" : absl::StrCat(" --address ", address);
  return absl::StrCat("  ", client_path, " ", example.command, elsewhere, " ", example.arguments,
                      "\n  grpcurl -plaintext -d '", example.request, "' ", address,
                      " bertrand.v1.Inference/", example.method, "\n");
}

}  // namespace bertrand
