"""Everything that is checked, each in an environment of its own: ``nox -l`` lists it.

With uv, if it is there, which is much faster; else with virtualenv.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = nox.project.python_versions(PYPROJECT)
OLDEST = PYTHONS[0]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
if HERE not in PYTHONS:  # newer than the classifiers: test it all the same, rather than nothing
    PYTHONS.append(HERE)

# flake8-async's rules that ruff does not have: those on by default, and of the optional ones ASYNC900 (an async generator
# outside @asynccontextmanager is not closed where one thinks), ASYNC912 (a cancel scope without a certain cancel point may
# never end) and ASYNC913 (neither may an endless loop without one). Its command line has no configuration file.
NO_ASYNC_RULES = {
    "ASYNC109": "a limit that is a setting is a setting",
    "ASYNC114": "ASYNC113 knows trio's startable functions; ours would have to be listed one by one",
    "ASYNC124": "the methods of a protocol are async, whatever one implementation needs",
    "ASYNC910": "it finds no fault here, but whatever awaits in one branch only; ASYNC913 sees the loops, which matter",
    "ASYNC911": "the same for what yields",
}

# The rooms that hold the promises: every branch is run by their own tests, and only these run under coverage, for it doubles
# the time they take.
FULLY_COVERED = ("core/*", "engine.py", "store/*", "wire.py")
THEIR_TESTS = ("tests/core", "tests/store", "tests/operations/test_users.py", "tests/test_engine.py", "tests/test_wire.py")


def _uv_reaches_the_index() -> bool:
    """False if pip was told how to reach a package index and uv was not, for it does not read pip's configuration."""
    pip = [sys.executable, "-m", "pip", "config", "list"]
    configured = subprocess.run(pip, capture_output=True, text=True, check=False).stdout  # noqa: S603
    names = {line.partition("=")[0].rpartition(".")[2] for line in configured.splitlines()}
    for theirs, ours in {
        "index-url": {"UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_CONFIG_FILE"},
        "no-index": {"UV_NO_INDEX", "UV_CONFIG_FILE"},
        "cert": {"SSL_CERT_FILE", "SSL_CERT_DIR", "UV_SYSTEM_CERTS"},
        "proxy": {"ALL_PROXY", "HTTPS_PROXY", "https_proxy"},
    }.items():
        if theirs in names and not os.environ.keys() & ours:
            return False
    return True


nox.needs_version = ">=2025.5.1"
nox.options.default_venv_backend = "uv|virtualenv" if _uv_reaches_the_index() else "virtualenv"
nox.options.sessions = ["lint", "types", "docs", "tests"]


def _group(name: str) -> list[str]:
    return list(nox.project.dependency_groups(PYPROJECT, name))


def _sources() -> list[str]:
    """The Python files that may do something async and that others run.

    Of the tests ruff has to say enough: flake8-async takes minutes for them, and a task of theirs that cannot be cancelled
    is a test that does not end.
    """
    folders = [ROOT / name for name in ("trio_chat", "examples", "benchmarks")]
    files = [file for folder in folders for file in sorted(folder.rglob("*.py"))]
    return [str(file.relative_to(ROOT)) for file in files if re.search(r"\basync\b|\btrio\.|\banyio\b", file.read_text())]


def _dist(session: nox.Session) -> Path:
    return Path(session.cache_dir) / "dist"


def _wheel(session: nox.Session) -> str:
    (wheel,) = _dist(session).glob("*.whl")
    return str(wheel)


