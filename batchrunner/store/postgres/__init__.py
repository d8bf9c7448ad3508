"""The store on PostgreSQL: the same functions and statements, over asyncpg."""
