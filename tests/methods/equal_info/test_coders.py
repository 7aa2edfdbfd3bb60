"""The paper's coders: not all that the greedy one writes can be read, and it says so."""

from hypothesis import given, settings
from hypothesis import strategies as st

from attar.coding.windows import StopCoder
from attar.methods.equal_info.coders import DelayCoder, PaperCoder, shortest_code
from windows import ngrams, unseen

FIXED = settings(max_examples=60, deadline=None)


@FIXED
@given(low=st.integers(0, 2**30 - 1), width=st.integers(1, 2**20))
def test_the_shortest_code_lies_in_the_interval_and_no_shorter_one_does(
    low: int, width: int
) -> None:
    scale = 30
    width = min(width, 2**scale - low)
    bits, index = shortest_code(low, width, scale=scale)
    assert low * 2**bits <= index * 2**scale
    assert (index + 1) * 2**scale <= (low + width) * 2**bits
    for fewer in range(bits):
        first = -(-low * 2**fewer // 2**scale)
        assert (first + 1) * 2**scale > (low + width) * 2**fewer


def test_the_papers_greedy_windows_are_not_all_readable_and_the_coder_says_so() -> None:
    coder, text = PaperCoder(ngrams(), window_bits=16), unseen()[:2000]
    wrong, windows = coder.wrong(text)
    assert 0.05 < wrong / windows < 0.6
    assert coder.decode(coder.encode(text)).tolist() != text.tolist()


def test_delay_reads_all_it_writes_and_holds_less() -> None:
    text = unseen()[:2000]
    delay, paper, stop = (
        kind(ngrams(), window_bits=16) for kind in (DelayCoder, PaperCoder, StopCoder)
    )
    assert delay.wrong(text)[0] == 0
    assert delay.decode(delay.encode(text)).tolist() == text.tolist()
    counts = [len(coder.encode(text)) for coder in (stop, paper, delay)]
    assert counts == sorted(counts)
