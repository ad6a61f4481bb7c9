#include "client/commands/embed.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstring>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "client/commands/inputs.h"
#include "client/connection.h"
#include "client/output.h"

namespace bertrand::client {
namespace {

static_assert(std::endian::native == std::endian::little, "Vectors.data is little-endian");

// More rows than this make no readable matrix.
constexpr std::size_t kSimilarityTextsMax = 9;
constexpr std::size_t kValuesShownMax = 4;

struct EmbedOptions {
  ConnectionOptions connection;
  InputOptions inputs;
  LongOptions long_input;
  std::string pooling;
  std::optional<bool> normalize;
  uint32_t dimensions = 0;
};

// A response, decoded: vectors [texts, dimensions], row-major.
struct Embedded {
  std::vector<std::string> texts;
  std::vector<float> vectors;
  std::size_t dimensions = 0;
  v1::EmbedResponse response;

  std::span<const float> Row(std::size_t index) const {
    return std::span(vectors).subspan(index * dimensions, dimensions);
  }
};

v1::EmbedRequest MakeRequest(const EmbedOptions& options, const std::vector<std::string>& texts) {
  v1::EmbedRequest request;
  FillRequest(options.inputs, texts, request);
  v1::Pooling pooling = v1::POOLING_UNSPECIFIED;
  if (!options.pooling.empty()) v1::Pooling_Parse(EnumName("POOLING", options.pooling), &pooling);
  request.set_pooling(pooling);
  if (!options.long_input.mode.empty()) {
    FillLongInput(options.long_input, request.mutable_long_input());
  }
  if (options.normalize) request.set_normalize(*options.normalize);
  request.set_dimensions(options.dimensions);
  request.set_output_type(v1::DATA_TYPE_FLOAT32);
  return request;
}

// Takes the vectors out of the response. INTERNAL if it is not what was asked for.
grpc::Status Decode(Embedded& embedded) {
  const v1::Vectors& vectors = embedded.response.embeddings();
  const std::size_t num_values = std::size_t{vectors.count()} * vectors.dimensions();
  if (vectors.count() != embedded.texts.size() ||
      vectors.data().size() != num_values * sizeof(float)) {
    return {grpc::StatusCode::INTERNAL, "the answer has " + std::to_string(vectors.count()) +
                                            " vectors of " + std::to_string(vectors.dimensions()) +
                                            " dimensions in " +
                                            std::to_string(vectors.data().size()) + " bytes for " +
                                            std::to_string(embedded.texts.size()) + " texts"};
  }
  embedded.dimensions = vectors.dimensions();
  embedded.vectors.resize(num_values);
  if (num_values > 0) {
    std::memcpy(embedded.vectors.data(), vectors.data().data(), vectors.data().size());
  }
  return grpc::Status::OK;
}

double Dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * b[i];
  return sum;
}

// What the pieces of the input become. Prints as they come, so a corpus needs no memory.
class Printer {
 public:
  virtual ~Printer() = default;
  virtual void Piece(const Embedded& embedded) = 0;
  // After the last piece of a run that went well.
  virtual void End(double wall_ms) = 0;

 protected:
  void Count(const Embedded& embedded) {
    num_texts_ += embedded.texts.size();
    for (const v1::InputStats& stats : embedded.response.stats()) num_tokens_ += stats.num_tokens();
    const v1::Timing& timing = embedded.response.timing();
    timing_.set_tokenize_us(timing_.tokenize_us() + timing.tokenize_us());
    timing_.set_queue_us(timing_.queue_us() + timing.queue_us());
    timing_.set_inference_us(timing_.inference_us() + timing.inference_us());
    timing_.set_total_us(timing_.total_us() + timing.total_us());
  }

