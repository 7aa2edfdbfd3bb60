"""Where a model is unsure, beside the cuts that it proposes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("score", sa.Column("doubts", sa.JSON(none_as_null=True), nullable=True))
