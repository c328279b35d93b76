# SPDX-License-Identifier: Apache-2.0
# Third-party libraries, one place. Header-only forms are used where they exist, so that the
# one-file build needs only libc and libstdc++.
find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)
find_package(Boost 1.81 REQUIRED)
set(ZLIB_USE_STATIC_LIBS ${TRIREME_ONE_FILE})
find_package(ZLIB REQUIRED)

add_library(trireme_fmt INTERFACE)
get_target_property(fmt_includes fmt::fmt-header-only INTERFACE_INCLUDE_DIRECTORIES)
target_include_directories(trireme_fmt SYSTEM INTERFACE ${fmt_includes})
add_library(trireme_spdlog INTERFACE)
# Not spdlog::spdlog_header_only: that one links the shared libfmt.
get_target_property(spdlog_includes spdlog::spdlog_header_only INTERFACE_INCLUDE_DIRECTORIES)
target_include_directories(trireme_spdlog SYSTEM INTERFACE ${spdlog_includes})
target_compile_definitions(trireme_spdlog INTERFACE SPDLOG_FMT_EXTERNAL)
target_link_libraries(trireme_spdlog INTERFACE trireme_fmt)

add_library(trireme_pcre2 INTERFACE)
find_path(PCRE2_INCLUDE_DIR pcre2.h REQUIRED)
find_library(PCRE2_STATIC libpcre2-8.a REQUIRED)
target_include_directories(trireme_pcre2 SYSTEM INTERFACE ${PCRE2_INCLUDE_DIR})
target_link_libraries(trireme_pcre2 INTERFACE ${PCRE2_STATIC})
target_compile_definitions(trireme_pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8 PCRE2_STATIC)

if(TRIREME_TESTS)
  find_package(GTest REQUIRED)
endif()
