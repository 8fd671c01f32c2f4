"""The walls of the house: who may import whom, what the core may not touch, and what is shipped."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import os
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import p2pml

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = {
    "p2pml.gossip": ROOT / "p2pml" / "gossip",
    "p2pml.ensemble": ROOT / "p2pml" / "ensemble",
    "p2pml.peer": ROOT / "peer",
    "p2pml.cli": ROOT / "cli",
    "p2pml.simulations": ROOT / "simulations",
}
OUTSIDE = ("peer", "cli", "simulations")
"""Rooms whose folders stand at the top of the repository."""

ARROWS = {
    "p2pml.gossip": set(),
    "p2pml.ensemble": set(),
    "p2pml.peer": {"p2pml.gossip", "p2pml.ensemble"},
    "p2pml.cli": {"p2pml.peer", "p2pml.simulations", "p2pml.gossip", "p2pml.ensemble"},
    # The peer for the layer that runs whole daemons in virtual time.
    "p2pml.simulations": {"p2pml.gossip", "p2pml.ensemble", "p2pml.peer"},
}
"""Which rooms a room may import, those below the end of an arrow among them; p2pml.errors is below them all."""

LIBRARIES = {
    "p2pml.gossip": {"msgpack"},
    "p2pml.ensemble": {"msgpack", "msgspec", "numpy", "onnx", "onnxruntime", "scipy", "sklearn"},
    "p2pml.simulations": {"distributed", "msgpack", "numpy", "structlog"},
}
"""What else a room may import beside the standard library, where that is limited."""

IO = {
    "asyncio", "concurrent", "fcntl", "http", "io", "mmap", "multiprocessing", "os", "pathlib", "select",
    "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "tempfile",
    "threading", "urllib", "_thread", "logging",
}  # fmt: skip
CLOCKS = {"time", "sched", "secrets", "uuid"}
"""Where a time, or a chance that no seed repeats, could come in."""


@dataclass(frozen=True)
class Import:
    """One imported module, with the names that are taken from it, and where that is written."""

    module: str
    names: tuple[str, ...]
    relative: bool
    where: str


def sources(room: str) -> list[Path]:
    return sorted(FOLDERS[room].rglob("*.py"))


def imports(room: str) -> Iterator[Import]:
    """All imports of a room, also those inside functions and for type checkers alone."""
    for path in sources(room):
        package = [*room.split("."), *path.relative_to(FOLDERS[room]).parts[:-1]]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, (), False, where) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = package[: len(package) - node.level + 1] if node.level else []
                module = ".".join([*base, *([node.module] if node.module else [])])
                yield Import(module, tuple(alias.name for alias in node.names), node.level > 0, where)


def room_of(imported: Import) -> str | None:
    """The room that an import reaches into."""
    for name in (imported.module, *(f"{imported.module}.{name}" for name in imported.names)):
        for room in FOLDERS:
            if name == room or name.startswith(f"{room}."):
                return room
    return None


@pytest.mark.parametrize("room", FOLDERS)
def test_imports_go_along_the_arrows_alone(room: str) -> None:
    """cli → peer → core, simulations → peer and core, cli → simulations; nothing points back."""
    for imported in imports(room):
        reached = room_of(imported)
        assert reached in {None, room} | ARROWS[room], f"{imported.where} imports {reached}"


@pytest.mark.parametrize("room", FOLDERS)
def test_inside_a_room_imports_are_relative_and_between_rooms_absolute(room: str) -> None:
    """And nobody imports a folder by the name it has in the checkout."""
    for imported in imports(room):
        assert imported.relative == (room_of(imported) == room), imported.where
        assert imported.module.partition(".")[0] not in OUTSIDE, imported.where


@pytest.mark.parametrize("room", LIBRARIES)
def test_a_limited_room_imports_its_libraries_alone(room: str) -> None:
    """The core stays what a simulation can run and a reader can hold in mind."""
    for imported in imports(room):
        top = imported.module.partition(".")[0]
        assert top in sys.stdlib_module_names | LIBRARIES[room] | {"p2pml"}, imported.where


@pytest.mark.parametrize("room", ["p2pml.gossip", "p2pml.ensemble"])
def test_the_core_has_no_io_and_no_clock(room: str) -> None:
    """Neither by import, nor by a builtin, nor by the clock of a date."""
    for imported in imports(room):
        assert imported.module.partition(".")[0] not in IO | CLOCKS, imported.where
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            if isinstance(node.func, ast.Name):
                assert node.func.id not in {"open", "print", "input", "breakpoint"}, where
            if isinstance(node.func, ast.Attribute):
                assert node.func.attr not in {"now", "utcnow", "today"}, where


def test_nothing_that_waits_swallows_a_cancellation() -> None:
    """`asyncio.wait_for` does before Python 3.12, and a peer then never ends; `asyncio.timeout` does not."""
    users = [path for path in (ROOT / "peer").glob("*.py") if "asyncio.wait_for(" in path.read_text()]
    assert users == []


@pytest.mark.parametrize("room", ["p2pml.gossip", "p2pml.ensemble", "p2pml.simulations"])
def test_chance_comes_from_a_seed(room: str) -> None:
    """Of the module random only its class is used, and of numpy's only generators with a seed."""
    for imported in imports(room):
        assert imported.module != "random" or set(imported.names) <= {"Random"}, imported.where
    for path in sources(room):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in {"random", "np.random", "numpy.random"}:
                where = f"{path.relative_to(ROOT)}:{node.lineno}"
                assert node.attr in {"Random", "default_rng", "Generator"}, f"{where} uses {ast.unparse(node)}"
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".default_rng", ".Random")):
                assert node.args, f"{path.relative_to(ROOT)}:{node.lineno} has no seed"


