#pragma once

// A folder for files that a test writes or copies; it goes with the object.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "kernels/status.h"

namespace bertrand {

class TestFolder {
 public:
  TestFolder() : path_((std::filesystem::temp_directory_path() / "bertrand-test-XXXXXX").string()) {
    BERTRAND_CHECK(mkdtemp(path_.data()) != nullptr, path_);
  }
  ~TestFolder() { std::filesystem::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  const std::string& path() const { return path_; }

  // Writes a file, its folders too; the result is its path.
  std::string Write(const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = std::filesystem::path(path_) / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary | std::ios::trunc) << bytes;
    return file.string();
  }

  // Copies what is in the folder `from` over what is here, in the folder `into`.
  void CopyFrom(const std::string& from, const std::string& into = "") const {
    using std::filesystem::copy_options;
    const std::filesystem::path to = std::filesystem::path(path_) / into;
    std::filesystem::create_directories(to);
    std::filesystem::copy(from, to, copy_options::recursive | copy_options::overwrite_existing);
  }

 private:
  std::string path_;
};

}  // namespace bertrand
