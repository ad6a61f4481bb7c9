// Gemm: which kernel computes what, tuning with invented times, and the file.

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "kernels/gemm/gemm.h"
#include "tests/kernels/gemm_problem.h"

namespace bertrand::gpu {
namespace {

using OwnKernels = GemmOptions::OwnKernels;
using Kind = GemmChoice::Kind;
using testing::ElementsAre;

class GemmChoiceTest : public EmulatedTest {
 protected:
  void SetUp() override {
    EmulatedTest::SetUp();
    folder_ = testing::TempDir() + "gemm_choice_test";
    std::filesystem::remove_all(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Gemm> Make(OwnKernels own_kernels) {
    return std::move(Gemm::Create(device(), {.own_kernels = own_kernels})).value();
  }
  // Times what `time_us` says, and counts.
  std::unique_ptr<Gemm> MakeTuned(
      std::function<absl::StatusOr<double>(const GemmChoice&)> time_us) {
    GemmOptions options;
    options.cache_folder = folder_;
    options.measure_us = [this, time_us](const GemmChoice& choice, const auto& run) {
      ++num_measured_;
      EXPECT_TRUE(run().ok());
      return time_us(choice);
    };
    return std::move(Gemm::Create(device(), options)).value();
  }
  absl::Status Run(const Gemm& gemm, const GemmParams& params) {
    auto workspace = device().Allocate(gemm.workspace_bytes());
    BERTRAND_RETURN_IF_ERROR(workspace.status());
    return gemm.Run(params, workspace->data(), stream());
  }
#ifndef __CUDACC__
  std::vector<std::string> KernelsSince() {
    std::vector<std::string> names;
    for (const auto& [name, report] : device().TakeReports()) names.push_back(name);
    return names;
  }
#endif

  std::string folder_;
  int num_measured_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Once, GemmChoiceTest, testing::Values(OneEmulatedCase()));

// The half of the library: every shape and type, in one launch or two.
TEST_P(GemmChoiceTest, TheLibraryIsRight) {
  const auto gemm = Make(OwnKernels::kRarely);
  const auto run = [&]<typename T>(T, const Shape& shape, Activation activation, bool bias,
                                   bool residual) {
    const Problem<T> problem(stream(), shape, random_);
    const GemmParams params = problem.Params(activation, bias, residual);
#ifndef __CUDACC__  // cuBLASLt does not take the odd ones of these
    EXPECT_EQ(gemm->Choice(params).kind, Kind::kLibrary);
#endif
    ASSERT_OK(Run(*gemm, params));
    problem.ExpectRight(params);
  };
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{5, 7, 33}, Shape{4, 64, 16}, Shape{17, 65, 24},
                             Shape{33, 130, 100}}) {
    run(float(), shape, Activation::kNone, true, true);
    run(simt::Half(), shape, Activation::kRelu, false, false);
    run(simt::BFloat16(), shape, Activation::kGeluTanh, true, false);
  }
  for (const Activation activation : kActivations) {
    for (const bool bias : {false, true}) {
      for (const bool residual : {false, true}) {
        run(simt::Half(), {6, 20, 40}, activation, bias, residual);
        run(float(), {6, 20, 40}, activation, bias, residual);
      }
    }
  }
}

#ifndef __CUDACC__
TEST_P(GemmChoiceTest, WhatTheLibraryDoesNotFuseIsDoneAfterIt) {
  const auto gemm = Make(OwnKernels::kRarely);
  const auto kernels = [&](Activation activation, bool residual) {
    const Problem<simt::Half> problem(stream(), {3, 16, 16}, random_);
    EXPECT_TRUE(Run(*gemm, problem.Params(activation, true, residual)).ok());
    return KernelsSince();
  };
  EXPECT_THAT(kernels(Activation::kNone, true), ElementsAre("host_gemm"));
  EXPECT_THAT(kernels(Activation::kRelu, false), ElementsAre("host_gemm"));
  EXPECT_THAT(kernels(Activation::kGeluTanh, false), ElementsAre("host_gemm"));
  EXPECT_THAT(kernels(Activation::kGeluTanh, true), ElementsAre("bias_activation", "host_gemm"));
  EXPECT_THAT(kernels(Activation::kGeluErf, false), ElementsAre("bias_activation", "host_gemm"));
  EXPECT_THAT(kernels(Activation::kTanh, false), ElementsAre("bias_activation", "host_gemm"));
}

TEST_P(GemmChoiceTest, OwnKernelsWhereTheyAreFastOrTheLibraryIsUnable) {
  const auto gemm = Make(OwnKernels::kWhereFast), own = Make(OwnKernels::kAlways);
  const auto kinds = [&](const GemmParams& params) {
    return std::vector<Kind>{gemm->Choice(params).kind, own->Choice(params).kind};
  };
  const auto at_most = Problem<simt::Half>(stream(), {256, 8, 8}, random_);
  EXPECT_THAT(kinds(at_most.Params(Activation::kNone, true, false)),
              ElementsAre(Kind::kSmall, Kind::kSmall));
  const auto more = Problem<simt::Half>(stream(), {257, 8, 8}, random_);
  EXPECT_THAT(kinds(more.Params(Activation::kNone, true, false)),
              ElementsAre(Kind::kLibrary, Kind::kSmall));
  const auto odd = Problem<simt::Half>(stream(), {16, 8, 9}, random_);
  EXPECT_THAT(kinds(odd.Params(Activation::kNone, true, false)),
              ElementsAre(Kind::kLibrary, Kind::kFloat));
  const auto floats = Problem<float>(stream(), {16, 8, 8}, random_);
  EXPECT_THAT(kinds(floats.Params(Activation::kNone, true, false)),
              ElementsAre(Kind::kLibrary, Kind::kFloat));

  // An activation, and y over the residual: the library's sums would destroy it.
  GemmParams params = more.Params(Activation::kGeluErf, true, true);
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kLibrary);
  params.y = params.residual;
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kSmall);
  params.activation = Activation::kNone;
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kLibrary);
  // Operands off by two bytes.
  params = odd.Params(Activation::kNone, false, false);
  params.x = {params.x.as<char>() + 2, DType::kFloat16, {15, 9}};
  params.y = {params.y.data(), DType::kFloat16, {15, 8}};
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kFloat);
  ASSERT_OK(Run(*gemm, params));
}
#endif

