"""`attar demo MODEL`: what Attar does with a real language model in ten minutes."""

import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from attar import artefacts, checkpoint
from attar.checkpoint.gguf import is_gguf
from attar.cli.output import show
from attar.cli.showcase import made, prepare, side_by_side
from attar.conversion.export import export
from attar.data.data import STDLIB
from attar.decode.generate import GenerateConfig, generate
from attar.errors import CompatibilityError, MissingExtraError
from attar.methods.bonsai import BonsaiConfig, prune
from attar.methods.distillspec import (
    DistillSpecConfig,
    evaluate_draft,
    init_draft,
    train_draft,
)
from attar.methods.distillspec.profile import EvaluateDraftConfig
from attar.models import require_decoder
from attar.pruning.config import Method
from attar.report.pages import html_report
from attar.report.record import Run
from attar.report.tables import comparison
from attar.train.heal import HealConfig, heal

DATA = STDLIB
"""The text that models are calibrated, trained and scored on."""
QUESTION = "What is the capital of France, and what is it known for?"
BUDGET = "blocks<=80%"
HEAL_UNTIL = 400.0
"""Healing starts only within this many seconds."""
ANSWER = GenerateConfig(max_new_tokens=48, batch_size=1)
DRAFT_LAYERS = 2
DRAFT = DistillSpecConfig(
    draft_share=0.0,  # on text: at its own texts a new draft learns slower
    max_steps=32,
    per_device_train_batch_size=8,
    max_new_tokens=96,
    learning_rate=1e-3,
    eval_prompts=4,
    eval_steps=32,
)
SPEED = EvaluateDraftConfig(
    temperatures=(0.0,), rounds=1, eval_prompts=2, max_new_tokens=32, longest=4
)
SEARCH = BonsaiConfig(step=0.25, evaluations=48, windows=4, context=256, round_to=32, timing=False)
HEALING = HealConfig(
    max_steps=16,
    per_device_train_batch_size=4,
    context=256,
    teacher_cache="none",
    eval_tokens=8_000,
)
"""Enough to see each at work; a real run would spend more on all of them."""
TIMED = (128, 32)
"""Tokens that are read and written when the models are timed."""
ROUNDS = 3
#: the one-shot baseline that did best in benchmarks/bonsai-llm
_BASELINE: Method = "flap"
_PARTS = ("draft-untrained", "draft", "draft-speed", _BASELINE, "bonsai", "healed", "gguf")


def make_llm_demo(
    model: str, *, output_dir: str | Path | None = None, fresh: bool = False
) -> dict[str, Run]:
    """The demo with your own model: chat, a draft, pruning, healing and a GGUF file.

    Args:
        model: a decoder: folder, Hub name or GGUF file.
        output_dir: where results go; None: in the folder that ATTAR_HOME names.
        fresh: make everything again.

    Returns:
        The records by name.

    Raises:
        CompatibilityError: the model does not generate text.
        ConfigError: the folder holds something that no demo made.
        DataError: the model cannot be read.
    """
    began = time.perf_counter()
    folder = Path(output_dir or artefacts.home() / "demo-llm")
    require_decoder(checkpoint.load(model))
    chat = replace(ANSWER, chat=bool(checkpoint.load_tokenizer(model).chat_template))
    settings = [asdict(part) for part in (DRAFT, SPEED, SEARCH, HEALING)]
    prepare(folder, {"model": model, "all": settings}, parts=_PARTS, fresh=fresh)
    _ask(model, chat, "the model")
    runs = _drafted(model, folder)
    runs |= _pruned(model, folder)
    kept = min((_BASELINE, "bonsai"), key=lambda name: runs[name].quality["after"]["perplexity"])
    best = folder / kept
    if (folder / "healed").exists() or time.perf_counter() - began < HEAL_UNTIL:
        best = folder / "healed"
        runs["healed"] = made(
            f"Healing the better one, that of {kept}",
            best,
            lambda: heal(
                folder / kept,
                DATA,
                teacher=model,
                config=HEALING,
                output_dir=best,
                resume=True,
            ),
        )
    else:
        show("No time is left for healing; run attar heal.")
    _ask(str(best), chat, "the pruned model")
    _written(best, folder / "gguf")
    return _told(model, folder, runs, seconds=time.perf_counter() - began)


