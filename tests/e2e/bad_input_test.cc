// Every bad request gets the right status, and the server goes on.

#include <grpcpp/impl/codegen/client_unary_call.h>
#include <gtest/gtest.h>

#include "tests/e2e/server_process.h"

namespace bertrand {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

class BadInputTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = ServerProcess::StartReady().release(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }

  void SetUp() override { ASSERT_NE(server_, nullptr); }
  void TearDown() override {
    if (server_ != nullptr) ExpectWell(*server_);
  }

  void Expect(const v1::EmbedRequest& request, grpc::StatusCode code, const std::string& text) {
    v1::EmbedResponse response;
    ExpectStatus(Embed(*server_->NewClient(), request, &response), code, text);
  }

  void ExpectStatus(const grpc::Status& status, grpc::StatusCode code, const std::string& text) {
    EXPECT_EQ(status.error_code(), code) << status.error_message();
    EXPECT_NE(status.error_message().find(text), std::string::npos) << status.error_message();
    EXPECT_LE(status.error_message().size(), 1024U);
  }

  // The bytes as they are, whatever protobuf would say.
  grpc::Status CallRaw(const std::string& bytes) {
    const grpc::internal::RpcMethod method("/bertrand.v1.Inference/Embed",
                                           grpc::internal::RpcMethod::NORMAL_RPC);
    const grpc::Slice slice(bytes);
    const grpc::ByteBuffer request(&slice, 1);
    grpc::ByteBuffer response;
    grpc::ClientContext context;
    SetDeadline(&context, std::chrono::seconds(20));
    const auto channel = server_->NewChannel();
    return grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
        channel.get(), method, &context, request, &response);
  }

  static ServerProcess* server_;
};
ServerProcess* BadInputTest::server_ = nullptr;

TEST_F(BadInputTest, AnEmptyBatch) { Expect(NewRequest({}), grpc::INVALID_ARGUMENT, "inputs"); }

TEST_F(BadInputTest, AnInputWithoutContent) {
  v1::EmbedRequest request = NewRequest({"a", "b"});
  request.add_inputs();
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[2]");
}