TEST_P(GemmChoiceTest, OwnKernelsAreRight) {
  const auto gemm = Make(OwnKernels::kAlways);
  for (const Shape& shape : {Shape{20, 96, 512}, Shape{3, 40, 4096}, Shape{3, 4, 9}}) {
    const Problem<simt::Half> problem(stream(), shape, random_);
    const GemmParams params = problem.Params(Activation::kGeluErf, true, true);
    ASSERT_OK(Run(*gemm, params));
    problem.ExpectRight(params);
  }
#ifndef __CUDACC__
  EXPECT_THAT(KernelsSince(), testing::IsSupersetOf({"float_gemm", "small_gemm", "sum_splits"}));
#endif
}

TEST_P(GemmChoiceTest, EveryCandidateIsRight) {
  const auto gemm = Make(OwnKernels::kWhereFast);
  const Problem<simt::Half> problem(stream(), {20, 48, 640}, random_);
  const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
  const std::vector<GemmChoice> candidates = gemm->Candidates(params);
#ifndef __CUDACC__
  EXPECT_EQ(candidates.size(), 9u);
#endif
  auto workspace = device().Allocate(gemm->workspace_bytes());
  ASSERT_OK(workspace.status());
  for (const GemmChoice& choice : candidates) {
    SCOPED_TRACE(ToString(choice));
    ASSERT_OK(gemm->RunChoice(params, choice, workspace->data(), stream()));
    problem.ExpectRight(params);
    // In a graph, as it was timed and as it will run.
    const std::vector<float> eager = problem.y().Download();
    ASSERT_OK(stream().BeginCapture());
    ASSERT_OK(gemm->RunChoice(params, choice, workspace->data(), stream()));
    const auto graph = stream().EndCapture();
    ASSERT_OK(graph.status());
    ASSERT_OK(stream().Fill(params.y.data(), 0xff, params.y.size_bytes()));
    ASSERT_OK(stream().Run(**graph));
    EXPECT_EQ(problem.y().Download(), eager);
  }
}

