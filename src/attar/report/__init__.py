"""What was done and what came of it: run records, tables, charts, HTML reports and model cards.

A `Run` is the only thing that the other parts read; every figure in a table, chart or card comes
from one.
"""

from attar.report.charts import Point, importance_plot, pareto_front, pareto_plot, widths_plot
from attar.report.pages import html_report, model_card, save_card
from attar.report.record import FILE_NAME, SCHEMA, Paper, Run
from attar.report.tables import Table, comparison
from attar.report.verdict import pareto_points

__all__ = [
    "FILE_NAME",
    "SCHEMA",
    "Paper",
    "Point",
    "Run",
    "Table",
    "comparison",
    "html_report",
    "importance_plot",
    "model_card",
    "pareto_front",
    "pareto_plot",
    "pareto_points",
    "save_card",
    "widths_plot",
]
