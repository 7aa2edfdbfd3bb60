"""Compressor: a tiny encoder for a budget of bytes, found without training, taught by a large one.

The vocabulary and four widths of an encoder are searched together, by counts alone: among all
encoders of the size that is asked for, the one with the most compute is taken. It starts from
random weights with a tokenizer of its own, and learns from the teacher's outputs on texts without
labels.

Shi, Yang, Xu, Kang, Lo: Compressing Pre-trained Models of Code into 3 MB, ASE 2022,
arXiv 2208.07120.

Deviations (paper and official code; here; why):
- Search: a genetic algorithm of 5,050 draws, most runs of which miss the optimum; every point of
  the space is looked at, which takes a second or two and finds it. `ga` is the algorithm as
  published, with a seed; encoders of equal genes are twins, in whatever order their genes stand.
- Size: aimed at, so that the published "3 MB" are 3.06 MB of weights; a hard limit on all that is
  stored: weights, tokenizer, config. With `cost_model="paper"`, `hard=False` is as published, and
  `hard=True` maximises the published operations below the published size.
- Compute: look-ups count as products, a norm as 5 operations, and heads add operations for nothing;
  multiply-accumulates of linear layers and attention, in which heads cost nothing. So heads are not
  searched: they are as near to 32 channels wide as the space allows.
- Parameters: one layer of the head counted twice, and 514 positions whatever the context; exactly
  those of the model, with a table of positions of context + 2 rows.
- Space: at most 8 heads, steps of 1000 entries; finer at the small end by default.
- Most compute at a size is a weak sign of quality: `uniform` shrinks the teacher's shape alike in
  everything, which is what `attar distill` does by default; `-flops` and `latency` search the other
  end, and `pareto` what lies between.
"""

from attar.methods.compressor.config import CostModel as CostModel
from attar.methods.compressor.config import Method as Method
from attar.methods.compressor.config import Objective as Objective
from attar.methods.compressor.config import PlanConfig as PlanConfig
from attar.methods.compressor.costs import Limits as Limits
from attar.methods.compressor.costs import ShapeCosts as ShapeCosts
from attar.methods.compressor.costs import StudentCosts as StudentCosts
from attar.methods.compressor.genetic import GeneticConfig as GeneticConfig
from attar.methods.compressor.genetic import GeneticResult as GeneticResult
from attar.methods.compressor.genetic import genetic_search as genetic_search
from attar.methods.compressor.plans import StudentPlan as StudentPlan
from attar.methods.compressor.published import published_fitness as published_fitness
from attar.methods.compressor.published import published_flops as published_flops
from attar.methods.compressor.published import published_megabytes as published_megabytes
from attar.methods.compressor.published import published_parameters as published_parameters
from attar.methods.compressor.search import search_shapes as search_shapes
from attar.methods.compressor.space import EncoderShape as EncoderShape
from attar.methods.compressor.space import EncoderSpace as EncoderSpace
from attar.methods.compressor.space import ShapeArrays as ShapeArrays
from attar.report.record import Paper

PAPER = Paper(
    title="Compressing Pre-trained Models of Code into 3 MB",
    authors=("Jieke Shi", "Zhou Yang", "Bowen Xu", "Hong Jin Kang", "David Lo"),
    year=2022,
    arxiv="2208.07120",
)
