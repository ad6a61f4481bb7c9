// Checkpoints with hostile files, for as long as one likes:
//
//   build/model_folder_fuzz [SECONDS [SEED]]       in the source tree's root
//
// Small checkpoints are copied and damaged: values in their JSON files are replaced, added or taken
// away, bytes of any file are changed, the header of the weights is rewritten. Each folder is
// loaded as the server does, and where that succeeds a text goes through the model. What must hold:
// no crash (build with a sanitizer to see more), and no more memory than kMemoryFactor times the
// folder's size, beside a fixed amount.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "kernels/thread_pool.h"
#include "models/checkpoint/file.h"
#include "models/config/families.h"
#include "models/model.h"
#include "tests/models/test_folder.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMemoryFactor = 10;
// The stacks of a load, and what malloc keeps.
constexpr uint64_t kMemoryBytesFree = uint64_t{24} << 20;

// Folders that are put one over the other.
const std::vector<std::vector<std::string>> kCheckpoints = {
    {"tests/e2e/tasks/nli"},
    {"tests/e2e/tasks/masks"},
    {"tests/e2e/tasks/entities"},
    {"tests/e2e/tasks/answers"},
    {"tests/e2e/tasks/pairs"},
    {"tests/e2e/tasks/replaced"},
    {"tests/parity/checkpoints/sharded"},
    {"tests/parity/checkpoints/plain", "tests/parity/checkpoints/sentence/dense"},
    {"tests/parity/checkpoints/plain", "tests/parity/checkpoints/sentence/dense_twice"},
    {"tests/parity/checkpoints/plain", "tests/parity/checkpoints/sentence/prompts"},
};

// Configurations of all families, for their parsers alone.
const std::vector<std::string> kConfigs = {
    "tests/parity/families/albert_groups", "tests/parity/families/camembert",
    "tests/parity/families/distilbert",    "tests/parity/families/electra",
    "tests/parity/families/roberta",       "tests/parity/families/xlm_roberta",
};

constexpr std::string_view kKeys[] = {
    "model_type",
    "architectures",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "type_vocab_size",
    "max_position_embeddings",
    "layer_norm_eps",
    "hidden_act",
    "pad_token_id",
    "embedding_size",
    "num_hidden_groups",
    "inner_group_num",
    "num_labels",
    "id2label",
    "label2id",
    "problem_type",
    "tie_word_embeddings",
    "sentence_transformers",
    "auto_map",
    "pruned_heads",
    "position_embedding_type",
    "quantization_config",
    "is_decoder",
    "dim",
    "n_heads",
    "n_layers",
    "hidden_dim",
    "mem_len",
    "start_n_top",
    "summary_type",
    "prompts",
    "default_prompt_name",
    "max_seq_length",
    "do_lower_case",
    "model_args",
    "in_features",
    "out_features",
    "bias",
    "activation_function",
    "pooling_mode",
    "include_prompt",
    "type",
    "path",
    "dtype",
    "shape",
    "data_offsets",
    "weight_map",
    "model_max_length",
    "tokenizer_class",
    "mask_token",
    "truncation_side",
    "__metadata__",
    "added_tokens_decoder",
    "sbert_ce_default_activation_function",
};

constexpr std::string_view kValues[] = {
    "null",
    "true",
    "false",
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "2147483647",
    "2147483648",
    "4294967297",
    "9223372036854775807",
    "-9223372036854775808",
    "1000000000000000019884624838656",
    "0.5",
    "-0.0",
    "1e308",
    "1e400",
    "NaN",
    "Infinity",
    "-Infinity",
    "\"\"",
    "\"a\"",
    "\"../..\"",
    "\"/\"",
    "\"bert\"",
    "\"albert\"",
    "\"distilbert\"",
    "\"electra\"",
    "\"roberta\"",
    "\"relu\"",
    "\"BertForQuestionAnswering\"",
    "\"ElectraForPreTraining\"",
    "[]",
    "{}",
    "[[[[[[[[[[]]]]]]]]]]",
    "[0,0,0]",
    "[-1]",
    "[9223372036854775807,9223372036854775807,9223372036854775807]",
    "[1099511627776,0]",
    "{\"0\":\"a\"}",
    "{\"5\":\"a\"}",
    "{\"-1\":\"a\",\"0\":1}",
    "{\"a\":{\"b\":[null]}}",
    "[\"BertForMaskedLM\",3]",
    "\"\\u0000\"",
    "[2147483648,2147483648]",
    "[0,4]",
    "131072",
};

