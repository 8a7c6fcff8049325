"""The layers: imports point down only, and no GPU library is imported before a device is probed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = {
    "forge3d_core": ROOT / "forge3d_core",
    "forge3d_wgpu": ROOT / "backends/wgpu_backend/src/forge3d_wgpu",
    "forge3d_cuda": ROOT / "backends/cuda_backend/src/forge3d_cuda",
    "forge3d_conformance": ROOT / "conformance/src/forge3d_conformance",
}
GPU_LIBRARIES = {"wgpu", "cupy", "cupyx", "cupy_backends", "torch", "rendercanvas", "cuda", "pycuda", "numba"}
PUBLIC_CORE = {
    "driver",
    "deadline",
    "forking",
    "device",
    "errors",
    "protocols",
    "hookspecs",
    "units",
    "formats",
    "linear_texture",
}

# Lowest first; a module imports from its own layer or from below. What stands in no layer is above them all.
LAYERS = [
    {"cache_files", "concurrency", "errors", "forking", "printable"},
    {"arguments", "deadline"},
    {"dtypes", "units"},
    {"presentation"},
    {"protocols"},
    {"commands", "driver", "formats", "hookspecs", "linear_texture"},
    {"foreign", "lifetime"},
    {"memory", "timeline"},
    {"transfer"},
    {"readback", "ring"},
    {"pipeline"},
    {"cold", "compression", "placement", "pooling", "tiling"},
    {"trace"},
    {"device"},
    {"status"},
    {"plugins"},
    {"config"},
    {"selection"},
    {"host"},
    {"demo", "simulation"},
    {"cli", "__main__"},
]


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = modules()


@cache
def imports(path: Path, *, top_level: bool = False) -> tuple[str, ...]:
    """Return the full names that a module imports; ``top_level``: only when it is itself imported."""
    return tuple(_imports(path, top_level))


def _imports(path: Path, top_level: bool) -> Iterator[str]:
    queue: list[ast.AST] = [ast.parse(path.read_text())]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield full if full in MODULES else str(node.module)
        elif top_level and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if top_level and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        queue.extend(ast.iter_child_nodes(node))


def layer(module: str) -> int:
    room = module.split(".")[1] if "." in module else ""
    return next((height for height, rooms in enumerate(LAYERS) if room in rooms), len(LAYERS))


def of(package: str) -> list[str]:
    return [name for name in MODULES if name.split(".")[0] == package]


def test_there_is_something_to_check() -> None:
    assert len(of("forge3d_core")) > 20
    assert all(of(package) for package in SOURCES)


@pytest.mark.parametrize("module", of("forge3d_core"))
def test_the_core_points_down(module: str) -> None:
    for name in imports(MODULES[module]):
        assert name.split(".")[0] not in SOURCES.keys() - {"forge3d_core"}, f"{module} imports {name}"
        if name.split(".")[0] == "forge3d_core" and module != "forge3d_core":
            assert name != "forge3d_core", f"{module} imports the package that re-exports it"
            assert layer(name) <= layer(module), f"{module} imports {name}, which is above it"


@pytest.mark.parametrize("module", [*of("forge3d_wgpu"), *of("forge3d_cuda")])
def test_a_backend_imports_the_public_core_and_itself(module: str) -> None:
    own = module.split(".")[0]
    for name in imports(MODULES[module]):
        package, _, rest = name.partition(".")
        assert package not in {"forge3d_wgpu", "forge3d_cuda"} - {own}, f"{module} imports {name}"
        if package == "forge3d_core" and rest:
            assert rest.split(".")[0] in PUBLIC_CORE, f"{module} imports {name}, which is not public"


@pytest.mark.parametrize("module", of("forge3d_conformance"))
def test_the_suite_imports_protocols_and_errors(module: str) -> None:
    for name in imports(MODULES[module]):
        package, _, rest = name.partition(".")
        assert package not in {"forge3d_wgpu", "forge3d_cuda"}, f"{module} imports {name}"
        allowed = {"protocols", "errors", "printable"}
        if ".mutants.driver." in module:  # which spoils commands, and so takes them apart
            allowed |= {"driver", "formats"}
        if ".clauses.test_pipeline_" in module or module.endswith(".mutants.pipeline"):
            allowed |= {"pipeline"}  # which is what those test: the core's systems, over any device
        if ".speed." in module:  # which times the demo and the systems, and does the same by hand
            allowed |= {"demo", "pipeline", "pooling"}
        if package == "forge3d_core" and rest:
            assert rest.split(".")[0] in allowed, f"{module} imports {name}"


def loaded_with(module: str) -> set[str]:
    """Return everything that importing ``module`` imports, ours followed to its own imports."""
    seen: set[str] = set()
    queue = [module]
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            parents = [name.rsplit(".", n)[0] for n in range(1, name.count(".") + 1)]
            queue += [parent for parent in parents if parent in MODULES]
            if name in MODULES:
                queue += imports(MODULES[name], top_level=True)
    return seen


@pytest.mark.parametrize(
    "module", [*of("forge3d_core"), *of("forge3d_conformance"), "forge3d_wgpu.plugin", "forge3d_cuda.plugin"]
)
def test_no_gpu_library_is_imported_before_a_device_is_probed(module: str) -> None:
    """A backend's other modules may import their library: its plugin imports those when it probes."""
    libraries = {name for name in loaded_with(module) if name.split(".")[0] in GPU_LIBRARIES}
    assert not libraries, f"importing {module} imports {', '.join(sorted(libraries))}"


