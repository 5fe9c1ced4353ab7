"""A module made of a description of bindings: unknown names, wrong arguments and forbidden writes raise there."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any


class Member:
    """A value of an enumeration: a number only when asked, equal to itself alone."""

    def __init__(self, owner: str, name: str, value: int) -> None:
        self.owner, self.name, self.value = owner, name, value

    def __int__(self) -> int:
        return self.value

    def __repr__(self) -> str:
        return f"{self.owner}.{self.name}"


class Enumeration:
    """An enumeration whose unknown members raise AttributeError."""

    def __init__(self, module: Bindings, name: str, values: dict[str, int]) -> None:
        self._module, self._name = module, name
        self._members = {key: Member(name, key, value) for key, value in values.items()}

    def __getattr__(self, name: str) -> Member:
        members: dict[str, Member] = object.__getattribute__(self, "_members")
        if name not in members:
            raise AttributeError(f"type object '{self._name}' has no attribute '{name}'")
        self._module.used.add(f"{self._name}.{name}")
        return members[name]


class Guard:
    """An object of the module: the described names, over a piece of behaviour."""

    def __init__(self, module: Bindings, kind: str, behaviour: Any) -> None:
        for name, value in (("_module", module), ("_kind", kind), ("_behaviour", behaviour)):
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Any:
        module, kind = self._module, self._kind
        spec = module.api["classes"][kind]
        if name in spec["properties"]:
            module.used.add(f"{kind}.{name}")
            return getattr(self._behaviour, name)
        if name not in spec["methods"]:
            raise AttributeError(f"'{kind}' object of TensorRT {module.__version__} has no attribute '{name}'")
        module.used.add(f"{kind}.{name}")
        return module.checked(kind, name, getattr(self._behaviour, name))

    def __setattr__(self, name: str, value: Any) -> None:
        writable = self._module.api["classes"][self._kind]["properties"].get(name)
        if writable != "rw":
            raise AttributeError(f"property '{name}' of '{self._kind}' cannot be set ({writable or 'absent'})")
        self._module.used.add(f"{self._kind}.{name}")
        setattr(self._behaviour, name, value)


class Bindings(types.ModuleType):
    """A module of described enumerations and classes.

    Attributes:
        used: dotted names that were looked up.
    """

    def __init__(self, name: str, api: dict[str, Any]) -> None:
        super().__init__(name)
        self.__version__ = ""
        self.api = api
        self.used: set[str] = set()
        self.enums = {owner: Enumeration(self, owner, values) for owner, values in api["enums"].items()}

    def base(self, kind: str) -> type:
        """A class to be subclassed; its methods are pure virtual."""
        module, names = self, self.api["classes"][kind]["methods"]

        def initialise(instance: Any) -> None:
            module.used.add(f"{kind}.__init__")
            instance.initialised = True

        body: dict[str, Any] = {"__init__": initialise, "initialised": False}
        for name in names:
            if not name.startswith("__") and name[0].islower():
                body[name] = _pure_virtual(kind, name)
        return type(kind, (), body)

    def call(self, instance: Any, kind: str, name: str, *arguments: Any) -> Any:
        """Call an overridden method as the library does: by position."""
        if not instance.initialised:
            raise TypeError(f"{kind}.__init__() must be called when overriding __init__")
        if name not in self.api["classes"][kind]["methods"]:
            raise AttributeError(f"{kind} has no method {name}")
        self.used.add(f"{kind}.{name}")
        return getattr(instance, name)(*arguments)

    def checked(self, kind: str, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function behind a check of its arguments against the described signatures."""
        signatures = self.api["classes"][kind]["methods"][name]

        def call(*arguments: Any, **keywords: Any) -> Any:
            if not any(self._fits(signature, arguments, keywords) for signature in signatures):
                raise TypeError(f"{kind}.{name}{arguments}: incompatible function arguments; {signatures}")
            return function(*arguments, **keywords)

        return call

    def _fits(self, signature: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> bool:
        parameters = parse_signature(signature)
        if len(arguments) > len(parameters):
            return False
        given = {parameter[0]: value for parameter, value in zip(parameters, arguments, strict=False)}
        if set(given) & set(keywords) or not set(keywords) <= {parameter[0] for parameter in parameters}:
            return False
        given |= keywords
        return all(
            self._of_type(given[name], annotation) if name in given else optional
            for name, annotation, optional in parameters
        )

    def _of_type(self, value: Any, annotation: str) -> bool:
        if annotation in self.api["enums"]:
            return isinstance(value, Member) and value.owner == annotation
        if isinstance(self.__dict__.get(annotation), type):  # a class to be subclassed
            return isinstance(value, self.__dict__[annotation]) and value.initialised
        if annotation == "Dims":
            return isinstance(value, tuple | list) and all(type(side) is int for side in value)
        if annotation in self.api["classes"]:
            return isinstance(value, Guard) and value._kind == annotation
        simple = {"str": str, "bool": bool, "tuple": tuple, "list": list}
        if annotation in simple:
            return isinstance(value, simple[annotation])
        if annotation == "typing.SupportsInt":
            return hasattr(value, "__int__") and not isinstance(value, Member)
        if annotation == "typing_extensions.Buffer":
            return isinstance(value, bytes | bytearray | memoryview)
        return annotation not in ("IStreamReader", "IStreamReaderV2", "IRuntimeConfig")


def parse_signature(signature: str) -> list[tuple[str, str, bool]]:
    """(name, annotation, optional) of each parameter after ``self``."""
    inside = signature[signature.index("(") + 1 : signature.rindex(")")]
    parts, depth, current = [], 0, ""
    for character in inside + ",":
        depth += character in "([<" or -(character in ")]>")
        if character == "," and depth == 0:
            parts.append(current.strip())
            current = ""
        else:
            current += character
    found = []
    for part in parts[1:]:
        name, _, rest = part.partition(":")
        annotation, equals, _ = rest.partition(" = ")
        found.append((name.strip(), annotation.strip(), bool(equals)))
    return found


def _pure_virtual(kind: str, name: str) -> Callable[..., Any]:
    def method(*arguments: Any) -> Any:
        raise RuntimeError(f'Tried to call pure virtual function "{kind}::{name}"')

    return method