// A choice is for all rows of its bucket.
TEST_P(GemmChoiceTest, EveryCandidateIsRightForOtherRows) {
  const auto gemm = Make(OwnKernels::kWhereFast);
  const Problem<simt::Half> bucket(stream(), {32, 48, 640}, random_);
  auto workspace = device().Allocate(gemm->workspace_bytes());
  ASSERT_OK(workspace.status());
  for (const GemmChoice& choice :
       gemm->Candidates(bucket.Params(Activation::kGeluErf, true, false))) {
    SCOPED_TRACE(ToString(choice));
    for (const int m : {1, 17, 31}) {
      const Problem<simt::Half> problem(stream(), {m, 48, 640}, random_);
      const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
      ASSERT_OK(gemm->RunChoice(params, choice, workspace->data(), stream()));
      problem.ExpectRight(params);
    }
  }
}

TEST_P(GemmChoiceTest, GraphsReplayEveryKind) {
  for (const OwnKernels own : {OwnKernels::kAlways, OwnKernels::kRarely}) {
    const auto gemm = Make(own);
    const Problem<simt::Half> problem(stream(), {7, 16, 2048}, random_);
    const GemmParams params = problem.Params(Activation::kGeluErf, true, true);
    auto workspace = device().Allocate(gemm->workspace_bytes());
    ASSERT_OK(workspace.status());
    ASSERT_OK(gemm->Run(params, workspace->data(), stream()));
    const std::vector<float> eager = problem.y().Download();
    ASSERT_OK(stream().BeginCapture());
    ASSERT_OK(gemm->Run(params, workspace->data(), stream()));
    const auto graph = stream().EndCapture();
    ASSERT_OK(graph.status());
    for (int i = 0; i < 2; ++i) {
      ASSERT_OK(stream().Fill(params.y.data(), 0xff, params.y.size_bytes()));
      ASSERT_OK(stream().Run(**graph));
      EXPECT_EQ(problem.y().Download(), eager);
    }
  }
}

const GemmKey kKey = {20, 64, 256, DType::kFloat16, Activation::kGeluErf, true, false};

// In the order of tiles, backwards, so that neither the model's first nor the library wins.
absl::StatusOr<double> LargestTileFirst(const GemmChoice& choice) {
  if (choice.kind == Kind::kLibrary) return 50.0;
  return 20.0 - choice.tile + 0.01 * choice.splits;
}

#ifndef __CUDACC__
TEST_P(GemmChoiceTest, TuningKeepsTheFastestForTheBucket) {
  const auto gemm = MakeTuned(LargestTileFirst);
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 9);
  const auto choice = [&](int m, Activation activation) {
    const Problem<simt::Half> problem(stream(), {m, 64, 256}, random_);
    return gemm->Choice(problem.Params(activation, true, false));
  };
  const GemmChoice tuned = choice(20, Activation::kGeluErf);
  EXPECT_EQ(tuned.kind, Kind::kSmall);
  EXPECT_FLOAT_EQ(tuned.time_us, 20.0f - tuned.tile + 0.01f * tuned.splits);
  for (const GemmChoice& other :
       gemm->Candidates(Problem<simt::Half>(stream(), {32, 64, 256}, random_)
                            .Params(Activation::kGeluErf, true, false))) {
    EXPECT_LE(tuned.time_us, static_cast<float>(*LargestTileFirst(other))) << ToString(other);
  }
  // The bucket's other rows share it; other buckets and epilogues don't.
  EXPECT_EQ(choice(32, Activation::kGeluErf), tuned);
  EXPECT_EQ(choice(17, Activation::kGeluErf), tuned);
  EXPECT_EQ(choice(16, Activation::kGeluErf).time_us, 0);
  EXPECT_EQ(choice(20, Activation::kNone).time_us, 0);
  // And it is right.
  const Problem<simt::Half> problem(stream(), {20, 64, 256}, random_);
  const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
  ASSERT_OK(Run(*gemm, params));
  problem.ExpectRight(params);
  // Once is enough.
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 9);
}