def test_the_check_can_fail() -> None:
    assert any(name.split(".")[0] == "wgpu" for name in loaded_with("forge3d_wgpu.driver"))


CIRCLES = {
    ("forge3d_conformance.bench", "forge3d_conformance.child"): "a child process makes a bench when asked",
    ("forge3d_conformance.outcome", "forge3d_conformance.session"): "the outcome of a session, for its type",
}
"""Imports to leave out of account, each with its reason. The list may only get shorter."""


def test_no_circles() -> None:
    """Late imports and those for types alone make a circle like any other."""
    graph = {name: {n for n in imports(path) if n in MODULES and n != name} for name, path in MODULES.items()}
    for one, other in CIRCLES:
        assert {one, other} <= graph[one] | graph[other], f"{one} and {other} are no circle any more"
        graph[other].discard(one)
        graph[one].discard(other)
    done: set[str] = set()

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, "a circle: " + " -> ".join((*trail[trail.index(name) :], name))
        if name not in done:
            for following in sorted(graph[name]):
                visit(following, (*trail, name))
            done.add(name)

    for name in graph:
        visit(name, ())


MAX_LINES = 350

LONG_MODULES = {
    "forge3d_conformance.clauses.test_fence": "to be split",
    "forge3d_conformance.mutants.fence_waits": "many small mutants of one clause",
}
"""Modules that are longer, each with its reason. The list may only get shorter."""

MAX_PARAMETERS = 6

PUBLIC = "a public call with its protocol's keywords"
MANY_PARAMETERS = {
    "forge3d_core.readback.pool.read": PUBLIC,
    "forge3d_core.cli.demo.demo": "a command and its options",
    "forge3d_core.cli.simulate.simulate": "a command and its options",
    "forge3d_core.cli.trace.trace": "a command and its options",
    "forge3d_conformance.commands.conformance.conformance": "a command and its options",
    "forge3d_conformance.commands.bench.bench": "a command and its options",
    "forge3d_core.plugins.registry.statuses": "a public call of keywords",
    "forge3d_core.demo.stream.shade_terrain": "a public call of keywords",
    "forge3d_core.pipeline.stream.stream": "a public call of keywords",
    "forge3d_core.tiling.process.process": "a public call of keywords",
    "forge3d_core.demo.hillshade._host": "a kernel's signature is its bindings",
    "forge3d_core.pipeline.raster._host_depth": "a kernel's signature is its bindings",
    "forge3d_core.pipeline.raster._host_shade": "a kernel's signature is its bindings",
    "forge3d_conformance.mutants.driver.layer.changing": "a defect for each call of a driver, by its name",
}
"""Functions that take more, each with its reason; the protocols are not asked. It may only get shorter."""


def test_no_module_is_long() -> None:
    lines = {name: len(path.read_text().splitlines()) for name, path in MODULES.items()}
    long = {name for name, count in lines.items() if count > MAX_LINES}
    assert long <= LONG_MODULES.keys(), f"more than {MAX_LINES} lines: {long - LONG_MODULES.keys()}"


def test_no_function_takes_many_parameters() -> None:
    many = set()
    for name, path in MODULES.items():
        if name.startswith("forge3d_core.protocols"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                taken = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if len([one for one in taken if one.arg not in ("self", "cls")]) > MAX_PARAMETERS:
                    many.add(f"{name}.{node.name}")
    assert many <= MANY_PARAMETERS.keys(), (
        f"more than {MAX_PARAMETERS} parameters: {many - MANY_PARAMETERS.keys()}"
    )


@pytest.mark.parametrize("module", [name for name, path in MODULES.items() if path.name == "__init__.py"])
def test_a_package_holds_imports_and_all(module: str) -> None:
    for node in ast.parse(MODULES[module].read_text()).body:
        documentation = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        names = isinstance(node, ast.Assign) and [ast.unparse(t) for t in node.targets] == ["__all__"]
        assert isinstance(node, (ast.Import, ast.ImportFrom)) or documentation or names, (
            f"{module}, line {node.lineno}: {ast.unparse(node)[:60]}"
        )


OWN_ROOMS = {
    "forge3d_wgpu": {
        "adapters",
        "groups",
        "guard",
        "native",
        "opengl",
        "params",
        "recording",
        "rendering",
        "sharing",
        "signals",
        "workgroup",
    },
    "forge3d_cuda": {"current", "graphs", "handles"},
}
"""What only one of the two APIs makes necessary."""


def test_the_two_backends_have_the_same_rooms() -> None:
    rooms = [
        {name.partition(".")[2] for name in of(package)} - {"subject"} - OWN_ROOMS[package]
        for package in ("forge3d_wgpu", "forge3d_cuda")
    ]
    assert rooms[0] == rooms[1]
