// Files of torch.save: those that PyTorch wrote (make_torch_files.py), and those that nobody
// should.

#include "models/checkpoint/torch_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/pickle.h"
#include "tests/models/memory_file.h"
#include "tests/models/torch_bytes.h"

namespace bertrand {
namespace {

using testing::HasSubstr;

const std::string kFiles = "tests/models/checkpoint/torch/";

// ---- What PyTorch wrote

std::vector<float> Numbers(int n, int64_t count) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>((i * 7 + n) % 101 - 50));
  return values;
}

std::vector<float> ReadAll(const TensorFile& file, const std::string& name) {
  const StoredTensor* tensor = file.Find(name);
  EXPECT_NE(tensor, nullptr) << name;
  if (tensor == nullptr) return {};
  std::vector<float> values(static_cast<size_t>(tensor->num_elements()));
  const absl::Status status = file.Read(*tensor, 0, values);
  EXPECT_TRUE(status.ok()) << status;
  return values;
}

class TorchFileOfPyTorch : public testing::TestWithParam<const char*> {};

TEST_P(TorchFileOfPyTorch, Tensors) {
  const auto file = OpenTorchFile(kFiles + GetParam());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->tensors().size(), 13u);
  EXPECT_EQ(ReadAll(*file, "float"), Numbers(0, 15));
  EXPECT_EQ(ReadAll(*file, "tied"), Numbers(0, 15));
  EXPECT_EQ(ReadAll(*file, "half"), Numbers(1, 7));
  EXPECT_EQ(ReadAll(*file, "bfloat"), Numbers(2, 12));
  EXPECT_EQ(ReadAll(*file, "double"), Numbers(3, 4));
  EXPECT_EQ(ReadAll(*file, "transposed"), Numbers(4, 40 * 37));
  EXPECT_EQ(ReadAll(*file, "part"), Numbers(5, 54));
  EXPECT_EQ(ReadAll(*file, "parameter"), Numbers(7, 6));
  EXPECT_EQ(ReadAll(*file, "scalar"), Numbers(8, 1));
  EXPECT_EQ(file->Find("scalar")->shape, std::vector<int64_t>());
  EXPECT_EQ(file->Find("bfloat")->ToString(), "BF16[2,2,3]");
  EXPECT_EQ(file->Find("half")->ToString(), "F16[7]");
  EXPECT_EQ(file->Find("empty")->ToString(), "F32[0,4]");
  EXPECT_EQ(file->Find("batches")->ToString(), "I64[]");
  EXPECT_EQ(file->Find("position_ids")->ToString(), "I64[1,16]");
  EXPECT_EQ(file->Find("mask")->ToString(), "BOOL[2]");
  EXPECT_FALSE(file->CheckReadable(*file->Find("batches")).ok());
}