def _ask(model: str, config: GenerateConfig, who: str) -> None:
    """Ask a model the question, and show its answer."""
    run = generate(model, QUESTION, config=config)
    show(f"\n{QUESTION}\n{who}: {run.details['texts'][0].removeprefix(QUESTION).strip()}\n")


def _drafted(model: str, folder: Path) -> dict[str, Run]:
    """A draft of the model's own layers, trained briefly, and its speed-up."""
    first, draft = folder / "draft-untrained", folder / "draft"
    made(
        f"Making a draft of {DRAFT_LAYERS} of its layers",
        first,
        lambda: init_draft(model, layers=DRAFT_LAYERS, output_dir=first),
    )
    trained = made(
        "Training the draft with DistillSpec",
        draft,
        lambda: train_draft(first, DATA, target=model, config=DRAFT, output_dir=draft, resume=True),
    )
    speed = made(
        "Timing the model with its draft",
        folder / "draft-speed",
        lambda: evaluate_draft(
            draft, DATA, target=model, config=SPEED, output_dir=folder / "draft-speed"
        ),
    )
    return {"draft": trained, "speed": speed}


def _pruned(model: str, folder: Path) -> dict[str, Run]:
    """The model pruned by two methods to the same budget."""
    methods: tuple[Method, ...] = (_BASELINE, "bonsai")
    return {
        method: made(
            f"Pruning to {BUDGET} with {method}",
            folder / method,
            lambda method=method: prune(
                model,
                DATA,
                budget=BUDGET,
                method=method,
                config=SEARCH,
                eval_tokens=HEALING.eval_tokens,
                output_dir=folder / method,
                resume=True,
            ),
        )
        for method in methods
    }


def _written(model: Path, folder: Path) -> None:
    """The result as a GGUF file, where the package and the model allow it."""
    try:
        made(
            "Writing it as GGUF", folder, lambda: export(model, quantize="q8_0", output_dir=folder)
        )
    except (CompatibilityError, MissingExtraError) as error:
        show(f"No GGUF file: {error}")


def _told(model: str, folder: Path, runs: Mapping[str, Run], *, seconds: float) -> dict[str, Run]:
    """Show the table and what to try next, and write the report; returns the records of the models,
    timed in turn.
    """
    names = [name for name in (_BASELINE, "bonsai", "healed") if name in runs]
    records = side_by_side(
        {"parent": runs[names[0]], **{name: runs[name] for name in names}},
        {"parent": model, **{name: folder / name for name in names}},
        before=runs["bonsai"].quality["before"],
        tokens=TIMED,
        rounds=ROUNDS,
    )
    shown = [records[name] for name in names]
    show(comparison(shown, names=names).text())
    title = f"Attar demo: {Path(model).stem if is_gguf(model) else Path(model).name}"
    report = html_report(shown, folder / "report.html", title=title, names=names)
    figures: Any = runs["speed"].quality["after"]
    files = [file.name for file in (folder / "gguf").glob("*.gguf")]
    show(f"\nReport: {report}")
    show(f"Models: {folder}/ ({', '.join(part for part in _PARTS if (folder / part).exists())})")
    show(
        f"The draft, trained for {DRAFT.max_steps} steps: "
        f"{figures['block efficiency at T=0']:.2f} tokens per pass of the model, "
        f"{figures['speed-up at T=0']:.2f} times plain decoding at best"
    )
    show(f"This took {seconds:.0f} s. What to try next:")
    show(f'  attar generate {folder}/{names[-1]} "{QUESTION}" --chat')
    for name in files:
        show(f"  llama-cli -m {folder}/gguf/{name}")
    show(f'  attar prune {model} --budget "{BUDGET}" -o smaller    # with the full search')
    return records | {name: runs[name] for name in ("draft", "speed")}
