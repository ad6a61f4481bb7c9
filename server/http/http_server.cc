// Asio of Boost 1.74 uses std::exchange without including its header.
#include "server/http/http_server.h"

#include <absl/strings/numbers.h>
#include <absl/strings/str_cat.h>
#include <pthread.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <optional>
#include <string_view>
#include <thread>
#include <utility>

#include "kernels/status.h"

namespace bertrand {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using tcp = boost::asio::ip::tcp;
using Request = http::request<http::string_body>;
using Response = http::response<http::string_body>;

constexpr uint32_t kHeaderBytesMax = 64 * 1024;
constexpr uint64_t kBodyBytesMax = 1 << 20;

// What all connections share; the event loop's thread alone touches num_connections.
struct Site {
  const HttpOptions options;
  const Health* const health;
  Metrics* const metrics;
  int64_t num_connections = 0;
};

Response MakeResponse(http::status status, unsigned version, const char* content_type,
                      std::string body) {
  Response response(status, version);
  response.set(http::field::server, "bertrand");
  response.set(http::field::content_type, content_type);
  response.body() = std::move(body);
  return response;
}

Response MakeError(http::status status, unsigned version, std::string_view message,
                   std::string_view type) {
  std::string body = "{\"error\":\"";
  body.append(message).append("\",\"error_type\":\"").append(type).append("\"}");
  return MakeResponse(status, version, "application/json", std::move(body));
}

Response AnswerHealth(const Site& site, unsigned version) {
  if (site.health->serving()) {
    return MakeResponse(http::status::ok, version, "application/json", "{\"status\":\"ok\"}");
  }
  return MakeError(http::status::service_unavailable, version, "unhealthy", "Unhealthy");
}

// The answer, and the route's name for the metrics.
std::pair<Response, const char*> Route(const Site& site, const Request& request) {
  const unsigned version = request.version();
  const std::string_view target(request.target().data(), request.target().size());
  const std::string_view path = target.substr(0, target.find('?'));
  const char* route = path == "/health" ? "/health" : path == "/metrics" ? "/metrics" : nullptr;
  if (route == nullptr) {
    return {MakeError(http::status::not_found, version, "no such route", "Validation"), "other"};
  }
  if (request.method() != http::verb::get && request.method() != http::verb::head) {
    Response response = MakeError(http::status::method_not_allowed, version,
                                  "this route takes GET and HEAD", "Validation");
    response.set(http::field::allow, "GET, HEAD");
    return {std::move(response), route};
  }
  if (path == "/health") return {AnswerHealth(site, version), route};
  return {
      MakeResponse(http::status::ok, version, "text/plain; version=0.0.4", site.metrics->Text()),
      route};
}

// One connection; keeps itself alive through its pending operations.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(tcp::socket socket, Site* site) : stream_(std::move(socket)), site_(site) {
    ++site_->num_connections;
  }
  ~Connection() { --site_->num_connections; }

  void Read() {
    parser_.emplace();
    parser_->header_limit(kHeaderBytesMax);
    parser_->body_limit(kBodyBytesMax);
    stream_.expires_after(site_->options.read_timeout);
    http::async_read(
        stream_, buffer_, *parser_,
        [self = shared_from_this()](beast::error_code error, size_t) { self->OnRead(error); });
  }

 private:
  void OnRead(beast::error_code error) {
    if (error == http::error::header_limit) {
      return Send(MakeError(http::status::request_header_fields_too_large, 11,
                            "the header is above 64 KB", "Validation"),
                  "other", false, false);
    }
    if (error == http::error::body_limit) {
      return Send(
          MakeError(http::status::payload_too_large, 11, "the body is above 1 MB", "Validation"),
          "other", false, false);
    }
    const bool malformed =
        error && error.category() == http::make_error_code(http::error::end_of_stream).category();
    if (malformed && error != http::error::end_of_stream && error != http::error::partial_message) {
      return Send(MakeError(http::status::bad_request, 11, "not an HTTP request", "Validation"),
                  "other", false, false);
    }
    if (error) return Close();
    const Request request = parser_->release();
    if (request.count(http::field::content_length) > 0 && request.chunked()) {
      return Send(MakeError(http::status::bad_request, request.version(),
                            "both Content-Length and Transfer-Encoding", "Validation"),
                  "other", false, false);
    }
    auto [response, route] = Route(*site_, request);
    Send(std::move(response), route, request.keep_alive(), request.method() == http::verb::head);
  }

  void Send(Response response, const char* route, bool keep_alive, bool head) {
    site_->metrics->CountHttpRequest(route, static_cast<int>(response.result_int()));
    response.keep_alive(keep_alive);
    response.prepare_payload();
    if (head) response.body().clear();  // the length stays as GET would have it
    response_ = std::move(response);
    stream_.expires_after(site_->options.write_timeout);
    http::async_write(stream_, response_,
                      [self = shared_from_this(), keep_alive](beast::error_code error, size_t) {
                        if (error || !keep_alive) return self->Close();
                        self->Read();
                      });
  }

  void Close() {
    beast::error_code ignored;
    stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    stream_.close();
  }

  beast::tcp_stream stream_;
  Site* const site_;
  beast::flat_buffer buffer_{kHeaderBytesMax + kBodyBytesMax};
  std::optional<http::request_parser<http::string_body>> parser_;
  Response response_;
};

