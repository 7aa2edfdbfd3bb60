"""Answer with a small classifier where there is no PyTorch: onnxruntime, tokenizers and NumPy only.

    attar export my-classifier --format onnx --quantize int8 -o my-classifier-int8
    python examples/answer_with_onnxruntime.py my-classifier-int8 "A fine film." "A dull one."

Give `--pair FIRST SECOND` in place of texts for a model that compares two.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer


class Classifier:
    """The folder that `attar export --format onnx` wrote."""

    def __init__(self, folder: str | Path, *, threads: int = 1) -> None:
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        self.labels = [config["id2label"][str(i)] for i in range(len(config["id2label"]))]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_truncation(about["model_max_length"])
        pad = config["pad_token_id"]
        self.tokenizer.enable_padding(pad_id=pad, pad_token=self.tokenizer.id_to_token(pad))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)

    def logits(self, texts: list[str] | list[tuple[str, str]]) -> np.ndarray:
        """One row for each text, or for each pair."""
        encoded = self.tokenizer.encode_batch(texts)
        whole = {
            "input_ids": [each.ids for each in encoded],
            "attention_mask": [each.attention_mask for each in encoded],
            "token_type_ids": [each.type_ids for each in encoded],
        }
        names = [value.name for value in self.session.get_inputs()]
        given = {name: np.array(whole[name], dtype=np.int64) for name in names}
        return np.asarray(self.session.run(["logits"], given)[0])

    def classify(self, texts: list[str] | list[tuple[str, str]]) -> list[tuple[str, float]]:
        """The most likely class of each, and its probability."""
        logits = self.logits(texts)
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        shares = odds / odds.sum(axis=-1, keepdims=True)
        return [(self.labels[row.argmax()], float(row.max())) for row in shares]


def main() -> None:
    folder, *texts = sys.argv[1:]
    given = [(texts[1], texts[2])] if texts[0] == "--pair" else texts
    for text, (label, share) in zip(given, Classifier(folder).classify(given), strict=True):
        print(f"{label} ({share:.2f}): {text if isinstance(text, str) else ' | '.join(text)}")


if __name__ == "__main__":
    main()