// No GPU has run it yet: only where it was timed, and found right.
TEST_P(GemmChoiceTest, HopperGemmIsChosenByTuningAlone) {
  const GemmKey key = {72, 64, 72, DType::kFloat16, Activation::kGeluErf, true, false};
  const auto hopper_first = [](const GemmChoice& choice) {
    return choice.kind == Kind::kHopper ? 1.0 + choice.tile : 10.0;
  };
  const Problem<simt::Half> problem(stream(), {72, 64, 72}, random_);
  const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
  auto gemm = MakeTuned(hopper_first);
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kSmall);
  ASSERT_OK(gemm->Tune(key, stream()));
  EXPECT_THAT(ToString(gemm->Choice(params)), testing::StartsWith("hopper_gemm 128x256"));
  ASSERT_OK(Run(*gemm, params));
  problem.ExpectRight(params);
  // Epilogues that it lacks, fewer rows, another device.
  const auto has_hopper = [&](const Shape& shape, Activation activation) {
    const Problem<simt::Half> other(stream(), shape, random_);
    const auto candidates = gemm->Candidates(other.Params(activation, true, false));
    return std::any_of(candidates.begin(), candidates.end(),
                       [](const GemmChoice& choice) { return choice.kind == Kind::kHopper; });
  };
  EXPECT_TRUE(has_hopper({65, 8, 8}, Activation::kNone));
  EXPECT_FALSE(has_hopper({64, 8, 8}, Activation::kNone));
  EXPECT_FALSE(has_hopper({65, 8, 8}, Activation::kGeluTanh));
  EXPECT_FALSE(has_hopper({65, 12, 8}, Activation::kNone));
  gemm->LeaveOutHopper();
  EXPECT_FALSE(has_hopper({65, 8, 8}, Activation::kNone));
  set_device(simt::ProfileA100());
  gemm = MakeTuned(hopper_first);
  EXPECT_FALSE(has_hopper({65, 8, 8}, Activation::kNone));
  ASSERT_OK(gemm->Tune(key, stream()));
  EXPECT_EQ(gemm->Choice(params).kind, Kind::kSmall);
}

// cuDNN's graph competes where there is a bias and erf GELU, and is chosen where it is fastest.
TEST_P(GemmChoiceTest, TheGraphIsChosenWhereItIsFastest) {
  // Of its algorithms the second is faster.
  const auto graph_first = [](const GemmChoice& choice) {
    return choice.kind == Kind::kGraph ? 4.0 - static_cast<double>(choice.algorithm[1]) : 10.0;
  };
  const auto with_gelu = [](int m, DType dtype = DType::kFloat16) {
    return GemmKey{m, 64, 256, dtype, Activation::kGeluErf, true, false};
  };
  auto gemm = MakeTuned(graph_first);
  EXPECT_TRUE(gemm->Absent().empty());
  for (const GemmKey& key : {with_gelu(20), with_gelu(300), with_gelu(20, DType::kBFloat16)}) {
    ASSERT_OK(gemm->Tune(key, stream()));
    EXPECT_EQ(ToString(*gemm->Tuned(key)), "cuDNN's graph, 2.000000 us");
  }
  KernelsSince();
  const auto check = [&]<typename T>(T, int m) {
    const Problem<T> problem(stream(), {m, 64, 256}, random_);
    const GemmParams params = problem.Params(Activation::kGeluErf, true, false);
    ASSERT_OK(Run(*gemm, params));
    problem.ExpectRight(params);
    EXPECT_THAT(KernelsSince(), ElementsAre("host_graph"));
  };
  check(simt::Half(), 20);
  check(simt::Half(), 300);
  check(simt::Half(), 301);  // another number of rows of the bucket
  check(simt::BFloat16(), 17);

  // Not where it would compute something else, or cannot.
  const auto has_graph = [&](const GemmParams& params) {
    const auto candidates = gemm->Candidates(params);
    return std::any_of(candidates.begin(), candidates.end(),
                       [](const GemmChoice& choice) { return choice.kind == Kind::kGraph; });
  };
  const Problem<simt::Half> problem(stream(), {20, 64, 256}, random_);
  EXPECT_TRUE(has_graph(problem.Params(Activation::kGeluErf, true, false)));
  EXPECT_FALSE(has_graph(problem.Params(Activation::kGeluErf, false, false)));
  EXPECT_FALSE(has_graph(problem.Params(Activation::kGeluErf, true, true)));
  EXPECT_FALSE(has_graph(problem.Params(Activation::kGeluTanh, true, false)));
  EXPECT_FALSE(has_graph(problem.Params(Activation::kNone, true, false)));
  const Problem<simt::Half> odd(stream(), {20, 12, 256}, random_);
  EXPECT_FALSE(has_graph(odd.Params(Activation::kGeluErf, true, false)));
  const Problem<float> floats(stream(), {20, 64, 256}, random_);
  EXPECT_FALSE(has_graph(floats.Params(Activation::kGeluErf, true, false)));
  // Operands off by two bytes: the choice of the key is not for them.
  const Problem<simt::Half> wider(stream(), {21, 64, 256}, random_);
  GemmParams params = wider.Params(Activation::kGeluErf, true, false);
  params.x = {params.x.as<char>() + 2, DType::kFloat16, {20, 256}};
  params.y = {params.y.data(), DType::kFloat16, {20, 64}};
  EXPECT_NE(gemm->Choice(params).kind, Kind::kGraph);
}

