"""The part of Triton's ``ModelConfig`` message that gloam writes, for its text form; `make check` takes all of it."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

DATA_TYPES = ("TYPE_INVALID", "TYPE_UINT8", "TYPE_INT32", "TYPE_INT64", "TYPE_FP32")
# Fields by message: name, type, whether repeated. In the text form numbers are no matter.
MESSAGES: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "Reshape": (("shape", "int64", True),),
    "Tensor": (
        ("name", "string", False),
        ("data_type", "DataType", False),
        ("dims", "int64", True),
        ("reshape", "Reshape", False),
    ),
    "Batching": (),
    "Parameter": (("string_value", "string", False),),
    "Entry": (("key", "string", False), ("value", "Parameter", False)),
    "ModelConfig": (
        ("name", "string", False),
        ("backend", "string", False),
        ("default_model_filename", "string", False),
        ("max_batch_size", "int32", False),
        ("input", "Tensor", True),
        ("output", "Tensor", True),
        ("dynamic_batching", "Batching", False),
        ("parameters", "Entry", True),
    ),
}


def model_config() -> Any:
    """An empty message, with ``parameters`` as a map as Triton has it."""
    kinds = descriptor_pb2.FieldDescriptorProto
    plain = {"string": kinds.TYPE_STRING, "int32": kinds.TYPE_INT32, "int64": kinds.TYPE_INT64}
    file = descriptor_pb2.FileDescriptorProto(name="triton.proto", package="triton", syntax="proto3")
    enum = file.enum_type.add(name="DataType")
    for number, name in enumerate(DATA_TYPES):
        enum.value.add(name=name, number=number)
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, (field, kind, repeated) in enumerate(fields, 1):
            made = message.field.add(name=field, number=number)
            made.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in plain:
                made.type = plain[kind]
            else:
                made.type = kinds.TYPE_ENUM if kind == "DataType" else kinds.TYPE_MESSAGE
                made.type_name = f".triton.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("triton.ModelConfig"))()