def _pytest(
    session: nox.Session,
    *options: str,
    default: Sequence[str] = (),
    coverage: bool = False,
    profile: str = "ci",
) -> None:
    """Run the tests of this checkout on the installed package, from a place where the checkout's own cannot be imported."""
    arguments = session.posargs or default
    paths = [str(ROOT / arg) if (ROOT / arg.partition("::")[0]).exists() else arg for arg in arguments]
    if not any(Path(path.partition("::")[0]).exists() for path in paths):
        paths.append(str(ROOT / "tests"))
    runner = ["coverage", "run", f"--rcfile={ROOT / 'pyproject.toml'}", "-m", "pytest"] if coverage else ["pytest"]
    with session.chdir(session.create_tmp()):
        installed = session.run("python", "-c", "import trio_chat; print(trio_chat.__file__)", silent=True)
        session.log(f"testing {str(installed).strip()}")
        env = {"HYPOTHESIS_PROFILE": profile, "TRIO_CHAT_INSTALLED": str(installed).strip()}
        session.run(*runner, f"--rootdir={ROOT}", f"--config-file={ROOT / 'pyproject.toml'}", *options, *paths, env=env)


@nox.session
def lint(session: nox.Session) -> None:
    """What can be said about the text without running it."""
    session.install(*_group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("flake8-async", "--enable=ASYNC", "--disable=" + ",".join(NO_ASYNC_RULES), *_sources())
    session.run("lint-imports")
    session.run("codespell")
    session.run("towncrier", "build", "--draft", "--version", "next", silent=True)


@nox.session(python=OLDEST)
def types(session: nox.Session) -> None:
    """``mypy --strict`` on everything, as the oldest Python sees it."""
    session.install("-e", ".[jwt,metrics]", *_group("types"))
    session.run("mypy")


@nox.session(python=OLDEST, requires=["build"])
def complete(session: nox.Session) -> None:
    """Whether every type that a user of the package sees is said, and not left to a type checker to guess; needs Node.js."""
    session.install(f"{_wheel(session)}[jwt,metrics]", "pyright", "pytest")
    with session.chdir(session.create_tmp()):
        session.run("pyright", "--verifytypes", "trio_chat", "--ignoreexternal", silent=True)


@nox.session
def docs(session: nox.Session) -> None:
    """The documentation as HTML in docs/_build; warnings are errors."""
    session.install("-e", ".", *_group("docs"))
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)


@nox.session
def build(session: nox.Session) -> None:
    """The sdist, and from it, not from the checkout, the wheel."""
    if "CI_BUILT" in os.environ and list(_dist(session).glob("*.whl")):
        session.log("built before")
        return
    session.install("build")
    shutil.rmtree(_dist(session), ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(_dist(session)), str(ROOT), silent=True)
    session.log(", ".join(sorted(file.name for file in _dist(session).iterdir())))


@nox.session(python=PYTHONS, requires=["build"])
def tests(session: nox.Session) -> None:
    """The tests, on the built wheel; on the oldest Python with the coverage of the rooms that hold the promises.

    With CI_UNITS in the environment, on the others only what runs in the tests' own process and could differ there.
    """
    session.install(_wheel(session), *_group("test"))
    if session.python != OLDEST or session.posargs:
        units = session.python != OLDEST and "CI_UNITS" in os.environ
        chosen = ["-m", "not process and not once and not proof and not browser"] if units else []
        _pytest(session, *chosen, profile="ci" if session.python == OLDEST else "brief")
        return
    _pytest(session, default=THEIR_TESTS, coverage=True)
    rooms = ",".join(f"*/trio_chat/{room}" for room in FULLY_COVERED)
    with session.chdir(session.create_tmp()):
        rcfile = f"--rcfile={ROOT / 'pyproject.toml'}"
        session.run("coverage", "report", rcfile, f"--include={rooms}", "--fail-under=100")
    _pytest(session, *(f"--ignore={ROOT / tests}" for tests in THEIR_TESTS))


@nox.session
def editable(session: nox.Session) -> None:
    """What differs in an editable install: where the migrations and the package's other files are found."""
    session.install("-e", ".", *_group("test"))
    _pytest(
        session,
        default=[
            "tests/store/test_migration.py",
            "tests/store/test_schema.py",
            "tests/test_suite.py",
            "tests/test_house.py",
        ],
    )


