"""Engines of PyThaiNLP as segmenters."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.data.segments.legal import legal
from attar.errors import ConfigError
from attar.methods.active_segmentation import engines
from attar.methods.active_segmentation.engines import load_engine

TEXT = "รัฐบาลไทยประกาศนโยบายใหม่ 2,500 บาท"


def test_words_of_newmm() -> None:
    cuts = load_engine("newmm")(TEXT)
    words = [TEXT[a:b] for a, b in zip((0, *cuts), (*cuts, len(TEXT)), strict=True)]
    assert words == ["รัฐบาล", "ไทย", "ประกาศ", "นโยบาย", "ใหม่", " ", "2,500", " ", "บาท"]


@pytest.mark.parametrize("name", ["newmm", "longest"])
@settings(max_examples=25, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("กาเมื่อนี้ 1a\u200b\n่😀"), max_size=30))
def test_cuts_are_legal_and_rise(name: str, text: str) -> None:
    cuts = load_engine(name)(text)
    assert list(cuts) == sorted({*cuts})
    assert {*cuts} <= {*legal(text).tolist()}


def test_what_an_engine_changes_does_not_shift_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    package = type(
        "Package", (), {"word_tokenize": staticmethod(lambda *_, **__: ["กา", "XX", "ปลา"])}
    )
    monkeypatch.setattr(engines, "thai_package", lambda *_: package)
    assert load_engine.__wrapped__("newmm")("กานปลาหมา") == (2, 3, 6)


@pytest.mark.parametrize(
    ("name", "message"),
    [("best", "expected an engine of pythainlp"), ("sefr_cut", "needs a package")],
)
def test_engines_that_are_not_there(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_engine(name)
