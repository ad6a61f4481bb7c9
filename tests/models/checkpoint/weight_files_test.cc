// One file or shards: which tensors are found, and what a wrong index is told.

#include "models/checkpoint/weight_files.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/models/stored_tensors.h"
#include "tests/models/test_folder.h"
#include "tests/models/torch_bytes.h"

namespace bertrand {
namespace {

using testing::HasSubstr;

std::string OpenError(const std::string& folder) {
  const auto files = WeightFiles::Open(folder);
  return files.ok() ? "opened" : Message(files.status());
}

std::string IndexError(const std::string& index) {
  const TestFolder folder;
  folder.Write("one.safetensors", SafetensorsBytes({{"a", {1}}}));
  folder.Write("model.safetensors.index.json", index);
  return OpenError(folder.path());
}

TEST(WeightFiles, Single) {
  const TestFolder folder;
  folder.Write("model.safetensors", SafetensorsBytes({{"b", {2, 3}}, {"a", {4}}}, "F16"));
  // Of no account beside the single file.
  folder.Write("model.safetensors.index.json", "nonsense");
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->Names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(files->Has("a"));
  EXPECT_FALSE(files->Has("c"));
  EXPECT_TRUE(files->Check("b", {2, 3}).ok());
  EXPECT_THAT(Message(files->Check("b", {3, 2})),
              HasSubstr("tensor \"b\" is F16[2,3], expected [3,2]"));
  EXPECT_THAT(Message(files->Check("b", {6})), HasSubstr("expected [6]"));
  EXPECT_THAT(Message(files->Check("c", {7, 1})),
              HasSubstr("tensor \"c\" is missing, expected [7,1]"));
  std::vector<float> values(2);
  EXPECT_TRUE(files->Read("b", 4, values).ok());
}

TEST(WeightFiles, TypesThatAreNoWeights) {
  const TestFolder folder;
  folder.Write("model.safetensors", SafetensorsBytes({{"a", {2}}}, "I32"));
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok());
  EXPECT_THAT(Message(files->Check("a", {2})), HasSubstr("I32[2], expected F32, F16, BF16 or F64"));
}

TEST(WeightFiles, Shards) {
  const TestFolder folder;
  folder.Write("one.safetensors", SafetensorsBytes({{"a", {1}}, {"c", {3}}}));
  folder.Write("two.safetensors", SafetensorsBytes({{"b", {2}}}));
  folder.Write("model.safetensors.index.json",
               R"({"metadata":{"total_size":24},"weight_map":)"
               R"({"c":"one.safetensors","a":"one.safetensors","b":"two.safetensors"}})");
  const auto files = WeightFiles::Open(folder.path());
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_EQ(files->Names(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(files->Check("b", {2}).ok());
  EXPECT_THAT(Message(files->Check("c", {2})), HasSubstr("one.safetensors: tensor \"c\""));
}

TEST(WeightFiles, WrongIndex) {
  EXPECT_EQ(IndexError(R"({"weight_map":{"a":"one.safetensors"}})"), "opened");
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":"../one.safetensors"}})"),
              HasSubstr("\"../one.safetensors\", expected the name of a file in this folder"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":"x/../../one.safetensors"}})"),
              HasSubstr("expected the name"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":"/etc/passwd"}})"), HasSubstr("expected the name"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":""}})"), HasSubstr("expected the name"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":"one\u0000"}})"), HasSubstr("expected the name"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":7}})"), HasSubstr("expected a file name"));
  EXPECT_THAT(IndexError(R"({"weight_map":[]})"), HasSubstr("weight_map"));
  EXPECT_THAT(IndexError("{}"), HasSubstr("weight_map"));
  EXPECT_THAT(IndexError("{"), HasSubstr("model.safetensors.index.json"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"b":"one.safetensors"}})"),
              HasSubstr("tensor \"b\" is not in one.safetensors"));
  EXPECT_THAT(IndexError(R"({"weight_map":{"a":"two.safetensors"}})"),
              HasSubstr("two.safetensors: No such file"));
  std::string many = R"({"weight_map":{)";
  for (int i = 0; i < 300; ++i) {
    many += (i > 0 ? ",\"" : "\"") + std::to_string(i) + R"(":")" + std::to_string(i) + "\"";
  }
  EXPECT_THAT(IndexError(many + "}}"), HasSubstr("300 files, expected at most 256"));
}

TEST(WeightFiles, OfTorch) {
  const TestFolder folder;
  const std::string values = FloatBytes({1, 2, 3, 4, 5, 6});
  const auto shard = [&](const std::string& name) {
    return ZipBytes(TorchMembers(PickledDict({{name, {2, 3}, {3, 1}, "0", 6}}), {{"0", values}}));
  };
  folder.Write("one.bin", shard("a"));
  folder.Write("two.bin", shard("b"));
  folder.Write("pytorch_model.bin.index.json", R"({"weight_map":{"b":"two.bin","a":"one.bin"}})");
  const auto sharded = WeightFiles::Open(folder.path());
  ASSERT_TRUE(sharded.ok()) << sharded.status();
  EXPECT_EQ(sharded->Names(), (std::vector<std::string>{"a", "b"}));
  EXPECT_TRUE(sharded->Check("b", {2, 3}).ok());
  std::vector<float> read(2);
  EXPECT_TRUE(sharded->Read("b", 3, read).ok());
  EXPECT_EQ(read, (std::vector<float>{4, 5}));

  // The single file wins, and safetensors before both.
  folder.Write("pytorch_model.bin", shard("c"));
  EXPECT_EQ(WeightFiles::Open(folder.path())->Names(), std::vector<std::string>{"c"});
  folder.Write("one.safetensors", SafetensorsBytes({{"d", {1}}}));
  folder.Write("model.safetensors.index.json", R"({"weight_map":{"d":"one.safetensors"}})");
  EXPECT_EQ(WeightFiles::Open(folder.path())->Names(), std::vector<std::string>{"d"});
  folder.Write("model.safetensors", SafetensorsBytes({{"e", {1}}}));
  EXPECT_EQ(WeightFiles::Open(folder.path())->Names(), std::vector<std::string>{"e"});
}

TEST(WeightFiles, Missing) {
  const TestFolder folder;
  EXPECT_THAT(OpenError(folder.path()),
              HasSubstr("has no model.safetensors and no pytorch_model.bin"));
  folder.Write("model.fp16.safetensors", "");
  folder.Write("onnx/model.onnx", "");
  folder.Write("notes.txt", "");
  EXPECT_THAT(OpenError(folder.path()),
              HasSubstr("; it has model.fp16.safetensors, onnx/model.onnx, of names or formats"));
  folder.Write("flax_model.msgpack", "");
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("its flax_model.msgpack has weights of Flax"));
  folder.Write("tf_model.h5", "");
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("its tf_model.h5 has weights of TensorFlow"));
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("from_tf=True"));
  folder.Write("pytorch_model.bin", "");
  EXPECT_THAT(OpenError(folder.path()), HasSubstr("pytorch_model.bin: has 0 bytes"));
  EXPECT_THAT(OpenError(folder.path() + "/none"), HasSubstr("no such folder"));
}

}  // namespace
}  // namespace bertrand