@nox.session(python=OLDEST, venv_backend="uv", requires=["build"])
def lowest(session: nox.Session) -> None:
    """The tests with the lowest version of every dependency that pyproject.toml allows."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = [*PYPROJECT["project"]["dependencies"], *extras["jwt"]]
    session.install("--resolution=lowest-direct", _wheel(session), *wanted)
    session.install(*_group("test"))
    session.run("uv", "pip", "list", external=True)
    _pytest(session)


_BROWSERS_NEED = {"chromium": "chromium", "nginx": "nginx-light", "node": "nodejs", "npm": "npm"}
"""Programs and Debian's packages. Playwright's own browsers are not asked for."""
_FONTS = ("fonts-inter", "fonts-noto-color-emoji")
"""Without them there is one font for everything, and no emoji."""


def _debian(session: nox.Session) -> None:
    """Install what the tests in a browser need and Debian has."""
    path = os.environ["PATH"] + ":/usr/sbin"
    packages = [package for program, package in _BROWSERS_NEED.items() if shutil.which(program, path=path) is None]
    for font in _FONTS:
        asked = ["dpkg-query", "--show", "--showformat=${Status}", font]
        known = subprocess.run(asked, capture_output=True, text=True, check=False)  # noqa: S603
        packages += [] if "ok installed" in known.stdout else [font]
    if packages and (shutil.which("apt-get") is None or os.geteuid() != 0):
        session.error(f"as root of a Debian: apt-get install {' '.join(packages)}")
    if packages:
        session.run("apt-get", "update", "-q", external=True, silent=True)
        session.run("apt-get", "install", "-q", "-y", "--no-install-recommends", *packages, external=True,
                    env={"DEBIAN_FRONTEND": "noninteractive"}, silent=True)  # fmt: skip


@nox.session(requires=["build"])
def browser(session: nox.Session) -> None:
    """What only a real browser can show: in Debian's Chromium, some of it behind Debian's nginx."""
    _debian(session)
    session.install(_wheel(session), *_group("browser"))
    _pytest(session, "-m", "browser", default=["tests/browser"])


@nox.session
def screenshots(session: nox.Session) -> None:
    """Take the pictures of the page that the README and the documentation show, anew."""
    _debian(session)
    session.install("-e", ".", *_group("browser"))
    session.env["TRIO_CHAT_SCREENSHOTS"] = str(ROOT / "docs" / "screenshots")
    _pytest(session, "-m", "browser", default=["tests/browser/test_screenshots.py"])


@nox.session(python=OLDEST, requires=["build"])
def bench(session: nox.Session) -> None:
    """Measure everything, which takes an hour; or one thing: ``nox -s bench -- live --pairs 50``, or retrieval, or growth.

    ``nox -s bench -- guard`` is the short form: whether anything has become slower than ``benchmarks/record.json`` says.
    """
    name, *arguments = session.posargs or ["suite"]
    session.install(_wheel(session), *([] if name == "guard" else _group("bench")))
    session.run("python", str(ROOT / "benchmarks" / f"{name}.py"), *arguments)


@nox.session(requires=["build"])
def proofs(session: nox.Session) -> None:
    """Property tests and state machines with many more examples, and the proofs on a real server at their full scale.

    One of them by its name: ``nox -s proofs -- sigkill`` runs ``tests/proofs/test_sigkill.py``.
    """
    session.install(_wheel(session), *_group("test"))
    for number, name in enumerate(session.posargs):
        if (ROOT / "tests" / "proofs" / f"test_{name}.py").exists():
            session.posargs[number] = f"tests/proofs/test_{name}.py"
    session.env["TRIO_CHAT_PROOF_SCALE"] = os.environ.get("TRIO_CHAT_PROOF_SCALE", "4")
    _pytest(
        session,
        "-m",
        "(hypothesis or proof) and not browser",
        "--hypothesis-profile=proofs",
        "-o",
        "faulthandler_timeout=3600",
    )
