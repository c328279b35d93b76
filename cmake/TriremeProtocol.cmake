# SPDX-License-Identifier: Apache-2.0
# trireme_protocol: the messages and services of src/server/protocol, generated and compiled. It and
# the module `server` are the only ones that link protobuf and gRPC.
#
# TRIREME_GRPC=OFF leaves the gRPC frontend out: the default of the one-file build, because Debian's
# static gRPC needs static forms of libraries that Debian does not ship.
set(grpc_default ON)
if(TRIREME_ONE_FILE)
  set(grpc_default OFF)
endif()
option(TRIREME_GRPC "The gRPC frontend of the server" ${grpc_default})

set(Protobuf_USE_STATIC_LIBS ${TRIREME_ONE_FILE})
find_package(Protobuf REQUIRED)

set(protocol_folder ${PROJECT_SOURCE_DIR}/src/server/protocol)
set(generated ${CMAKE_BINARY_DIR}/generated/protocol)
file(MAKE_DIRECTORY ${generated})
set(protocol_names model_config)
set(protocol_sources)
if(TRIREME_GRPC)
  find_package(Threads REQUIRED)
  find_package(gRPC CONFIG REQUIRED)
  list(APPEND protocol_names grpc_service health)
  foreach(name grpc_service health)
    add_custom_command(
      OUTPUT ${generated}/${name}.grpc.pb.cc ${generated}/${name}.grpc.pb.h
      COMMAND protobuf::protoc --grpc_out=${generated} -I ${protocol_folder}
        --plugin=protoc-gen-grpc=$<TARGET_FILE:gRPC::grpc_cpp_plugin> ${name}.proto
      DEPENDS ${protocol_folder}/${name}.proto ${protocol_folder}/model_config.proto
      VERBATIM)
    list(APPEND protocol_sources ${generated}/${name}.grpc.pb.cc)
  endforeach()
endif()
foreach(name ${protocol_names})
  add_custom_command(
    OUTPUT ${generated}/${name}.pb.cc ${generated}/${name}.pb.h
    COMMAND protobuf::protoc --cpp_out=${generated} -I ${protocol_folder} ${name}.proto
    DEPENDS ${protocol_folder}/${name}.proto ${protocol_folder}/model_config.proto
    VERBATIM)
  list(APPEND protocol_sources ${generated}/${name}.pb.cc)
endforeach()
add_library(trireme_protocol STATIC ${protocol_sources})
target_include_directories(trireme_protocol SYSTEM PUBLIC ${generated})
target_link_libraries(trireme_protocol PUBLIC protobuf::libprotobuf)
if(TRIREME_GRPC)
  target_link_libraries(trireme_protocol PUBLIC gRPC::grpc++)
endif()
# Generated code has its own idea of warnings, and -O2 would only cost time.
target_compile_options(trireme_protocol PRIVATE -w -O1)
