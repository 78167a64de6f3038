"""The authors' weights: from a file, and from a hub, which here is a server of this test's own."""

import contextlib
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from fake_hub import FakeHub

from blendlab.blendmask import BlendMask, authors, official, official_file
from blendlab.blendmask.adelaidet import their_name
from blendlab.blendmask.official import LICENCE, PAGE, fetch

CONTENT = np.random.default_rng(0).bytes(1_000_000)


def weights(depth: int = 50) -> dict[str, torch.Tensor]:
    """Every entry of the authors' file, all of them zeros that share one number: a file of some 100 kB."""
    with torch.device("meta"):
        entries = BlendMask(authors(depth)).state_dict()
    return {their_name(name): torch.zeros((), dtype=t.dtype).expand(t.shape) for name, t in entries.items()}


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    with_files = FakeHub({"R_50_1x.pth": CONTENT})
    yield with_files
    with_files.close()


def test_the_named_file_is_fetched_once_and_is_what_the_hub_has(hub, tmp_path):
    path = fetch("R_50_1x", hub.url, tmp_path)
    assert path.name == "R_50_1x.pth" and path.read_bytes() == CONTENT
    assert hub.downloads() == [None]
    assert fetch("R_50_1x", hub.url, tmp_path) == path
    assert hub.downloads() == [None]  # from the cache


def test_a_download_that_breaks_half_way_is_taken_up_there(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library's pause before it tries again
    hub.files["R_50_1x.pth"] = content = CONTENT * 25  # the library writes pieces of 10 MB
    hub.breaks = [12_000_000]
    with contextlib.suppress(ValueError):  # versions of the library before 2 go on at the next call, not at once
        fetch("R_50_1x", hub.url, tmp_path)
    assert fetch("R_50_1x", hub.url, tmp_path).read_bytes() == content
    whole, rest = hub.downloads()
    assert whole is None and 0 < int(rest.removeprefix("bytes=").removesuffix("-")) <= 12_000_000


def test_a_download_that_breaks_for_good_leaves_nothing_wrong_behind(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    hub.breaks = [500_000, *[0] * 20]
    with pytest.raises(ValueError, match="R_50_1x.pth could not be fetched") as error:
        fetch("R_50_1x", hub.url, tmp_path)
    assert PAGE in str(error.value)
    hub.breaks = []
    assert fetch("R_50_1x", hub.url, tmp_path).read_bytes() == CONTENT


def test_a_file_that_is_not_the_stated_one_is_refused_and_removed(hub, tmp_path):
    hub.stated["R_50_1x.pth"] = "ab" * 32
    with pytest.raises(ValueError, match="R_50_1x.pth came damaged and was removed.*the hub states abab"):
        fetch("R_50_1x", hub.url, tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size == len(CONTENT)]
    del hub.stated["R_50_1x.pth"]
    assert fetch("R_50_1x", hub.url, tmp_path).read_bytes() == CONTENT


def test_a_hub_that_states_no_sha256_is_refused(hub, tmp_path):
    hub.stated["R_50_1x.pth"] = "ab" * 20  # a git hash, which the hub has for small files
    with pytest.raises(ValueError, match="states no SHA-256"):
        fetch("R_50_1x", hub.url, tmp_path)


@pytest.mark.parametrize("what", ["404", "no network"])
def test_without_the_file_the_message_says_what_to_bring_from_where(hub, tmp_path, what):
    if what == "no network":
        hub.close()
    with pytest.raises(ValueError) as error:
        fetch("R_101_3x", hub.url, tmp_path)
    for part in ("R_101_3x.pth could not be fetched", PAGE, "put it at", "official('R_101_3x', path="):
        assert part in str(error.value)


SESSION = """
from blendlab.blendmask import official, official_file
assert official_file() is None
model = official()
print(official_file().name, model.config.bases, model.training)
official()
"""


def test_first_use_fetches_and_later_use_needs_no_network(hub, tmp_path):
    """In a process of its own, whose hub and folders come from the environment, as a user sets them."""
    torch.save({"model": weights()}, tmp_path / "w.pth")
    hub.files["R_50_1x.pth"] = (tmp_path / "w.pth").read_bytes()
    folders = {"HF_HOME": str(tmp_path / "hub"), "XDG_DATA_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("HF_")} | folders | {"HF_ENDPOINT": hub.url}
    ran = subprocess.run([sys.executable, "-c", SESSION], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines() == [LICENCE, "R_50_1x.pth 4 False"]
    assert len(hub.downloads()) == 1


def test_a_file_that_was_brought_is_found_without_a_name_or_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_data_dir", lambda *a, **k: str(tmp_path / "data"))
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *a, **k: None)
    assert official_file("R_101_3x") is None
    (tmp_path / "data").mkdir()
    torch.save(weights(101), tmp_path / "data" / "R_101_3x.pth")
    assert official_file("R_101_3x") == tmp_path / "data" / "R_101_3x.pth"
    assert official("R_101_3x").config.backbone == "resnet101"


def test_a_path_is_loaded_as_named(tmp_path):
    torch.save({"model": weights()}, tmp_path / "mine.pth")
    model = official("R_50_3x", path=tmp_path / "mine.pth")
    assert not model.training and model.config.clip_before_blend is False
    with pytest.raises(ValueError, match=r"not a BlendMask R-101 checkpoint: missing.*res4\.6"):
        official("R_101_3x", path=str(tmp_path / "mine.pth"))


@pytest.mark.parametrize("call", [official, official_file])
def test_another_name_is_refused(call):
    with pytest.raises(ValueError, match="name is 'R_50'; expected one of R_50_1x, R_50_3x, R_101_3x"):
        call("R_50")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nowhere\.pth does not exist"):
        official(path=tmp_path / "nowhere.pth")
