"""The tables of the first release."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make them."""
    op.create_table(
        "arm",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=True),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_arm")),
        sa.UniqueConstraint("number", name=op.f("uq_arm_number")),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("scope", sa.String(), nullable=False),
        sa.Column("before", sa.String(), nullable=False),
        sa.Column("after", sa.String(), nullable=False),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("effective_seq", sa.Integer(), nullable=False),
        sa.Column("policy", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("detected", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event")),
    )
    op.create_index(op.f("ix_event_kind"), "event", ["kind"], unique=False)
    op.create_table(
        "guideline",
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("rules", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("author", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("version", name=op.f("pk_guideline")),
        sa.UniqueConstraint("number", name=op.f("uq_guideline_number")),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("step", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("asked", sa.Double(), nullable=False),
        sa.Column("started", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(op.f("ix_job_state"), "job", ["state"], unique=False)
    op.create_table(
        "login_failure",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("who", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_login_failure")),
    )
    op.create_index(op.f("ix_login_failure_who"), "login_failure", ["who"], unique=False)
    op.create_table(
        "project",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("seed", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("guideline", sa.String(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("ranking", sa.Integer(), nullable=True),
        sa.Column("reserve", sa.Double(), nullable=True),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_project")),
    )
    op.create_table(
        "snapshot",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("report", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("number", name=op.f("uq_snapshot_number")),
    )
    op.create_table(
        "user",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("role", sa.String(), nullable=False),
        sa.Column("password", sa.String(), nullable=True),
        sa.Column("active", sa.Boolean(), nullable=False),
        sa.Column("acknowledged", sa.String(), nullable=True),
        sa.Column("language", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_user")),
    )
    op.create_table(
        "batch",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("snapshot", sa.String(), nullable=False),
        sa.Column("settings", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("pool_size", sa.Integer(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["arm"], ["arm.name"], name=op.f("fk_batch_arm")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("arm", "number", name=op.f("uq_batch_arm_number")),
    )
    op.create_table(
        "block",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("open", sa.Boolean(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["user.name"], name=op.f("fk_block_annotator")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_block")),
        sa.UniqueConstraint("annotator", "number", name=op.f("uq_block_annotator_number")),
    )
    op.create_index(op.f("ix_block_annotator"), "block", ["annotator"], unique=False)
    op.create_table(
        "metric_point",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("costs", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("scores", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("counts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("refits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("test", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["job.id"], name=op.f("fk_metric_point_run")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric_point")),
    )
    op.create_index(op.f("ix_metric_point_run"), "metric_point", ["run"], unique=False)
    op.create_table(
        "model",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("fingerprint", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("metrics", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["job.id"], name=op.f("fk_model_run")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_model")),
    )
    op.create_index(op.f("ix_model_run"), "model", ["run"], unique=False)
    op.create_table(
        "sentence",
        sa.Column("uid", sa.String(), nullable=False),
        sa.Column("text", sa.String(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("occurrences", sa.Integer(), nullable=False),
        sa.Column("document", sa.String(), nullable=False),
        sa.Column("first_snapshot", sa.String(), nullable=False),
        sa.Column("last_snapshot", sa.String(), nullable=False),
        sa.Column("removed", sa.String(), nullable=True),
        sa.Column("key_random", sa.Double(), nullable=False),
        sa.Column("key_eval", sa.Double(), nullable=False),
        sa.Column("reserved", sa.Boolean(), nullable=False),
        sa.Column("gold", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("meta", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["first_snapshot"], ["snapshot.name"], name=op.f("fk_sentence_first_snapshot")
        ),
        sa.ForeignKeyConstraint(
            ["last_snapshot"], ["snapshot.name"], name=op.f("fk_sentence_last_snapshot")
        ),
        sa.ForeignKeyConstraint(["removed"], ["snapshot.name"], name=op.f("fk_sentence_removed")),
        sa.PrimaryKeyConstraint("uid", name=op.f("pk_sentence")),
    )
    op.create_index(op.f("ix_sentence_key_random"), "sentence", ["key_random"], unique=False)
    op.create_index(op.f("ix_sentence_reserved"), "sentence", ["reserved"], unique=False)
    op.create_table(
        "session",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("csrf", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["user.name"], name=op.f("fk_session_user")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_session")),
    )
    op.create_index(op.f("ix_session_user"), "session", ["user"], unique=False)
    op.create_table(
        "token",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("user", sa.String(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["user"], ["user.name"], name=op.f("fk_token_user")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_token")),
    )
    op.create_index(op.f("ix_token_user"), "token", ["user"], unique=False)
    op.create_table(
        "adjudication",
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("guideline", sa.String(), nullable=False),
        sa.Column("annotation", sa.String(), nullable=False),
        sa.Column("reviewer", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(
            ["guideline"], ["guideline.version"], name=op.f("fk_adjudication_guideline")
        ),
        sa.ForeignKeyConstraint(["reviewer"], ["user.name"], name=op.f("fk_adjudication_reviewer")),
        sa.ForeignKeyConstraint(
            ["sentence"], ["sentence.uid"], name=op.f("fk_adjudication_sentence")
        ),
        sa.PrimaryKeyConstraint("sentence", "guideline", name=op.f("pk_adjudication")),
    )
    op.create_index(op.f("ix_adjudication_reviewer"), "adjudication", ["reviewer"], unique=False)
    op.create_table(
        "score",
        sa.Column("run", sa.Integer(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("cuts", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["run"], ["job.id"], name=op.f("fk_score_run")),
        sa.ForeignKeyConstraint(["sentence"], ["sentence.uid"], name=op.f("fk_score_sentence")),
        sa.PrimaryKeyConstraint("run", "sentence", name=op.f("pk_score")),
    )
    op.create_table(
        "task",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("needed", sa.Integer(), nullable=False),
        sa.Column("positions", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("only_for", sa.String(), nullable=True),
        sa.Column("prefill", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("live", sa.Integer(), nullable=False),
        sa.Column("order", sa.Integer(), nullable=False),
        sa.Column("round", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["only_for"], ["user.name"], name=op.f("fk_task_only_for")),
        sa.ForeignKeyConstraint(["sentence"], ["sentence.uid"], name=op.f("fk_task_sentence")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_task")),
    )
    op.create_index("ix_task_queue", "task", ["kind", "state", "order", "id"], unique=False)
    op.create_index(op.f("ix_task_sentence"), "task", ["sentence"], unique=False)
    op.create_table(
        "annotation",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("root", sa.String(), nullable=False),
        sa.Column("parent", sa.String(), nullable=True),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("status", sa.String(), nullable=False),
        sa.Column("cuts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("decided", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("guideline", sa.String(), nullable=False),
        sa.Column("prefill", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("prefill_model", sa.String(), nullable=True),
        sa.Column("edits", sa.Integer(), nullable=True),
        sa.Column("active_ms", sa.Integer(), nullable=False),
        sa.Column("note", sa.String(), nullable=False),
        sa.Column("trace", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["user.name"], name=op.f("fk_annotation_annotator")),
        sa.ForeignKeyConstraint(
            ["guideline"], ["guideline.version"], name=op.f("fk_annotation_guideline")
        ),
        sa.ForeignKeyConstraint(
            ["sentence"], ["sentence.uid"], name=op.f("fk_annotation_sentence")
        ),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name=op.f("fk_annotation_task")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_annotation")),
        sa.UniqueConstraint("id", name=op.f("uq_annotation_id")),
    )
    op.create_index(op.f("ix_annotation_annotator"), "annotation", ["annotator"], unique=False)
    op.create_index(op.f("ix_annotation_root"), "annotation", ["root"], unique=False)
    op.create_index(op.f("ix_annotation_sentence"), "annotation", ["sentence"], unique=False)
    op.create_index(op.f("ix_annotation_task"), "annotation", ["task"], unique=False)
    op.create_table(
        "block_item",
        sa.Column("block", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.ForeignKeyConstraint(["block"], ["block.id"], name=op.f("fk_block_item_block")),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name=op.f("fk_block_item_task")),
        sa.PrimaryKeyConstraint("block", "position", name=op.f("pk_block_item")),
    )
    op.create_index(op.f("ix_block_item_task"), "block_item", ["task"], unique=False)
    op.create_table(
        "draft",
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("cuts", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("decided", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("caret", sa.Integer(), nullable=True),
        sa.Column("active_ms", sa.Integer(), nullable=False),
        sa.Column("prefill", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("prefill_model", sa.String(), nullable=True),
        sa.Column("saved", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["user.name"], name=op.f("fk_draft_annotator")),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name=op.f("fk_draft_task")),
        sa.PrimaryKeyConstraint("task", "annotator", name=op.f("pk_draft")),
    )
    op.create_table(
        "lease",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("annotator", sa.String(), nullable=False),
        sa.Column("taken", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["annotator"], ["user.name"], name=op.f("fk_lease_annotator")),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name=op.f("fk_lease_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_lease")),
        sa.UniqueConstraint("task", "annotator", name=op.f("uq_lease_task_annotator")),
    )
    op.create_index(op.f("ix_lease_annotator"), "lease", ["annotator"], unique=False)
    op.create_index(op.f("ix_lease_expires"), "lease", ["expires"], unique=False)
    op.create_index(op.f("ix_lease_task"), "lease", ["task"], unique=False)
    op.create_table(
        "pick",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("arm", sa.String(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("sentence", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("strategy", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=True),
        sa.Column("snapshot", sa.String(), nullable=False),
        sa.Column("pool_size", sa.Integer(), nullable=False),
        sa.Column("probability", sa.Double(), nullable=True),
        sa.Column("positions", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["arm"], ["arm.name"], name=op.f("fk_pick_arm")),
        sa.ForeignKeyConstraint(["sentence"], ["sentence.uid"], name=op.f("fk_pick_sentence")),
        sa.ForeignKeyConstraint(["task"], ["task.id"], name=op.f("fk_pick_task")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pick")),
        sa.UniqueConstraint("arm", "batch", "sentence", name=op.f("uq_pick_arm_batch_sentence")),
    )
    op.create_index(op.f("ix_pick_sentence"), "pick", ["sentence"], unique=False)
    op.create_index(op.f("ix_pick_task"), "pick", ["task"], unique=False)