  std::size_t num_texts_ = 0;
  uint64_t num_tokens_ = 0;
  v1::Timing timing_;
};

class JsonPrinter : public Printer {
 public:
  void Piece(const Embedded& embedded) override {
    if (num_texts_ == 0) Open(embedded.dimensions);
    for (std::size_t i = 0; i < embedded.texts.size(); ++i) {
      std::cout << (num_texts_ + i == 0 ? "\n" : ",\n") << "{\"index\":" << num_texts_ + i
                << ",\"text\":" << JsonString(embedded.texts[i]);
      if (i < static_cast<std::size_t>(embedded.response.stats_size())) {
        const v1::InputStats& stats = embedded.response.stats(static_cast<int>(i));
        std::cout << ",\"num_tokens\":" << stats.num_tokens()
                  << ",\"num_truncated_tokens\":" << stats.num_truncated_tokens();
      }
      std::cout << ",\"embedding\":[";
      const char* separator = "";
      for (const float value : embedded.Row(i)) {
        std::cout << separator << JsonNumber(value);
        separator = ",";
      }
      std::cout << "]}";
    }
    Count(embedded);
  }

  void End(double wall_ms) override {
    if (num_texts_ == 0) Open(0);
    std::cout << "\n],\"timing_us\":{\"tokenize\":" << timing_.tokenize_us()
              << ",\"queue\":" << timing_.queue_us() << ",\"inference\":" << timing_.inference_us()
              << ",\"total\":" << timing_.total_us()
              << "},\"wall_ms\":" << JsonNumber(static_cast<float>(wall_ms)) << "}\n";
  }

 private:
  static void Open(std::size_t dimensions) {
    std::cout << "{\"dimensions\":" << dimensions << ",\"results\":[";
  }
};

class PeoplePrinter : public Printer {
 public:
  void Piece(const Embedded& embedded) override {
    const bool first = num_texts_ == 0;
    const std::size_t begin = num_texts_;
    Count(embedded);
    if (first) std::cout << embedded.dimensions << " dimensions\n\n";
    PrintVectors(embedded, begin);
    const std::size_t num_texts = embedded.texts.size();
    if (first && num_texts > 1 && num_texts <= kSimilarityTextsMax) PrintSimilarities(embedded);
  }

  void End(double wall_ms) override {
    if (num_texts_ == 0) return;
    const auto ms = [](uint64_t us) { return Fixed(static_cast<double>(us) / 1e3, 1); };
    std::cout << "\n"
              << num_texts_ << (num_texts_ == 1 ? " text, " : " texts, ") << num_tokens_
              << " tokens in " << Fixed(wall_ms, 1) << " ms (server " << ms(timing_.total_us())
              << ": tokenizing " << ms(timing_.tokenize_us()) << ", queue "
              << ms(timing_.queue_us()) << ", inference " << ms(timing_.inference_us()) << ")\n";
  }

 private:
  void PrintVectors(const Embedded& embedded, std::size_t begin) const {
    Table table({{"#", Table::Align::kRight},
                 {"tokens", Table::Align::kRight},
                 {"norm", Table::Align::kRight},
                 {"first values"},
                 {"text"}});
    // What the columns before the text take: 2 + 4, 2 + 6, 2 + 7, 2 + 35, 2.
    const std::size_t width = std::max<std::size_t>(terminal_.num_columns, 80) - 62;
    for (std::size_t i = 0; i < embedded.texts.size(); ++i) {
      const std::span<const float> row = embedded.Row(i);
      std::string values;
      for (const float value : row.first(std::min(kValuesShownMax, row.size()))) {
        if (!values.empty()) values += ' ';
        if (!std::signbit(value)) values += ' ';
        values += Fixed(value, 4);
      }
      if (row.size() > kValuesShownMax) values += " ...";
      const bool has_stats = i < static_cast<std::size_t>(embedded.response.stats_size());
      const v1::InputStats stats =
          has_stats ? embedded.response.stats(static_cast<int>(i)) : v1::InputStats();
      const std::string cut = stats.num_truncated_tokens() > 0 ? " (cut)" : "";
      table.AddRow({std::to_string(begin + i + 1), std::to_string(stats.num_tokens()) + cut,
                    Fixed(std::sqrt(Dot(row, row)), 4), values,
                    Shorten(embedded.texts[i], terminal_.interactive ? width : kTextColumnsMax)});
    }
    std::cout << table.ToString(terminal_);
  }

