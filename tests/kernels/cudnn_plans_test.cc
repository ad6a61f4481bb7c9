// CudnnPlans over an invented cuDNN (what it is asked for, what happens when it says no), and over
// the real one where libcudnn.so.9 can be loaded: plans for an H100 need no GPU.

#include "kernels/gemm/cudnn_plans.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "kernels/status.h"

#if __has_include(<cudnn_graph.h>)
#include <cudnn_graph.h>
#define BERTRAND_HAVE_CUDNN_HEADER 1
#endif

namespace bertrand::gpu {
namespace {

using cudnn::Descriptor;

#ifdef BERTRAND_HAVE_CUDNN_HEADER
// Our numbers are the header's.
#define BERTRAND_SAME(ours, theirs) static_assert(int{cudnn::ours} == int{theirs})
BERTRAND_SAME(kSuccess, CUDNN_STATUS_SUCCESS);
BERTRAND_SAME(kPointwise, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
BERTRAND_SAME(kEngine, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
BERTRAND_SAME(kEngineConfig, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
BERTRAND_SAME(kEngineHeuristics, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
BERTRAND_SAME(kExecutionPlan, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
BERTRAND_SAME(kKnobChoice, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
BERTRAND_SAME(kOperationPointwise, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
BERTRAND_SAME(kOperationGraph, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
BERTRAND_SAME(kVariantPack, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
BERTRAND_SAME(kTensor, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
BERTRAND_SAME(kMatmul, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
BERTRAND_SAME(kOperationMatmul, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
BERTRAND_SAME(kKernelCache, CUDNN_BACKEND_KERNEL_CACHE_DESCRIPTOR);
BERTRAND_SAME(kPointwiseMode, CUDNN_ATTR_POINTWISE_MODE);
BERTRAND_SAME(kPointwisePrecision, CUDNN_ATTR_POINTWISE_MATH_PREC);
BERTRAND_SAME(kHeuristicsMode, CUDNN_ATTR_ENGINEHEUR_MODE);
BERTRAND_SAME(kHeuristicsGraph, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
BERTRAND_SAME(kHeuristicsResults, CUDNN_ATTR_ENGINEHEUR_RESULTS);
BERTRAND_SAME(kConfigEngine, CUDNN_ATTR_ENGINECFG_ENGINE);
BERTRAND_SAME(kConfigKnobChoices, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
BERTRAND_SAME(kPlanConfig, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
BERTRAND_SAME(kPlanWorkspaceBytes, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE);
BERTRAND_SAME(kPlanKernelCache, CUDNN_ATTR_EXECUTION_PLAN_KERNEL_CACHE);
BERTRAND_SAME(kKnobType, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE);
BERTRAND_SAME(kKnobValue, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE);
BERTRAND_SAME(kOperationPointwiseDescriptor, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
BERTRAND_SAME(kOperationPointwiseX, CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
BERTRAND_SAME(kOperationPointwiseB, CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
BERTRAND_SAME(kOperationPointwiseY, CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
BERTRAND_SAME(kGraphOperations, CUDNN_ATTR_OPERATIONGRAPH_OPS);
BERTRAND_SAME(kGraphDynamicShape, CUDNN_ATTR_OPERATIONGRAPH_IS_DYNAMIC_SHAPE_ENABLED);
BERTRAND_SAME(kTensorAlignment, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT);
BERTRAND_SAME(kTensorDataType, CUDNN_ATTR_TENSOR_DATA_TYPE);
BERTRAND_SAME(kTensorDimensions, CUDNN_ATTR_TENSOR_DIMENSIONS);
BERTRAND_SAME(kTensorStrides, CUDNN_ATTR_TENSOR_STRIDES);
BERTRAND_SAME(kTensorId, CUDNN_ATTR_TENSOR_UNIQUE_ID);
BERTRAND_SAME(kTensorVirtual, CUDNN_ATTR_TENSOR_IS_VIRTUAL);
BERTRAND_SAME(kPackIds, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
BERTRAND_SAME(kPackPointers, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
BERTRAND_SAME(kPackWorkspace, CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
BERTRAND_SAME(kEngineGraph, CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
BERTRAND_SAME(kEngineIndex, CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
BERTRAND_SAME(kEngineNumericalNotes, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE);
BERTRAND_SAME(kMatmulPrecision, CUDNN_ATTR_MATMUL_COMP_TYPE);
BERTRAND_SAME(kOperationMatmulA, CUDNN_ATTR_OPERATION_MATMUL_ADESC);
BERTRAND_SAME(kOperationMatmulB, CUDNN_ATTR_OPERATION_MATMUL_BDESC);
BERTRAND_SAME(kOperationMatmulC, CUDNN_ATTR_OPERATION_MATMUL_CDESC);
BERTRAND_SAME(kOperationMatmulDescriptor, CUDNN_ATTR_OPERATION_MATMUL_DESC);
BERTRAND_SAME(kKernelCacheGraph, CUDNN_ATTR_KERNEL_CACHE_OPERATION_GRAPH);
BERTRAND_SAME(kTypeHandle, CUDNN_TYPE_HANDLE);
BERTRAND_SAME(kTypeDataType, CUDNN_TYPE_DATA_TYPE);
BERTRAND_SAME(kTypeBoolean, CUDNN_TYPE_BOOLEAN);
BERTRAND_SAME(kTypeInt64, CUDNN_TYPE_INT64);
BERTRAND_SAME(kTypePointer, CUDNN_TYPE_VOID_PTR);
BERTRAND_SAME(kTypeHeuristicsMode, CUDNN_TYPE_HEUR_MODE);
BERTRAND_SAME(kTypeKnob, CUDNN_TYPE_KNOB_TYPE);
BERTRAND_SAME(kTypeNumericalNote, CUDNN_TYPE_NUMERICAL_NOTE);
BERTRAND_SAME(kTypePointwiseMode, CUDNN_TYPE_POINTWISE_MODE);
BERTRAND_SAME(kTypeDescriptor, CUDNN_TYPE_BACKEND_DESCRIPTOR);
BERTRAND_SAME(kTypeChar, CUDNN_TYPE_CHAR);
BERTRAND_SAME(kFloat, CUDNN_DATA_FLOAT);
BERTRAND_SAME(kHalf, CUDNN_DATA_HALF);
BERTRAND_SAME(kBFloat16, CUDNN_DATA_BFLOAT16);
BERTRAND_SAME(kAdd, CUDNN_POINTWISE_ADD);
BERTRAND_SAME(kGeluErf, CUDNN_POINTWISE_GELU_FWD);
BERTRAND_SAME(kFallback, CUDNN_HEUR_MODE_FALLBACK);
BERTRAND_SAME(kModeA, CUDNN_HEUR_MODE_A);
BERTRAND_SAME(kDownConvertInputs, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
BERTRAND_SAME(kReducedReduction, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION);
BERTRAND_SAME(kNondeterministic, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC);
#if CUDNN_VERSION >= 90800
BERTRAND_SAME(kDeviceProperties, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
BERTRAND_SAME(kHeuristicsDevice, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP);
BERTRAND_SAME(kPlanDevice, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP);
BERTRAND_SAME(kEngineDevice, CUDNN_ATTR_ENGINE_DEVICEPROP);
BERTRAND_SAME(kDeviceJson, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION);
#endif
#endif

// ---- An invented cuDNN ----

struct Attributes {
  int type = 0;
  bool finalized = false;
  std::map<int, std::string> bytes;  // by name
  std::vector<int64_t> Ints(int name) {
    std::vector<int64_t> values(bytes[name].size() / 8);
    std::memcpy(values.data(), bytes[name].data(), values.size() * 8);
    return values;
  }
  Attributes* At(int name, size_t index = 0) {
    Attributes* value = nullptr;
    std::memcpy(&value, bytes[name].data() + index * sizeof(value), sizeof(value));
    return value;
  }
};

struct Setting {
  int64_t engine;
  std::vector<int> notes;
  std::vector<std::pair<int, int64_t>> knobs;
};

// Functions are plain pointers, so there is one at a time.
struct Fake {
  size_t version = 92000;
  std::set<Attributes*> alive;
  std::vector<Setting> settings = {{7, {0}, {{24, 21}}}, {7, {0}, {{24, 22}}}};
  int64_t plan_bytes = 0;
  int refuse_type = -1;  // descriptors of this type are not finalised
  bool run_fails = false;
  int num_compiled = 0, num_runs = 0, num_heuristics = 0;
  void* stream = nullptr;
  std::vector<Attributes> runs;  // variant packs
  std::vector<int64_t> rows;     // of x, by run
  int handle_alive = 0;
};
Fake* fake = nullptr;

size_t SizeOfType(int type) {
  switch (type) {
    case cudnn::kTypeBoolean:
    case cudnn::kTypeChar:
      return 1;
    case cudnn::kTypeDataType:
    case cudnn::kTypeHeuristicsMode:
    case cudnn::kTypeKnob:
    case cudnn::kTypeNumericalNote:
    case cudnn::kTypePointwiseMode:
      return 4;
    default:
      return 8;
  }
}

constexpr cudnn::Status kNo = 3000;

cudnn::Status Create(cudnn::Handle* handle) {
  *handle = fake;
  ++fake->handle_alive;
  return cudnn::kSuccess;
}
cudnn::Status Destroy(cudnn::Handle) {
  --fake->handle_alive;
  return cudnn::kSuccess;
}
cudnn::Status SetStream(cudnn::Handle, void* stream) {
  fake->stream = stream;
  return cudnn::kSuccess;
}
cudnn::Status CreateDescriptor(int type, Descriptor* descriptor) {
  auto* attributes = new Attributes{type, false, {}};
  fake->alive.insert(attributes);
  *descriptor = attributes;
  return cudnn::kSuccess;
}
cudnn::Status DestroyDescriptor(Descriptor descriptor) {
  auto* attributes = static_cast<Attributes*>(descriptor);
  EXPECT_EQ(fake->alive.erase(attributes), 1u);
  delete attributes;
  return cudnn::kSuccess;
}
cudnn::Status SetAttribute(Descriptor descriptor, int name, int type, int64_t count,
                           const void* values) {
  auto* attributes = static_cast<Attributes*>(descriptor);
  EXPECT_FALSE(attributes->finalized);
  const auto size = static_cast<size_t>(count) * SizeOfType(type);
  attributes->bytes[name].assign(static_cast<const char*>(values), size);
  if (type != cudnn::kTypeDescriptor) return cudnn::kSuccess;
  for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
    EXPECT_TRUE(attributes->At(name, i)->finalized) << "attribute " << name;
  }
  return cudnn::kSuccess;
}
cudnn::Status Finalize(Descriptor descriptor) {
  auto* attributes = static_cast<Attributes*>(descriptor);
  if (attributes->type == fake->refuse_type) return kNo;
  if (attributes->type == cudnn::kEngine) {
    const int64_t index = attributes->Ints(cudnn::kEngineIndex)[0];
    const auto known = [&](const Setting& setting) { return setting.engine == index; };
    if (std::none_of(fake->settings.begin(), fake->settings.end(), known)) return kNo;
  }
  fake->num_compiled += attributes->type == cudnn::kExecutionPlan;
  fake->num_heuristics += attributes->type == cudnn::kEngineHeuristics;
  attributes->finalized = true;
  return cudnn::kSuccess;
}

// Settings are handed out by index, in descriptors that the caller has made.
cudnn::Status GetAttribute(Descriptor descriptor, int name, int type, int64_t most, int64_t* count,
                           void* values) {
  auto* attributes = static_cast<Attributes*>(descriptor);
  const auto give = [&](const auto& all) {
    *count = std::min<int64_t>(most, static_cast<int64_t>(all.size()));
    if (*count != 0) {
      std::memcpy(values, all.data(), static_cast<size_t>(*count) * SizeOfType(type));
    }
    return cudnn::kSuccess;
  };
  const auto setting = [&]() -> const Setting& {
    return fake->settings[static_cast<size_t>(attributes->Ints(-1)[0])];
  };
  const auto mark = [](Attributes* of, int key, int64_t value) {
    of->bytes[key].assign(reinterpret_cast<const char*>(&value), 8);
    of->finalized = true;
  };
  auto** const others = static_cast<Attributes**>(values);
  switch (name) {
    case cudnn::kHeuristicsResults:
      *count = static_cast<int64_t>(fake->settings.size()) + (most == 0 ? 3 : 0);
      for (int64_t i = 0; i < std::min(most, *count); ++i) mark(others[i], -1, i);
      return cudnn::kSuccess;
    case cudnn::kConfigEngine:
      *count = 1;
      mark(others[0], -1, attributes->Ints(-1)[0]);
      return cudnn::kSuccess;
    case cudnn::kEngineIndex:
      return give(std::vector<int64_t>{setting().engine});
    case cudnn::kEngineNumericalNotes:
      return give(setting().notes);
    case cudnn::kConfigKnobChoices:
      *count = std::min<int64_t>(most, static_cast<int64_t>(setting().knobs.size()));
      for (int64_t i = 0; i < *count; ++i) {
        mark(others[i], cudnn::kKnobType, setting().knobs[static_cast<size_t>(i)].first);
        mark(others[i], cudnn::kKnobValue, setting().knobs[static_cast<size_t>(i)].second);
      }
      return cudnn::kSuccess;
    case cudnn::kKnobType:
    case cudnn::kKnobValue:
      *count = 1;
      std::memcpy(values, attributes->bytes[name].data(), SizeOfType(type));
      return cudnn::kSuccess;
    case cudnn::kPlanWorkspaceBytes:
      return give(std::vector<int64_t>{fake->plan_bytes});
    default:
      return kNo;
  }
}

// The tensor of a plan's graph with this id.
Attributes* TensorOf(Attributes* plan, int64_t id) {
  Attributes* const graph =
      plan->At(cudnn::kPlanConfig)->At(cudnn::kConfigEngine)->At(cudnn::kEngineGraph);
  for (size_t i = 0; i < 3; ++i) {
    Attributes* const operation = graph->At(cudnn::kGraphOperations, i);
    EXPECT_TRUE(fake->alive.count(operation));
    for (const int name :
         {cudnn::kOperationMatmulA, cudnn::kOperationMatmulB, cudnn::kOperationMatmulC,
          cudnn::kOperationPointwiseX, cudnn::kOperationPointwiseB, cudnn::kOperationPointwiseY}) {
      if (!operation->bytes.contains(name)) continue;
      Attributes* const tensor = operation->At(name);
      EXPECT_TRUE(fake->alive.count(tensor));
      if (tensor->Ints(cudnn::kTensorId)[0] == id) return tensor;
    }
  }
  return nullptr;
}

cudnn::Status Execute(cudnn::Handle, Descriptor plan, Descriptor pack) {
  ++fake->num_runs;
  auto* attributes = static_cast<Attributes*>(pack);
  EXPECT_TRUE(attributes->finalized);
  fake->runs.push_back(*attributes);
  Attributes* const x = TensorOf(static_cast<Attributes*>(plan), 1);
  fake->rows.push_back(x->Ints(cudnn::kTensorDimensions)[1]);
  return fake->run_fails ? 5000 : cudnn::kSuccess;
}

class CudnnPlansTest : public testing::Test {
 protected:
  CudnnPlansTest() {
    fake = &fake_;
    functions_ = {[] { return fake->version; },
                  [](cudnn::Status) { return "a status"; },
                  [](char* message, size_t size) { std::strncpy(message, "why", size); },
                  Create,
                  Destroy,
                  SetStream,
                  CreateDescriptor,
                  DestroyDescriptor,
                  Finalize,
                  SetAttribute,
                  GetAttribute,
                  Execute};
  }
  ~CudnnPlansTest() override {
    plans_.reset();
    EXPECT_TRUE(fake_.alive.empty()) << fake_.alive.size() << " descriptors are left";
    EXPECT_EQ(fake_.handle_alive, 0);
  }
  void Open() { plans_ = std::move(CudnnPlans::Create(functions_, 1 << 20)).value(); }

  Fake fake_;
  cudnn::Functions functions_;
  std::unique_ptr<CudnnPlans> plans_;
  const CudnnShape shape_ = {128, 3072, 768, DType::kBFloat16};
  int memory_[5] = {};
  const CudnnOperands operands_ = {&memory_[0], &memory_[1], &memory_[2], &memory_[3], &memory_[4]};
};

TEST_F(CudnnPlansTest, RunsTheGraphOnTheStream) {
  Open();
  EXPECT_EQ(plans_->name(), "cuDNN 92000");
  const auto algorithms = plans_->Candidates(shape_, 4);
  ASSERT_TRUE(algorithms.ok()) << Message(algorithms.status());
  ASSERT_EQ(algorithms->size(), 2u);
  int stream = 0;
  ASSERT_TRUE(plans_->Run(shape_, (*algorithms)[1], operands_, &stream, false).ok());
  EXPECT_EQ(fake_.stream, &stream);
  ASSERT_EQ(fake_.runs.size(), 1u);
  Attributes& pack = fake_.runs[0];
  EXPECT_EQ(pack.Ints(cudnn::kPackIds), (std::vector<int64_t>{1, 2, 3, 4}));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(static_cast<void*>(pack.At(cudnn::kPackPointers, i)), &memory_[i]);
  }
  EXPECT_EQ(static_cast<void*>(pack.At(cudnn::kPackWorkspace)), operands_.workspace);
}

// What the graph says: shapes, strides, types, what is virtual, and the two operations after the
// product.
TEST_F(CudnnPlansTest, TheGraphIsWhatItShouldBe) {
  Open();
  const LibraryAlgorithm algorithm = (*plans_->Candidates(shape_, 1))[0];
  ASSERT_TRUE(plans_->Prepare(shape_, algorithm).ok());
  const auto is_plan = [](Attributes* of) { return of->type == cudnn::kExecutionPlan; };
  Attributes* const plan = *std::find_if(fake_.alive.begin(), fake_.alive.end(), is_plan);
  const auto expect = [&](int64_t id, std::vector<int64_t> dimensions, std::vector<int64_t> strides,
                          bool is_virtual) {
    Attributes* const tensor = TensorOf(plan, id);
    ASSERT_NE(tensor, nullptr) << id;
    EXPECT_EQ(tensor->Ints(cudnn::kTensorDimensions), dimensions) << id;
    EXPECT_EQ(tensor->Ints(cudnn::kTensorStrides), strides) << id;
    EXPECT_EQ(tensor->bytes[cudnn::kTensorVirtual], std::string(1, is_virtual ? 1 : 0)) << id;
    const char type = is_virtual ? cudnn::kFloat : cudnn::kBFloat16;
    EXPECT_EQ(tensor->bytes[cudnn::kTensorDataType][0], type) << id;
  };
  expect(1, {1, 128, 768}, {128 * 768, 768, 1}, false);
  expect(2, {1, 768, 3072}, {768 * 3072, 1, 768}, false);
  expect(3, {1, 1, 3072}, {3072, 3072, 1}, false);
  expect(4, {1, 128, 3072}, {128 * 3072, 3072, 1}, false);
  expect(5, {1, 128, 3072}, {128 * 3072, 3072, 1}, true);
  expect(6, {1, 128, 3072}, {128 * 3072, 3072, 1}, true);
  Attributes* const config = plan->At(cudnn::kPlanConfig);
  Attributes* const graph = config->At(cudnn::kConfigEngine)->At(cudnn::kEngineGraph);
  const auto mode = [&](size_t operation) {
    return graph->At(cudnn::kGraphOperations, operation)
        ->At(cudnn::kOperationPointwiseDescriptor)
        ->bytes[cudnn::kPointwiseMode][0];
  };
  EXPECT_EQ(mode(1), cudnn::kAdd);
  EXPECT_EQ(mode(2), cudnn::kGeluErf);
  EXPECT_EQ(graph->bytes[cudnn::kGraphDynamicShape], std::string(1, 1));
  Attributes* const knob = config->At(cudnn::kConfigKnobChoices);
  EXPECT_EQ(knob->bytes[cudnn::kKnobType][0], 24);
  EXPECT_EQ(knob->Ints(cudnn::kKnobValue)[0], 21);
}

TEST_F(CudnnPlansTest, EnginesOfOtherNumericsAndWithManyKnobsAreLeftOut) {
  fake_.settings = {{1, {0, cudnn::kDownConvertInputs}, {}},
                    {2, {cudnn::kReducedReduction}, {}},
                    {3, {cudnn::kNondeterministic}, {}},
                    {4, {0}, std::vector<std::pair<int, int64_t>>(8, {1, 1})},
                    {5, {0}, {{1, -1}}},
                    {6, {0}, {{1, int64_t{1} << 32}}},
                    {7, {0}, std::vector<std::pair<int, int64_t>>(7, {45, UINT32_MAX})},
                    {0, {}, {}}};
  Open();
  const auto algorithms = plans_->Candidates(shape_, 9);
  ASSERT_TRUE(algorithms.ok()) << Message(algorithms.status());
  ASSERT_EQ(algorithms->size(), 2u);
  for (const LibraryAlgorithm& algorithm : *algorithms) {
    EXPECT_NE(algorithm, LibraryAlgorithm{});
    EXPECT_TRUE(plans_->Prepare(shape_, algorithm).ok());
  }
  fake_.settings.resize(3);
  EXPECT_EQ(plans_->Candidates(shape_, 9).status().code(), absl::StatusCode::kUnimplemented);
}

// What was prepared or captured stays, the rest is bounded; nothing is made twice.
TEST_F(CudnnPlansTest, PlansAreKept) {
  Open();
  const LibraryAlgorithm algorithm = (*plans_->Candidates(shape_, 1))[0];
  ASSERT_TRUE(plans_->Prepare(shape_, algorithm).ok());
  const auto run = [&](int64_t m, bool captured) {
    CudnnShape other = shape_;
    other.m = m;
    ASSERT_TRUE(plans_->Run(other, algorithm, operands_, nullptr, captured).ok());
    EXPECT_EQ(fake_.rows.back(), m);
  };
  run(128, false);
  EXPECT_EQ(fake_.num_compiled, 1);
  run(200, true);
  for (int64_t m = 1000; m < 1200; ++m) run(m, false);
  EXPECT_EQ(plans_->num_plans(), 2 + CudnnPlans::kMostPassing);
  const int compiled = fake_.num_compiled;
  EXPECT_EQ(compiled, 202);
  run(128, false);
  run(200, false);
  run(1199, false);
  run(1136, false);  // the oldest that is left
  EXPECT_EQ(fake_.num_compiled, compiled);
  run(1000, false);
  EXPECT_EQ(fake_.num_compiled, compiled + 1);
  run(1136, true);  // it was used since others were: still there, and now for good
  EXPECT_EQ(fake_.num_compiled, compiled + 1);
  EXPECT_EQ(plans_->num_plans(), 3 + CudnnPlans::kMostPassing - 1);
  EXPECT_EQ(fake_.num_heuristics, 1);
}

TEST_F(CudnnPlansTest, WhatFailsIsAnErrorAndNotTriedAgain) {
  Open();
  const auto algorithms = *plans_->Candidates(shape_, 2);
  // A file's algorithm that is none.
  EXPECT_FALSE(plans_->Prepare(shape_, {1, 2, 3}).ok());
  EXPECT_FALSE(plans_->Prepare(shape_, {}).ok());
  EXPECT_FALSE(plans_->Prepare(shape_, {uint64_t{1} << 63 | 99}).ok());
  // A plan that cannot be made.
  fake_.refuse_type = cudnn::kExecutionPlan;
  const absl::Status refused = plans_->Prepare(shape_, algorithms[0]);
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(Message(refused), "a plan: a status, why");
  fake_.refuse_type = -1;
  EXPECT_EQ(plans_->Prepare(shape_, algorithms[0]), refused);
  EXPECT_EQ(plans_->Run(shape_, algorithms[0], operands_, nullptr, false), refused);
  EXPECT_EQ(fake_.num_runs, 0);
  // One that cannot be run: once, and no more. Others can.
  fake_.run_fails = true;
  EXPECT_FALSE(plans_->Run(shape_, algorithms[1], operands_, nullptr, false).ok());
  fake_.run_fails = false;
  EXPECT_FALSE(plans_->Run(shape_, algorithms[1], operands_, nullptr, false).ok());
  EXPECT_EQ(fake_.num_runs, 1);
  CudnnShape other = shape_;
  other.m = 64;
  EXPECT_TRUE(plans_->Run(other, algorithms[1], operands_, nullptr, false).ok());
  // One that wants more memory than there is.
  fake_.plan_bytes = (1 << 20) + 1;
  other.m = 65;
  EXPECT_EQ(plans_->Prepare(other, algorithms[0]).code(), absl::StatusCode::kUnimplemented);
}

TEST_F(CudnnPlansTest, AnOldVersionIsAnError) {
  fake_.version = 90400;
  const auto plans = CudnnPlans::Create(functions_, 0);
  EXPECT_EQ(Message(plans.status()), "cuDNN 90400, expected at least 90500");
}

// Two lanes: each finds its own stream when its work is started.
TEST_F(CudnnPlansTest, ThreadsTakeTurns) {
  Open();
  const LibraryAlgorithm algorithm = (*plans_->Candidates(shape_, 1))[0];
  std::vector<std::thread> threads;
  for (int64_t lane = 0; lane < 2; ++lane) {
    threads.emplace_back([&, lane] {
      CudnnShape shape = shape_;
      for (int i = 0; i < 200; ++i) {
        shape.m = lane * 100 + i;
        ASSERT_TRUE(plans_->Run(shape, algorithm, operands_, nullptr, false).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(fake_.num_runs, 400);
}

// ---- The real one ----

// An H100 as cuDNN describes one.
constexpr char kH100[] = R"({"deviceVer":900,"multiProcessorCount":132,"warpSize":32,
"maxSharedMemoryPerBlock":49152,"maxSharedMemoryPerBlockOptin":232448,
"reservedSharedMemoryPerBlock":1024,"maxRegistersPerSM":65536,"maxCtasPerSM":32,
"maxThreadsPerBlock":1024,"maxThreadsPerSM":2048,"regsPerBlock":65536,
"totalGlobalMem":85028765696,"smClockRateKHz":1980000,"l2CacheSize":52428800,
"maxBlockSize":[1024,1024,64],"memClockRateKHz":2619000,"memoryBusWidth":5120,
"maxGridSize":[2147483647,65535,65535],"supportCoopLaunch":1,"pciDeviceId":0,"isTccDriver":0,
"cudaDeviceId":0,"driverVer":13000,"deviceName":"NVIDIA H100 80GB HBM3"})";

TEST(CudnnTest, TheRealOneMakesPlansWithoutAGpu) {
  const auto functions = cudnn::LoadCudnn();
  if (!functions.ok()) GTEST_SKIP() << Message(functions.status());
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the library itself leaks";
#endif
  if (functions->cudnnGetVersion() < 90800) GTEST_SKIP() << "before version 9.8";
  auto made = CudnnPlans::CreateFor(*functions, kH100, size_t{32} << 20);
  if (!made.ok()) GTEST_SKIP() << Message(made.status());
  CudnnPlans& plans = **made;
  // Its other libraries may be absent, or libcuda.so.1, of which no function need work.
  const auto any = plans.Candidates({128, 3072, 768, DType::kFloat16}, 1);
  if (!any.ok()) GTEST_SKIP() << Message(any.status());
  for (const DType dtype : {DType::kFloat16, DType::kBFloat16}) {
    for (const auto& [n, k] : std::vector<std::pair<int64_t, int64_t>>{{3072, 768}, {4096, 1024}}) {
      for (const int64_t m : {1, 128, 4096, 12288, 5001}) {
        const CudnnShape shape = {m, n, k, dtype};
        const auto algorithms = plans.Candidates(shape, 4);
        ASSERT_TRUE(algorithms.ok()) << Message(algorithms.status());
        for (const LibraryAlgorithm& algorithm : *algorithms) {
          const absl::Status status = plans.Prepare(shape, algorithm);
          EXPECT_TRUE(status.ok()) << m << " " << n << " " << Message(status);
        }
        EXPECT_FALSE(plans.Prepare(shape, {uint64_t{1} << 63 | 9999}).ok());
        EXPECT_FALSE(plans.Run(shape, (*algorithms)[0], {}, nullptr, false).ok());
      }
    }
  }
}

}  // namespace
}  // namespace bertrand::gpu
