"""The distribution of a new backend: its names, its files, and how they get on disk all or none."""

from __future__ import annotations

import re
import shutil
import tempfile
from importlib.resources import files
from pathlib import Path

import attrs
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from forge3d_conformance.target import installed
from forge3d_core.errors import UsageError

TEMPLATE = Path(str(files("forge3d_conformance").joinpath("scaffold", "template")))
SUFFIX = ".jinja"

TAKEN = {
    "host": "the built-in backend",
    "wgpu": "forge3d-wgpu",
    "cuda": "forge3d-cuda",
    "core": "the distribution forge3d-core",
    "conformance": "the distribution forge3d-conformance",
    "auto": "automatic choice",
}
"""Names that mean something else already, installed here or not."""

LONGEST = 40
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def _free(_instance: object, _attribute: object, name: str) -> None:
    if not _NAME.fullmatch(name) or len(name) > LONGEST:
        raise UsageError(
            f"{name!r} is no name for a backend: it becomes part of a Python package and of 'name:selector', "
            "so write lower-case letters, digits and single underscores, a letter first ('metal', 'level0'), "
            f"at most {LONGEST} of them"
        )
    if name in TAKEN:
        raise UsageError(f"the name {name!r} is taken by {TAKEN[name]}; choose another")
    # The core takes 'level-zero' and 'level_zero' for one name.
    owners = (point for other, point in installed().items() if other.lower().replace("-", "_") == name)
    if (point := next(owners, None)) is not None:
        owner = f"{point.dist.name} {point.dist.version}" if point.dist else point.value
        raise UsageError(f"a backend {name!r} is installed already, by {owner}; choose another name")


@attrs.frozen
class Scaffold:
    """A backend called ``name``, not written yet; :class:`UsageError` for a name that cannot be had."""

    name: str = attrs.field(validator=_free)

    @property
    def distribution(self) -> str:
        return f"forge3d-{self.name.replace('_', '-')}"

    @property
    def package(self) -> str:
        return f"forge3d_{self.name}"

    @property
    def prefix(self) -> str:
        """What its classes begin with."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    def contents(self) -> dict[str, str]:
        """Return the text of every file by its path in the distribution."""
        environment = Environment(
            loader=FileSystemLoader(TEMPLATE),
            undefined=StrictUndefined,
            keep_trailing_newline=True,
            autoescape=False,  # it is source code
        )
        names = {
            "name": self.name,
            "distribution": self.distribution,
            "package": self.package,
            "prefix": self.prefix,
        }
        return {
            template.removesuffix(SUFFIX).replace("src/package/", f"src/{self.package}/"): (
                environment.get_template(template).render(names)
            )
            for template in environment.list_templates(filter_func=lambda name: name.endswith(SUFFIX))
        }

    def write(self, into: Path) -> Path:
        """Write the distribution to a new folder in ``into`` and return that; all of it or nothing.

        Raises :class:`UsageError` where ``into`` is no folder or cannot be written, or the new one is
        there already.
        """
        if not into.is_dir():
            raise UsageError(f"{into} is no folder; make it first, or give another with --into")
        target = into / self.distribution
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} is there already; move it away, or give another folder with --into")
        contents = self.contents()
        try:
            self._write(contents, target)
        except OSError as error:
            raise UsageError(f"{target} cannot be made: {error.strerror or error}") from error
        return target

    def _write(self, contents: dict[str, str], target: Path) -> None:
        # Beside the target, so that the last step is a rename within one file system.
        draft = Path(tempfile.mkdtemp(prefix=f".{self.distribution}-", dir=target.parent))
        try:
            root = draft / self.distribution
            for path, text in contents.items():
                file = root / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, "utf-8")
            root.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