  void PrintSimilarities(const Embedded& embedded) const {
    std::vector<Table::Column> columns = {{"cosine"}};
    for (std::size_t i = 0; i < embedded.texts.size(); ++i) {
      columns.push_back({std::to_string(i + 1), Table::Align::kRight});
    }
    Table table(columns);
    for (std::size_t i = 0; i < embedded.texts.size(); ++i) {
      std::vector<std::string> cells = {std::to_string(i + 1)};
      for (std::size_t j = 0; j < embedded.texts.size(); ++j) {
        const auto a = embedded.Row(i);
        const auto b = embedded.Row(j);
        const double norms = std::sqrt(Dot(a, a) * Dot(b, b));
        cells.push_back(norms > 0 ? Fixed(Dot(a, b) / norms, 3) : "-");
      }
      table.AddRow(cells);
    }
    std::cout << "\n" << table.ToString(terminal_);
  }

  // Into a file or a pipe, texts are cut only to keep a table a table.
  static constexpr std::size_t kTextColumnsMax = 1000;
  const Terminal terminal_ = Terminal::Detect();
};

int Run(const EmbedOptions& options) {
  Connection connection(options.connection);
  InputReader reader(options.inputs);
  std::unique_ptr<Printer> printer;
  if (options.inputs.json) {
    printer = std::make_unique<JsonPrinter>();
  } else {
    printer = std::make_unique<PeoplePrinter>();
  }
  double wall_ms = 0;
  while (true) {
    std::optional<std::vector<std::string>> piece = reader.Next();
    if (!piece) return 1;
    if (piece->empty()) break;
    const v1::EmbedRequest request = MakeRequest(options, *piece);
    Embedded embedded;
    embedded.texts = *std::move(piece);
    const auto begin = std::chrono::steady_clock::now();
    grpc::Status status = connection.Call([&](grpc::ClientContext* context) {
      return connection.inference().Embed(context, request, &embedded.response);
    });
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    wall_ms += took.count();
    if (status.ok()) status = Decode(embedded);
    if (!status.ok()) return connection.Report(reader.Located(status));
    printer->Piece(embedded);
    // gRPC ignores SIGPIPE: without this, `| head` would leave the whole corpus to be embedded.
    if (!std::cout.flush()) return 1;
  }
  printer->End(wall_ms);
  return 0;
}

}  // namespace

void AddEmbedCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("embed", "Vectors of texts, and how similar they are");
  auto options = std::make_shared<EmbedOptions>();
  AddInputOptions(*command, options->inputs);
  AddLongOptions(*command, options->long_input);
  command
      ->add_option("--pooling", options->pooling,
                   "cls, mean, max, mean-sqrt-len, weighted-mean, last-token\n"
                   "or pooler [as the checkpoint says]")
      ->check(
          OneOf({"cls", "mean", "max", "mean-sqrt-len", "weighted-mean", "last-token", "pooler"}))
      ->type_name("HOW");
  CLI::Option* on = command->add_flag_callback(
      "--normalize", [options] { options->normalize = true; }, "Scale vectors to length 1 ...");
  command
      ->add_flag_callback(
          "--no-normalize", [options] { options->normalize = false; },
          "... or leave them as they are [as the checkpoint says]")
      ->excludes(on);
  command->add_option("--dimensions", options->dimensions, "Keep the first N dimensions [all]")
      ->check(CLI::Range(1, 1'000'000).description(""))
      ->type_name("N");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand embed \"A cat sleeps.\" \"A kitten naps.\" \"Rates went up.\"\n"
      "  bertrand embed --json --normalize < corpus.txt > vectors.json");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
