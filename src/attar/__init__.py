"""Attar makes language models, and the data around them, small, fast and cheap.

Every command of the command line is here under the same words: `attar.prune(...)`, and for nouns
`attar.draft.train(...)`. So is every dataclass of options, under its own name:
`attar.BonsaiConfig` and so on. Names load on first use, so that `import attar` stays quick and does
not import torch.
"""

from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from attar import annotate as annotate
    from attar import codec as codec
    from attar import draft as draft
    from attar import ngrams as ngrams
    from attar import pipeline as pipeline
    from attar import supernet as supernet
    from attar import tokenizer as tokenizer
    from attar.annotate.config import AnnotateServeConfig as AnnotateServeConfig
    from attar.annotate.config import SimulateConfig as SimulateConfig
    from attar.annotate.settings import AnnotateConfig as AnnotateConfig
    from attar.budget import Budget as Budget
    from attar.budget import Cost as Cost
    from attar.checkpoint import load as load
    from attar.checkpoint import load_tokenizer as load_tokenizer
    from attar.checkpoint import save as save
    from attar.cli.demo import make_demo as demo  # noqa: F401
    from attar.cli.run import run_recipe as run  # noqa: F401
    from attar.codec.config import CodecConfig as CodecConfig
    from attar.codec.evaluating import EvaluateCodecConfig as EvaluateCodecConfig
    from attar.completion import generate as generate
    from attar.conversion.export import export as export
    from attar.data.data import Data as Data
    from attar.decode.generate import GenerateConfig as GenerateConfig
    from attar.decode.generate import Generator as Generator
    from attar.decode.settings import SpecConfig as SpecConfig
    from attar.distillation.config import CompressorConfig as CompressorConfig
    from attar.distillation.distill import distill as distill
    from attar.errors import AttarError as AttarError
    from attar.evaluation.likelihood import score as score
    from attar.evaluation.model import EvaluateConfig as EvaluateConfig
    from attar.evaluation.model import evaluate as evaluate
    from attar.measure.cost import cost_of as cost_of
    from attar.measure.model import CostConfig as CostConfig
    from attar.measure.model import cost as cost
    from attar.methods.active_segmentation.config import SegmenterConfig as SegmenterConfig
    from attar.methods.active_segmentation.drawing import DrawConfig as DrawConfig
    from attar.methods.active_segmentation.segmenter import Segmenter as Segmenter
    from attar.methods.autodistil import AutoDistilConfig as AutoDistilConfig
    from attar.methods.bonsai import BonsaiConfig as BonsaiConfig
    from attar.methods.bonsai import prune as prune
    from attar.methods.distiller import DistillConfig as DistillConfig
    from attar.methods.distiller.recommend import RecommendConfig as RecommendConfig
    from attar.methods.distiller.recommend import recommend as recommend
    from attar.methods.distiller.search import SearchConfig as SearchConfig
    from attar.methods.distillspec import DistillSpecConfig as DistillSpecConfig
    from attar.methods.distillspec.profile import EvaluateDraftConfig as EvaluateDraftConfig
    from attar.methods.distillspec.search import DraftSearchConfig as DraftSearchConfig
    from attar.methods.equal_info import EqualInfoConfig as EqualInfoConfig
    from attar.methods.mixture_of_supernets import MixtureConfig as MixtureConfig
    from attar.methods.spactor import SpacTorConfig as SpacTorConfig
    from attar.methods.superposed import NGramSearchConfig as NGramSearchConfig
    from attar.methods.superposed import SuperposedConfig as SuperposedConfig
    from attar.methods.superposed import SuperposedDecoder as SuperposedDecoder
    from attar.methods.walloc import WaveletCodec as WaveletCodec
    from attar.methods.walloc import WaveletCodecConfig as WaveletCodecConfig
    from attar.pretraining.arms import CompareConfig as CompareConfig
    from attar.pretraining.compare import compare_objectives as compare_objectives
    from attar.pretraining.config import PretrainConfig as PretrainConfig
    from attar.pretraining.pretrain import pretrain as pretrain
    from attar.recipes import read_recipe as recipe  # noqa: F401
    from attar.report.compare import compare as compare
    from attar.report.environment import environment as env  # noqa: F401
    from attar.report.record import Run as Run
    from attar.search.elastic_training import SupernetConfig as SupernetConfig
    from attar.server.config import ServeConfig as ServeConfig
    from attar.server.serving import serve as serve
    from attar.slicing import SlicePlan as SlicePlan
    from attar.supernet.evaluating import EvaluateSupernetConfig as EvaluateSupernetConfig
    from attar.supernet.searching import SupernetSearchConfig as SupernetSearchConfig
    from attar.train.corruption import T5SpanCorruptionCollator as T5SpanCorruptionCollator
    from attar.train.heal import HealConfig as HealConfig
    from attar.train.heal import heal as heal

