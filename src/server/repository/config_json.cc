// SPDX-License-Identifier: Apache-2.0
#include "server/repository/config_json.h"

#include <nlohmann/json.hpp>

namespace trireme::server {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using Json = nlohmann::ordered_json;

Json MessageJson(const Message& message);

// A field's value; `index` counts in repeated fields and is -1 in others.
Json ValueJson(const Message& message, const FieldDescriptor* field, int index) {
  const Reflection* r = message.GetReflection();
  const auto get = [&](auto single, auto repeated) -> Json {
    return index < 0 ? Json((r->*single)(message, field))
                     : Json((r->*repeated)(message, field, index));
  };
  switch (field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      return get(&Reflection::GetInt32, &Reflection::GetRepeatedInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return get(&Reflection::GetInt64, &Reflection::GetRepeatedInt64);
    case FieldDescriptor::CPPTYPE_UINT32:
      return get(&Reflection::GetUInt32, &Reflection::GetRepeatedUInt32);
    case FieldDescriptor::CPPTYPE_UINT64:
      return get(&Reflection::GetUInt64, &Reflection::GetRepeatedUInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return get(&Reflection::GetDouble, &Reflection::GetRepeatedDouble);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return get(&Reflection::GetFloat, &Reflection::GetRepeatedFloat);
    case FieldDescriptor::CPPTYPE_BOOL:
      return get(&Reflection::GetBool, &Reflection::GetRepeatedBool);
    case FieldDescriptor::CPPTYPE_STRING:
      return get(&Reflection::GetString, &Reflection::GetRepeatedString);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value =
          index < 0 ? r->GetEnum(message, field) : r->GetRepeatedEnum(message, field, index);
      return value->name();
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return MessageJson(index < 0 ? r->GetMessage(message, field)
                                   : r->GetRepeatedMessage(message, field, index));
  }
  return nullptr;
}

Json MapJson(const Message& message, const FieldDescriptor* field) {
  Json object = Json::object();
  const Reflection* reflection = message.GetReflection();
  for (int i = 0; i < reflection->FieldSize(message, field); ++i) {
    const Message& entry = reflection->GetRepeatedMessage(message, field, i);
    const Json key = ValueJson(entry, entry.GetDescriptor()->map_key(), -1);
    object[key.is_string() ? key.get<std::string>() : key.dump()] =
        ValueJson(entry, entry.GetDescriptor()->map_value(), -1);
  }
  return object;
}

Json MessageJson(const Message& message) {
  Json object = Json::object();
  const Reflection* reflection = message.GetReflection();
  const auto* descriptor = message.GetDescriptor();
  for (int i = 0; i < descriptor->field_count(); ++i) {
    const FieldDescriptor* field = descriptor->field(i);
    if (field->is_map()) {
      object[field->name()] = MapJson(message, field);
    } else if (field->is_repeated()) {
      Json list = Json::array();
      for (int k = 0; k < reflection->FieldSize(message, field); ++k) {
        list.push_back(ValueJson(message, field, k));
      }
      object[field->name()] = std::move(list);
    } else if (!field->has_presence() || reflection->HasField(message, field)) {
      object[field->name()] = ValueJson(message, field, -1);
    }
  }
  return object;
}

}  // namespace

std::string ConfigJson(const Message& message) {
  return MessageJson(message).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace trireme::server
