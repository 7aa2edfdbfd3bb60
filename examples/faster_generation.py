"""Make a model generate faster: a draft of its own layers, trained until it agrees, and measured.

Run: python examples/faster_generation.py MODEL [PROMPTS]
MODEL is a folder or Hub name of a decoder, PROMPTS a file of prompts or text (python-stdlib).
"""

import sys
from pathlib import Path

import attar
from attar.decode.speculative import SpeculativeDecoder
from attar.methods.distillspec import (
    DistillSpecConfig,
    distill_draft,
    init_draft,
    profile_draft,
)


def main(model: str, data: str = "python-stdlib") -> None:
    name = Path(model).name
    cut, trained = f"{name}-draft", f"{name}-draft-trained"
    if not Path(cut).exists():
        init_draft(model, layers=2, output_dir=cut)
    if not Path(trained).exists():
        config = DistillSpecConfig(max_steps=200, temperature=0.0)
        print(
            distill_draft(cut, data, target=model, output_dir=trained, config=config, resume=True)
        )
    (found,) = profile_draft(trained, data, target=model, temperatures=(0.0,))
    for race in found.races:
        print(f"{race.policy}: {race.speedup:.2f} times plain decoding, tau {race.tau:.2f}")

    target, draft = attar.load(model), attar.load(trained)
    tokenizer = attar.load_tokenizer(model)
    decoder = SpeculativeDecoder(target, draft)
    inputs = tokenizer("def main(", return_tensors="pt", return_token_type_ids=False)
    found = decoder.generate(inputs.pop("input_ids"), max_new_tokens=64, do_sample=False, **inputs)
    print(tokenizer.decode(found.sequences[0]))
    print(decoder.stats)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
