# SPDX-License-Identifier: Apache-2.0
# Compiler settings every target shares.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)

find_program(TRIREME_CCACHE ccache)
if(TRIREME_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${TRIREME_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${TRIREME_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${TRIREME_CCACHE})
endif()

# Contraction is off so that a value never depends on which copy of a loop the compiler chose to
# fuse; kernels that want FMA say so.
set(flags -Wall -Wextra -Werror -Wno-unused-parameter -Wno-missing-field-initializers
  -ffp-contract=off -fvisibility-inlines-hidden -ffile-prefix-map=${CMAKE_SOURCE_DIR}/=)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports impossible overflows inside its own std::string and std::vector at -O2.
  list(APPEND flags -Wno-restrict -Wno-stringop-overflow -Wno-array-bounds -Wno-maybe-uninitialized)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  list(APPEND flags -Wthread-safety)
endif()
add_compile_options("$<$<COMPILE_LANGUAGE:C,CXX>:${flags}>")
add_compile_options("$<$<COMPILE_LANGUAGE:CUDA>:--expt-relaxed-constexpr;-lineinfo;-Xcompiler=-Wall,-Wextra,-Werror,-Wno-unused-parameter,-Wno-missing-field-initializers>")
string(REPLACE "-O3" "-O2" CMAKE_CXX_FLAGS_RELEASE "${CMAKE_CXX_FLAGS_RELEASE}")

if(TRIREME_SANITIZE)
  add_compile_options(-fsanitize=${TRIREME_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${TRIREME_SANITIZE})
endif()