TEST_F(BadInputTest, IdsOutOfRange) {
  v1::EmbedRequest request = NewRequest({"a"});
  v1::TokenIds* tokens = request.add_inputs()->mutable_tokens();
  tokens->add_ids(5);
  tokens->add_ids(4'000'000'000U);
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[1]");
  tokens->set_ids(1, 6);
  tokens->add_type_ids(0);
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[1]");  // one type id for two ids
  tokens->add_type_ids(77);
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[1]");
  tokens->Clear();
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[1]");
  for (int i = 0; i < 5000; ++i) tokens->add_ids(5);
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[1]");
}

TEST_F(BadInputTest, BadTextIsNamedByIndexAndByteWithoutALogFlood) {
  const std::string good = std::string("\x12\x06\x0a\x04good", 8);
  const std::string bad = std::string("\x12\x0a\x0a\x08sixlet\xffz", 12);
  const size_t log_size = server_->standard_error().size();
  for (int i = 0; i < 20; ++i) {
    ExpectStatus(CallRaw(good + good + good + bad), grpc::INVALID_ARGUMENT,
                 "inputs[3].text: invalid UTF-8 at byte 6");
  }
  EXPECT_EQ(server_->standard_error().size(), log_size);
}

TEST_F(BadInputTest, MalformedProtobuf) {
  for (const std::string& bytes :
       {std::string("\xff\xff"), std::string("\x12\xff\xff\xff\x7fx"), std::string("\x0b")}) {
    ExpectStatus(CallRaw(bytes), grpc::INVALID_ARGUMENT, "");
  }
}

TEST_F(BadInputTest, TwoMillionEmptyInputs) {
  std::string bytes;
  for (int i = 0; i < 2'000'000; ++i) bytes += std::string("\x12\x00", 2);
  const int64_t before = server_->resident_bytes();
  ExpectStatus(CallRaw(bytes), grpc::RESOURCE_EXHAUSTED, "--max-inputs-per-request");
  EXPECT_LT(server_->resident_bytes() - before, 256 * kMegabyte);
}

TEST_F(BadInputTest, TenMegabytesOfText) {
  const int64_t before = server_->resident_bytes();
  Expect(NewRequest({std::string(10'000'000, 'x')}), grpc::RESOURCE_EXHAUSTED,
         "--max-request-bytes");
  // Just below the limit it is answered, or refused, but not lost.
  std::string words;
  while (words.size() < 4'000'000) words += "hello world ";
  v1::EmbedResponse response;
  const grpc::Status status = Embed(*server_->NewClient(), NewRequest({words}), &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.stats(0).num_tokens(), 40U);
  EXPECT_GT(response.stats(0).num_truncated_tokens(), 600'000U);
  EXPECT_LT(server_->resident_bytes() - before, 256 * kMegabyte);
}

TEST_F(BadInputTest, AnUnknownModel) {
  v1::EmbedRequest request = NewRequest({"a"});
  request.set_model("nobody");
  Expect(request, grpc::NOT_FOUND, "nobody");
  request.set_model(std::string(1'000'000, 'x'));
  Expect(request, grpc::NOT_FOUND, "xxx");
}

TEST_F(BadInputTest, WrongFields) {
  v1::EmbedRequest request = NewRequest({"a"});
  request.set_dimensions(1'000'000);
  Expect(request, grpc::INVALID_ARGUMENT, "dimensions");
  request = NewRequest({"a"});
  request.set_pooling(static_cast<v1::Pooling>(99));
  Expect(request, grpc::INVALID_ARGUMENT, "pooling");
  request = NewRequest({"a"});
  request.set_output_type(static_cast<v1::DataType>(-1));
  Expect(request, grpc::INVALID_ARGUMENT, "output_type");
  request = NewRequest({"a"});
  request.set_prompt_name("nobody");
  Expect(request, grpc::INVALID_ARGUMENT, "nobody");
  request.set_prompt("x");
  Expect(request, grpc::INVALID_ARGUMENT, "prompt_name");
  request = NewRequest({"a"});
  request.mutable_truncation()->set_max_tokens(41);
  Expect(request, grpc::INVALID_ARGUMENT, "truncation.max_tokens");
  request.mutable_truncation()->set_max_tokens(0);
  request.mutable_truncation()->set_mode(static_cast<v1::Truncation::Mode>(9));
  Expect(request, grpc::INVALID_ARGUMENT, "truncation.mode");
  request =
      NewRequest({std::string(1000, ' ') + std::string("a b c d e f g h i j k l m n o p q r s "
                                                       "t u v w x y z a b c d e f g h i j k l "
                                                       "m n o p")});
  request.mutable_truncation()->set_mode(v1::Truncation::MODE_FAIL);
  Expect(request, grpc::INVALID_ARGUMENT, "inputs[0].text");
}

TEST_F(BadInputTest, LongInput) {
  v1::EmbedRequest request = NewRequest({"a"});
  request.mutable_long_input()->set_mode(static_cast<v1::LongInput::Mode>(7));
  Expect(request, grpc::INVALID_ARGUMENT, "long_input.mode");
  request.mutable_long_input()->set_mode(v1::LongInput::MODE_WINDOWS);
  request.mutable_long_input()->set_window_tokens(41);
  Expect(request, grpc::INVALID_ARGUMENT, "long_input.window_tokens");
  request.mutable_long_input()->set_window_tokens(10);
  request.mutable_long_input()->set_overlap_tokens(8);  // with [CLS] and [SEP] nothing is left
  Expect(request, grpc::INVALID_ARGUMENT, "overlap_tokens");
  // A model that has no memory.
  request = NewRequest({"a"});
  request.mutable_long_input()->set_mode(v1::LongInput::MODE_RECURRENCE);
  Expect(request, grpc::INVALID_ARGUMENT, "long_input.mode");
}

TEST_F(BadInputTest, TooManyInputsAndTooLargeAnAnswer) {
  Expect(NewRequest(std::vector<std::string>(1025, "a")), grpc::RESOURCE_EXHAUSTED,
         "--max-inputs-per-request");
  const auto small = ServerProcess::StartReady({"--max-response-bytes", "1000"});
  ASSERT_NE(small, nullptr);
  v1::EmbedResponse response;
  ExpectStatus(Embed(*small->NewClient(), NewRequest(std::vector<std::string>(10, "a")), &response),
               grpc::RESOURCE_EXHAUSTED, "--max-response-bytes");
}

// Inputs that are not in a field called `inputs`, and fields that are repeated besides them.
TEST_F(BadInputTest, LimitsOfOtherMethods) {
  const auto server = ServerProcess::StartReady(
      {"--model", "nli=tests/e2e/tasks/nli", "--model", "relevance=tests/e2e/tasks/relevance"});
  ASSERT_NE(server, nullptr);
  const auto client = server->NewClient();
  const auto zero_shot = [&](int num_texts, int num_labels, const std::string& text) {
    v1::ClassifyZeroShotRequest request;
    for (int i = 0; i < num_texts; ++i) request.add_texts(text);
    for (int i = 0; i < num_labels; ++i) request.add_candidate_labels("cat");
    v1::ClassifyZeroShotResponse response;
    grpc::ClientContext context;
    return client->ClassifyZeroShot(&context, request, &response);
  };
  EXPECT_TRUE(zero_shot(32, 32, "a").ok());
  ExpectStatus(zero_shot(33, 32, "a"), grpc::RESOURCE_EXHAUSTED, "33 x 32");
  ExpectStatus(zero_shot(1, 1025, "a"), grpc::RESOURCE_EXHAUSTED, "candidate_labels: 1025");
  ExpectStatus(zero_shot(0, 1, "a"), grpc::INVALID_ARGUMENT, "texts");
  ExpectStatus(zero_shot(1, 0, "a"), grpc::INVALID_ARGUMENT, "candidate_labels");
  // Each label has the megabyte tokenised once more.
  ExpectStatus(zero_shot(1, 1000, std::string(1'000'000, 'a')), grpc::RESOURCE_EXHAUSTED,
               "--max-request-bytes");

  v1::RerankRequest rerank;
  v1::RerankResponse ranks;
  rerank.set_query("a");
  grpc::ClientContext none, many, bad_text;
  ExpectStatus(client->Rerank(&none, rerank, &ranks), grpc::INVALID_ARGUMENT, "documents");
  for (int i = 0; i < 1025; ++i) rerank.add_documents("");
  ExpectStatus(client->Rerank(&many, rerank, &ranks), grpc::RESOURCE_EXHAUSTED, "documents: 1025");
  v1::ClassifyRequest classify;
  v1::ClassifyResponse labels;
  classify.add_inputs()->set_text("a");
  classify.set_activation(static_cast<v1::Activation>(12));
  ExpectStatus(client->Classify(&bad_text, classify, &labels), grpc::INVALID_ARGUMENT,
               "activation: unknown value 12");
  ExpectWell(*server);
}

TEST_F(BadInputTest, ABadRequestEndsAStream) {
  grpc::ClientContext context;
  SetDeadline(&context, std::chrono::seconds(20));
  const auto client = server_->NewClient();
  const auto stream = client->EmbedStream(&context);
  for (int i = 0; i < 3; ++i) stream->Write(NewRequest({"good"}));
  stream->Write(NewRequest({}));
  for (int i = 0; i < 3; ++i) stream->Write(NewRequest({"never answered"}));
  stream->WritesDone();
  v1::EmbedResponse response;
  int num_answers = 0;
  while (stream->Read(&response)) ++num_answers;
  EXPECT_EQ(num_answers, 3);
  ExpectStatus(stream->Finish(), grpc::INVALID_ARGUMENT, "inputs");
}

}  // namespace
}  // namespace bertrand
