# tests/gpu/run and what it takes to a machine with a GPU. Its logic is tested here.
find_package(Python3 REQUIRED COMPONENTS Interpreter)
add_test(NAME gpu_run_test
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/gpu/run_test.py)
set_tests_properties(gpu_run_test PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)
add_test(NAME gpu_readme_test
  COMMAND Python3::Interpreter ${CMAKE_CURRENT_SOURCE_DIR}/gpu/record.py --check-readme)
set_tests_properties(gpu_readme_test PROPERTIES ENVIRONMENT PYTHONDONTWRITEBYTECODE=1)

if(BERTRAND_CUDA)
  # ./run gpu-bundle; gpu_kernel_benchmark where there is one.
  add_custom_target(gpu_bundle_programs)
  add_dependencies(gpu_bundle_programs bertrand-server bertrand bertrand_cuda forward_benchmark
    gpu_kernel_tests)
  if(TARGET gpu_kernel_benchmark)
    add_dependencies(gpu_bundle_programs gpu_kernel_benchmark)
  endif()
endif()