// Any range of a tensor that lies otherwise than row by row.
TEST_P(TorchFileOfPyTorch, RangesOfStridedTensors) {
  const auto file = OpenTorchFile(kFiles + GetParam());
  ASSERT_TRUE(file.ok()) << file.status();
  for (const auto& [name, number, size] : {std::tuple("transposed", 4, 40 * 37), {"part", 5, 54}}) {
    const StoredTensor& tensor = *file->Find(name);
    ASSERT_FALSE(tensor.strides.empty());
    const std::vector<float> all = Numbers(number, size);
    for (const int first : {0, 1, 5, 6, 36, 37, 38, size - 1, size}) {
      for (const int last : {0, 1, 6, 7, 36, 37, 38, 74, 75, 111, 200, size - 1, size}) {
        if (first > last || last > size) continue;
        std::vector<float> values(static_cast<size_t>(last - first), 1e9f);
        ASSERT_TRUE(file->Read(tensor, first, values).ok());
        EXPECT_EQ(values, std::vector<float>(all.begin() + first, all.begin() + last))
            << name << " from " << first << " to " << last;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, TorchFileOfPyTorch,
                         testing::Values("zip.bin", "legacy.bin", "protocol4.bin"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(0, name.find('.'));
                         });

std::string OpenError(const std::string& path) {
  const auto file = OpenTorchFile(path);
  return file.ok() ? "opened" : Message(file.status());
}

TEST(TorchFile, OtherObjectsAreRefusedByName) {
  EXPECT_THAT(OpenError(kFiles + "nested.bin"),
              HasSubstr("holds a dict without tensors, of \"state_dict\", \"epoch\""));
  EXPECT_THAT(OpenError(kFiles + "module.bin"),
              HasSubstr("global torch.nn.modules.linear.Linear is refused"));
  EXPECT_THAT(OpenError(kFiles + "sparse.bin"),
              HasSubstr("global torch._utils._rebuild_sparse_tensor is refused"));
  EXPECT_THAT(OpenError(kFiles + "numpy.bin"), HasSubstr("global numpy"));
}

// Cut at every byte: an error each time.
TEST(TorchFile, TruncatedAnywhere) {
  const MemoryFile memory;
  for (const char* name : {"zip.bin", "legacy.bin"}) {
    const auto bytes = ReadTextFile(kFiles + name, 1 << 20);
    ASSERT_TRUE(bytes.ok());
    for (size_t size = 0; size < bytes->size(); size += size < 4000 ? 3 : 97) {
      EXPECT_NE(OpenError(memory.Write(bytes->substr(0, size))), "opened") << size;
    }
  }
}

// ---- What nobody should write

class HostileTorchFile : public testing::Test {
 protected:
  std::string Error(const std::string& bytes) { return OpenError(memory_.Write(bytes)); }
  std::string PickleError(const std::string& pickle) {
    return Error(ZipBytes(TorchMembers(pickle, {{"0", FloatBytes({1, 2, 3, 4, 5, 6})}})));
  }
  std::string TensorError(const TorchTensor& tensor) { return PickleError(PickledDict({tensor})); }

  MemoryFile memory_;
};

TEST_F(HostileTorchFile, TheBuilderItself) {
  const std::vector<TorchTensor> tensors = {{"a", {2, 3}, {3, 1}, "0", 6},
                                            {"b", {2}, {1}, "0", 6, 4}};
  const StorageBytesByKey storages = {{"0", FloatBytes({1, 2, 3, 4, 5, 6})}};
  for (const std::string& bytes : {ZipBytes(TorchMembers(PickledDict(tensors), storages)),
                                   LegacyBytes(PickledDict(tensors, /*legacy=*/true), storages)}) {
    const auto file = OpenTorchFile(memory_.Write(bytes));
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(ReadAll(*file, "a"), (std::vector<float>{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(ReadAll(*file, "b"), (std::vector<float>{5, 6}));
  }
}

TEST_F(HostileTorchFile, CodeIsRefused) {
  EXPECT_THAT(PickleError("\x80\x02"
                          "cos\nsystem\n(X\x04\x00\x00\x00true"),
              HasSubstr("global os.system is refused"));
  EXPECT_THAT(PickleError("\x80\x02" + PickledGlobal("builtins", "eval") + ")R."),
              HasSubstr("global builtins.eval is refused"));
  EXPECT_THAT(PickleError("\x80\x04" + PickledText("posix") + PickledText("system") + "\x93."),
              HasSubstr("global posix.system is refused"));
  EXPECT_THAT(PickleError("\x80\x02(S'id'\nios\nsystem\n."), HasSubstr("opcode STRING is refused"));
  EXPECT_THAT(PickleError("\x80\x02(ios\nsystem\n."), HasSubstr("opcode INST is refused"));
  EXPECT_THAT(PickleError("\x80\x02)\x81."), HasSubstr("opcode NEWOBJ is refused"));
  EXPECT_THAT(PickleError("\x80\x02)o."), HasSubstr("opcode OBJ is refused"));
  EXPECT_THAT(PickleError("\x80\x02\x82\x01."), HasSubstr("opcode EXT1 is refused"));
  EXPECT_THAT(PickleError("\x80\x02Pa\n."), HasSubstr("opcode PERSID is refused"));
  EXPECT_THAT(PickleError("\x80\x02\xfe."), HasSubstr("opcode 254 is unknown"));
  EXPECT_THAT(PickleError("\x80\x02" + PickledGlobal("torch", "FloatStorage") + ")R."),
              HasSubstr("a storage is called"));
  EXPECT_THAT(PickleError("\x80\x02]}b."), HasSubstr("BUILD"));
  EXPECT_THAT(PickleError("\x80\x02" + PickledGlobal("a\x1b[2J", "b") + "."),
              HasSubstr("global a\\x1b[2J.b is refused"));
  EXPECT_THAT(PickleError("\x80\x02(" + PickledText("module") + "tQ."),
              HasSubstr("BINPERSID of \"module\" is refused"));
}

TEST_F(HostileTorchFile, DamagedPickles) {
  EXPECT_THAT(PickleError(""), HasSubstr("ends before its STOP"));
  EXPECT_THAT(PickleError("\x80\x02}"), HasSubstr("ends before its STOP"));
  EXPECT_THAT(PickleError("."), HasSubstr("STOP with 0 values"));
  EXPECT_THAT(PickleError("NN."), HasSubstr("STOP with 2 values"));
  EXPECT_THAT(PickleError("(."), HasSubstr("STOP with 0 values"));
  EXPECT_THAT(PickleError("N."), HasSubstr("does not hold a dict"));
  EXPECT_THAT(PickleError("}."), HasSubstr("holds a dict without tensors;"));
  for (const char* underflow : {"\x85.", "N\x86.", "t.", "R.", "NR.", "b.", "a.", "s.", "Ns.", "e.",
                                "u.", "Q.", "(\x85.", "\x93.", "(t(R."}) {
    const std::string error = PickleError(underflow);
    EXPECT_TRUE(error.find("too few") != error.npos || error.find("no mark") != error.npos)
        << error;
  }
  EXPECT_THAT(PickleError("h\x07."), HasSubstr("memo index 7 was never put"));
  EXPECT_THAT(PickleError("q\x01."), HasSubstr("memoised that is not there"));
  EXPECT_THAT(PickleError("Nr\xff\xff\xff\xff."), HasSubstr("memo index 4294967295"));
  EXPECT_THAT(PickleError("X\xff\xff\xff\xff."), HasSubstr("ends before"));
  EXPECT_THAT(PickleError("\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), HasSubstr("ends before"));
  EXPECT_THAT(PickleError("NNa."), HasSubstr("no list"));
  EXPECT_THAT(PickleError("NNNs."), HasSubstr("no dict"));
  EXPECT_THAT(PickleError("(e."), HasSubstr("no list"));
  EXPECT_THAT(PickleError("}(Nu."), HasSubstr("no value"));
  EXPECT_THAT(PickleError("Ix\n."), HasSubstr("INT \"x\""));
  EXPECT_THAT(PickleError("I" + std::string(600, '1') + "\n."), HasSubstr("a line has more"));
  EXPECT_THAT(PickleError(std::string(70000, 'N') + "."), HasSubstr("stack is too deep"));
  EXPECT_THAT(PickleError(std::string(70000, '(') + "."), HasSubstr("marks are too deep"));
}

// Nesting costs no stack, and many small values no more than their share.
TEST_F(HostileTorchFile, MemoryIsBoundedByTheBytes) {
  std::string nested = "]";
  for (int i = 0; i < 100'000; ++i) nested += "\x85";
  EXPECT_THAT(PickleError(nested + "."), HasSubstr("does not hold a dict"));
  std::string lists = "]";
  for (int i = 0; i < 200'000; ++i) lists += "]a";
  EXPECT_THAT(PickleError(lists + "."), HasSubstr("more than 8 times its size"));
  std::string appended = "]q\x01";
  for (int i = 0; i < 200'000; ++i)
    appended +=
        "h\x01"
        "a";
  EXPECT_THAT(PickleError(appended + "."), HasSubstr("does not hold a dict"));
  // One storage, many views of it.
  std::string views = "\x80\x02}(" + PickledText("a");
  const TorchTensor tensor{"a", {6}, {1}, "0", 6};
  views += PickledTensorBytes(tensor) + "q\x01";
  for (int i = 0; i < 100; ++i) views += PickledText("t" + std::to_string(i)) + "h\x01";
  EXPECT_THAT(PickleError(views + "u."), "opened");
  const std::string big = FloatBytes(std::vector<float>(10'000));
  const auto shared = [&](int count) {
    std::vector<TorchTensor> tensors;
    for (int i = 0; i < count; ++i) {
      tensors.push_back({"t" + std::to_string(i), {10'000}, {1}, "0", 10'000});
    }
    return Error(ZipBytes(TorchMembers(PickledDict(tensors), {{"0", big}})));
  };
  EXPECT_EQ(shared(4), "opened");
  EXPECT_THAT(shared(8), HasSubstr("more than 4 times the file's size"));
}

TEST_F(HostileTorchFile, TensorsOutsideTheirStorage) {
  constexpr int64_t kHuge = int64_t{1} << 62;
  EXPECT_EQ(TensorError({"a", {6}, {1}, "0", 6}), "opened");
  EXPECT_EQ(TensorError({"a", {}, {}, "0", 6, 5}), "opened");
  EXPECT_EQ(TensorError({"a", {0, 9}, {9, 1}, "0", 6, 6}), "opened");
  for (const TorchTensor& tensor : {
           TorchTensor{"a", {7}, {1}, "0", 6},
           TorchTensor{"a", {6}, {1}, "0", 6, 1},
           TorchTensor{"a", {}, {}, "0", 6, 6},
           TorchTensor{"a", {3}, {3}, "0", 6},
           TorchTensor{"a", {2, 3}, {4, 1}, "0", 6},
           TorchTensor{"a", {2, 4}, {0, 1}, "0", 6},
           TorchTensor{"a", {kHuge}, {0}, "0", 6},
           TorchTensor{"a", {kHuge, 8}, {0, 0}, "0", 6},
           TorchTensor{"a", {2}, {kHuge - 1 + kHuge}, "0", 6},
           TorchTensor{"a", {5}, {kHuge}, "0", 6},
           TorchTensor{"a", {2, 2}, {kHuge, kHuge}, "0", 6},
           TorchTensor{"a", {1}, {1}, "0", 6, kHuge},
           TorchTensor{"a", {0}, {1}, "0", 6, 7},
       }) {
    EXPECT_THAT(TensorError(tensor), HasSubstr("does not lie in its storage of 6"))
        << ShapeString(tensor.shape) << ShapeString(tensor.strides);
  }
  EXPECT_THAT(TensorError({"a", {-1}, {1}, "0", 6}), HasSubstr("not numbers of 0 and more"));
  EXPECT_THAT(TensorError({"a", {2}, {-1}, "0", 6}), HasSubstr("not numbers of 0 and more"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "0", 6, -1}), HasSubstr("not numbers of 0 and more"));
  EXPECT_THAT(TensorError({"a", {2}, {}, "0", 6}), HasSubstr("equally many"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "0", 5}),
              HasSubstr("storage \"0\" should have 20 bytes, the file has 24"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "0", kHuge}), HasSubstr("a storage has"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "1", 6}), HasSubstr("the file has none of it"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "../0", 6}), HasSubstr("the file has none of it"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "0", -6}), HasSubstr("storage is not given by"));
  EXPECT_THAT(TensorError({"a", {2}, {1}, "0", 6, 0, "QInt8Storage"}),
              HasSubstr("global torch.QInt8Storage is refused"));
  EXPECT_THAT(TensorError({"a", std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1), "0", 6}),
              HasSubstr("17 dimensions, expected at most 16"));
  const TorchTensor twice{"a", {2}, {1}, "0", 6};
  EXPECT_THAT(PickleError(PickledDict({twice, twice})), HasSubstr("two tensors \"a\""));
}

// Any range of tensors that leave gaps in every dimension.
TEST_F(HostileTorchFile, StridesWithGaps) {
  std::vector<float> stored(60);
  std::iota(stored.begin(), stored.end(), 0.0f);
  const std::vector<TorchTensor> tensors = {
      {"every_second", {3}, {2}, "0", 60, 1},
      {"columns", {4, 5}, {10, 2}, "0", 60, 3},
      {"ones", {4, 1, 5, 1}, {10, 7, 2, 9}, "0", 60, 3},
      {"turned", {3, 4, 5}, {1, 15, 3}, "0", 60},
      {"repeated", {2, 3, 4}, {3, 0, 2}, "0", 60, 50},
  };
  const auto file = OpenTorchFile(
      memory_.Write(ZipBytes(TorchMembers(PickledDict(tensors), {{"0", FloatBytes(stored)}}))));
  ASSERT_TRUE(file.ok()) << file.status();
  for (const TorchTensor& tensor : tensors) {
    const StoredTensor& found = *file->Find(tensor.name);
    ASSERT_TRUE(file->CheckReadable(found).ok()) << tensor.name;
    std::vector<float> all;
    for (int64_t i = 0; i < found.num_elements(); ++i) {
      int64_t at = tensor.offset, rest = i;
      for (size_t dim = tensor.shape.size(); dim-- > 0;) {
        at += rest % tensor.shape[dim] * tensor.strides[dim];
        rest /= tensor.shape[dim];
      }
      all.push_back(stored[static_cast<size_t>(at)]);
    }
    for (size_t first = 0; first <= all.size(); ++first) {
      for (size_t last = first; last <= all.size(); ++last) {
        std::vector<float> values(last - first, 1e9f);
        ASSERT_TRUE(file->Read(found, static_cast<int64_t>(first), values).ok());
        EXPECT_TRUE(std::equal(values.begin(), values.end(), all.begin() + static_cast<int>(first)))
            << tensor.name << " from " << first << " to " << last;
      }
    }
  }
}

TEST_F(HostileTorchFile, StridesThatAreNotRead) {
  const std::string bytes = ZipBytes(TorchMembers(PickledDict({{"a", {3}, {20}, "0", 60}}),
                                                  {{"0", FloatBytes(std::vector<float>(60))}}));
  const auto file = OpenTorchFile(memory_.Write(bytes));
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_THAT(Message(file->CheckReadable(*file->Find("a"))),
              HasSubstr("F32[3] with strides [20]"));
}

TEST_F(HostileTorchFile, Zips) {
  const std::vector<ZipMember> members =
      TorchMembers(PickledDict({{"a", {6}, {1}, "0", 6}}), {{"0", FloatBytes({1, 2, 3, 4, 5, 6})}});
  const auto with = [&](const std::function<void(std::vector<ZipMember>&)>& change) {
    std::vector<ZipMember> changed = members;
    change(changed);
    return Error(ZipBytes(changed));
  };
  EXPECT_EQ(with([](auto&) {}), "opened");
  EXPECT_EQ(with([](auto& m) { m.erase(m.begin() + 1); }), "opened");  // no byteorder
  EXPECT_THAT(with([](auto& m) { m[1].bytes = "big"; }), HasSubstr("byteorder is \"big\""));
  EXPECT_THAT(with([](auto& m) { m[2].method = 8; }), HasSubstr("compressed (method 8)"));
  EXPECT_THAT(with([](auto& m) { m[2].flags = 1; }), HasSubstr("encrypted"));
  EXPECT_THAT(with([](auto& m) { m.push_back(m[0]); }), HasSubstr("two zip entries"));
  EXPECT_THAT(with([](auto& m) { m[0].name = "model/code.py"; }),
              HasSubstr("without model/data.pkl"));
  EXPECT_THAT(with([](auto& m) { m.clear(); }), HasSubstr("expected a file of torch.save"));
  // Sizes and offsets in the directory, field by field.
  const std::string good = ZipBytes(members);
  const size_t directory = good.find("PK\x01\x02");
  for (const size_t field : {20, 24, 42}) {
    std::string bytes = good;
    bytes.replace(directory + field, 4, Little<uint32_t>(0x7fffffff));
    EXPECT_NE(Error(bytes), "opened") << field;
    bytes.replace(directory + field, 4, Little<uint32_t>(0xffffffff));
    EXPECT_NE(Error(bytes), "opened") << field;
  }
  const size_t end = good.rfind("PK\x05\x06");
  for (const size_t field : {4, 6, 8 + 2, 12, 16}) {
    std::string bytes = good;
    bytes.replace(end + field, 2, "\xff\xff");
    EXPECT_NE(Error(bytes), "opened") << field;
  }
  std::string flipped = good;
  flipped[good.find("_rebuild_tensor_v2")] = 'x';
  EXPECT_THAT(Error(flipped), HasSubstr("checksum is wrong"));
}

TEST_F(HostileTorchFile, Legacy) {
  const std::string pickle = PickledDict({{"a", {6}, {1}, "0", 6}}, /*legacy=*/true);
  const std::string floats = FloatBytes({1, 2, 3, 4, 5, 6});
  EXPECT_EQ(Error(LegacyBytes(pickle, {{"0", floats}})), "opened");
  EXPECT_THAT(Error(LegacyBytes(pickle, {{"0", floats.substr(0, 8)}})),
              HasSubstr("should have 24 bytes, the file has 8"));
  EXPECT_THAT(Error(LegacyBytes(pickle, {{"1", floats}})), HasSubstr("that no tensor names"));
  EXPECT_THAT(Error(LegacyBytes(pickle, {{"0", floats}, {"0", floats}})), HasSubstr("twice"));
  EXPECT_THAT(Error(LegacyBytes(pickle, {})), HasSubstr("none of it"));
  EXPECT_THAT(Error(LegacyStart() + pickle + "\x80\x02](" + PickledText("0") + "e." +
                    Little(int64_t{1} << 61)),
              HasSubstr("truncated or damaged"));
  EXPECT_THAT(
      Error(LegacyStart() + pickle + "\x80\x02](" + PickledText("0") + "e." + Little(int64_t{-1})),
      HasSubstr("truncated or damaged"));
  EXPECT_THAT(Error(LegacyStart(/*little_endian=*/false) + pickle + "\x80\x02]."),
              HasSubstr("big-endian"));
  EXPECT_THAT(Error("\x80\x02N."), HasSubstr("not one that torch.save wrote"));
  // A view of a storage, as torch wrote it before 0.4.
  std::string view = PickledDict({{"a", {6}, {1}, "0", 6}}, /*legacy=*/true);
  view.replace(view.find("NtQ"), 1, "]");
  EXPECT_THAT(Error(LegacyBytes(view, {{"0", floats}})), HasSubstr("view_metadata"));
}

TEST_F(HostileTorchFile, OtherFiles) {
  EXPECT_THAT(Error(""), HasSubstr("has 0 bytes"));
  EXPECT_THAT(Error("hello, this is no checkpoint"),
              HasSubstr("neither a zip archive nor a pickle"));
  EXPECT_THAT(Error("\x89HDF\r\n\x1a\n" + std::string(50, 'x')), HasSubstr("HDF5"));
  EXPECT_THAT(Error(Little<uint64_t>(2) + "{}"), HasSubstr("safetensors"));
  EXPECT_THAT(Error(std::string(257, 'a') + "ustar"), HasSubstr("tar format"));
  EXPECT_THAT(Error("version https://git-lfs.github.com/spec/v1\n"), HasSubstr("Git LFS pointer"));
  EXPECT_THAT(OpenError(kFiles), HasSubstr("expected a regular file"));
}

}  // namespace
}  // namespace bertrand
