"""The published formulas give the published figures, and the genetic algorithm does as it says."""

import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attar.errors import ConfigError
from attar.methods.compressor import (
    EncoderShape,
    EncoderSpace,
    GeneticConfig,
    Limits,
    PlanConfig,
    genetic_search,
    published_fitness,
    published_flops,
    published_megabytes,
    published_parameters,
    search_shapes,
)
from attar.methods.compressor.space import ShapeArrays
from attar.search.statistics import Array

SPACE = EncoderSpace.published()
OPTIMA = {
    1: (1000, 8, 48, 64, 12),
    3: (1000, 8, 96, 64, 12),
    10: (2000, 8, 192, 32, 12),
    25: (2000, 8, 320, 32, 12),
    50: (1000, 8, 448, 160, 12),
}
SMALL = EncoderSpace((8, 9, 10), (1, 2, 3), (6, 7, 12), (4, 5, 6), (1, 2, 3))


@pytest.mark.parametrize(
    ("values", "parameters", "flops"),
    [
        ((50265, 12, 768, 3072, 12), 125_237_762, 138_406_299_384),
        ((1000, 8, 96, 64, 12), 765_410, 2_253_176_568),
        ((1000, 16, 432, 128, 6), 6_196_946, 9_180_417_276),
        ((6000, 16, 480, 576, 6), 12_467_618, 15_896_382_396),
    ],
)
def test_the_formulas_give_the_published_figures(
    values: tuple[int, int, int, int, int], parameters: int, flops: int
) -> None:
    shape = EncoderShape(*values)
    assert published_parameters(shape) == parameters
    assert published_flops(shape) == flops
    assert published_megabytes(shape) == 4 * parameters / 1e6
    many = ShapeArrays.of([shape])
    assert published_parameters(many) == parameters
    assert published_flops(many) == flops


@pytest.mark.parametrize("megabytes", OPTIMA)
def test_exact_search_finds_the_optimum_of_the_published_fitness(megabytes: int) -> None:
    config = PlanConfig(cost_model="paper", hard=False, count=2)
    plans = search_shapes(SPACE, Limits(bytes=megabytes * 1e6), config=config)
    assert plans[0].shape == EncoderShape(*OPTIMA[megabytes])
    assert plans[0].fitness == published_fitness(plans[0].shape, megabytes=megabytes)
    assert plans[0].fitness > plans[1].fitness


def test_a_hard_budget_gives_another_student() -> None:
    config = PlanConfig(cost_model="paper", count=1)
    (plan,) = search_shapes(SPACE, Limits(bytes=3e6), config=config)
    assert plan.shape == EncoderShape(1000, 8, 96, 32, 12)
    assert round(float(published_megabytes(plan.shape)), 3) == 2.765


def fitness(shapes: ShapeArrays) -> tuple[Array, Array]:
    scores = np.asarray(published_fitness(shapes, megabytes=3))
    return scores, np.zeros_like(scores)


def test_the_genetic_algorithm_misses_the_optimum_as_published() -> None:
    """Published defaults: median 1.798 of 20 runs, best 2.125, worst 1.148; optimum 2.192."""
    results = [genetic_search(SPACE, fitness, config=GeneticConfig(seed=s)) for s in range(8)]
    best = [result.best_fitness[-1] for result in results]
    assert 1.6 < statistics.median(best) < 2.0
    assert max(best) <= published_fitness(EncoderShape(*OPTIMA[3]), megabytes=3)
    assert {result.evaluated for result in results} == {5050}
    assert len(set(best)) > 1


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12), st.integers(0, 8), st.floats(0, 1))
def test_a_population_is_of_the_space_without_twins_and_its_best_never_falls(
    seed: int, population: int, generations: int, crossover: float
) -> None:
    config = GeneticConfig(
        population=population, generations=generations, crossover=crossover, seed=seed
    )
    seen: list[ShapeArrays] = []

    def watched(shapes: ShapeArrays) -> tuple[Array, Array]:
        seen.append(shapes)
        return fitness(shapes)

    result = genetic_search(SMALL, watched, config=config)
    for shapes in seen:  # parents and children of a generation are all different
        rows = np.stack(list(vars(shapes).values()), axis=1)
        assert len(np.unique(rows, axis=0)) == len(rows)
        assert all(
            np.isin(column, axis).all() for column, axis in zip(rows.T, SMALL.axes, strict=True)
        )
        assert (shapes.hidden_size % shapes.num_attention_heads == 0).all()
    assert [len(shapes.vocab_size) for shapes in seen] == [
        population,
        *[2 * population] * generations,
    ]
    assert list(result.best_fitness) == sorted(result.best_fitness)
    assert len(set(result.population)) == population
    last = ShapeArrays.of(result.population)
    assert fitness(last)[0].tolist() == sorted(fitness(last)[0].tolist(), reverse=True)
    assert result.best_fitness[-1] == fitness(last)[0][0]
    assert genetic_search(SMALL, fitness, config=config) == result


def test_a_seed_gives_a_run_and_another_seed_another() -> None:
    one, same, other = (
        genetic_search(SPACE, fitness, config=GeneticConfig(generations=5, seed=seed))
        for seed in (1, 1, 2)
    )
    assert one == same
    assert one != other


def test_who_keeps_the_limits_is_better_than_who_does_not() -> None:
    def limited(shapes: ShapeArrays) -> tuple[Array, Array]:
        scores = shapes.hidden_size * 1.0
        return scores, scores / 6 - 1  # six channels at most

    config = GeneticConfig(population=8, generations=12)
    result = genetic_search(SMALL, limited, config=config)
    assert result.population[0].hidden_size == 6
    widths = [shape.hidden_size for shape in result.population]
    assert widths == sorted(widths)


def test_settings_and_spaces_that_make_no_sense_are_refused() -> None:
    for wrong in ({"population": 1}, {"generations": -1}, {"crossover": 1.5}, {"seed": 0.5}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            GeneticConfig(**wrong)
    with pytest.raises(ConfigError, match="exact"):
        genetic_search(SMALL, fitness)
