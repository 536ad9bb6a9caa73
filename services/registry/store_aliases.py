"""The registry's tables of what serves: aliases, their canaries, gates and moves, and what generators say.

Under the rules of :mod:`services.registry.store`.
"""

from sqlalchemy import Boolean, Float, ForeignKeyConstraint, Index, Integer, String, Text, UniqueConstraint, false
from sqlalchemy.orm import Mapped, mapped_column

from services.registry.store import Base, Big, Digest, Id


class AliasRow(Base):
    """An alias.  ``serving`` is empty until a first target was ready, ``previous`` until a second one was.

    What was ``previous`` may have been deleted since.  ``why`` is what whoever set the target gave as the reason, and
    ``rollback`` says that it was set to go back.
    """

    __tablename__ = "aliases"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    target: Mapped[str] = mapped_column(Digest)
    serving: Mapped[str] = mapped_column(Digest)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    etag: Mapped[str] = mapped_column(String(40))
    principal: Mapped[str] = mapped_column(Id)
    updated_at: Mapped[float] = mapped_column(Float)
    previous: Mapped[str] = mapped_column(Digest, server_default="")
    why: Mapped[str] = mapped_column(Text, server_default="")
    rollback: Mapped[bool] = mapped_column(Boolean, server_default=false())
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_aliases_model"),
        ForeignKeyConstraint(["tenant", "target"], ["versions.tenant", "versions.version"], name="fk_aliases_target"),
        Index("ix_aliases_target", "tenant", "target"),
        Index("ix_aliases_serving", "tenant", "serving"),
    )


class CanaryRow(Base):
    """A version that gets a share of an alias's requests: ``buckets`` of a hundred, a JSON list of numbers."""

    __tablename__ = "canaries"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    buckets: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        ForeignKeyConstraint(
            ["tenant", "model", "alias"], ["aliases.tenant", "aliases.model", "aliases.alias"], name="fk_canaries_alias"
        ),
        ForeignKeyConstraint(
            ["tenant", "version"], ["versions.tenant", "versions.version"], name="fk_canaries_version"
        ),
        Index("ix_canaries_version", "tenant", "version"),
    )


class GateRow(Base):
    """A gate; ``policy`` is its conditions as JSON, read and written whole."""

    __tablename__ = "gates"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    gate: Mapped[str] = mapped_column(String(64), primary_key=True)
    policy: Mapped[str] = mapped_column(Text)
    principal: Mapped[str] = mapped_column(Id)
    created_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (
        ForeignKeyConstraint(["tenant", "model"], ["models.tenant", "models.model"], name="fk_gates_model"),
    )


class MoveRow(Base):
    """One thing that happened to an alias.  Kept when the alias is deleted: numbers never repeat."""

    __tablename__ = "alias_moves"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    model: Mapped[str] = mapped_column(Id, primary_key=True)
    alias: Mapped[str] = mapped_column(String(32), primary_key=True)
    number: Mapped[int] = mapped_column(Big, primary_key=True)
    from_version: Mapped[str] = mapped_column(Digest)
    to_version: Mapped[str] = mapped_column(Digest)
    principal: Mapped[str] = mapped_column(Id)
    created_at: Mapped[float] = mapped_column(Float)
    kind: Mapped[str] = mapped_column(String(16), server_default="SET")
    reason: Mapped[str] = mapped_column(Text, server_default="")
    percent: Mapped[int] = mapped_column(Integer, server_default="0")
    detail: Mapped[str] = mapped_column(Text, server_default="")


class LifeRow(Base):
    """One life of a generator and when it last spoke; ``number`` rises, the highest is the present one."""

    __tablename__ = "generator_lives"
    generator: Mapped[str] = mapped_column(Id, primary_key=True)
    instance: Mapped[str] = mapped_column(Id, primary_key=True)
    number: Mapped[int] = mapped_column(Big)
    seen_at: Mapped[float] = mapped_column(Float)
    __table_args__ = (UniqueConstraint("generator", "number", name="uq_generator_lives_number"),)


class ReadinessRow(Base):
    """A generator's last word on a version, by the life that said it."""

    __tablename__ = "readiness"
    tenant: Mapped[str] = mapped_column(Id, primary_key=True)
    version: Mapped[str] = mapped_column(Digest, primary_key=True)
    generator: Mapped[str] = mapped_column(Id, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str] = mapped_column(Text)
    updated_at: Mapped[float] = mapped_column(Float)
    instance: Mapped[str] = mapped_column(Id, server_default="")
    __table_args__ = (Index("ix_readiness_generator", "generator"),)
