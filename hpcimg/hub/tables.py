"""The tables of the hub's database, for SQLite and PostgreSQL alike."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA = 1
"""The version of what follows; a change of it needs a step in database.py."""

METADATA = MetaData()

# The one row that each copy of the hub looks at.
STATE = Table(
    "hub_state",
    METADATA,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("schema_version", Integer, nullable=False),
    Column("generation", BigInteger, nullable=False),
    Column("signing_key", LargeBinary, nullable=False),
)

ACCOUNTS = Table(
    "hub_accounts",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("disabled", Boolean, nullable=False),
)

TYPES = Table(
    "hub_types",
    METADATA,
    Column("full_name", Text, primary_key=True),
    Column("account", ForeignKey("hub_accounts.name", ondelete="CASCADE"), nullable=False),
    Column("name", Text, nullable=False),
    Column("words", Text, nullable=False),  # a list in JSON
    Column("answer", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("description", Text, nullable=False),
)

LOGINS = Table(
    "hub_logins",
    METADATA,
    Column("name", Text, primary_key=True),
    Column("password_hash", Text, nullable=False),
    Column("account", ForeignKey("hub_accounts.name", ondelete="CASCADE"), nullable=False),
    Column("machine_type", ForeignKey("hub_types.full_name", ondelete="CASCADE"), nullable=True),
)

# Numbered in the order in which they came, which is the order in which they go.
DOCUMENTS = Table(
    "hub_documents",
    METADATA,
    Column(
        "number",
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("repository", Text, nullable=False),
    Column("digest", Text, nullable=False),
    Column("raw", LargeBinary, nullable=False),
    Column("media_type", Text, nullable=False),
    Column("made", Boolean, nullable=False),
    UniqueConstraint("repository", "digest"),
)

TAGS = Table(
    "hub_tags",
    METADATA,
    Column("repository", Text, primary_key=True),
    Column("tag", Text, primary_key=True),
    Column("digest", Text, nullable=False),
    Column("checked", Float(53), nullable=False),
    Index("hub_tags_by_digest", "repository", "digest"),
)

# What nodes propose: types that an administrator may make.
PROPOSALS = Table(
    "hub_proposals",
    METADATA,
    Column("account", ForeignKey("hub_accounts.name", ondelete="CASCADE"), primary_key=True),
    Column("name", Text, primary_key=True),
    Column("said", Text, nullable=False),  # an object in JSON
)
