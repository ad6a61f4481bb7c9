// The service Models: what is served.

#include "kernels/status.h"
#include "server/grpc/methods.h"
#include "server/grpc/request.h"

namespace bertrand {
namespace {

void WriteModelInfo(const ServedModel& served, v1::ModelInfo* info) {
  const ModelDescription& description = served.model->description();
  info->set_name(served.name);
  info->set_source(served.source);
  info->set_revision(served.revision);
  info->set_state(v1::ModelInfo::STATE_READY);
  info->set_family(static_cast<v1::Family>(description.family));
  info->set_architecture(description.architecture);
  for (const Task task : description.tasks) info->add_tasks(static_cast<v1::Task>(task));
  info->set_hidden_size(static_cast<uint32_t>(description.hidden_size));
  info->set_num_layers(static_cast<uint32_t>(description.num_layers));
  info->set_num_heads(static_cast<uint32_t>(description.num_heads));
  info->set_vocab_size(static_cast<uint32_t>(description.vocab_size));
  info->set_max_tokens(static_cast<uint32_t>(description.max_tokens));
  for (const std::string& label : description.labels) info->add_labels(label);
  info->set_compute_type(description.compute_type);
  for (size_t device = 0; device < served.num_devices(); ++device) {
    info->add_devices(served.on(device).description().device);
  }
  info->set_weight_bytes(description.weight_bytes);
  info->set_num_parameters(description.num_parameters);
}

}  // namespace

absl::Status HandleListModels(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(auto parsed, Parse<v1::ListModelsRequest>(*exchange));
  v1::ListModelsResponse response;
  for (const auto& served : exchange->site.engine->models()) {
    WriteModelInfo(*served, response.add_models());
  }
  exchange->Answer(response);
  return absl::OkStatus();
}

absl::Status HandleGetModel(const ExchangePtr& exchange) {
  BERTRAND_ASSIGN_OR_RETURN(const ServedModel* model, ResolveModel(*exchange, std::nullopt));
  v1::ModelInfo response;
  WriteModelInfo(*model, &response);
  exchange->Answer(response);
  return absl::OkStatus();
}

absl::Status HandleModelControl(const ExchangePtr&) {
  return Unimplemented(
      "models are not loaded or unloaded while the server runs (--model-control is not in this "
      "version): name them with --model at its start");
}

}  // namespace bertrand
