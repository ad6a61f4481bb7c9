#include "server/options.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <sstream>

#include "kernels/status.h"

namespace bertrand {
namespace {

using std::chrono::microseconds;

absl::StatusOr<ParsedOptions> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "bertrand-server");
  return ParseOptions(static_cast<int>(arguments.size()), arguments.data());
}

std::string ErrorOf(std::vector<const char*> arguments) {
  const auto parsed = Parse(std::move(arguments));
  return parsed.ok() ? "" : Message(parsed.status());
}

// Sets a variable for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }

 private:
  const char* const name_;
};

TEST(Options, Defaults) {
  const auto parsed = Parse({"--model", "m=folder"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const Options& options = parsed->options;
  ASSERT_EQ(options.models.size(), 1U);
  EXPECT_EQ(options.models[0].name, "m");
  EXPECT_EQ(options.models[0].source, "folder");
  EXPECT_EQ(options.grpc_address, "127.0.0.1:50051");
  EXPECT_EQ(options.http_address, "127.0.0.1:8080");
  EXPECT_EQ(options.max_inputs_per_request, 1024);
  EXPECT_EQ(options.max_request_time, std::chrono::seconds(60));
}

TEST(Options, Models) {
  const auto parsed =
      Parse({"--model", "a=x=y", "--model", "/some/folder/b/", "--model", "org/c@v1"});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  const auto& models = parsed->options.models;
  ASSERT_EQ(models.size(), 3U);
  EXPECT_EQ(models[0].source, "x=y");
  EXPECT_EQ(models[1].name, "b");
  EXPECT_EQ(models[2].name, "c");
  EXPECT_EQ(models[2].source, "org/c@v1");
}

TEST(Options, ErrorsAreOneLineThatNamesTheFlag) {
  const std::vector<std::pair<std::vector<const char*>, const char*>> cases = {
      {{}, "--model"},
      {{"--model", "a=x", "--model", "a=y"}, "--model"},
      {{"--model", "bad name=x"}, "--model"},
      {{"--model", "a="}, "--model"},
      {{"--model", "a=x", "stray"}, "stray"},
      {{"--model", "a=x", "--max-batch-tokens", "-1"}, "--max-batch-tokens"},
      {{"--model", "a=x", "--max-batch-tokens", "many"}, "--max-batch-tokens"},
      {{"--model", "a=x", "--max-queue-delay", "soon"}, "--max-queue-delay"},
      {{"--model", "a=x", "--max-queue-delay", "-1s"}, "--max-queue-delay"},
      {{"--model", "a=x", "--truncation", "never"}, "--truncation"},
      {{"--model", "a=x", "--grpc-address", "50051"}, "--grpc-address"},
      {{"--model", "a=x", "--http-address", "localhost:70000"}, "--http-address"},
      {{"--model", "a=x", "--no-such-flag"}, "--no-such-flag"},
      {{"--model", "a=x", "--model", "b=y", "--fp8-scales", "f"}, "--fp8-scales"},
      {{"--model", "a=x", "--fp8-scales", "a="}, "--fp8-scales"},
      {{"--model", "a=x", "--fp8-scales", "a=f", "--fp8-scales", "g"}, "--fp8-scales"},
      {{"--model", "a=x", "--calibrate-output", "f"}, "--calibrate"},
      {{"--model", "a=x", "--model", "b=y", "--calibrate", "t"}, "--calibrate"},
  };
  for (const auto& [arguments, flag] : cases) {
    const std::string error = ErrorOf(arguments);
    EXPECT_NE(error.find(flag), std::string::npos) << flag << ": " << error;
    EXPECT_EQ(error.find('\n'), std::string::npos) << error;
  }
}

TEST(Options, ScalesOfModels) {
  using Files = std::map<std::string, std::string>;
  EXPECT_EQ(Parse({"--model", "a=x", "--fp8-scales", "f=1"})->options.float8_files,
            (Files{{"a", "f=1"}}));
  const std::vector<const char*> two = {"--model", "a=x", "--model", "b=y", "--fp8-scales", "b=f"};
  EXPECT_EQ(Parse(two)->options.float8_files, (Files{{"b", "f"}}));
  const Variable scales("BERTRAND_FP8_SCALES", "a=f,b=g");
  EXPECT_EQ(Parse({"--model", "a=x", "--model", "b=y"})->options.float8_files,
            (Files{{"a", "f"}, {"b", "g"}}));
}

TEST(Options, EnvironmentTwins) {
  const Variable models("BERTRAND_MODEL", "a=x,b=y"), tokens("BERTRAND_MAX_BATCH_TOKENS", "77"),
      delay("BERTRAND_MAX_QUEUE_DELAY", "3ms"), unknown("BERTRAND_MAX_BATCH_TOKEN", "1"),
      of_kubernetes("BERTRAND_PORT_50051_TCP_ADDR", "10.0.0.1");
  const auto parsed = Parse({});
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->options.models.size(), 2U);
  EXPECT_EQ(parsed->options.max_batch_tokens, 77);
  EXPECT_EQ(parsed->options.max_queue_delay, microseconds(3000));
  ASSERT_EQ(parsed->warnings.size(), 1U);
  EXPECT_NE(parsed->warnings[0].find("BERTRAND_MAX_BATCH_TOKEN "), std::string::npos);
  // The command line wins.
  EXPECT_EQ(Parse({"--max-batch-tokens", "5"})->options.max_batch_tokens, 5);
  EXPECT_EQ(Parse({"--model", "c=z"})->options.models.size(), 1U);
}

TEST(Options, HelpHasEveryDefaultAndTwin) {
  const auto parsed = Parse({"--help"});
  ASSERT_TRUE(parsed.ok());
  for (const char* text : {"--grpc-address", "BERTRAND_GRPC_ADDRESS", "127.0.0.1:50051",
                           "BERTRAND_MAX_REQUEST_TIME", "1m", "BERTRAND_MODEL", "4194304"}) {
    EXPECT_NE(parsed->text_to_print.find(text), std::string::npos) << text;
  }
  std::istringstream lines(parsed->text_to_print);
  for (std::string line; std::getline(lines, line);) EXPECT_LE(line.size(), 100U) << line;
  EXPECT_EQ(Parse({"--version"})->text_to_print.find("bertrand-server "), 0U);
}

TEST(ParseDuration, UnitsAndPlainSeconds) {
  EXPECT_EQ(*ParseDuration("1.5s"), microseconds(1'500'000));
  EXPECT_EQ(*ParseDuration("2"), microseconds(2'000'000));
  EXPECT_EQ(*ParseDuration("0"), microseconds(0));
  EXPECT_EQ(*ParseDuration("250us"), microseconds(250));
  for (const char* bad : {"", "x", "-1", "inf", "nan", "1e30"}) {
    EXPECT_FALSE(ParseDuration(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace bertrand
