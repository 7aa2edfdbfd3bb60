"""What Alembic runs to upgrade: on the connection that it is given."""

from alembic import context

from attar.annotate.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    transactional_ddl=False,  # the caller's transaction is around all of it
)
context.run_migrations()
