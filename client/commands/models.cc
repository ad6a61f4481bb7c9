#include "client/commands/models.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/commands/inputs.h"
#include "client/connection.h"
#include "client/output.h"

namespace bertrand::client {
namespace {

struct ModelsOptions {
  ConnectionOptions connection;
  std::string name;
  bool json = false;
};

std::vector<std::string> TaskNames(const v1::ModelInfo& model) {
  std::vector<std::string> names;
  for (const int task : model.tasks()) {
    names.push_back(ReadableName("TASK_", v1::Task_Name(static_cast<v1::Task>(task))));
  }
  return names;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : ", ") + part;
  return out;
}

std::string JsonList(const std::vector<std::string>& texts) {
  std::string out = "[";
  for (const std::string& text : texts) out += (out.size() > 1 ? "," : "") + JsonString(text);
  return out + "]";
}

std::string StateName(const v1::ModelInfo& model) {
  return ReadableName("STATE_", v1::ModelInfo::State_Name(model.state()));
}

std::string FamilyName(const v1::ModelInfo& model) {
  return ReadableName("FAMILY_", v1::Family_Name(model.family()));
}

// 22713216 gives "22.7 M", 89000 gives "89.0 k".
std::string Rounded(uint64_t count) {
  return count < 1'000'000 ? Fixed(static_cast<double>(count) / 1e3, 1) + " k"
                           : Fixed(static_cast<double>(count) / 1e6, 1) + " M";
}

void PrintJson(const std::vector<v1::ModelInfo>& models) {
  std::cout << "{\"models\":[";
  const char* separator = "\n";
  for (const v1::ModelInfo& model : models) {
    std::cout << separator << "{\"name\":" << JsonString(model.name())
              << ",\"source\":" << JsonString(model.source())
              << ",\"revision\":" << JsonString(model.revision())
              << ",\"state\":" << JsonString(StateName(model))
              << ",\"family\":" << JsonString(FamilyName(model))
              << ",\"architecture\":" << JsonString(model.architecture())
              << ",\"tasks\":" << JsonList(TaskNames(model))
              << ",\"hidden_size\":" << model.hidden_size()
              << ",\"num_layers\":" << model.num_layers() << ",\"num_heads\":" << model.num_heads()
              << ",\"vocab_size\":" << model.vocab_size()
              << ",\"max_tokens\":" << model.max_tokens()
              << ",\"labels\":" << JsonList({model.labels().begin(), model.labels().end()})
              << ",\"compute_type\":" << JsonString(model.compute_type())
              << ",\"devices\":" << JsonList({model.devices().begin(), model.devices().end()})
              << ",\"weight_bytes\":" << model.weight_bytes()
              << ",\"num_parameters\":" << model.num_parameters()
              << ",\"error\":" << JsonString(model.error()) << "}";
    separator = ",\n";
  }
  std::cout << "\n]}\n";
}

void PrintForPeople(const std::vector<v1::ModelInfo>& models) {
  Table table({{"name"},
               {"family"},
               {"state"},
               {"layers", Table::Align::kRight},
               {"hidden", Table::Align::kRight},
               {"tokens", Table::Align::kRight},
               {"parameters", Table::Align::kRight},
               {"type"},
               {"devices"}});
  for (const v1::ModelInfo& model : models) {
    table.AddRow({Shorten(model.name(), 40), FamilyName(model), StateName(model),
                  std::to_string(model.num_layers()), std::to_string(model.hidden_size()),
                  model.max_tokens() == 0 ? "any" : std::to_string(model.max_tokens()),
                  Rounded(model.num_parameters()), model.compute_type(),
                  Joined({model.devices().begin(), model.devices().end()})});
  }
  std::cout << table.ToString(Terminal::Detect()) << "\n";
  for (const v1::ModelInfo& model : models) {
    std::cout << model.name() << ": " << Joined(TaskNames(model)) << "\n";
    if (!model.error().empty()) std::cout << "  failed: " << Shorten(model.error(), 1000) << "\n";
  }
}

int Run(const ModelsOptions& options) {
  Connection connection(options.connection);
  std::vector<v1::ModelInfo> models;
  const grpc::Status status = connection.Call([&](grpc::ClientContext* context) {
    if (!options.name.empty()) {
      v1::GetModelRequest request;
      request.set_model(options.name);
      return connection.models().GetModel(context, request, &models.emplace_back());
    }
    v1::ListModelsResponse response;
    grpc::Status listed =
        connection.models().ListModels(context, v1::ListModelsRequest(), &response);
    models.assign(response.models().begin(), response.models().end());
    return listed;
  });
  if (!status.ok()) return connection.Report(status);
  if (options.json) {
    PrintJson(models);
  } else {
    PrintForPeople(models);
  }
  return 0;
}

}  // namespace

void AddModelsCommand(CLI::App& app, int& exit_status) {
  CLI::App* command = app.add_subcommand("models", "Models that the server has, and their tasks");
  auto options = std::make_shared<ModelsOptions>();
  command->add_option("NAME", options->name, "Only this model")->type_name("");
  command->add_flag("--json", options->json, "Print one JSON document");
  AddConnectionOptions(*command, options->connection);
  command->footer(
      "Examples:\n"
      "  bertrand models\n"
      "  bertrand models minilm --json");
  command->callback([options, &exit_status] { exit_status = Run(*options); });
}

}  // namespace bertrand::client
