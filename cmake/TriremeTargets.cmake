# SPDX-License-Identifier: Apache-2.0
# trireme_module(NAME DEPS a b ... LIBS x y ...)
#
# One static library per folder of src/: every *.cc of the folder, less the tests, benchmarks and
# fuzzers, which become NAME_test (one gtest program), NAME_bench and one program per *_fuzz.cc.
# Folders named cuda/ are left out of a build without CUDA; their tests and benchmarks need a GPU to
# run and make up the programs gpu_test and gpu_bench (trireme_gpu_programs).
# A source named *_avx2.cc, *_avx512.cc or *_amx.cc is compiled for that instruction set; nothing
# outside such files may assume more than x86-64.
set(TRIREME_ISA_AVX2 -mavx2 -mfma -mf16c -mbmi2)
set(TRIREME_ISA_AVX512 ${TRIREME_ISA_AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni
  -mavx512bf16 -mavx512vbmi -mprefer-vector-width=512)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 warns about the deliberately undefined operands inside its own AVX-512 intrinsics.
  list(APPEND TRIREME_ISA_AVX512 -Wno-uninitialized)
endif()
set(TRIREME_ISA_AMX ${TRIREME_ISA_AVX512} -mamx-tile -mamx-bf16 -mamx-int8)

function(trireme_set_isa_flags)
  foreach(source ${ARGN})
    if(source MATCHES "_avx2\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${TRIREME_ISA_AVX2}")
    elseif(source MATCHES "_avx512\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${TRIREME_ISA_AVX512}")
    elseif(source MATCHES "_amx\\.cc$")
      set_source_files_properties(${source} PROPERTIES COMPILE_OPTIONS "${TRIREME_ISA_AMX}")
    endif()
  endforeach()
endfunction()

# tests/source_path.h. Programs that are carried to a GPU machine run from the repository's root.
if(TRIREME_TESTS)
  foreach(kind source_path carried_source_path)
    add_library(trireme_${kind} STATIC ${PROJECT_SOURCE_DIR}/tests/source_path.cc)
    target_include_directories(trireme_${kind} PUBLIC ${PROJECT_SOURCE_DIR})
  endforeach()
  target_compile_definitions(trireme_source_path PRIVATE TRIREME_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  target_compile_definitions(trireme_carried_source_path PRIVATE TRIREME_SOURCE_DIR=".")
endif()

# trireme_add_test(NAME PROGRAM ARGUMENT...): a ctest test that leaves its gtest report where
# scripts/count_tests looks for it. Every add_test of the project goes through here.
function(trireme_add_test name)
  add_test(NAME ${name} COMMAND ${ARGN})
  set_tests_properties(${name} PROPERTIES
    ENVIRONMENT "GTEST_OUTPUT=json:${CMAKE_BINARY_DIR}/test-results/${name}.json")
endfunction()

# The cuda/ folder of a module becomes trireme_NAME_cuda. It sees the module and the CUDA headers;
# the module's own files see neither, so that they compile alike with CUDA and without.
function(trireme_cuda_part name)
  set(sources ${ARGN})
  set(programs ${sources})
  list(FILTER programs INCLUDE REGEX "_(test|bench|main)\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|main)\\.cc$")
  set_property(GLOBAL APPEND PROPERTY TRIREME_GPU_SOURCES ${programs})
  if(sources)
    add_library(trireme_${name}_cuda STATIC ${sources})
    target_link_libraries(trireme_${name}_cuda PUBLIC trireme_${name} CUDA::cudart_static)
    target_link_libraries(trireme_${name} INTERFACE $<LINK_ONLY:trireme_${name}_cuda>)
    set_property(GLOBAL APPEND PROPERTY TRIREME_MODULES trireme_${name}_cuda)
  endif()
endfunction()

function(trireme_module name)
  cmake_parse_arguments(ARG "" "" "DEPS;LIBS;TEST_DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/*.cc)
  file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${name}/cuda/*.cc
    ${CMAKE_CURRENT_SOURCE_DIR}/${name}/cuda/*.cu)
  list(FILTER sources EXCLUDE REGEX "/cuda/")
  set(tests ${sources})
  set(benches ${sources})
  set(fuzzers ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "_bench\\.cc$")
  list(FILTER fuzzers INCLUDE REGEX "_fuzz\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(test|bench|fuzz)\\.cc$")
  list(TRANSFORM ARG_DEPS PREPEND trireme_ OUTPUT_VARIABLE deps)
  list(TRANSFORM ARG_TEST_DEPS PREPEND trireme_ OUTPUT_VARIABLE test_deps)

  if(sources)
    trireme_set_isa_flags(${sources})
    add_library(trireme_${name} STATIC ${sources})
    set(scope PUBLIC)
  else()
    add_library(trireme_${name} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(trireme_${name} ${scope} ${PROJECT_SOURCE_DIR}/src
    ${PROJECT_SOURCE_DIR}/include)
  target_link_libraries(trireme_${name} ${scope} ${deps} ${ARG_LIBS} Threads::Threads)
  if(TRIREME_CUDA_FOUND AND cuda_sources)
    trireme_cuda_part(${name} ${cuda_sources})
  endif()
  set_property(GLOBAL APPEND PROPERTY TRIREME_MODULES trireme_${name})

  if(TRIREME_TESTS AND tests)
    add_executable(${name}_test ${tests})
    target_link_libraries(${name}_test PRIVATE trireme_${name} ${test_deps} trireme_source_path
      GTest::gmock_main)
    trireme_add_test(${name} ${name}_test)
  endif()
  if(TRIREME_BENCHMARKS AND benches)
    find_package(benchmark REQUIRED)
    add_executable(${name}_bench ${benches})
    target_link_libraries(${name}_bench PRIVATE trireme_${name} ${test_deps} benchmark::benchmark_main)
  endif()
  if(TRIREME_FUZZERS)
    foreach(fuzzer ${fuzzers})
      get_filename_component(target ${fuzzer} NAME_WE)
      add_executable(${target} ${fuzzer})
      target_link_libraries(${target} PRIVATE trireme_${name} -fsanitize=fuzzer)
    endforeach()
  endif()
endfunction()

# gpu_test (gtest) and gpu_bench: the *_test.cc and *_bench.cc of every cuda/ folder. Built like the
# rest, run by hand on a GPU machine: ctest does not know them.
function(trireme_gpu_programs)
  get_property(sources GLOBAL PROPERTY TRIREME_GPU_SOURCES)
  set(tests ${sources})
  set(benches ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cc$")
  list(FILTER benches INCLUDE REGEX "(_bench|/bench_main)\\.cc$")
  if(tests)
    find_package(GTest REQUIRED)
    add_executable(gpu_test ${tests})
    target_link_libraries(gpu_test PRIVATE trireme_kernels_cuda GTest::gmock_main)
  endif()
  if(benches)
    add_executable(gpu_bench ${benches})
    target_link_libraries(gpu_bench PRIVATE trireme_kernels_cuda)
  endif()
endfunction()
