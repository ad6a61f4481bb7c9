#include "tests/e2e/server_process.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

namespace bertrand {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

std::string ReadFile(const std::string& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string Between(const std::string& text, const std::string& begin, char end) {
  const size_t at = text.find(begin);
  if (at == std::string::npos) return "";
  const size_t first = at + begin.size();
  return text.substr(first, text.find(end, first) - first);
}

}  // namespace

std::unique_ptr<ServerProcess> ServerProcess::Start(const std::vector<std::string>& arguments) {
  auto server = std::make_unique<ServerProcess>();
  std::string pattern = testing::TempDir() + "/bertrand_XXXXXX";
  if (mkdtemp(pattern.data()) == nullptr) return nullptr;
  server->folder_ = pattern;
  std::vector<std::string> words = {BERTRAND_SERVER_PATH};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  const std::string out = pattern + "/out", err = pattern + "/err";
  constexpr int kFlags = O_WRONLY | O_CREAT | O_APPEND;
  posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, out.c_str(), kFlags, 0600);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, err.c_str(), kFlags, 0600);
  const int error =
      posix_spawn(&server->pid_, BERTRAND_SERVER_PATH, &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? std::move(server) : nullptr;
}

std::unique_ptr<ServerProcess> ServerProcess::StartReady(
    const std::vector<std::string>& arguments) {
  std::vector<std::string> all = {"--model",        std::string("tiny=") + kCheckpoint,
                                  "--grpc-address", "127.0.0.1:0",
                                  "--http-address", "127.0.0.1:0"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  auto server = Start(all);
  return server != nullptr && server->WaitForReady() ? std::move(server) : nullptr;
}

bool ServerProcess::WaitForReady() {
  const auto deadline = steady_clock::now() + seconds(60);
  while (steady_clock::now() < deadline) {
    const std::string out = standard_output();
    if (!out.empty() && out.back() == '\n') {
      grpc_address_ = Between(out, "grpc=", ' ');
      http_address_ = Between(out, "http=", '\n');
      return true;
    }
    if (waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      ADD_FAILURE() << "the server ended: " << standard_error();
      return false;
    }
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

ServerProcess::~ServerProcess() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  std::error_code ignored;
  if (!folder_.empty()) std::filesystem::remove_all(folder_, ignored);
}

std::string ServerProcess::standard_output() const { return ReadFile(folder_ + "/out"); }
std::string ServerProcess::standard_error() const { return ReadFile(folder_ + "/err"); }

int64_t ServerProcess::resident_bytes() const {
  std::ifstream statm("/proc/" + std::to_string(pid_) + "/statm");
  int64_t total = 0, resident = 0;
  statm >> total >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

void ServerProcess::Signal(int number) const {
  if (pid_ > 0) kill(pid_, number);
}

int ServerProcess::WaitForEnd(seconds time) {
  const auto deadline = steady_clock::now() + time;
  while (steady_clock::now() < deadline) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  return -1;
}

std::shared_ptr<grpc::Channel> ServerProcess::NewChannel() const {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // or "new" channels share a connection
  arguments.SetMaxReceiveMessageSize(64 << 20);
  return grpc::CreateCustomChannel(grpc_address_, grpc::InsecureChannelCredentials(), arguments);
}

std::unique_ptr<v1::Inference::Stub> ServerProcess::NewClient() const {
  return v1::Inference::NewStub(NewChannel());
}

std::string ServerProcess::Http(const std::string& request) const {
  const size_t colon = http_address_.rfind(':');
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(http_address_.substr(colon + 1))));
  inet_pton(AF_INET, http_address_.substr(0, colon).c_str(), &address.sin_addr);
  const int connection = socket(AF_INET, SOCK_STREAM, 0);
  std::string answer;
  if (connect(connection, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
    size_t sent = 0;
    while (sent < request.size()) {
      const ssize_t count =
          send(connection, request.data() + sent, request.size() - sent, MSG_NOSIGNAL);
      if (count <= 0) break;
      sent += static_cast<size_t>(count);
    }
    char buffer[16384];
    for (ssize_t count; (count = recv(connection, buffer, sizeof(buffer), 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(count));
    }
  }
  close(connection);
  return answer;
}

std::string ServerProcess::HttpGet(const std::string& path) const {
  return Http("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
}

void SetDeadline(grpc::ClientContext* context, milliseconds time) {
  context->set_deadline(std::chrono::system_clock::now() + time);
}

v1::EmbedRequest NewRequest(const std::vector<std::string>& texts) {
  v1::EmbedRequest request;
  for (const std::string& text : texts) request.add_inputs()->set_text(text);
  return request;
}

grpc::Status Embed(v1::Inference::Stub& stub, const v1::EmbedRequest& request,
                   v1::EmbedResponse* response, milliseconds time) {
  grpc::ClientContext context;
  SetDeadline(&context, time);
  return stub.Embed(&context, request, response);
}

void ExpectWell(const ServerProcess& server) {
  v1::EmbedResponse response;
  const grpc::Status status =
      Embed(*server.NewClient(), NewRequest({"well"}), &response, seconds(2));
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.embeddings().count(), 1U);
}

}  // namespace bertrand
