"""Where a model is unsure, beside its cuts; near duplicates that a batch left out."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    op.add_column("score", sa.Column("doubts", sa.JSON(none_as_null=True), nullable=True))
    op.add_column("batch", sa.Column("near_duplicates", sa.Integer(), nullable=True))
