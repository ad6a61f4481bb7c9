# tests/gpu/run and what it takes to a machine with a GPU. Its logic is tested here.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME gpu_run_test
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/gpu/run_test.py)
set_tests_properties(gpu_run_test PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
add_test(NAME gpu_readme_test
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/gpu/record.py --check-readme)
set_tests_properties(gpu_readme_test PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)

# The phases that need no PyTorch, over the emulator.
if(BERTRAND_PYTHON AND NOT BERTRAND_SANITIZE)
  add_test(NAME gpu_run_emulated_test
    COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/gpu/run --bundle ${CMAKE_BINARY_DIR}
      --out ${CMAKE_BINARY_DIR}/gpu-run-test --device emulated --quick --budget-scale 3
      --phases device,kernel_tests,server,kernel_benchmark)
  set_tests_properties(gpu_run_emulated_test PROPERTIES TIMEOUT 600
    ENVIRONMENT "PYTHON=${BERTRAND_PYTHON};PYTHONDONTWRITEBYTECODE=1")
endif()

if(BERTRAND_CUDA)
  # ./run gpu-bundle; gpu_kernel_benchmark where there is one.
  add_custom_target(gpu_bundle_programs)
  add_dependencies(gpu_bundle_programs bertrand-server bertrand bertrand_cuda forward_benchmark
    gpu_kernel_tests)
  if(TARGET gpu_kernel_benchmark)
    add_dependencies(gpu_bundle_programs gpu_kernel_benchmark)
  endif()
endif()
