"""The size of a workgroup: the source tells us and the shader tells the device, and they must agree.

What the attribute says may be any constant expression: of other constants, overrides, shifts. The compiler
alone evaluates those, and wgpu-native has no way to ask it. So it is asked by ``const_assert``, in a module
of its own: the shader with its overrides as the constants that they are here, as no pipeline sets any.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from forge3d_core.errors import KernelError
from forge3d_core.protocols import KernelSource
from forge3d_wgpu.errors import NativeErrors

_COMMENT = re.compile(r"//[^\n\v\f\r\x85\u2028\u2029]*|/\*|\*/")
_BLANK = r"[\s\u200e\u200f]"  # WGSL, "Blankspace and Line Breaks"
_ATTRIBUTE = re.compile(rf"@{_BLANK}*(\w+){_BLANK}*(\(?)")
_OVERRIDE = re.compile(rf"(@{_BLANK}*id{_BLANK}*\([^)]*\){_BLANK}*)?\boverride\b")
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]*)[iu]?")
_BRACKETS = {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}


def check_workgroup(device: Any, source: KernelSource, code: str) -> None:
    """Raise :class:`KernelError` unless the entry point has workgroups of ``source.workgroup``.

    To be called with code that compiles, as it raises for anything that it cannot make out.
    """
    plain = without_comments(code)
    arguments = _arguments_of(source.name, plain)
    if arguments is None:
        raise KernelError(
            f"kernel {source.name!r}: no @workgroup_size was found before 'fn {source.name}'; write the "
            "attribute in front of the function"
        )
    sizes = list(_split(source.name, arguments))
    wanted = source.workgroup
    disagreement = KernelError(
        f"kernel {source.name!r} declares @workgroup_size({arguments.strip()}) and its KernelSource "
        f"workgroup={wanted}; make them the same"
    )
    if all(_DECIMAL.fullmatch(size) for size in sizes):
        declared = [int(size.rstrip("iu")) for size in sizes]
        if (*declared, *[1] * (3 - len(declared))) != wanted:
            raise disagreement
        return
    if any(size != 1 for size in wanted[len(sizes) :]):
        raise disagreement
    module = _OVERRIDE.sub("const", plain)
    try:
        _ask(device, source, module, [f"{n} == ({size})" for n, size in zip(wanted, sizes, strict=False)])
    except KernelError:
        _ask(
            device, source, module, [f"0 < ({size})" for size in sizes]
        )  # which says what is wrong with them
        raise disagreement from None


def without_comments(code: str) -> str:
    """Return WGSL with a space for each comment; block comments nest."""
    kept, depth, at = [], 0, 0
    while found := _COMMENT.search(code, at):
        mark = found[0]
        if depth == 0:
            kept += [code[at : found.start()], " "]
        if mark == "/*":
            depth += 1
        elif mark == "*/":
            depth = max(0, depth - 1)
        elif depth:  # "//" means nothing within a block comment
            at = found.start() + 2
            continue
        at = found.end()
    return "".join([*kept, code[at:] if depth == 0 else ""])


def _ask(device: Any, source: KernelSource, module: str, conditions: Iterable[str]) -> None:
    """Raise :class:`KernelError` unless the compiler finds that each condition holds."""
    doing = f"working out the workgroup size of kernel {source.name!r}, which has to be a constant"
    asserted = "\n".join(f"const_assert {condition};" for condition in conditions)
    with NativeErrors(doing, KernelError):
        device.create_shader_module(label=source.name, code=f"{module}\n{asserted}")


def _arguments_of(name: str, code: str) -> str | None:
    """Return what stands between the brackets of ``@workgroup_size`` of the function ``name``."""
    blank = re.compile(f"{_BLANK}*")
    entry = re.compile(rf"{_BLANK}*fn{_BLANK}+{re.escape(name)}(?!\w)")
    at, arguments = 0, None
    while found := _ATTRIBUTE.search(code, at):
        if not blank.fullmatch(code, at, found.start()):
            arguments = None  # something else stood between: this is an attribute of the next thing
        at = found.end()
        if found[2]:
            closed = _closing(code, at)
            if found[1] == "workgroup_size":
                arguments = code[at : closed - 1]
            at = closed
        if arguments is not None and entry.match(code, at):
            return arguments
    return None


def _closing(code: str, at: int) -> int:
    """Return where the bracket that was opened before ``at`` has been closed."""
    depth = 1
    while depth and at < len(code):
        depth += _BRACKETS.get(code[at], 0)
        at += 1
    return at


def _split(name: str, arguments: str) -> Iterator[str]:
    """Yield the arguments, which commas separate outside of all brackets."""
    depth, start = 0, 0
    text = arguments.strip().removesuffix(",")
    shifts = re.sub("<<|>>|<=|>=", "", text)
    if "," in text and ("<" in shifts or ">" in shifts):
        raise KernelError(
            f"kernel {name!r}: @workgroup_size({text}) is more than can be taken apart here; give the sizes "
            "names with 'const' declarations, and use those"
        )
    for at, character in enumerate(text):
        depth += _BRACKETS.get(character, 0)
        if character == "," and depth == 0:
            yield text[start:at].strip()
            start = at + 1
    yield text[start:].strip()
