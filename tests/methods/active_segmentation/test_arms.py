"""Keys are uniform and depend on the text alone; arms and the reserve follow from them."""

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import pools
from attar.errors import ConfigError
from attar.methods.active_segmentation import arms

TEXTS = pools.texts(3000)
UIDS = [arms.uid(text) for text in TEXTS]


@given(st.text(), st.text(alphabet=st.characters(codec="utf-8")))
def test_names_and_keys_are_what_they_are_defined_as(text: str, salt: str) -> None:
    name = arms.uid(text)
    raw = text.encode("utf-8", "surrogatepass")
    assert name == hashlib.blake2b(raw, digest_size=16).hexdigest()
    first = hashlib.blake2b(salt.encode() + name.encode()).digest()[:8]
    assert arms.key(name, salt) == pytest.approx(int.from_bytes(first) / 2**64, abs=2**-53)
    assert 0 <= arms.key(name, salt) < 1


def test_they_never_change() -> None:
    """A project that lives for years depends on these numbers."""
    assert arms.uid("ฉันรักแมว") == "986472dc98ff3e66da9917fc559da21f"
    assert arms.key(arms.uid("ฉันรักแมว"), arms.RANDOM) == 0.14752523018246289
    assert arms.key(arms.uid("ฉันรักแมว"), arms.EVALUATION) == 0.20078958345355324


def test_keys_are_uniform_and_those_of_two_purposes_independent() -> None:
    random, reserve = arms.keys(UIDS, arms.RANDOM), arms.keys(UIDS, arms.EVALUATION)
    assert stats.kstest(random, "uniform").pvalue > 0.01
    assert stats.kstest(reserve, "uniform").pvalue > 0.01
    table, *_ = np.histogram2d(random, reserve, bins=5)
    assert stats.chisquare(table.ravel()).pvalue > 0.01


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_corpus_does_not_matter(random) -> None:
    shuffled = UIDS[:50]
    random.shuffle(shuffled)
    assert arms.random_order(shuffled) == arms.random_order(UIDS[:50])
    assert arms.random_order(set(shuffled)) == sorted(
        shuffled, key=lambda name: arms.key(name, arms.RANDOM)
    )


def test_equal_keys_are_told_apart_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "keys", lambda uids, salt: np.zeros(len(uids)))
    assert arms.random_order(UIDS[:20]) == sorted(UIDS[:20])


def test_a_corpus_that_grows_is_filled_up_below_what_was_served() -> None:
    old, new = UIDS[:100], UIDS[100:200]
    served = set(arms.random_order(old)[:30])
    missing = arms.backfill([*old, *new], drawn=served)
    last = max(arms.key(name, arms.RANDOM) for name in served)
    assert set(missing) == {name for name in new if arms.key(name, arms.RANDOM) < last}
    assert missing == arms.random_order(missing)
    count = len(served) + len(missing)
    assert served | set(missing) == set(arms.random_order([*old, *new])[:count])
    assert arms.backfill(old, drawn=served) == []
    assert arms.backfill(old, drawn=set()) == []


@pytest.mark.parametrize(
    ("options", "low", "high"),
    [
        ({"fraction": 0.1, "minimum": 0}, 240, 360),
        ({"fraction": 0.02, "minimum": 500}, 500, 500),
        ({"fraction": 0.02, "minimum": 1000, "largest": 0.1}, 300, 300),
        ({"fraction": 0.0, "minimum": 0}, 0, 0),
        ({"fraction": 1.0}, 3000, 3000),
        ({"minimum": 3000, "largest": 1.0}, 3000, 3000),
    ],
)
def test_the_reserve_is_a_share_with_a_least_number(options, low: int, high: int) -> None:
    threshold = arms.reserve_threshold(UIDS, **options)
    assert low <= len(arms.reserve(UIDS, threshold=threshold)) <= high


def test_a_sentence_never_changes_sides() -> None:
    threshold = arms.reserve_threshold(UIDS[:1000], minimum=100)
    before = arms.reserve(UIDS[:1000], threshold=threshold)
    after = arms.reserve(UIDS, threshold=threshold)
    assert after & set(UIDS[:1000]) == before
    assert len(before) == 100


def test_a_reserve_of_nothing_has_no_sentences() -> None:
    assert arms.reserve([], threshold=arms.reserve_threshold([])) == frozenset()


@pytest.mark.parametrize("options", [{"fraction": 2.0}, {"largest": -0.1}, {"minimum": -1}])
def test_shares_out_of_range_are_refused(options) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        arms.reserve_threshold(UIDS, **options)
