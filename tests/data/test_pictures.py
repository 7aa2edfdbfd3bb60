"""The demo pictures: the same on every call, and train and test have nothing in common."""

from pathlib import Path

import numpy as np
import pytest
import sklearn
from PIL import Image

from attar.data.pictures import _WORDS, COUNTS, SIZE, demo_pictures
from attar.errors import MissingExtraError


@pytest.fixture(scope="module")
def pictures() -> dict[str, list[tuple[str, np.ndarray]]]:
    return {
        split: [(subject, np.asarray(image)) for subject, image in demo_pictures(split)]
        for split in ("train", "test")
    }


def test_the_pictures_are_as_described(pictures) -> None:
    for split, found in pictures.items():
        subjects = [subject for subject, _ in found]
        assert {subject: subjects.count(subject) for subject in set(subjects)} == COUNTS[split]
        assert all(image.shape == (SIZE, SIZE, 3) for _, image in found)
        assert len({image.tobytes() for _, image in found}) == len(found)


def test_they_are_the_same_on_every_call(pictures) -> None:
    again = demo_pictures("test")
    assert all(
        (np.asarray(image) == old).all()
        for (_, image), (_, old) in zip(again, pictures["test"], strict=True)
    )


def left_of(crop: np.ndarray, photograph: np.ndarray) -> int | None:
    """The column where a crop of a photograph begins."""
    middle = SIZE // 2
    below = photograph[middle : middle - SIZE + 1, middle : middle - SIZE + 1]
    for top, left in np.argwhere((below == crop[middle, middle]).all(-1)).tolist():
        if (photograph[top : top + SIZE, left : left + SIZE] == crop).all():
            return left
    return None


def test_train_and_test_have_no_part_of_a_photograph_in_common(pictures) -> None:
    folder = Path(sklearn.__file__).parent / "datasets" / "images"
    for number, name in enumerate(("china.jpg", "flower.jpg")):
        photograph = np.asarray(Image.open(folder / name))
        lefts = {}
        for split, found in pictures.items():
            crops = [image for subject, image in found if subject == "photograph"][number::2]
            mirrored = [crop[:, ::-1] for crop in crops]
            places = [
                [
                    left
                    for left in (left_of(c, photograph), left_of(m, photograph))
                    if left is not None
                ]
                for c, m in zip(crops, mirrored, strict=True)
            ]
            assert all(len(place) == 1 for place in places)
            lefts[split] = [place[0] for place in places]
        if number == 0:
            assert max(lefts["test"]) + SIZE <= min(lefts["train"])
        else:
            assert max(lefts["train"]) + SIZE <= min(lefts["test"])
        assert len(set(lefts["train"])) > 8


def test_train_and_test_have_no_word_in_common() -> None:
    train, test = (set(_WORDS[split].split()) for split in ("train", "test"))
    assert len(train) > 30
    assert len(test) > 30
    assert not train & test


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attar.data.pictures.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="need the package sklearn; run pip install"):
        demo_pictures("test")
