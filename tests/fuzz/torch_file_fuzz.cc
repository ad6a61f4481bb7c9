// Mutated files of torch.save, for as long as one likes:
//
//   build/torch_file_fuzz [SECONDS [SEED]]       in the source tree's root
//
// Half of the mutations are of a whole file, half of the pickle in it, whose checksum is then made
// right again. Each file is opened and everything that can be read of it is read. What must hold:
// no crash (build with a sanitizer to see more), and no more to read than kSharingMax times the
// file's size.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/status.h"
#include "models/checkpoint/file.h"
#include "models/checkpoint/torch_file.h"
#include "models/checkpoint/zip_archive.h"
#include "tests/models/memory_file.h"
#include "tests/models/torch_bytes.h"

namespace bertrand {
namespace {

const std::string kFiles = "tests/models/checkpoint/torch/";

std::string ReadFile(const std::string& path) {
  auto bytes = ReadTextFile(path, 1 << 24);
  BERTRAND_CHECK(bytes.ok(), Message(bytes.status()));
  return *std::move(bytes);
}

std::vector<ZipMember> ReadMembers(const std::string& path) {
  const auto file = File::Open(path);
  BERTRAND_CHECK(file.ok(), Message(file.status()));
  const auto archive = ZipArchive::Read(*file);
  BERTRAND_CHECK(archive.ok(), Message(archive.status()));
  std::vector<ZipMember> members;
  for (const ZipEntry& entry : archive->entries()) {
    members.push_back({entry.name, std::string(entry.size_bytes, '\0')});
    const absl::Status status =
        file->ReadAt(entry.begin, members.back().bytes.data(), entry.size_bytes);
    BERTRAND_CHECK(status.ok(), Message(status));
  }
  return members;
}

// Opcodes and numbers at which something happens.
constexpr std::string_view kBytes(
    "\x00\x01\x7f\x80\xff().]}acbehjqrstuKJMQRNXU\x85\x86\x87\x8a\x8c\x93\x94", 36);

void Mutate(std::mt19937_64& random, std::string* bytes) {
  const size_t count = 1 + random() % 4;
  for (size_t i = 0; i < count && !bytes->empty(); ++i) {
    const size_t at = random() % bytes->size();
    const size_t size = std::min<size_t>(1 + random() % 16, bytes->size() - at);
    const size_t from = random() % bytes->size();
    switch (random() % 7) {
      case 0:
        (*bytes)[at] = static_cast<char>(random());
        break;
      case 1:
        (*bytes)[at] ^= static_cast<char>(1 << random() % 8);
        break;
      case 2:
        (*bytes)[at] = kBytes[random() % kBytes.size()];
        break;
      case 3:
        bytes->erase(at, size);
        break;
      case 4:
        bytes->insert(at, bytes->substr(from, size));
        break;
      case 5:
        bytes->insert(at, 1, kBytes[random() % kBytes.size()]);
        break;
      default:
        bytes->replace(at, size,
                       random() % 2 == 0 ? std::string(size, '\xff') : bytes->substr(from, size));
    }
  }
}

class Fuzzer {
 public:
  explicit Fuzzer(uint64_t seed) : random_(seed) {
    for (const char* name : {"zip.bin", "legacy.bin", "protocol4.bin", "nested.bin"}) {
      files_.push_back(ReadFile(kFiles + name));
    }
    for (const char* name : {"zip.bin", "protocol4.bin"}) {
      archives_.push_back(ReadMembers(kFiles + name));
    }
    const std::vector<TorchTensor> tensors = {{"a", {2, 3}, {3, 1}, "0", 6},
                                              {"b", {3, 2}, {1, 3}, "0", 6}};
    archives_.push_back(
        TorchMembers(PickledDict(tensors), {{"0", FloatBytes({1, 2, 3, 4, 5, 6})}}));
  }

  // Whether the file could be opened.
  bool Once() {
    std::string bytes;
    if (random_() % 2 == 0) {
      bytes = files_[random_() % files_.size()];
      Mutate(random_, &bytes);
    } else {
      std::vector<ZipMember> members = archives_[random_() % archives_.size()];
      Mutate(random_, &members[0].bytes);
      bytes = ZipBytes(members);
    }
    const auto file = OpenTorchFile(memory_.Write(bytes));
    if (!file.ok()) return false;
    uint64_t elements = 0;
    for (const StoredTensor& tensor : file->tensors()) {
      elements += static_cast<uint64_t>(tensor.num_elements());
      BERTRAND_CHECK(elements <= kSharingMax * bytes.size(), tensor.ToString());
      std::vector<float> values(static_cast<size_t>(tensor.num_elements()));
      const absl::Status status = file->Read(tensor, 0, values);
      BERTRAND_CHECK(status.ok() == file->CheckReadable(tensor).ok(), Message(status));
    }
    return true;
  }

 private:
  std::mt19937_64 random_;
  MemoryFile memory_;
  std::vector<std::string> files_;
  std::vector<std::vector<ZipMember>> archives_;
};

int Main(int argc, char** argv) {
  const int seconds = argc > 1 ? std::atoi(argv[1]) : 60;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  Fuzzer fuzzer(seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
  uint64_t count = 0, opened = 0;
  while (std::chrono::steady_clock::now() < end) {
    ++count;
    if (fuzzer.Once()) ++opened;
  }
  std::printf("%llu files, %llu could be opened\n", static_cast<unsigned long long>(count),
              static_cast<unsigned long long>(opened));
  return 0;
}

}  // namespace
}  // namespace bertrand

int main(int argc, char** argv) { return bertrand::Main(argc, argv); }
