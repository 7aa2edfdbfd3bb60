"""BLEU is sacrebleu's, with its signature."""

import importlib.util

import pytest

from attar.errors import DataError, MissingExtraError
from attar.evaluation.pairs import bleu

SACREBLEU = importlib.util.find_spec("sacrebleu") is not None

HYPOTHESES = ["The cat sat on the mat .", "A dog runs in the park today ."]
REFERENCES = ["The cat sat on a mat .", "A dog runs in the park ."]


@pytest.mark.skipif(SACREBLEU, reason="sacrebleu is installed")
def test_bleu_names_the_missing_extra() -> None:
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[eval\]' in the checkout"):
        bleu(HYPOTHESES, REFERENCES)


@pytest.mark.skipif(not SACREBLEU, reason="needs sacrebleu: pip install '.[eval]'")
def test_bleu_by_hand_and_its_signature() -> None:
    found = bleu(HYPOTHESES, REFERENCES)
    # n-grams that match: 13 of 15, 9 of 13, 6 of 11, 4 of 9; the hypotheses are the longer ones
    expected = 100 * (13 / 15 * 9 / 13 * 6 / 11 * 4 / 9) ** 0.25
    assert found.score == pytest.approx(expected)
    assert found.signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert bleu(REFERENCES, REFERENCES).score == pytest.approx(100)
    lower = bleu([text.upper() for text in REFERENCES], REFERENCES, lowercase=True)
    assert lower.score == pytest.approx(100)
    assert "case:lc" in lower.signature


def test_bleu_needs_a_reference_for_each() -> None:
    for hypotheses in ([], HYPOTHESES[:1]):
        with pytest.raises(DataError, match="a reference for each hypothesis"):
            bleu(hypotheses, REFERENCES)