#: name -> module, and the name there where it is another
_HOMES = MappingProxyType(
    {
        "AnnotateServeConfig": "attar.annotate.config",
        "SimulateConfig": "attar.annotate.config",
        "AnnotateConfig": "attar.annotate.settings",
        "Budget": "attar.budget",
        "Cost": "attar.budget",
        "load": "attar.checkpoint",
        "load_tokenizer": "attar.checkpoint",
        "save": "attar.checkpoint",
        "demo": "attar.cli.demo:make_demo",
        "run": "attar.cli.run:run_recipe",
        "CodecConfig": "attar.codec.config",
        "EvaluateCodecConfig": "attar.codec.evaluating",
        "generate": "attar.completion",
        "export": "attar.conversion.export",
        "Data": "attar.data.data",
        "GenerateConfig": "attar.decode.generate",
        "Generator": "attar.decode.generate",
        "SpecConfig": "attar.decode.settings",
        "CompressorConfig": "attar.distillation.config",
        "distill": "attar.distillation.distill",
        "AttarError": "attar.errors",
        "score": "attar.evaluation.likelihood",
        "EvaluateConfig": "attar.evaluation.model",
        "evaluate": "attar.evaluation.model",
        "cost_of": "attar.measure.cost",
        "CostConfig": "attar.measure.model",
        "cost": "attar.measure.model",
        "SegmenterConfig": "attar.methods.active_segmentation.config",
        "DrawConfig": "attar.methods.active_segmentation.drawing",
        "Segmenter": "attar.methods.active_segmentation.segmenter",
        "AutoDistilConfig": "attar.methods.autodistil",
        "BonsaiConfig": "attar.methods.bonsai",
        "prune": "attar.methods.bonsai",
        "DistillConfig": "attar.methods.distiller",
        "RecommendConfig": "attar.methods.distiller.recommend",
        "recommend": "attar.methods.distiller.recommend",
        "SearchConfig": "attar.methods.distiller.search",
        "DistillSpecConfig": "attar.methods.distillspec",
        "EvaluateDraftConfig": "attar.methods.distillspec.profile",
        "DraftSearchConfig": "attar.methods.distillspec.search",
        "EqualInfoConfig": "attar.methods.equal_info",
        "MixtureConfig": "attar.methods.mixture_of_supernets",
        "NGramSearchConfig": "attar.methods.superposed",
        "SuperposedConfig": "attar.methods.superposed",
        "SuperposedDecoder": "attar.methods.superposed",
        "WaveletCodec": "attar.methods.walloc",
        "WaveletCodecConfig": "attar.methods.walloc",
        "recipe": "attar.recipes:read_recipe",
        "compare": "attar.report.compare",
        "env": "attar.report.environment:environment",
        "Run": "attar.report.record",
        "SupernetConfig": "attar.search.elastic_training",
        "ServeConfig": "attar.server.config",
        "serve": "attar.server.serving",
        "SlicePlan": "attar.slicing",
        "EvaluateSupernetConfig": "attar.supernet.evaluating",
        "SupernetSearchConfig": "attar.supernet.searching",
        "HealConfig": "attar.train.heal",
        "heal": "attar.train.heal",
        "CompareConfig": "attar.pretraining.arms",
        "compare_objectives": "attar.pretraining.compare",
        "SpacTorConfig": "attar.methods.spactor",
        "T5SpanCorruptionCollator": "attar.train.corruption",
        "PretrainConfig": "attar.pretraining.config",
        "pretrain": "attar.pretraining.pretrain",
    }
)
_NOUNS = ("annotate", "codec", "draft", "ngrams", "pipeline", "supernet", "tokenizer")
__all__ = ["__version__", *_NOUNS, *_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _NOUNS:
        return import_module(f"attar.{name}")
    if name == "__version__":
        from importlib.metadata import version

        return version("attar")
    if name not in _HOMES:
        raise AttributeError(f"module 'attar' has no attribute {name!r}")
    module, _, own = _HOMES[name].partition(":")
    return getattr(import_module(module), own or name)


def __dir__() -> list[str]:
    return sorted(__all__)
