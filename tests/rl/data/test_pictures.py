"""Pictures of prompts: read when they are looked at, once, whatever they come from."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rl.data import pictures
from rl.data.pictures import Picture, PictureError, _Kept, is_pixels, read_file
from rl.types import Prompt, UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)


def saved(file: Path) -> Path:
    Image.fromarray(PIXELS).save(file)
    return file


def test_a_file_is_read_when_it_is_looked_at_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []

    def counted(source: Path | bytes, most_pixels: int = 1) -> object:
        read.append(source)
        return read_file(source)

    monkeypatch.setattr(pictures, "read_file", counted)
    picture = Picture(tmp_path / "later.png")
    assert hash(picture) == hash(Picture(tmp_path / "later.png")) and read == []
    saved(tmp_path / "later.png")
    picture.check()
    assert read == []
    assert np.array_equal(picture.pixels, PIXELS) and picture.pixels is picture.pixels
    assert picture.in_memory().source is Picture(tmp_path / "later.png").pixels
    assert read == [tmp_path / "later.png"]
    with pytest.raises(ValueError, match="read-only"):
        picture.pixels[0, 0, 0] = 1


def test_the_digest_is_of_the_pixels_and_equality_of_the_source(tmp_path: Path) -> None:
    file, copy = Picture(saved(tmp_path / "a.png")), Picture(saved(tmp_path / "b.bmp"))
    content, array = Picture((tmp_path / "a.png").read_bytes()), Picture(PIXELS)
    assert len({one.digest for one in (file, copy, content, array, file.in_memory())}) == 1
    assert Picture(PIXELS.reshape(6, 4, 3)).digest != array.digest != Picture(PIXELS ^ 1).digest
    assert Picture(tmp_path / "a.png") == file != copy and Picture(PIXELS.copy()) == array != content
    assert len({file, Picture(tmp_path / "a.png"), array, Picture(PIXELS.copy()), content}) == 3
    assert Prompt("p", "x", pictures=(file,)) == Prompt("p", "x", pictures=(Picture(tmp_path / "a.png"),))
    assert array.in_memory() is array and PIXELS.flags.writeable and not array.pixels.flags.writeable


def test_pickled_it_is_its_source(tmp_path: Path) -> None:
    for picture in (Picture(saved(tmp_path / "a.png")), Picture(PIXELS)):
        assert picture.digest
        back = pickle.loads(pickle.dumps(picture))
        assert back == picture and back.digest == picture.digest and not back.pixels.flags.writeable
    assert len(pickle.dumps(Picture(tmp_path / "a.png"))) < 300
    assert (repr(Picture(PIXELS)), repr(Picture(Path("a.png")))) == (
        "Picture(array of (4, 6, 3))",
        "Picture(PosixPath('a.png'))",
    )


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(UserError) as caught:
        _ = Picture(tmp_path / "text.png").pixels
    assert str(caught.value) == (
        f"the picture '{tmp_path}/text.png' can't be read: cannot identify image file '{tmp_path}/text.png'; replace "
        "the file"
    )
    with pytest.raises(UserError, match=r"^the picture can't be read: cannot identify image file"):
        _ = Picture(b"no picture").digest
    with pytest.raises(UserError) as caught:
        Picture(np.zeros((2, 2), np.float32))  # type: ignore[arg-type]
    assert str(caught.value) == "a prompt's picture is a float32 array of 2 x 2, it must be uint8 of H x W x 3"
    with pytest.raises(PictureError, match="it has 24 pixels, more than the 23 that are accepted"):
        read_file(saved(tmp_path / "a.png"), 23)
    cut = (tmp_path / "a.png").read_bytes()[:60]
    Picture(cut).check()  # its header is sound
    with pytest.raises(UserError, match="can't be read: "):
        _ = Picture(cut).pixels
    assert not is_pixels(np.zeros((0, 2, 3), np.uint8))


def test_an_array_needs_no_pil() -> None:
    code = (
        "import sys; sys.modules['PIL'] = None\nimport numpy as np\nfrom rl.data.pictures import Picture\n"
        "p = Picture(np.zeros((2, 3, 3), np.uint8))\nprint(p.pixels.shape, len(p.digest), 'pydantic' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n")[0] == "(2, 3, 3) 64 False"


def test_decoded_files_are_kept_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path | bytes] = []

    def counted(source: Path | bytes) -> np.ndarray:
        read.append(source)
        return np.zeros((10, 10, 3), np.uint8)

    monkeypatch.setattr("rl.data.pictures.read_file", counted)
    kept = _Kept(most_bytes=700)  # two pictures of 300 bytes
    for name in ("a", "b", "a", "c", "a", "b"):
        kept.get(Path(name))
    assert [str(one) for one in read] == ["a", "b", "c", "b"]  # b was not used for longest when c came
    kept = _Kept(most_bytes=1)  # one is kept however large it is
    assert kept.get(Path("a")) is kept.get(Path("a"))
