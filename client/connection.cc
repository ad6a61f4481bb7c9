#include "client/connection.h"

#include <algorithm>
#include <charconv>
#include <iostream>
#include <string_view>

namespace bertrand::client {
namespace {

// The server's --max-response-bytes is 64 MB by default and may be set higher.
constexpr int kReceiveBytesMax = 256 * 1024 * 1024;
// A hint of 0 must not become a busy loop.
constexpr std::chrono::milliseconds kRetryDelayMin{5};

std::string_view CodeName(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::INVALID_ARGUMENT:
      return "invalid argument";
    case grpc::StatusCode::NOT_FOUND:
      return "not found";
    case grpc::StatusCode::FAILED_PRECONDITION:
      return "failed precondition";
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return "resource exhausted";
    case grpc::StatusCode::UNAVAILABLE:
      return "unavailable";
    case grpc::StatusCode::UNIMPLEMENTED:
      return "not implemented by this server";
    case grpc::StatusCode::INTERNAL:
      return "internal error";
    default:
      return "error";
  }
}

// Empty for what gRPC can be asked to connect to.
std::string AddressProblem(const std::string& address) {
  if (address.starts_with("unix:")) return "";
  const std::size_t colon = address.rfind(':');
  int port = 0;
  const char* end = address.data() + address.size();
  if (colon != std::string::npos && colon > 0) {
    const auto [stop, error] = std::from_chars(address.data() + colon + 1, end, port);
    if (error == std::errc() && stop == end && port > 0 && port < 65536) return "";
  }
  return "\"" + address + "\" is not HOST:PORT, such as 127.0.0.1:50051";
}

}  // namespace

void AddConnectionOptions(CLI::App& command, ConnectionOptions& options) {
  command.add_option("--address", options.address, "Where the server listens")
      ->check(CLI::Validator(AddressProblem, ""))
      ->envname("BERTRAND_ADDRESS")
      ->type_name("HOST:PORT")
      ->group("Connection")
      ->capture_default_str();
  command.add_option("--timeout", options.timeout_s, "Seconds that a request may take")
      ->check(CLI::Range(0.001, 86400.0).description(""))
      ->type_name("S")
      ->group("Connection")
      ->capture_default_str();
}

Connection::Connection(const ConnectionOptions& options)
    : address_(options.address), timeout_(static_cast<int64_t>(options.timeout_s * 1000)) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kReceiveBytesMax);
  arguments.SetUserAgentPrefix("bertrand-cli");
  for (const std::string_view local : {"127.", "localhost", "[::1]"}) {
    // http_proxy in the environment is never meant for this machine.
    if (address_.starts_with(local)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  }
  channel_ = grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
  inference_ = v1::Inference::NewStub(channel_);
  models_ = v1::Models::NewStub(channel_);
}

std::optional<std::chrono::milliseconds> Connection::RetryDelay(
    const grpc::Status& status, const grpc::ClientContext& context) {
  if (status.error_code() != grpc::StatusCode::RESOURCE_EXHAUSTED) return std::nullopt;
  const auto& metadata = context.GetServerTrailingMetadata();
  const auto hint = metadata.find("grpc-retry-pushback-ms");
  if (hint == metadata.end()) return std::nullopt;
  int64_t milliseconds = -1;
  std::from_chars(hint->second.begin(), hint->second.end(), milliseconds);
  if (milliseconds < 0) return std::nullopt;  // The server forbids it.
  return std::max(std::chrono::milliseconds(std::min<int64_t>(milliseconds, 86'400'000)),
                  kRetryDelayMin);
}

int Connection::Report(const grpc::Status& status) const {
  const bool connected = channel_->GetState(false) == GRPC_CHANNEL_READY;
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE && !connected) {
    std::cerr << "bertrand: no server answers at " << address_ << "\n"
              << "  start one:   ./run serve MODEL\n"
              << "         or:   build/bertrand-server --model MODEL\n"
              << "  elsewhere:   --address HOST:PORT, or BERTRAND_ADDRESS\n"
              << "  (" << status.error_message() << ")\n";
  } else if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
    std::cerr << "bertrand: no answer within " << static_cast<double>(timeout_.count()) / 1e3
              << " s (--timeout S waits longer): " << status.error_message() << "\n";
  } else {
    std::cerr << "bertrand: " << CodeName(status.error_code()) << ": " << status.error_message()
              << "\n";
  }
  return 1;
}

}  // namespace bertrand::client
