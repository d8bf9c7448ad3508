"""Where Alembic runs the migrations: on the connection, and in the transaction, of the program.

The program itself applies them (``batchrunner.store.schema.migrate``). A developer's
``alembic revision`` needs no database; other Alembic commands want the program's connection.
"""

from __future__ import annotations

from alembic import context

connection = context.config.attributes.get("connection")
if connection is None:
    raise SystemExit("Migrations are applied by `batchrunner db upgrade`, not by alembic itself.")
context.configure(connection=connection, transactional_ddl=True)
context.run_migrations()
