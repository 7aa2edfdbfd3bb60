"""Make the best classifier of at most 250 KB, tokenizer included, from a larger one.

    python examples/compress_a_classifier.py TEACHER_FOLDER [DATA]

The teacher is an encoder that was trained on the task, such as the one that
`distil_a_classifier.py` writes; its task, made from Python's own source code, is the default: which
package is this function from? Takes about a minute of processor time with that teacher. Everything
goes to a new temporary folder.
"""

import sys
import tempfile
from pathlib import Path

import attar
from attar import CompressorConfig, DistillConfig

DATA = "python-stdlib:package"  # labels are for the report alone: texts without them will do
TRAINING = DistillConfig(
    pred_loss="kl",
    intermediate="pkd",
    layer_map="final",
    max_steps=150,
    learning_rate=2e-3,
    context=32,
)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    folder = Path(tempfile.mkdtemp(prefix="attar-example-"))
    run = attar.distill(
        teacher=sys.argv[1],
        data=sys.argv[2] if len(sys.argv) > 2 else DATA,
        budget="bytes<=250KB",
        config=TRAINING,
        compressor=CompressorConfig(plans=3),
        output_dir=folder / "small",
    )
    for plan in run.details["plans"]:
        print(plan["why"])
    report = run.details["report"]
    print(f"{sum(report['bytes'].values()):,} bytes on disk: {report['bytes']}")
    print(f"agrees with its teacher on {report['agreement']:.1%} of the test texts")
    if (
        report.get("kept_above_chance") is not None
    ):  # of labelled texts, with a teacher above chance
        print(f"keeps {report['kept_above_chance']:.1%} of the accuracy above chance")
    print(f"Student: {folder / 'small'}")


if __name__ == "__main__":
    main()