TEST_P(GemmChoiceTest, TheGraphIsKeptInTheFileAndBelievedOnlyIfItIsOne) {
  const auto graph_first = [](const GemmChoice& choice) {
    return choice.kind == Kind::kGraph ? 1.0 : 10.0;
  };
  {
    const auto gemm = MakeTuned(graph_first);
    ASSERT_OK(gemm->Tune(kKey, stream()));
    ASSERT_OK(gemm->Save());
  }
  num_measured_ = 0;
  const auto again = MakeTuned(graph_first);
  EXPECT_TRUE(again->Remembers(kKey));
  ASSERT_OK(again->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 0);
  EXPECT_EQ(again->Tuned(kKey)->kind, Kind::kGraph);

  const GemmTableOrigin origin = {"emulated H100, 9.0, 132 multiprocessors",
                                  "the host, the host's graph"};
  GemmKey bucket = kKey;
  bucket.m = 32;
  const GemmTable table = {{bucket, {Kind::kGraph, 0, 1, {1, 2, 3}, 1}}};
  ASSERT_OK(SaveGemmTable(folder_ + "/" + GemmTableName(origin), origin, table));
  const auto gemm = MakeTuned(graph_first);
  EXPECT_FALSE(gemm->Remembers(kKey));
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 9);
}

TEST_P(GemmChoiceTest, CandidatesThatCannotRunAreLeftOut) {
  const auto gemm = MakeTuned([](const GemmChoice& choice) -> absl::StatusOr<double> {
    if (choice.kind == Kind::kLibrary) return 3.0;
    return Unimplemented("not here");
  });
  ASSERT_OK(gemm->Tune(kKey, stream()));
  const Problem<simt::Half> problem(stream(), {20, 64, 256}, random_);
  EXPECT_EQ(gemm->Choice(problem.Params(Activation::kGeluErf, true, false)).kind, Kind::kLibrary);
  const auto lost = MakeTuned([](const GemmChoice&) { return Internal("the device is lost"); });
  EXPECT_EQ(lost->Tune(kKey, stream()).code(), absl::StatusCode::kInternal);
}

TEST_P(GemmChoiceTest, WithoutTimeNothingIsTuned) {
  const auto gemm = Make(OwnKernels::kWhereFast);
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_TRUE(KernelsSince().empty());
  ASSERT_OK(gemm->Save());
}

