// What good requests get.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <thread>

#include "tests/e2e/server_process.h"

namespace bertrand {
namespace {

constexpr size_t kDimensions = 40;

class ProtocolTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = ServerProcess::StartReady().release(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override {
    ASSERT_NE(server_, nullptr);
    client_ = server_->NewClient();
    SetDeadline(&context_, std::chrono::seconds(20));
  }

  v1::EmbedResponse EmbedOk(const v1::EmbedRequest& request) {
    v1::EmbedResponse response;
    const grpc::Status status = Embed(*client_, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }

  static std::vector<float> Floats(const v1::Vectors& vectors) {
    std::vector<float> values(vectors.data().size() / sizeof(float));
    std::memcpy(values.data(), vectors.data().data(), vectors.data().size());
    return values;
  }

  static ServerProcess* server_;
  std::unique_ptr<v1::Inference::Stub> client_;
  grpc::ClientContext context_;
};
ServerProcess* ProtocolTest::server_ = nullptr;

TEST_F(ProtocolTest, EmbedAnswersInOrderWithStats) {
  const auto together = EmbedOk(NewRequest({"hello", "", "hello world a b c"}));
  EXPECT_EQ(together.embeddings().type(), v1::DATA_TYPE_FLOAT32);
  EXPECT_EQ(together.embeddings().count(), 3U);
  EXPECT_EQ(together.embeddings().dimensions(), kDimensions);
  EXPECT_EQ(together.stats(0).num_tokens(), 3U);
  EXPECT_EQ(together.stats(1).num_tokens(), 2U);
  EXPECT_EQ(together.stats(2).num_tokens(), 7U);
  EXPECT_GE(together.timing().total_us(), together.timing().inference_us());
  // A vector does not depend on its batch.
  const auto alone = EmbedOk(NewRequest({"hello world a b c"}));
  const auto all = Floats(together.embeddings()), one = Floats(alone.embeddings());
  for (size_t i = 0; i < kDimensions; ++i) {
    EXPECT_NEAR(all[2 * kDimensions + i], one[i], 1e-5) << i;
  }
}

TEST_F(ProtocolTest, IdsAndPairs) {
  grpc::Status status;
  v1::TokenizeRequest tokenize;
  v1::TextPair* pair = tokenize.add_inputs()->mutable_pair();
  pair->set_first("hello");
  pair->set_second("world");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE((status = client_->Tokenize(&context_, tokenize, &tokens)).ok())
      << status.error_message();
  ASSERT_EQ(tokens.results(0).tokens_size(), 5);
  const v1::Token& world = tokens.results(0).tokens(3);
  EXPECT_EQ(world.text(), "world");
  EXPECT_EQ(world.span().sequence_index(), 1U);
  EXPECT_EQ(world.span().end_byte(), 5U);
  EXPECT_EQ(world.type_id(), 1U);
  EXPECT_TRUE(tokens.results(0).tokens(0).special());

  v1::EmbedRequest request;
  *request.add_inputs()->mutable_pair() = *pair;
  v1::TokenIds* ids = request.add_inputs()->mutable_tokens();
  for (const v1::Token& token : tokens.results(0).tokens()) {
    ids->add_ids(token.id());
    ids->add_type_ids(token.type_id());
  }
  const auto values = Floats(EmbedOk(request).embeddings());
  for (size_t i = 0; i < kDimensions; ++i) EXPECT_NEAR(values[i], values[kDimensions + i], 1e-5);
}

TEST_F(ProtocolTest, TypesAndDimensions) {
  v1::EmbedRequest request = NewRequest({"hello", "world"});
  const auto full = Floats(EmbedOk(request).embeddings());
  const std::pair<v1::DataType, size_t> types[] = {{v1::DATA_TYPE_FLOAT16, 20},
                                                   {v1::DATA_TYPE_BFLOAT16, 20},
                                                   {v1::DATA_TYPE_INT8, 10},
                                                   {v1::DATA_TYPE_BINARY, 2}};
  request.set_dimensions(10);
  for (const auto& [type, row_bytes] : types) {
    request.set_output_type(type);
    const auto response = EmbedOk(request);
    EXPECT_EQ(response.embeddings().type(), type);
    EXPECT_EQ(response.embeddings().dimensions(), 10U);
    EXPECT_EQ(response.embeddings().data().size(), 2 * row_bytes);
    EXPECT_EQ(response.embeddings().scales_size(), type == v1::DATA_TYPE_INT8 ? 2 : 0);
  }
  request.set_output_type(v1::DATA_TYPE_UNSPECIFIED);
  request.set_normalize(true);
  const auto cut = Floats(EmbedOk(request).embeddings());
  double length = 0;
  for (size_t i = 0; i < 10; ++i) length += static_cast<double>(full[i]) * full[i];
  length = std::sqrt(length);
  for (size_t i = 0; i < 10; ++i) EXPECT_NEAR(cut[i], full[i] / length, 1e-5);
  request.set_normalize(false);
  EXPECT_NEAR(Floats(EmbedOk(request).embeddings())[9], full[9], 1e-5);
}

TEST_F(ProtocolTest, StreamsAnswerInOrder) {
  constexpr int kNumRequests = 200;
  const auto stream = client_->EmbedStream(&context_);
  std::thread writer([&] {
    for (int i = 0; i < kNumRequests; ++i) {
      stream->Write(NewRequest(std::vector<std::string>(static_cast<size_t>(i % 17 + 1), "x")));
    }
    stream->WritesDone();
  });
  v1::EmbedResponse response;
  int num_answers = 0;
  while (stream->Read(&response)) {
    EXPECT_EQ(response.embeddings().count(), static_cast<uint32_t>(num_answers % 17 + 1));
    ++num_answers;
  }
  writer.join();
  EXPECT_EQ(num_answers, kNumRequests);
  EXPECT_TRUE(stream->Finish().ok());
}

TEST_F(ProtocolTest, EmbedTokens) {
  v1::EmbedTokensRequest request;
  request.add_inputs()->set_text("hello world");
  request.add_layers(0);
  request.add_layers(-1);
  request.set_exclude_special_tokens(true);
  v1::EmbedTokensResponse response;
  ASSERT_TRUE(client_->EmbedTokens(&context_, request, &response).ok());
  ASSERT_EQ(response.results_size(), 1);
  EXPECT_EQ(response.results(0).tokens_size(), 2);
  EXPECT_EQ(response.results(0).tokens(1).span().start(), 6U);
  EXPECT_EQ(response.results(0).vectors().count(), 2U);
  EXPECT_EQ(response.results(0).vectors().dimensions(), 2 * kDimensions);
  EXPECT_EQ(response.results(0).vectors().data().size(), 2 * 2 * kDimensions * 4);
  EXPECT_EQ(response.stats(0).num_tokens(), 4U);
}

TEST_F(ProtocolTest, TokenizeCutsOnlyWhenAsked) {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "a ";
  v1::TokenizeRequest request;
  request.add_inputs()->set_text(text);
  v1::TokenizeResponse response;
  ASSERT_TRUE(client_->Tokenize(&context_, request, &response).ok());
  EXPECT_EQ(response.results(0).tokens_size(), 102);
  request.mutable_truncation()->set_max_tokens(8);
  request.set_add_special_tokens(false);
  grpc::ClientContext context;
  ASSERT_TRUE(client_->Tokenize(&context, request, &response).ok());
  EXPECT_EQ(response.results(0).tokens_size(), 8);
}

TEST_F(ProtocolTest, Detokenize) {
  v1::TokenizeRequest tokenize;
  tokenize.add_inputs()->set_text("hello world");
  v1::TokenizeResponse tokens;
  ASSERT_TRUE(client_->Tokenize(&context_, tokenize, &tokens).ok());
  v1::DetokenizeRequest request;
  v1::TokenIds* ids = request.add_inputs();
  for (const v1::Token& token : tokens.results(0).tokens()) ids->add_ids(token.id());
  v1::DetokenizeResponse response;
  grpc::ClientContext context;
  ASSERT_TRUE(client_->Detokenize(&context, request, &response).ok());
  EXPECT_EQ(response.texts(0), "hello world");
}

TEST_F(ProtocolTest, TasksThatTheModelLacks) {
  v1::ClassifyRequest request;
  v1::ClassifyResponse response;
  request.set_model("tiny");
  grpc::Status status = client_->Classify(&context_, request, &response);
  EXPECT_EQ(status.error_code(), grpc::FAILED_PRECONDITION);
  EXPECT_NE(status.error_message().find("embed"), std::string::npos) << status.error_message();
  request.set_model("nobody");
  grpc::ClientContext context;
  EXPECT_EQ(client_->Classify(&context, request, &response).error_code(), grpc::NOT_FOUND);
}

TEST_F(ProtocolTest, Models) {
  const auto client = v1::Models::NewStub(server_->NewChannel());
  v1::ListModelsResponse models;
  ASSERT_TRUE(client->ListModels(&context_, {}, &models).ok());
  ASSERT_EQ(models.models_size(), 1);
  EXPECT_EQ(models.models(0).name(), "tiny");
  EXPECT_EQ(models.models(0).state(), v1::ModelInfo::STATE_READY);
  EXPECT_EQ(models.models(0).hidden_size(), kDimensions);
  v1::GetModelRequest get;
  get.set_model("nobody");
  v1::ModelInfo info;
  grpc::ClientContext unknown, load_context;
  EXPECT_EQ(client->GetModel(&unknown, get, &info).error_code(), grpc::NOT_FOUND);
  EXPECT_EQ(client->LoadModel(&load_context, {}, &info).error_code(), grpc::UNIMPLEMENTED);
}

}  // namespace
}  // namespace bertrand