std::string ReadFile(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

void WriteFile(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// ---- Mutations

// Where the value after the colon at `colon` ends: at the comma or bracket of its own level.
size_t EndOfValue(const std::string& text, size_t colon) {
  int depth = 0;
  bool in_string = false;
  for (size_t i = colon + 1; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == '{' || c == '[') ++depth;
    if (depth == 0 && (c == ',' || c == '}' || c == ']')) return i;
    if (c == '}' || c == ']') --depth;
  }
  return text.size();
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  uint64_t Below(uint64_t count) { return random_() % count; }

  // Changes one value of a JSON text, adds one or takes one away; or its bytes.
  void ChangeJson(std::string* text) {
    if (Below(8) == 0) return ChangeBytes(text);
    const std::string value(kValues[Below(std::size(kValues))]);
    std::vector<size_t> colons;
    for (size_t i = 0; i < text->size(); ++i) {
      if ((*text)[i] == ':') colons.push_back(i);
    }
    const size_t brace = text->find('{');
    if (colons.empty() || Below(3) == 0) {
      if (brace == std::string::npos) return ChangeBytes(text);
      const std::string key(kKeys[Below(std::size(kKeys))]);
      RemoveKey(key, text);
      const bool is_empty = text->find_first_not_of(" \n", brace + 1) == text->find('}', brace);
      text->insert(brace + 1, "\"" + key + "\":" + value + (is_empty ? "" : ","));
      return;
    }
    const size_t colon = colons[Below(colons.size())];
    text->replace(colon + 1, EndOfValue(*text, colon) - colon - 1, value);
  }

  void ChangeBytes(std::string* bytes) {
    for (uint64_t count = 1 + Below(3); count > 0 && !bytes->empty(); --count) {
      // Most of what matters stands at the start.
      const size_t at = Below(Below(2) == 0 ? std::min<size_t>(bytes->size(), 64) : bytes->size());
      const size_t size = std::min<size_t>(1 + Below(16), bytes->size() - at);
      switch (Below(4)) {
        case 0:
          (*bytes)[at] = static_cast<char>(random_());
          break;
        case 1:
          bytes->erase(at, size);
          break;
        case 2:
          bytes->insert(at, bytes->substr(Below(bytes->size()), size));
          break;
        default:
          bytes->resize(at);
      }
    }
  }

  // The header of a safetensors file, with its length made right again, mostly.
  void ChangeHeader(std::string* bytes) {
    uint64_t size = 0;
    if (bytes->size() < sizeof size) return ChangeBytes(bytes);
    std::memcpy(&size, bytes->data(), sizeof size);
    if (size > bytes->size() - sizeof size || Below(6) == 0) return ChangeBytes(bytes);
    std::string header = bytes->substr(sizeof size, size);
    ChangeJson(&header);
    const uint64_t new_size = header.size();
    bytes->replace(0, sizeof size + size, std::string(sizeof size, '\0') + header);
    std::memcpy(bytes->data(), &new_size, sizeof new_size);
  }

 private:
  void RemoveKey(const std::string& key, std::string* text) {
    const size_t at = text->find("\"" + key + "\":");
    if (at == std::string::npos) return;
    const size_t end = EndOfValue(*text, at + key.size() + 2);
    text->erase(at, end + (end < text->size() && (*text)[end] == ',' ? 1 : 0) - at);
  }

  std::mt19937_64 random_;
};

// ---- Memory

// Highest resident memory since ResetPeak, 0 where the kernel does not say. Sanitizers keep what is
// freed, so that theirs says nothing.
uint64_t PeakBytes() {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  return 0;
#else
  std::ifstream status("/proc/self/status");
  std::string line;
  while (std::getline(status, line)) {
    if (line.starts_with("VmHWM:")) return std::strtoull(line.c_str() + 6, nullptr, 10) << 10;
  }
  return 0;
#endif
}

void ResetPeak() { std::ofstream("/proc/self/clear_refs") << "5"; }

// ---- A case

class Fuzzer {
 public:
  explicit Fuzzer(uint64_t seed) : mutator_(seed) {
    auto backend = CreateBackend("cpu", pool_);
    BERTRAND_CHECK(backend.ok(), Message(backend.status()));
    backend_ = *std::move(backend);
  }

  // Whether the checkpoint could be loaded.
  bool Once() {
    if (mutator_.Below(4) == 0) return ParseOne();
    const TestFolder folder;
    for (const std::string& from : kCheckpoints[mutator_.Below(kCheckpoints.size())]) {
      folder.CopyFrom(from);
    }
    for (uint64_t count = 1 + mutator_.Below(2); count > 0; --count) Damage(folder.path());
    uint64_t folder_bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(folder.path())) {
      if (entry.is_regular_file()) folder_bytes += entry.file_size();
    }
    ResetPeak();
    const uint64_t before = PeakBytes();
    const auto model = Model::Load(folder.path(), *backend_, {});
    const uint64_t after = PeakBytes();
    BERTRAND_CHECK(after <= before + kMemoryBytesFree + kMemoryFactor * folder_bytes,
                   "a folder of " + std::to_string(folder_bytes) + " bytes took " +
                       std::to_string(after - before));
    if (model.ok()) Run(**model);
    return model.ok();
  }

 private:
  bool ParseOne() {
    std::string text =
        ReadFile(fs::path(kConfigs[mutator_.Below(kConfigs.size())]) / "config.json");
    for (uint64_t count = 1 + mutator_.Below(3); count > 0; --count) mutator_.ChangeJson(&text);
    const auto json = Json::Parse(text, "config.json");
    return json.ok() && ParseModelConfig(*json, "config.json").ok();
  }

  void Damage(const std::string& folder) {
    std::vector<fs::path> files;
    for (const auto& entry : fs::recursive_directory_iterator(folder)) {
      // Of what is in the tokenizer's file its own fuzzer sees more.
      const std::string name = entry.path().filename().string();
      if (entry.is_regular_file() && name != "tokenizer.json" && name != "expected.safetensors") {
        files.push_back(entry.path());
      }
    }
    std::sort(files.begin(), files.end());
    const fs::path& path = files[mutator_.Below(files.size())];
    if (mutator_.Below(50) == 0) {
      fs::remove(path);
      return;
    }
    std::string bytes = ReadFile(path);
    if (path.extension() == ".json") {
      mutator_.ChangeJson(&bytes);
    } else if (path.extension() == ".safetensors") {
      mutator_.ChangeHeader(&bytes);
    } else {
      mutator_.ChangeBytes(&bytes);
    }
    WriteFile(path, bytes);
  }

  // A text through what was loaded. Errors are in order, crashes are not.
  void Run(const Model& model) {
    PreparedInput input;
    PrepareOptions options;
    options.as_sentence = true;
    options.encode.max_tokens = 16;
    if (!model.Prepare({.first = "ada saw paris in the rain"}, options, &input).ok()) return;
    const auto size = static_cast<int64_t>(input.encoding.ids.size());
    const auto dimensions = model.EmbedDimensions(std::nullopt);
    const auto runner = model.NewRunner(16, 1);
    if (size == 0 || !dimensions.ok() || !runner.ok()) return;
    std::vector<float> vector(static_cast<size_t>(*dimensions));
    const EmbedOutput output{.vector = vector};
    SequenceWork work;
    work.ids = input.encoding.ids;
    work.type_ids = input.encoding.type_ids;
    work.embed = &output;
    const absl::Status status = (*runner)->Forward({&work, 1});
    BERTRAND_CHECK(status.ok(), Message(status));
  }

  Mutator mutator_;
  ThreadPool pool_{1, "fuzz"};
  std::unique_ptr<Backend> backend_;
};

int Main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 60;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Fuzzer fuzzer(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  uint64_t count = 0, loaded = 0;
  while (std::chrono::steady_clock::now() < end) {
    ++count;
    if (fuzzer.Once()) ++loaded;
  }
  std::printf("%llu checkpoints, %llu could be loaded\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(loaded));
  return 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
