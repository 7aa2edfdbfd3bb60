"""Options of a student that is made to a budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from attar.data.identifiers import CodeLanguage
from attar.data.vocabulary import VocabularyKind
from attar.errors import check_types, require
from attar.methods.compressor import CostModel, Method, Objective

Storage = Literal["float32", "float16", "int8"]
Embeddings = Literal["teacher", "random"]
BYTES_PER_PARAMETER: Mapping[Storage, int] = MappingProxyType(
    {"float32": 4, "float16": 2, "int8": 1}
)


@dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """How the student's shape is searched, and what lies on disk."""

    space: str = "default"
    """Shapes to choose from: default, up to 12 layers, with fine steps at the small end; published,
    10.9 million; or a YAML file."""
    objective: Objective = "uniform"
    """uniform: the teacher's shape, with layers, widths and vocabulary shrunk alike; flops: the
    shape that computes most within the budget, as published; -flops and latency: the one that
    computes least, or is fastest here, of those that use 95% of the bytes; pareto: shapes that no
    other beats in what they compute, how fast they are and how much they read."""
    search: Method | None = None
    """exact looks at every shape; ga is the published genetic algorithm, nsga2 another for
    pareto, for spaces too large for that. Default: exact below 50 million shapes."""
    cost_model: CostModel = "clean"
    """clean counts what is computed; paper has the published formulas, which count the look-up of
    embeddings as a product, for budgets on bytes alone and weights in float32."""
    plans: int = 5
    """How many of the best shapes are listed, and tried by --probe."""
    probe: int = 0
    """Train each of them for this many steps first, and take the one that agrees best with the
    teacher; 0: take the first."""
    storage: Storage = "float32"
    """Number format whose bytes the budget counts: weights in float32 or float16, or int8, a
    quantised ONNX file, which is written beside the checkpoint."""
    vocabulary: VocabularyKind = "bpe"
    """The student's tokenizer, trained on the training texts."""
    lowercase: bool = False
    """Read all text in lower case, as published."""
    collapse_spaces: bool = False
    """Read any run of white space as one space, as published."""
    embeddings: Embeddings = "teacher"
    """How the student's embeddings start. teacher: from what the teacher makes of each entry of the
    vocabulary, read alone; random: as published."""
    dropout: float = 0.1
    """Share of hidden values that are left out in training; published: 0.5 for finding bugs, 0.2
    for clones."""
    code: CodeLanguage | None = None
    """Language of the texts, if they are code: the report then tells how many predictions change
    where identifiers are renamed."""

    def __post_init__(self) -> None:
        check_types(self)
        require(self.plans >= 1, "plans", self.plans, "1 or more")
        require(self.probe >= 0, "probe", self.probe, "0 or more")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        require(bool(self.space), "space", self.space, "default, published, or a YAML file")
        fine = self.cost_model == "clean" or self.storage == "float32"
        require(fine, "storage", self.storage, "float32 with cost_model paper")
