"""environment.yml and pyproject.toml say the same, each in its own names and grammar."""

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[1]
CONDA_NAMES = {"torch": "pytorch"}  # where conda-forge's name differs
ONLY_CONDA = {"python", "pip"}
# a conda match specification as this file uses it: a name, then at most one lower bound
CONDA_LINE = re.compile(r"^[a-z0-9][a-z0-9._-]*(>=[0-9]+(\.[0-9]+)*)?$")
PIP_LINE = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(>=[0-9]+(\.[0-9]+)*)?$")


def project() -> dict[str, str]:
    """The dependencies of pyproject.toml: name -> bound."""
    text = (REPOSITORY / "pyproject.toml").read_text()  # tomllib came with Python 3.11
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.M | re.S).group(1)
    lines = re.findall(r'"([^"]+)"', block)
    assert lines and all(map(PIP_LINE.match, lines)), lines
    return {
        CONDA_NAMES.get(name, name): line[len(name) :] for line in lines for name in [PIP_LINE.match(line).group(1)]
    }


def environment() -> dict:
    return yaml.safe_load((REPOSITORY / "environment.yml").read_text())


def test_each_line_is_a_conda_specification():
    for line in environment()["dependencies"]:
        assert isinstance(line, str) and CONDA_LINE.match(line), f"not a conda specification: {line!r}"


def test_same_packages_and_bounds_as_pyproject():
    lines = dict(re.match(r"([a-z0-9._-]+)(.*)", line).groups() for line in environment()["dependencies"])
    python = lines["python"]
    assert {name: bound for name, bound in lines.items() if name not in ONLY_CONDA} == project()
    assert f'requires-python = "{python}"' in (REPOSITORY / "pyproject.toml").read_text()


def test_only_conda_forge():
    assert environment()["channels"] == ["conda-forge"]
    assert environment()["name"] == "blendlab"