absl::StatusOr<std::pair<std::string, std::string>> SplitAddress(const std::string& address) {
  const size_t colon = address.rfind(':');
  if (colon == std::string::npos) return InvalidArgument("\"" + address + "\" is not HOST:PORT");
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  return std::pair(std::move(host), address.substr(colon + 1));
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(const HttpOptions& options, const Health* health, Metrics* metrics)
      : site_{options, health, metrics}, acceptor_(context_), pause_(context_) {}

  ~Impl() {
    context_.stop();
    if (thread_.joinable()) thread_.join();
  }

  absl::Status Listen() {
    const std::string& address = site_.options.address;
    BERTRAND_ASSIGN_OR_RETURN(const auto parts, SplitAddress(address));
    beast::error_code error;
    const auto found = tcp::resolver(context_).resolve(parts.first, parts.second, error);
    if (error) return Unavailable(absl::StrCat(address, ": ", error.message()));
    const tcp::endpoint endpoint = found.begin()->endpoint();
    acceptor_.open(endpoint.protocol(), error);
    // A restart must not wait for old connections; the port is still ours alone.
    if (!error) acceptor_.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor_.bind(endpoint, error);
    if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
    if (error) return Unavailable(absl::StrCat(address, ": ", error.message()));
    address_ =
        absl::StrCat(address.substr(0, address.rfind(':')), ":", acceptor_.local_endpoint().port());
    Accept();
    thread_ = std::thread([this] { context_.run(); });
    pthread_setname_np(thread_.native_handle(), "http");
    return absl::OkStatus();
  }

  const std::string& address() const { return address_; }

 private:
  void Accept() {
    acceptor_.async_accept([this](beast::error_code error, tcp::socket socket) {
      if (error == asio::error::operation_aborted) return;
      if (error) {
        // Out of file descriptors, most likely: wait for some to be closed.
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](beast::error_code) { Accept(); });
        return;
      }
      if (site_.num_connections < site_.options.max_connections) {
        std::make_shared<Connection>(std::move(socket), &site_)->Read();
      }
      Accept();
    });
  }

  Site site_;  // outlives the context, whose handlers hold connections
  asio::io_context context_{1};
  tcp::acceptor acceptor_;
  asio::steady_timer pause_;
  std::string address_;
  std::thread thread_;
};

absl::StatusOr<std::unique_ptr<HttpServer>> HttpServer::Start(const HttpOptions& options,
                                                              const Health* health,
                                                              Metrics* metrics) {
  auto impl = std::make_unique<Impl>(options, health, metrics);
  BERTRAND_RETURN_IF_ERROR(impl->Listen());
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
HttpServer::~HttpServer() = default;
const std::string& HttpServer::address() const { return impl_->address(); }

}  // namespace bertrand
