// What the process does when it cannot start: one clear line, a status that is not zero, no port.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/server_process.h"

namespace bertrand {
namespace {

namespace fs = std::filesystem;

class StartTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::copy(kCheckpoint, folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  void Write(const std::string& file, const std::string& text) {
    std::ofstream(folder_ / file, std::ios::trunc) << text;
  }

  // Ends with a status that is not 0 and one line with all of `texts`; nothing on standard output.
  void ExpectFailure(const std::vector<std::string>& arguments,
                     const std::vector<std::string>& texts) {
    const auto server = ServerProcess::Start(arguments);
    ASSERT_NE(server, nullptr);
    const int status = server->WaitForEnd(std::chrono::seconds(30));
    EXPECT_GT(status, 0);
    EXPECT_EQ(server->standard_output(), "");
    const std::string error = server->standard_error();
    const size_t begin = error.find("bertrand-server: ");
    ASSERT_NE(begin, std::string::npos) << error;
    EXPECT_EQ(std::count(error.begin() + static_cast<int64_t>(begin), error.end(), '\n'), 1)
        << error;
    for (const std::string& text : texts) {
      EXPECT_NE(error.find(text, begin), std::string::npos) << text << " in: " << error;
    }
  }

  void ExpectLoadFailure(const std::vector<std::string>& texts) {
    ExpectFailure({"--model", "m=" + folder_.string(), "--grpc-address", "127.0.0.1:0",
                   "--http-address", "127.0.0.1:0"},
                  texts);
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / "start_test_checkpoint";
};

TEST_F(StartTest, MissingFiles) {
  fs::remove(folder_ / "model.safetensors");
  ExpectLoadFailure({"--model m", "model.safetensors"});
  fs::remove(folder_ / "config.json");
  ExpectLoadFailure({"config.json"});
  fs::remove_all(folder_);
  ExpectLoadFailure({"no such folder"});
}

TEST_F(StartTest, ATruncatedModelFile) {
  const fs::path file = folder_ / "model.safetensors";
  fs::resize_file(file, fs::file_size(file) - 100);
  ExpectLoadFailure({"model.safetensors"});
  fs::resize_file(file, 4);
  ExpectLoadFailure({"model.safetensors"});
}

TEST_F(StartTest, AnUnknownModelType) {
  Write("config.json", R"({"model_type": "teapot", "architectures": ["TeapotModel"]})");
  ExpectLoadFailure({"teapot"});
}

TEST_F(StartTest, ACorruptTokenizer) {
  Write("tokenizer.json", R"({"model": {"type": "WordPiece", "vocab": )");
  ExpectLoadFailure({"tokenizer.json"});
}

TEST_F(StartTest, BadFlags) {
  ExpectFailure({}, {"--model"});
  ExpectFailure({"--model", "m=x", "--max-batch-tokens", "-5"}, {"--max-batch-tokens"});
  ExpectFailure({"--model", "m=" + folder_.string(), "--device", "toaster"},
                {"--device", "toaster"});
  // Of the hub, tests/e2e/hub_test.py has the rest.
  ExpectFailure({"--model", "./no/such"}, {"./no/such: no such folder"});
  ExpectFailure({"stray"}, {"not understood: stray", "--model SOURCE"});
}

TEST_F(StartTest, APortInUseNamesTheFlag) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  const std::string model = "m=" + folder_.string();
  ExpectFailure(
      {"--model", model, "--grpc-address", server->grpc_address(), "--http-address", "127.0.0.1:0"},
      {"--grpc-address", "in use"});
  ExpectFailure(
      {"--model", model, "--grpc-address", "127.0.0.1:0", "--http-address", server->http_address()},
      {"--http-address", "in use"});
  ExpectWell(*server);
}

TEST_F(StartTest, CheckLoadsAndExits) {
  const auto server = ServerProcess::Start({"--model", "m=" + folder_.string(), "--check"});
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(server->WaitForEnd(std::chrono::seconds(30)), 0);
  EXPECT_EQ(server->standard_output(), "");
}

TEST_F(StartTest, TypesThatCannotBeServed) {
  const std::string model = "m=" + folder_.string();
  ExpectFailure({"--model", model, "--dtype", "float8"}, {"--dtype", "float8 needs a GPU"});
  ExpectFailure({"--model", model, "--dtype", "float16"}, {"--dtype", "'cpu' with float16"});
  ExpectFailure({"--model", model, "--dtype", "int4"}, {"--dtype", "int4"});
  ExpectFailure({"--model", model, "--device", "emulated:0,0"}, {"--device", "emulated:0,0"});
}

// Two emulated GPUs, two lanes each, and requests at the same time: the vectors are those of the
// CPU but for float16.
TEST_F(StartTest, EmulatedGpusServe) {
  const auto cpu = ServerProcess::StartReady();
  const auto gpus = ServerProcess::StartReady({"--device", "emulated:0,1"});
  ASSERT_NE(cpu, nullptr);
  ASSERT_NE(gpus, nullptr);
  grpc::ClientContext context;
  v1::ListModelsResponse models;
  ASSERT_TRUE(v1::Models::NewStub(gpus->NewChannel())->ListModels(&context, {}, &models).ok());
  EXPECT_EQ(models.models(0).compute_type(), "float16");
  ASSERT_EQ(models.models(0).devices_size(), 2);
  EXPECT_EQ(models.models(0).devices(1), "emulated:1");
  const std::vector<std::string> texts = {"hello world", "the cat sat on the mat", "a b c"};
  v1::EmbedResponse right;
  ASSERT_TRUE(Embed(*cpu->NewClient(), NewRequest(texts), &right).ok());
  std::vector<std::thread> clients;
  for (int i = 0; i < 6; ++i) {
    clients.emplace_back([&] {
      v1::EmbedResponse response;
      const grpc::Status status = Embed(*gpus->NewClient(), NewRequest(texts), &response);
      ASSERT_TRUE(status.ok()) << status.error_message();
      const std::string &actual = response.embeddings().data(),
                        &expected = right.embeddings().data();
      ASSERT_EQ(actual.size(), expected.size());
      for (size_t at = 0; at < actual.size(); at += sizeof(float)) {
        float a = 0, e = 0;
        std::memcpy(&a, &actual[at], sizeof(float));
        std::memcpy(&e, &expected[at], sizeof(float));
        ASSERT_NEAR(a, e, 0.01);
      }
    });
  }
  for (std::thread& client : clients) client.join();
}

TEST_F(StartTest, TheReadyLineIsAllOfStandardOutput) {
  const auto server = ServerProcess::StartReady();
  ASSERT_NE(server, nullptr);
  EXPECT_EQ(server->standard_output(),
            "ready grpc=" + server->grpc_address() + " http=" + server->http_address() + "\n");
}

}  // namespace
}  // namespace bertrand
