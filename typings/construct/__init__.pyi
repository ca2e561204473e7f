"""Stub of exactly what Onggi uses of construct."""

from collections.abc import Mapping
from typing import Any

class ConstructError(Exception): ...

class Construct:
    name: str
    def sizeof(self) -> int: ...
    def parse(self, data: bytes | bytearray | memoryview) -> Mapping[str, Any]: ...
    def build(self, obj: Mapping[str, Any]) -> bytes: ...
    def __rtruediv__(self, name: str) -> Construct: ...

class Struct(Construct):
    subcons: list[Construct]
    def __init__(self, *subcons: Construct) -> None: ...

def Const(value: int | bytes, subcon: Construct = ...) -> Construct: ...
def Bytes(length: int) -> Construct: ...

Int8ul: Construct
Int16ul: Construct
Int16sl: Construct
Int32ul: Construct
Int64ul: Construct
Int64sl: Construct