def test_the_ground_floor_imports_nothing() -> None:
    """p2pml itself and its errors are below every room, and cost nothing to import."""
    allowed = {"from __future__ import annotations", "import os", "from importlib import import_module"}
    for path in (ROOT / "p2pml").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        typed = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
        unseen = {inner for node in typed for imported in node.body for inner in ast.walk(imported)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom) and node not in unseen:
                assert ast.unparse(node) in allowed, path


def test_what_programs_import_from_p2pml_is_loaded_when_it_is_asked_for() -> None:
    """`import p2pml` stays light, and what type checkers see there is what there is."""
    tree = ast.parse((ROOT / "p2pml" / "__init__.py").read_text(encoding="utf-8"))
    names = {alias.name: n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) for alias in n.names}
    homes = {name: module for name, module in names.items() if module and module.startswith("p2pml.")}
    assert homes == p2pml._HOMES
    assert set(homes) <= set(dir(p2pml))
    for name in homes:
        assert getattr(p2pml, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'Ensembel'"):
        _ = p2pml.Ensembel  # type: ignore[attr-defined]
    show = "import sys, p2pml; print({'numpy', 'sklearn', 'aiohttp', 'asyncio'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("said", [None, "0"])
def test_no_library_reports_to_its_maker(said: str | None) -> None:
    """onnxruntime's reports are off in every process that imports p2pml, unless the user's environment decides."""
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {} if said is None else {"ORT_DISABLE_TELEMETRY": said}
    show = "import os, p2pml; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    command = [sys.executable, "-c", show]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert done.stdout.strip() == (said or "1")


def test_onnxruntime_leaves_no_trace_of_reports(tmp_path: Path) -> None:
    """Its reporter keeps its session in the folder for temporary files; with p2pml, there is none."""
    pytest.importorskip("onnxruntime")
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"TMPDIR": str(tmp_path), "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", "import p2pml, onnxruntime"], check=True, env=environment, timeout=60)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("room", FOLDERS)
def test_every_module_opens_with_a_sentence(room: str) -> None:
    """What it is for, before anything else."""
    for path in sources(room):
        docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        assert docstring, path
        assert docstring.strip().splitlines()[0], path


def test_the_links_stand_where_type_checkers_look() -> None:
    """Each folder at the top of the repository is linked into the package, by a relative link."""
    links = {path.name: path.readlink().as_posix() for path in (ROOT / "p2pml").iterdir() if path.is_symlink()}
    assert links == {name: f"../{name}" for name in OUTSIDE}


def test_the_list_of_packages_is_what_is_on_disk() -> None:
    """It is kept by hand, and a folder that is left out would be missing from the wheel alone."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    found = {"p2pml"} | {
        ".".join([room, *path.parent.relative_to(folder).parts])
        for room, folder in FOLDERS.items()
        for path in folder.rglob("__init__.py")
    }
    assert set(settings["packages"]) == found
    assert settings["package-dir"] == {"p2pml": "p2pml"} | {f"p2pml.{name}": name for name in OUTSIDE}


def on_disk() -> set[str]:
    """Every file that the wheel should hold, as the wheel names it."""
    found = {f"p2pml/{path.name}" for path in (ROOT / "p2pml").glob("*.py")} | {"p2pml/py.typed"}
    for room, folder in FOLDERS.items():
        found |= {f"{room.replace('.', '/')}/{path.relative_to(folder).as_posix()}" for path in sources(room)}
    return found


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The files of the wheel: of the one that is installed, or else of one that is built."""
    distribution = importlib.metadata.distribution("p2pml")
    editable = json.loads(distribution.read_text("direct_url.json") or "{}").get("dir_info", {}).get("editable")
    if not editable:
        return {path.as_posix() for path in distribution.files or () if "__pycache__" not in path.parts}
    version = importlib.metadata.version("setuptools") if _has("setuptools") else "0"
    if int(version.partition(".")[0]) < 77:
        pytest.skip("building a wheel without the network needs setuptools 77 here; tox tests the installed wheel")
    folder = tmp_path_factory.mktemp("wheel")
    command = ["pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", *command], check=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        return set(opened.namelist())


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_the_wheel_installs_p2pml_alone(shipped: set[str]) -> None:
    """A wheel with a package called cli or peer would break its users."""
    tops = {name.partition("/")[0] for name in shipped if not name.startswith("..")}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"p2pml"}


def test_the_wheel_holds_every_module(shipped: set[str]) -> None:
    """What is on disk, no more and no less."""
    assert {name for name in shipped if name.startswith("p2pml/")} == on_disk()


def test_the_command_and_the_module_are_the_same_program() -> None:
    """`p2pml` is installed as a command."""
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="p2pml")
    assert entry.value == "p2pml.cli.main:main"