TEST_P(GemmChoiceTest, ChoicesAreKeptInAFile) {
  GemmKey other = kKey;
  other.n = 32;
  const auto choice_of = [&](const Gemm& gemm) {
    const Problem<simt::Half> problem(stream(), {20, 64, 256}, random_);
    return gemm.Choice(problem.Params(Activation::kGeluErf, true, false));
  };
  GemmChoice tuned;
  {
    const auto gemm = MakeTuned(LargestTileFirst);
    ASSERT_OK(gemm->Tune(kKey, stream()));
    ASSERT_OK(gemm->Save());
    tuned = choice_of(*gemm);
  }
  num_measured_ = 0;
  {
    const auto gemm = MakeTuned(LargestTileFirst);
    EXPECT_EQ(choice_of(*gemm).time_us, 0) << "before it is asked for";
    ASSERT_OK(gemm->Tune(kKey, stream()));
    EXPECT_EQ(num_measured_, 0);
    EXPECT_EQ(choice_of(*gemm), tuned);
    ASSERT_OK(gemm->Tune(other, stream()));
    EXPECT_GT(num_measured_, 0);
    ASSERT_OK(gemm->Save());
  }
  num_measured_ = 0;
  {
    // Both are in the file now.
    const auto gemm = MakeTuned(LargestTileFirst);
    ASSERT_OK(gemm->Tune(kKey, stream()));
    ASSERT_OK(gemm->Tune(other, stream()));
    EXPECT_EQ(num_measured_, 0);
  }
  // Another device has another file; a damaged one is timed again and replaced.
  for (const auto& file : std::filesystem::directory_iterator(folder_)) {
    std::fstream(file.path(), std::ios::in | std::ios::out).seekp(60).put('#');
  }
  {
    const auto gemm = MakeTuned(LargestTileFirst);
    ASSERT_OK(gemm->Tune(kKey, stream()));
    EXPECT_EQ(num_measured_, 9);
    EXPECT_EQ(choice_of(*gemm), tuned);
    ASSERT_OK(gemm->Save());
  }
  set_device(simt::ProfileA100());
  num_measured_ = 0;
  const auto gemm = MakeTuned(LargestTileFirst);
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 9);
}

TEST_P(GemmChoiceTest, AFileThatNamesAnUnknownAlgorithmIsNotBelieved) {
  std::filesystem::create_directories(folder_);
  const GemmTableOrigin origin = {"emulated H100, 9.0, 132 multiprocessors",
                                  "the host, the host's graph"};
  GemmKey bucket = kKey;
  bucket.m = 32;
  const GemmTable table = {{bucket, {Kind::kLibrary, 0, 1, {1, 2, 3}, 1}}};
  ASSERT_OK(SaveGemmTable(folder_ + "/" + GemmTableName(origin), origin, table));
  const auto gemm = MakeTuned(LargestTileFirst);
  ASSERT_OK(gemm->Tune(kKey, stream()));
  EXPECT_EQ(num_measured_, 9);
}
#endif

TEST_P(GemmChoiceTest, ATrialKnowsRightFromWrong) {
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16, DType::kFloat32}) {
    const GemmKey key = {16, 24, 64, dtype, Activation::kGeluErf, true, true};
    auto trial = GemmTrial::Create(key, 256, stream());
    ASSERT_OK(trial.status());
    // FloatGemm's own result is right, what was overwritten afterwards is not, nor is a result of
    // which one value is wrong.
    EXPECT_TRUE(trial->IsRight(stream()).value());
    EXPECT_FALSE(trial->IsRight(stream()).value());
    ASSERT_OK(FloatGemm(trial->params(), stream()));
    EXPECT_TRUE(trial->IsRight(stream()).value());
    GemmParams wrong = trial->params();
    wrong.activation = Activation::kGeluTanh;
    ASSERT_OK(FloatGemm(wrong, stream()));
    EXPECT_EQ(trial->IsRight(stream()).value(), dtype != DType::kFloat32)
        << "the two GELUs are told apart in float32 alone";
    ASSERT_OK(FloatGemm(trial->params(), stream()));
    ASSERT_OK(stream().Fill(trial->params().y.as<char>() + 100, 0, 4));
    EXPECT_FALSE(trial->IsRight(stream()).value());
  }
}

TEST_P(GemmChoiceTest, ATrialOfFloat8) {
  const GemmKey key = {16, 32, 64, DType::kFloat16, Activation::kNone, true, true, true};
  auto trial = GemmTrial::Create(key, 256, stream());
  ASSERT_OK(trial.status());
  EXPECT_EQ(Gemm::Key(trial->params()), key);
  EXPECT_TRUE(trial->IsRight(stream()).value());
  GemmParams wrong = trial->params();
  wrong.residual = {};
  ASSERT_OK(FloatGemm(wrong, stream()));
  EXPECT_FALSE(trial->IsRight(stream()).value());
}

}  // namespace
}  // namespace bertrand::gpu
