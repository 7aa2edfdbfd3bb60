"""The role in which somebody acted; an index to count a person's acts by status; and accounts
without a language of their own."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add them; what was done before is taken to be done in the role of today."""
    role = sa.Column("role", sa.String(), nullable=False, server_default="annotator")
    op.add_column("annotation", role)
    op.execute(
        "UPDATE annotation SET role = "
        '(SELECT role FROM "user" WHERE "user".name = annotation.annotator)'
    )
    # English was what everybody got, whatever they wanted
    op.execute("UPDATE \"user\" SET language = '' WHERE language = 'en'")
    op.create_index(
        "ix_annotation_annotator_status", "annotation", ["annotator", "status"], unique=False
    )
    op.drop_index("ix_annotation_annotator", table_name="annotation")
