"""Message classes from a serialised descriptor, for the module that setup.py generates."""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def load(descriptor_set: bytes) -> dict[str, Any]:
    """Returns what protoc's module would hold: messages and enum values by name, DESCRIPTOR.

    descriptor_set is a FileDescriptorSet of one file without imports. The classes live in a pool
    of their own, so another copy of the same .proto in the process does no harm.
    """
    (proto,) = descriptor_pb2.FileDescriptorSet.FromString(descriptor_set).file
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(proto.SerializeToString())
    file = pool.FindFileByName(proto.name)
    names: dict[str, Any] = {"DESCRIPTOR": file}
    for name, message in file.message_types_by_name.items():
        names[name] = message_factory.GetMessageClass(message)
    for enum in file.enum_types_by_name.values():
        names.update((value.name, value.number) for value in enum.values)
    return names
