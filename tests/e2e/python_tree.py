"""Copies the Python that runs this, with the packages of its environment and the shared libraries of both, for an image that has nothing else.

python_tree.py TREE FLOW        TREE: the folder that becomes the image's root; FLOW: a file that goes into /flows

Packages are in /packages there, which PYTHONPATH must name. What only builds or tests Python stays here.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

LAUNCHER = """#!/usr/bin/python3
import sys
from prefect.cli import app
sys.exit(app())
"""


def libraries(binary: Path) -> set[Path]:
    """Where the loader finds them on this machine."""
    said = subprocess.run(["ldd", binary], capture_output=True, text=True, timeout=60)
    if said.returncode != 0:
        sys.exit(f"ldd {binary}: {said.stdout}{said.stderr}")
    if "not found" in said.stdout:
        sys.exit(f"{binary} misses libraries:\n{said.stdout}")
    return {Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", said.stdout, re.MULTILINE)}


def main() -> None:
    tree, flow = (Path(argument) for argument in sys.argv[1:])
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    standard, packages = (Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "purelib"))
    interpreter = Path(sys.executable).resolve()
    for folder in ("usr/bin", "usr/lib", "flows"):
        (tree / folder).mkdir(parents=True)
    # Times stay as they are: what was compiled of a file counts while it has the file's.
    build_only = shutil.ignore_patterns(
        "site-packages", "dist-packages", "test", "config-*", "*.opt-?.pyc", "*tkinter*", "idlelib", "ensurepip", "lib2to3"
    )
    shutil.copytree(standard, tree / "usr/lib" / version, ignore=build_only)
    shutil.copytree(packages, tree / "packages", ignore=shutil.ignore_patterns("pip", "tests"))
    shutil.copy2(interpreter, tree / "usr/bin/python3")
    shutil.copy2(flow, tree / "flows/flow.py")
    launcher = tree / "usr/bin/prefect"
    launcher.write_text(LAUNCHER)
    launcher.chmod(0o755)
    (tree / "tmp").mkdir()
    (tree / "tmp").chmod(0o1777)

    extensions = [*(tree / "usr/lib" / version / "lib-dynload").glob("*.so"), *(tree / "packages").rglob("*.so")]
    needed = set().union(*map(libraries, [interpreter, *extensions]))
    for library in needed:
        # Some packages bring theirs along.
        if not library.is_relative_to(tree):
            copy = tree / library.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(library, copy)


main()
