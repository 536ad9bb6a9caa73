"""`trivium users`: the people of the tenant."""

from typing import Annotated

import typer

from trivium_client import Trivium
from trivium_client.cli.exits import EPILOG
from trivium_client.cli.printing import Json, drawn, show, show_one

app = typer.Typer(
    no_args_is_help=True,
    help="Users of the tenant: who signs in with tokens, holds keys, or both.\n\nExample: trivium users list",
    epilog=EPILOG,
)

_User = Annotated[str, typer.Argument(help="User id, as `users list` shows it.")]
_Roles = Annotated[
    list[str] | None,
    typer.Option("--role", help="viewer, member, developer or owner, whatever the tokens say; may be repeated."),
]
_Projects = Annotated[
    list[str] | None, typer.Option("--project", help="Project that the user is a member of; may be repeated.")
]


@app.command(epilog=EPILOG)
def create(
    name: Annotated[str, typer.Argument(help="Name for people.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="Issuer of the user's tokens, as their iss has it.")] = "",
    subject: Annotated[str, typer.Option("--subject", help="What those tokens call the user.")] = "",
    role: _Roles = None,
    project: _Projects = None,
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose user it is; for an admin.")] = "",
    json_wanted: Json = False,
) -> None:
    """Create a user; without issuer and subject one who holds keys alone.

    Example: trivium users create Ana --issuer https://login.example.com --subject 7f3a --role developer
    """
    with Trivium() as client:
        made = client.users.create(
            name, issuer=issuer, subject=subject, roles=role or [], projects=project or [], tenant=tenant
        )
    show_one(made, json_wanted=json_wanted)


@app.command("list", epilog=EPILOG)
def list_users(
    tenant: Annotated[str, typer.Option("--tenant", help="Tenant whose users they are; for an admin.")] = "",
    json_wanted: Json = False,
) -> None:
    """List users.

    Example: trivium users list
    """
    with Trivium() as client:
        users = drawn(client.users.list(tenant))
    columns = ("user", "display_name", "roles", "projects", "disabled")
    show(users, columns, json_wanted=json_wanted, empty="There is no user.")


@app.command("get", epilog=EPILOG)
def get(user: _User, json_wanted: Json = False) -> None:
    """Show one user.

    Example: trivium users get user_5f2c
    """
    with Trivium() as client:
        show_one(client.users.get(user), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def update(
    user: _User,
    name: Annotated[str | None, typer.Option("--name", "-n", help="Name for people.")] = None,
    role: _Roles = None,
    issuer_roles: Annotated[
        bool, typer.Option("--issuer-roles", help="The roles that the issuer gives again.")
    ] = False,
    project: _Projects = None,
    no_projects: Annotated[bool, typer.Option("--no-projects", help="A member of no project.")] = False,
    json_wanted: Json = False,
) -> None:
    """Change a user's name, roles or projects; those that are named are all there are.

    Example: trivium users update user_5f2c --role viewer --project intranet
    """
    if (role and issuer_roles) or (project and no_projects):
        raise ValueError("--role excludes --issuer-roles, and --project excludes --no-projects")
    roles = [] if issuer_roles else role or None
    projects = [] if no_projects else project or None
    with Trivium() as client:
        changed = client.users.update(user, display_name=name, roles=roles, projects=projects)
    show_one(changed, json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def disable(user: _User, json_wanted: Json = False) -> None:
    """Refuse a user and the user's keys, everywhere within a minute.

    Example: trivium users disable user_5f2c
    """
    with Trivium() as client:
        show_one(client.users.update(user, disabled=True), json_wanted=json_wanted)


@app.command(epilog=EPILOG)
def enable(user: _User, json_wanted: Json = False) -> None:
    """Let a disabled user, and the user's keys, in again.

    Example: trivium users enable user_5f2c
    """
    with Trivium() as client:
        show_one(client.users.update(user, disabled=False), json_wanted=json_wanted)


@app.command("rm", epilog=EPILOG)
def remove(user: _User) -> None:
    """Delete a user and revoke the user's keys; what was recorded under the id stays.

    Example: trivium users rm user_5f2c
    """
    with Trivium() as client:
        client.users.delete(user)
